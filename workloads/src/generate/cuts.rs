//! Where windows end. Whoever sees that one is over ends it: all threads see the same number of the open one.
//!
//! Nothing here is locked unless a window does end.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Event;

const SECOND_NS: u64 = 1_000_000_000;
/// Windows that may end because answers turned, in each second.
const TURNS: u32 = 20;

/// How the last request ended. Frozen: no more turns in this second.
const UNKNOWN: u8 = 0;
const GOOD: u8 = 1;
const FAILED: u8 = 2;
const FROZEN: u8 = 3;

pub struct Cuts {
    /// The number of the open window.
    window: AtomicU64,
    /// Where it ends at the latest.
    until: AtomicU64,
    state: AtomicU8,
    books: Mutex<Books>,
    /// Those that are to hand over what they have counted.
    wakes: Vec<Arc<Notify>>,
}

struct Books {
    zero: u64,
    /// Where stages end.
    ends: Vec<u64>,
    /// Where the open window begins.
    from: u64,
    /// In this second, so many turns were cut at.
    second: u64,
    turns: u32,
    said: Sender<Event>,
}

impl Cuts {
    /// The first window begins at `zero`.
    pub fn new(zero: u64, ends: Vec<u64>, wakes: Vec<Arc<Notify>>, said: Sender<Event>) -> Self {
        let books = Books { zero, ends, from: zero, second: 0, turns: 0, said };
        Self {
            window: AtomicU64::new(0),
            until: AtomicU64::new(books.planned()),
            state: AtomicU8::new(UNKNOWN),
            books: Mutex::new(books),
            wakes,
        }
    }

    pub fn window(&self) -> u64 {
        self.window.load(Ordering::Acquire)
    }

    /// Where the open window ends at the latest.
    pub fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    /// It is `now`: ends the windows that are over by their time.
    pub fn passed(&self, now: u64) {
        if now < self.until() {
            return;
        }
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        while self.until() <= now {
            let at = self.until();
            self.cut(&mut books, at);
        }
    }

    /// A request ended so, `at` this moment: ends the window if that is a turn.
    pub fn saw(&self, good: bool, at: u64) {
        let seen = if good { GOOD } else { FAILED };
        let state = self.state.load(Ordering::Relaxed);
        if state == seen || state == FROZEN {
            return;
        }
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.load(Ordering::Relaxed);
        if state == seen || state == FROZEN {
            return;
        }
        let second = at.saturating_sub(books.zero) / SECOND_NS;
        if second != books.second {
            (books.second, books.turns) = (second, 0);
        }
        // Where one begins at this very moment, it begins with this.
        let turned = state != UNKNOWN && at > books.from;
        if turned && books.turns == TURNS {
            self.state.store(FROZEN, Ordering::Relaxed);
            return;
        }
        self.state.store(seen, Ordering::Relaxed);
        if turned {
            books.turns += 1;
            self.cut(&mut books, at);
        }
    }

    fn cut(&self, books: &mut Books, at: u64) {
        // Said before any thread can see it: what is counted in the next one is said after this. The one who hears it lives
        // as long as the process.
        let _ = books.said.send(Event::Cut(at));
        books.from = at;
        if self.state.load(Ordering::Relaxed) == FROZEN && (at - books.zero).is_multiple_of(SECOND_NS) {
            self.state.store(UNKNOWN, Ordering::Relaxed);
        }
        self.until.store(books.planned(), Ordering::Release);
        self.window.fetch_add(1, Ordering::AcqRel);
        self.wakes.iter().for_each(|wake| wake.notify_one());
    }
}

impl Books {
    /// The next whole second after the load's zero, or the end of a stage.
    fn planned(&self) -> u64 {
        let second = self.zero + ((self.from - self.zero) / SECOND_NS + 1) * SECOND_NS;
        let ends = self.ends.iter().copied().filter(|end| *end > self.from);
        ends.fold(second, u64::min)
    }
}
