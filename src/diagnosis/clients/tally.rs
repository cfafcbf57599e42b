//! Windows, summed: nothing is averaged twice.

use exit137_workload::traffic::{Histogram, Outcomes, Window};
use serde::{Deserialize, Serialize};

/// What several windows come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Where the first of them begins, in nanoseconds of `CLOCK_BOOTTIME`.
    pub from_ns: u64,
    /// Where the last of them ends.
    pub to_ns: u64,
    /// Iterations that the load called for.
    pub due: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// Requests sent again.
    pub retried: u64,
    /// How requests ended.
    pub outcomes: Outcomes,
    /// Microseconds from the intended send of those that were answered, cut or timed out.
    pub latency: Histogram,
}

impl Tally {
    /// What these windows come to.
    pub fn of<'a>(windows: impl IntoIterator<Item = &'a Window>) -> Self {
        let mut tally = Self::default();
        for window in windows {
            tally.add(window);
        }
        tally
    }

    fn add(&mut self, window: &Window) {
        let first = self.to_ns == 0;
        self.from_ns = if first { window.from_ns } else { self.from_ns.min(window.from_ns) };
        self.to_ns = self.to_ns.max(window.to_ns);
        self.due += window.due;
        self.dropped += window.dropped;
        self.retried += window.retried;
        self.outcomes.add(&window.outcomes);
        self.latency.merge(&window.latency);
    }

    /// Requests that came to their end.
    pub fn requests(&self) -> u64 {
        self.outcomes.total()
    }

    /// Requests that were not answered with 200 to 399.
    pub fn failed(&self) -> u64 {
        self.outcomes.failed()
    }

    /// How long it all took, in seconds.
    pub fn seconds(&self) -> f64 {
        as_f64(self.to_ns.saturating_sub(self.from_ns)) / 1e9
    }

    /// So many percent of the latencies are at most this, in milliseconds.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        percentile(&self.latency, percent)
    }

    /// The least latency, in milliseconds.
    pub fn least(&self) -> Option<f64> {
        self.latency.0.first().map(|(micros, _)| as_f64(*micros) / 1e3)
    }

    /// The greatest.
    pub fn most(&self) -> Option<f64> {
        self.latency.max().map(|micros| as_f64(micros) / 1e3)
    }

    /// The mean.
    pub fn mean(&self) -> Option<f64> {
        let count = self.latency.count();
        let sum: f64 = self.latency.0.iter().map(|(micros, times)| as_f64(*micros) * as_f64(*times)).sum();
        (count > 0).then(|| sum / as_f64(count) / 1e3)
    }
}

/// So many percent of the values, which are microseconds, are at most this, in milliseconds.
pub(super) fn percentile(values: &Histogram, percent: f64) -> Option<f64> {
    values.percentile(percent).map(|micros| as_f64(micros) / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of a run are far below 2^53")]
fn as_f64(value: u64) -> f64 {
    value as f64
}
