//! "Read everything that has happened until now": a question that an observer's thread answers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The question, from both sides.
#[derive(Debug)]
pub(super) struct Drain {
    bell: OwnedFd,
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    done: u64,
    stop: bool,
    dead: bool,
}

impl Drain {
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { bell, state: Mutex::default(), answered: Condvar::new() })
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked += 1;
        let mine = state.asked;
        self.ring();
        let waited =
            self.answered.wait_timeout_while(state, PATIENCE, |state| state.done < mine && !state.dead);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.done >= mine
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.ring();
    }

    /// What the thread waits on, beside its own source.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// For the thread, before it reads its source dry: what will have been answered then; `None` when it is to end.
    pub(super) fn begin(&self) -> Option<u64> {
        // A bell that has not rung is fine.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (!state.stop).then_some(state.asked)
    }

    /// For the thread, after it has read its source dry.
    pub(super) fn done(&self, asked: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.done < asked {
            state.done = asked;
            self.answered.notify_all();
        }
    }

    /// For the thread, when it can go on no longer.
    pub(super) fn dead(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).dead = true;
        self.answered.notify_all();
    }

    fn ring(&self) {
        // Full means that it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}
