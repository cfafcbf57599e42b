//! When something was: an interval on the boot-time clock.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A stretch of `CLOCK_BOOTTIME`, in nanoseconds, within which something happened.
///
/// Wall-clock time is computed only when it is shown, from the calibrations that the record holds. Moments have no total
/// order: two that overlap are neither before nor after one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[u64; 2]", into = "[u64; 2]")]
pub struct Moment {
    earliest: u64,
    latest: u64,
}

/// The answer to "was this before that?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It was before.
    Yes,
    /// It was not.
    No,
    /// The two intervals overlap.
    Unknown,
}

impl Moment {
    /// Something that happened at a known nanosecond.
    pub fn exactly(ns: u64) -> Self {
        Self { earliest: ns, latest: ns }
    }

    /// Something that happened between two nanoseconds, given in either order.
    pub fn between(a: u64, b: u64) -> Self {
        Self { earliest: a.min(b), latest: a.max(b) }
    }

    /// Something that happened at `ns`, give or take `error_ns`.
    pub fn around(ns: u64, error_ns: u64) -> Self {
        Self { earliest: ns.saturating_sub(error_ns), latest: ns.saturating_add(error_ns) }
    }

    /// The first nanosecond at which it may have happened.
    pub fn earliest(self) -> u64 {
        self.earliest
    }

    /// The last nanosecond at which it may have happened.
    pub fn latest(self) -> u64 {
        self.latest
    }

    /// The middle of the interval: the best single value.
    pub fn middle(self) -> u64 {
        self.earliest + (self.latest - self.earliest) / 2
    }

    /// Half the width of the interval.
    pub fn uncertainty(self) -> u64 {
        (self.latest - self.earliest).div_ceil(2)
    }

    /// Whether this was before `other`.
    pub fn before(self, other: Self) -> Order {
        if self.latest < other.earliest {
            Order::Yes
        } else if self.earliest > other.latest || self == other {
            Order::No
        } else {
            Order::Unknown
        }
    }

    /// A stable order for lists: by the earliest nanosecond, then by the latest.
    pub fn sort_order(self, other: Self) -> Ordering {
        (self.earliest, self.latest).cmp(&(other.earliest, other.latest))
    }
}

impl From<[u64; 2]> for Moment {
    fn from([a, b]: [u64; 2]) -> Self {
        Self::between(a, b)
    }
}

impl From<Moment> for [u64; 2] {
    fn from(moment: Moment) -> Self {
        [moment.earliest, moment.latest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_moments_have_no_order() {
        let a = Moment::between(10, 20);
        let b = Moment::between(15, 30);
        assert_eq!(a.before(b), Order::Unknown);
        assert_eq!(a.before(Moment::exactly(21)), Order::Yes);
        assert_eq!(b.before(Moment::exactly(9)), Order::No);
    }
}
