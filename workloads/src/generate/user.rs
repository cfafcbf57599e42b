//! A virtual user (VU): one iteration at a time, each of which sends a request, and sends it again where it failed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use exit137_workload::traffic::Outcome;

use super::alarm::Alarm;
use super::exchange::Broken;
use super::worker::Worker;
use crate::clock;

/// A user of a closed load whose request went nowhere pauses for so long: it would do nothing else but fail.
const PAUSE_NS: u64 = 10_000_000;

/// An iteration: its number among all of the load, and when it is due.
#[derive(Clone, Copy)]
pub struct Iteration {
    pub number: u64,
    pub due: u64,
}

/// Where a user of an open load is given its next iteration.
#[derive(Default)]
pub struct Seat {
    next: Cell<Option<Iteration>>,
    waker: RefCell<Option<Waker>>,
}

impl Seat {
    pub fn give(&self, iteration: Iteration) {
        self.next.set(Some(iteration));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn taken(&self) -> Iteration {
        poll_fn(|cx| {
            if let Some(iteration) = self.next.take() {
                return Poll::Ready(iteration);
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// A user of an open load: it iterates when it is told to.
pub async fn open(worker: Rc<Worker>, seat: Rc<Seat>) {
    let mut alarm = Alarm::new();
    loop {
        let iteration = seat.taken().await;
        worker.late(clock::boot_ns().saturating_sub(iteration.due));
        iterate(&worker, iteration, &mut alarm).await;
        worker.is_idle(&seat);
    }
}

/// A user of a closed load: it iterates for as long as it is one of the active ones.
pub async fn closed(worker: Rc<Worker>, vu: u64) {
    let mut alarm = Alarm::new();
    loop {
        let iteration = worker.turn_of(vu).await;
        let outcome = iterate(&worker, iteration, &mut alarm).await;
        worker.is_over();
        if matches!(outcome, Outcome::Refused | Outcome::NotSent) {
            alarm.wait(clock::boot_ns() + PAUSE_NS).await;
        }
    }
}

async fn iterate(worker: &Worker, iteration: Iteration, alarm: &mut Alarm) -> Outcome {
    let request = worker.request_of(iteration.number);
    let generator = &worker.shared.generator;
    let mut due = iteration.due;
    let mut retries = 0;
    loop {
        let (outcome, at) = attempt(worker, request, alarm, retries > 0).await;
        worker.ended(outcome, due, at);
        if retries == generator.retries || !outcome.retried() {
            return outcome;
        }
        retries += 1;
        due = at.saturating_add(generator.retry_after_ms.saturating_mul(1_000_000));
        alarm.wait(due).await;
    }
}

/// Sends it once; tells how and when that ended.
async fn attempt(worker: &Worker, request: usize, alarm: &mut Alarm, retry: bool) -> (Outcome, u64) {
    let sent = clock::boot_ns();
    worker.sent(retry, sent);
    let Some(target) = worker.next_target() else { return (Outcome::Refused, sent) };
    let Some(template) = target.place.requests.get(request) else { return (Outcome::NotSent, sent) };
    let until = sent.saturating_add(template.timeout_ns);
    match alarm.within(until, pin!(target.exchange(template))).await {
        Some(Ok(status)) => (Outcome::of_status(status), clock::boot_ns()),
        Some(Err(Broken { outcome, at })) => (outcome, at),
        None => (Outcome::TimedOut, clock::boot_ns()),
    }
}
