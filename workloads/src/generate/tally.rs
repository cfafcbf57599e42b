//! What a thread counts in one window.

use exit137_workload::traffic::{Failure, Histogram, Outcome, Window};

/// A latency that is longer is counted as this, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

pub struct Tally {
    /// What the line will say, but for latencies.
    window: Window,
    latency: hdrhistogram::Histogram<u32>,
}

/// A histogram of microseconds, of constant size.
pub fn histogram() -> Result<hdrhistogram::Histogram<u32>, String> {
    hdrhistogram::Histogram::new_with_bounds(1, LONGEST_US, 3)
        .map_err(|error| format!("cannot make a histogram: {error}"))
}

impl Tally {
    pub fn new() -> Result<Self, String> {
        Ok(Self { window: Window::default(), latency: histogram()? })
    }

    /// What has been counted; counts anew.
    pub fn take(&mut self) -> Window {
        let mut window = std::mem::take(&mut self.window);
        if !self.latency.is_empty() {
            window.latency = Histogram::from(&self.latency);
            self.latency.reset();
        }
        window
    }

    pub fn dropped(&mut self, iterations: u64) {
        self.window.dropped += iterations;
    }

    pub fn sent(&mut self, retry: bool) {
        self.window.sent += 1;
        self.window.retried += u64::from(retry);
    }

    /// A request that was due at `due` ended so at `at`.
    pub fn ended(&mut self, outcome: Outcome, due: u64, at: u64) {
        let window = &mut self.window;
        window.outcomes.count(outcome);
        if outcome.has_latency() {
            self.latency.saturating_record(at.saturating_sub(due) / 1000);
        }
        if outcome.good() {
            window.first_good_ns.get_or_insert(at);
            window.last_good_ns = Some(at);
        } else {
            let failure = Failure { at_ns: at, due_ns: due, outcome };
            window.first_failed.get_or_insert(failure);
            window.last_failed = Some(failure);
        }
        if matches!(outcome, Outcome::Reset | Outcome::Cut) {
            window.first_reset_ns.get_or_insert(at);
        }
    }
}
