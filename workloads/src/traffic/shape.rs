//! The load as a pure function of time, in whole numbers: nothing drifts, however long it is and however it ramps.
//!
//! Iteration `n` (from 0) is due where the integral of the rate reaches `n`: the first one as soon as there is a rate. Time
//! is in nanoseconds after the load's zero. Exact for rates up to 10⁹ per time unit over up to a day.

use super::{Load, LoadStage, Share};

const NS_PER_MS: u64 = 1_000_000;

/// A stage in place: a line from `start` to `target`.
#[derive(Clone, Copy)]
struct Segment {
    from_ns: u64,
    ns: u64,
    start: u64,
    target: u64,
    /// The integral of what is before it, twice, in rate × nanoseconds.
    before: i128,
}

impl Segment {
    fn end_ns(&self) -> u64 {
        self.from_ns.saturating_add(self.ns)
    }

    /// The integral up to its end, as in `before`.
    fn after(&self) -> i128 {
        self.before + (i128::from(self.start) + i128::from(self.target)) * i128::from(self.ns)
    }

    /// The integral up to `x` nanoseconds into it, as in `before` but times its length: a whole number still.
    fn up_to(&self, x: u64) -> i128 {
        let (a, b) = (i128::from(self.start), i128::from(self.target));
        let (x, ns) = (i128::from(x), i128::from(self.ns));
        (self.before + 2 * a * x) * ns + (b - a) * x * x
    }

    /// The first `x` at which the integral, as in `before`, is more than `bound`; it is by the end.
    fn first_above(&self, bound: i128) -> u64 {
        let rest = bound - self.before;
        if self.start == self.target {
            let x = rest / (2 * i128::from(self.start).max(1)) + 1;
            return u64::try_from(x).unwrap_or(self.ns).min(self.ns);
        }
        let bound = bound * i128::from(self.ns);
        first(1, self.ns, self.guess(rest), |x| self.up_to(x) > bound)
    }

    /// About where the integral has grown by `rest`: the root of the parabola, in the form that cancels nothing.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a guess, from which the exact place is searched"
    )]
    fn guess(&self, rest: i128) -> u64 {
        let (a, b, rest) = (self.start as f64, self.target as f64, rest as f64);
        let root = (a * a + (b - a) * rest / self.ns as f64).max(0.0).sqrt();
        (rest / (a + root)) as u64
    }
}

/// The first of `low..=high` for which `holds`, which goes from no to yes once and does so by `high`; quick near `guess`.
fn first(low: u64, high: u64, guess: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut no, mut yes) = (low.saturating_sub(1), high);
    let mut at = guess.clamp(low, high);
    let mut step = 1;
    // Away from the guess in doubling steps, until it lies between the two.
    if holds(at) {
        while holds(at) {
            yes = at;
            if at <= low {
                return low;
            }
            at = at.saturating_sub(step).max(low);
            step *= 2;
        }
        no = at;
    } else {
        while at < high && !holds(at) {
            no = at;
            at = at.saturating_add(step).min(high);
            step *= 2;
        }
        yes = at;
    }
    while yes - no > 1 {
        let middle = no + (yes - no) / 2;
        if holds(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

impl Load {
    fn stages(&self) -> &[LoadStage] {
        match self {
            Self::ArrivalRate { stages, .. } | Self::Vus { stages, .. } => stages,
        }
    }

    fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let start = match self {
            Self::ArrivalRate { start, .. } => *start,
            Self::Vus { start, .. } => u64::from(*start),
        };
        self.stages().iter().scan((0, start, 0), |(from_ns, start, before), stage| {
            let ns = stage.ms.saturating_mul(NS_PER_MS);
            let segment =
                Segment { from_ns: *from_ns, ns, start: *start, target: stage.target, before: *before };
            (*from_ns, *start, *before) = (segment.end_ns(), stage.target, segment.after());
            Some(segment)
        })
    }

    /// Twice the time unit, in nanoseconds: what one iteration adds to a segment's `before`.
    fn unit(&self) -> Option<i128> {
        match self {
            Self::ArrivalRate { time_unit_ms, .. } => {
                Some(2 * i128::from((*time_unit_ms).max(1)) * i128::from(NS_PER_MS))
            }
            Self::Vus { .. } => None,
        }
    }

    /// Where it ends: nothing begins from then on.
    pub fn end_ns(&self) -> u64 {
        self.segments().last().map_or(0, |segment| segment.end_ns())
    }

    /// Where each stage ends.
    pub fn stage_ends_ns(&self) -> impl Iterator<Item = u64> + '_ {
        self.segments().map(|segment| segment.end_ns())
    }

    /// In which stage (from 0) this moment is; past the last one, the number of stages.
    pub fn stage_at(&self, ns: u64) -> u32 {
        let over = self.segments().take_while(|segment| segment.end_ns() <= ns).count();
        u32::try_from(over).unwrap_or(u32::MAX)
    }

    /// How many iterations of an arrival rate are due up to this moment, and at it.
    pub fn due_by(&self, ns: u64) -> u64 {
        let Some(unit) = self.unit() else { return 0 };
        let until = ns.saturating_add(1);
        let mut due = 0;
        for segment in self.segments().filter(|segment| segment.ns > 0) {
            if until <= segment.end_ns() {
                let (integral, unit) =
                    (segment.up_to(until - segment.from_ns), unit * i128::from(segment.ns));
                return ceil(integral, unit);
            }
            due = ceil(segment.after(), unit);
        }
        due
    }

    /// When iteration `n` (from 0) of an arrival rate is due; none if the load ends before.
    pub fn nth(&self, n: u64) -> Option<u64> {
        let bound = self.unit()? * i128::from(n);
        let segment = self.segments().find(|segment| segment.after() > bound)?;
        // It is due in the nanosecond by whose end the integral is more than `n`.
        Some(segment.from_ns + segment.first_above(bound) - 1)
    }

    /// How many VUs a closed load has at this moment, rounded to the nearest.
    pub fn vus_at(&self, ns: u64) -> u32 {
        let Self::Vus { .. } = self else { return 0 };
        let Some(segment) = self.segments().find(|segment| ns < segment.end_ns()) else { return 0 };
        let (a, b) = (i128::from(segment.start), i128::from(segment.target));
        let (x, all) = (i128::from(ns - segment.from_ns), i128::from(segment.ns));
        u32::try_from((2 * (a * all + (b - a) * x) + all) / (2 * all)).unwrap_or(u32::MAX)
    }

    /// When the number of VUs next differs from what it is at this moment.
    pub fn vus_change_after(&self, ns: u64) -> Option<u64> {
        let now = self.vus_at(ns);
        let differs = |at: u64| self.vus_at(at) != now;
        let rest = self.segments().filter(|segment| segment.ns > 0 && ns < segment.end_ns());
        for segment in rest {
            // Within a stage it only grows or only falls.
            let (from, last) = (segment.from_ns.max(ns), segment.end_ns() - 1);
            if differs(last) {
                return Some(first(from, last, from, differs));
            }
        }
        (now > 0).then(|| self.end_ns())
    }

    /// The most VUs that it ever has: those of a closed load, or the most in flight of an open one.
    pub fn most_vus(&self) -> u32 {
        match self {
            Self::ArrivalRate { max_vus, .. } => *max_vus,
            Self::Vus { start, stages } => {
                let targets = stages.iter().map(|stage| u32::try_from(stage.target).unwrap_or(u32::MAX));
                targets.fold(*start, u32::max)
            }
        }
    }

    /// The highest arrival rate, in iterations per second and rounded up; 0 for a closed load.
    pub fn most_per_second(&self) -> u64 {
        let Self::ArrivalRate { start, stages, time_unit_ms, .. } = self else { return 0 };
        let most = stages.iter().map(|stage| stage.target).fold(*start, u64::max);
        most.saturating_mul(1000).div_ceil((*time_unit_ms).max(1))
    }
}

fn ceil(integral: i128, unit: i128) -> u64 {
    u64::try_from((integral + unit - 1) / unit).unwrap_or(u64::MAX)
}

impl Share {
    /// The number of its own iteration or VU `k` among those of all.
    pub fn number(&self, k: u64) -> u64 {
        u64::from(self.index) + u64::from(self.of) * k
    }

    /// How many of the first `total` are its own.
    pub fn part_of(&self, total: u64) -> u64 {
        total.saturating_sub(u64::from(self.index)).div_ceil(u64::from(self.of).max(1))
    }

    /// A share of this share: together, all its `inner` are it.
    #[must_use]
    pub fn divided(&self, inner: Self) -> Self {
        Self { index: self.index + self.of * inner.index, of: self.of * inner.of }
    }
}

#[cfg(test)]
#[path = "shape_laws.rs"]
mod tests;
