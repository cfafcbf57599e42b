//! A thread that sends: its part of the load, with its own connections and its own counts.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Poll, Waker};

use exit137_workload::traffic::{Histogram, Load, Mix, Outcome, Share, Window};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::Event;
use super::exchange::Target;
use super::shared::Shared;
use super::tally::{Tally, histogram};
use super::user::{self, Iteration, Seat};
use crate::clock;

/// An iteration that cannot begin within so long of its time has missed it, and is dropped: this process did not get to run.
const LATEST_NS: u64 = 250_000_000;

pub struct Worker {
    pub shared: Arc<Shared>,
    number: usize,
    share: Share,
    mix: Mix,
    wake: Arc<Notify>,
    events: Sender<Event>,
    tally: RefCell<Tally>,
    /// The window that it counts in.
    window: Cell<u64>,
    lateness: RefCell<hdrhistogram::Histogram<u32>>,
    /// Which list of endpoints, and what is on it.
    targets: RefCell<(u64, Vec<Rc<Target>>)>,
    /// So many of its own iterations have begun, or were dropped.
    begun: Cell<u64>,
    /// Users with an iteration.
    busy: Cell<u64>,
    /// The load is over: whoever becomes idle last wakes it.
    ending: Cell<bool>,
    /// Users of an open load without an iteration, the one used last at the end.
    idle: RefCell<Vec<Rc<Seat>>>,
    /// Users of a closed load that iterate, and the others, waiting.
    active: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

/// Says that a worker died, unless it is told that it did not.
struct Guard(Option<Sender<Event>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(events) = self.0.take() {
            let _ = events.send(Event::Died);
        }
    }
}

pub fn start(shared: &Arc<Shared>, number: usize, events: Sender<Event>) -> Result<(), String> {
    let shared = Arc::clone(shared);
    let (tally, lateness) = (Tally::new()?, histogram()?);
    let runtime = move || {
        let mut guard = Guard(Some(events.clone()));
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let Ok(runtime) = runtime else { return };
        let worker = Rc::new(Worker::new(shared, number, events, tally, lateness));
        runtime.block_on(Rc::clone(&worker).drive());
        worker.finish();
        guard.0 = None;
    };
    let builder = std::thread::Builder::new().name(format!("sender-{number}"));
    builder.spawn(runtime).map(drop).map_err(|error| format!("cannot start a thread that sends: {error}"))
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        number: usize,
        events: Sender<Event>,
        tally: Tally,
        lateness: hdrhistogram::Histogram<u32>,
    ) -> Self {
        let share = shared.share_of(number);
        let missed = shared.heard.checked_sub(1).map_or(0, |before| shared.due_by(before));
        Self {
            number,
            share,
            mix: Mix::new(&shared.generator.requests),
            wake: shared.wake_of(number),
            events,
            tally: RefCell::new(tally),
            window: Cell::new(shared.cuts.window()),
            lateness: RefCell::new(lateness),
            targets: RefCell::default(),
            begun: Cell::new(share.part_of(missed)),
            busy: Cell::new(0),
            ending: Cell::new(false),
            idle: RefCell::default(),
            active: Cell::new(0),
            waiting: RefCell::default(),
            shared,
        }
    }

    async fn drive(self: Rc<Self>) {
        let mut users = 0;
        loop {
            let now = clock::boot_ns();
            self.seen(now);
            if now >= self.shared.stopped() {
                return self.drop_the_rest();
            }
            let begun = match self.shared.generator.load {
                Load::ArrivalRate { .. } => self.begin_all_due(now),
                Load::Vus { .. } => self.keep_active(now, &mut users),
            };
            self.ending.set(now >= self.shared.end);
            let over = self.ending.get() && begun && self.busy.get() == 0;
            if over || now >= self.shared.given_up() {
                return;
            }
            self.wake.notified().await;
        }
    }

    /// Begins what is due; tells whether that was the last.
    fn begin_all_due(self: &Rc<Self>, now: u64) -> bool {
        loop {
            let number = self.share.number(self.begun.get());
            let Some(at) = self.shared.generator.load.nth(number) else { return true };
            let due = self.shared.zero + at;
            if due > now {
                return false;
            }
            self.begun.set(self.begun.get() + 1);
            if now - due <= LATEST_NS && self.shared.take_vu() {
                self.begin(Iteration { number, due });
            } else {
                self.tally.borrow_mut().dropped(1);
            }
        }
    }

    fn begin(self: &Rc<Self>, iteration: Iteration) {
        self.busy.set(self.busy.get() + 1);
        let idle = self.idle.borrow_mut().pop();
        let seat = idle.unwrap_or_else(|| {
            let seat = Rc::new(Seat::default());
            spawn_local(user::open(Rc::clone(self), Rc::clone(&seat)));
            seat
        });
        seat.give(iteration);
    }

    /// A user of an open load has done its iteration.
    pub fn is_idle(&self, seat: &Rc<Seat>) {
        self.idle.borrow_mut().push(Rc::clone(seat));
        self.shared.give_vu_back();
        self.is_over();
    }

    /// An iteration is over.
    pub fn is_over(&self) {
        self.busy.set(self.busy.get() - 1);
        if self.busy.get() == 0 && self.ending.get() {
            self.wake.notify_one();
        }
    }

    /// Has as many users of a closed load as there are to be now; none more begins once that is none.
    fn keep_active(self: &Rc<Self>, now: u64, users: &mut u64) -> bool {
        let load = &self.shared.generator.load;
        let vus = if now < self.shared.zero { 0 } else { load.vus_at(now - self.shared.zero) };
        let active = self.share.part_of(vus.into());
        while *users < active {
            spawn_local(user::closed(Rc::clone(self), *users));
            *users += 1;
        }
        if active > self.active.replace(active) {
            self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
        now >= self.shared.end
    }

    /// Waits until it is one of the active users, and begins an iteration.
    pub async fn turn_of(&self, vu: u64) -> Iteration {
        poll_fn(|cx| {
            let now = clock::boot_ns();
            if vu < self.active.get() && now < self.shared.end {
                let number = self.share.number(self.begun.replace(self.begun.get() + 1));
                self.busy.set(self.busy.get() + 1);
                return Poll::Ready(Iteration { number, due: now });
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Which request an iteration sends.
    pub fn request_of(&self, number: u64) -> usize {
        self.mix.of(number)
    }

    /// The endpoint whose turn it is.
    pub fn next_target(&self) -> Option<Rc<Target>> {
        let endpoints = &self.shared.endpoints;
        let (version, targets) = &mut *self.targets.borrow_mut();
        if *version != endpoints.version() {
            let (newer, places) = endpoints.now();
            let http = self.shared.generator.http;
            let there: Vec<_> = places
                .iter()
                .map(|place| {
                    let known = targets.iter().find(|target| Arc::ptr_eq(&target.place, place));
                    known.map_or_else(|| Rc::new(Target::new(Arc::clone(place), http)), Rc::clone)
                })
                .collect();
            let gone = targets.iter().filter(|target| !there.iter().any(|other| Rc::ptr_eq(target, other)));
            gone.for_each(|target| target.leave());
            (*version, *targets) = (newer, there);
        }
        let turn = endpoints.turn().checked_rem(targets.len())?;
        targets.get(turn).map(Rc::clone)
    }

    /// It is `now`: windows that are over end, and what was counted in them is handed over.
    fn seen(&self, now: u64) {
        self.shared.cuts.passed(now);
        self.hand_over();
    }

    fn hand_over(&self) {
        let now = self.shared.cuts.window();
        let window = self.window.replace(now);
        if window != now {
            let tally = self.counted();
            let _ = self.events.send(Event::Counted { worker: self.number, window, now, tally });
        }
    }

    fn counted(&self) -> Box<Window> {
        Box::new(self.tally.borrow_mut().take())
    }

    /// A request is sent now.
    pub fn sent(&self, retry: bool, at: u64) {
        self.seen(at);
        self.tally.borrow_mut().sent(retry);
    }

    /// An iteration of an open load is sent so long after its time.
    pub fn late(&self, ns: u64) {
        self.lateness.borrow_mut().saturating_record(ns / 1000);
    }

    /// A request that was due at `due` ended so at `at`.
    pub fn ended(&self, outcome: Outcome, due: u64, at: u64) {
        self.shared.cuts.passed(at);
        self.shared.cuts.saw(outcome.good(), at);
        self.hand_over();
        self.tally.borrow_mut().ended(outcome, due, at);
    }

    /// The load was stopped: what was due by then and has not begun is dropped.
    fn drop_the_rest(&self) {
        let due = self.shared.stopped().checked_sub(1).map_or(0, |before| self.shared.due_by(before));
        self.tally.borrow_mut().dropped(self.share.part_of(due).saturating_sub(self.begun.get()));
    }

    fn finish(&self) {
        self.seen(clock::boot_ns().min(self.shared.stopped()));
        let lateness = Histogram::from(&*self.lateness.borrow());
        let (worker, window, tally) = (self.number, self.window.get(), self.counted());
        let _ = self.events.send(Event::Finished { worker, window, tally, lateness });
    }
}
