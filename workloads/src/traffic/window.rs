//! Windows add up: those of several threads or generators over the same stretch, and those that follow each other.

use super::{Failure, Window};

impl Window {
    /// Adds what happened in another one; where it lies and in which stage is left as it is, and so is `in_flight`.
    pub fn absorb(&mut self, other: &Self) {
        self.due += other.due;
        self.dropped += other.dropped;
        self.sent += other.sent;
        self.retried += other.retried;
        self.outcomes.add(&other.outcomes);
        self.latency.merge(&other.latency);
        let of_both = |one: Option<Failure>, two: Option<Failure>| one.into_iter().chain(two);
        self.first_failed =
            of_both(self.first_failed, other.first_failed).min_by_key(|failure| failure.at_ns);
        self.last_failed = of_both(self.last_failed, other.last_failed).max_by_key(|failure| failure.at_ns);
        self.first_reset_ns = self.first_reset_ns.into_iter().chain(other.first_reset_ns).min();
        self.first_good_ns = self.first_good_ns.into_iter().chain(other.first_good_ns).min();
        self.last_good_ns = self.last_good_ns.max(other.last_good_ns);
    }
}
