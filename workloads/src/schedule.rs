//! How much is to be held when: a pure function of time.

use crate::settings::Stage;

/// One piece of one round, in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The level at which it begins.
    pub from: u64,
    /// The level at which it ends.
    pub to: u64,
    /// When it begins, in nanoseconds after the start of the schedule.
    pub begins_ns: u64,
    /// When it ends; a step ends when it begins.
    pub ends_ns: u64,
}

impl Segment {
    /// The level so many nanoseconds after the start of the schedule, while this segment lasts.
    pub fn level_at(&self, ns: u64) -> u64 {
        let length = u128::from(self.ends_ns - self.begins_ns);
        match ns.saturating_sub(self.begins_ns) {
            _ if ns >= self.ends_ns => self.to,
            into => between(self.from, self.to, u128::from(into), length),
        }
    }
}

/// Linear pieces from one level to the next, begun at zero, run through once or several times.
///
/// The unit is the caller's: bytes for allocation, arrivals per second for traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pieces: Vec<Piece>,
    rounds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    to: u64,
    ms: u64,
}

impl Schedule {
    /// From zero to `level`; at `per_second`, or at once where that is 0.
    pub fn ramp(level: u64, per_second: u64) -> Self {
        let ms = u128::from(level) * 1000 / u128::from(per_second.max(1));
        let ms = if per_second == 0 { 0 } else { u64::try_from(ms).unwrap_or(u64::MAX) };
        Self { pieces: vec![Piece { to: level, ms }], rounds: 1 }
    }

    /// The stages of a scenario: each goes on from where the one before it ended. A stage of no length is a step.
    pub fn stages(stages: &[Stage], rounds: u32) -> Self {
        let pieces = stages.iter().map(|stage| Piece { to: stage.to.0, ms: stage.over.ms }).collect();
        Self { pieces, rounds: rounds.max(1) }
    }

    /// When it has come to its last level, in milliseconds.
    pub fn end_ms(&self) -> u64 {
        self.round_ms().saturating_mul(u64::from(self.rounds))
    }

    /// The highest level of all.
    pub fn peak(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.to).max().unwrap_or(0)
    }

    /// The level after so many nanoseconds. It stays at the last one after the end.
    pub fn level_at(&self, ns: u64) -> u64 {
        let round_ns = u128::from(self.round_ms()) * 1_000_000;
        let mut rest = u128::from(ns);
        let mut from = 0;
        if round_ns > 0 && rest >= round_ns {
            from = self.last();
            if rest / round_ns >= u128::from(self.rounds) {
                return from;
            }
            rest %= round_ns;
        }
        for piece in &self.pieces {
            let length = u128::from(piece.ms) * 1_000_000;
            if rest < length {
                return between(from, piece.to, rest, length);
            }
            rest -= length;
            from = piece.to;
        }
        from
    }

    /// Every piece of every round in order, steps included: who follows these misses no level, as who samples would.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        let rounds = (0..self.rounds).flat_map(|_| &self.pieces);
        rounds.scan((0, 0_u64), |(level, ns), piece| {
            let ends_ns = ns.saturating_add(piece.ms.saturating_mul(1_000_000));
            let segment = Segment { from: *level, to: piece.to, begins_ns: *ns, ends_ns };
            (*level, *ns) = (piece.to, ends_ns);
            Some(segment)
        })
    }

    fn last(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.to)
    }

    fn round_ms(&self) -> u64 {
        self.pieces.iter().fold(0_u64, |sum, piece| sum.saturating_add(piece.ms))
    }
}

/// The point `at` of `length` on the line from `from` to `to`.
fn between(from: u64, to: u64, at: u128, length: u128) -> u64 {
    let way = u128::from(from.abs_diff(to)) * at / length;
    let way = u64::try_from(way).unwrap_or(u64::MAX);
    if to >= from { from.saturating_add(way) } else { from.saturating_sub(way) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, Span};

    const SECOND: u64 = 1_000_000_000;

    fn stage(to: u64, ms: u64) -> Stage {
        Stage { to: Bytes(to), over: Span { ms } }
    }

    #[test]
    fn a_ramp_is_linear_and_then_stays() {
        let ramp = Schedule::ramp(100, 50);
        assert_eq!([0, 1, 2, 9].map(|s| ramp.level_at(s * SECOND)), [0, 50, 100, 100]);
        assert_eq!((ramp.end_ms(), ramp.peak()), (2000, 100));
    }

    #[test]
    fn without_a_rate_all_is_due_at_once() {
        assert_eq!(Schedule::ramp(100, 0).level_at(0), 100);
    }

    #[test]
    fn steps_spikes_and_plateaus_are_stages() {
        let stages = Schedule::stages(&[stage(10, 0), stage(10, 1000), stage(90, 0), stage(20, 1000)], 1);
        assert_eq!(stages.level_at(SECOND - 1), 10);
        assert_eq!(stages.level_at(SECOND), 90);
        assert_eq!(stages.level_at(SECOND + SECOND / 2), 55);
        assert_eq!(stages.level_at(5 * SECOND), 20);
    }

    #[test]
    fn a_sawtooth_goes_on_from_where_it_ended() {
        let saw = Schedule::stages(&[stage(100, 1000), stage(0, 0)], 3);
        assert_eq!(saw.level_at(SECOND / 2), 50);
        assert_eq!(saw.level_at(SECOND + SECOND / 2), 50);
        assert_eq!(saw.level_at(3 * SECOND), 0);
        assert_eq!(saw.end_ms(), 3000);
    }

    #[test]
    fn segments_miss_neither_a_step_nor_the_tip_of_a_sawtooth() {
        let saw = Schedule::stages(&[stage(100, 1000), stage(0, 0)], 2);
        let ends: Vec<_> = saw.segments().map(|segment| (segment.to, segment.ends_ns / SECOND)).collect();
        assert_eq!(ends, [(100, 1), (0, 1), (100, 2), (0, 2)]);
    }

    #[test]
    fn a_segment_says_the_same_as_the_whole() {
        let stages = Schedule::stages(&[stage(70, 300), stage(20, 0), stage(20, 50), stage(90, 700)], 3);
        for segment in stages.segments() {
            for ns in (segment.begins_ns..segment.ends_ns).step_by(7_000_000) {
                assert_eq!(segment.level_at(ns), stages.level_at(ns), "{segment:?} at {ns}");
            }
        }
    }

    #[test]
    fn no_level_is_ever_above_the_peak_and_extreme_values_do_not_overflow() {
        let huge = Schedule::stages(&[stage(u64::MAX, u64::MAX), stage(0, u64::MAX)], u32::MAX);
        for ns in [0, 1, SECOND, u64::MAX / 2, u64::MAX] {
            assert!(huge.level_at(ns) <= huge.peak());
        }
    }
}
