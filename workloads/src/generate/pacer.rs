//! The thread that keeps the time: it sleeps until something is due, to the microsecond, and wakes the worker whose it is.
//!
//! tokio's timer is a millisecond coarse.

use std::num::NonZeroU64;
use std::sync::Arc;

use exit137_workload::traffic::Load;

use super::control::spawn;
use super::shared::Shared;
use crate::clock;

pub fn start(shared: &Arc<Shared>) -> Result<(), String> {
    let shared = Arc::clone(shared);
    spawn("pacer", move || pace(&shared))
}

fn pace(shared: &Shared) {
    // Else the kernel may wake it 50 µs late to save power (`prctl(2)`, PR_SET_TIMERSLACK). Where it cannot be set, it does.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut woken = shared.due_before(shared.heard);
    while !shared.is_finished() {
        let now = clock::boot_ns();
        shared.cuts.passed(now);
        if now >= shared.end || matches!(shared.generator.load, Load::Vus { .. }) {
            shared.wake_all();
        } else {
            woken = wake_those_due(shared, woken, now);
        }
        let next = [next_due(shared, woken), next_change(shared, now), shared.end, shared.given_up()];
        let next = next.into_iter().filter(|at| *at > now).fold(shared.cuts.until(), u64::min);
        clock::sleep_until_boot(next.max(now + 1));
    }
}

/// Iterations go to workers in turn.
fn wake_those_due(shared: &Shared, woken: u64, now: u64) -> u64 {
    let due = shared.due_before(now + 1).max(woken);
    let workers = shared.workers();
    if due - woken >= workers as u64 {
        shared.wake_all();
    } else {
        for iteration in woken..due {
            shared.wake(usize::try_from(iteration % workers as u64).unwrap_or(0));
        }
    }
    due
}

/// When the first iteration for which nobody has been woken is due. It may be now already.
fn next_due(shared: &Shared, woken: u64) -> u64 {
    let next = shared.generator.load.nth(shared.generator.share.number(woken));
    next.map_or(u64::MAX, |at| shared.zero + at)
}

fn next_change(shared: &Shared, now: u64) -> u64 {
    if now < shared.zero {
        return shared.zero;
    }
    let change = shared.generator.load.vus_change_after(now - shared.zero);
    change.map_or(u64::MAX, |at| shared.zero + at)
}
