//! How each source did: without this, "nothing was seen" means nothing.

use super::SourceHealth;
use crate::evidence::{Fact, Moment, Observation, Source, SourceState};

/// What one source said of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SourceLog {
    present: Option<Moment>,
    complete: bool,
    ended: Option<(Moment, String)>,
    gaps: Vec<(Moment, u64)>,
    /// Until then it had stated all that it saw. A fact that is an interval began to be looked for at its beginning, and
    /// others from the same look may have been lost with the source.
    last_stated: u64,
}

impl SourceLog {
    /// It stated a fact.
    pub(super) fn stated(&mut self, observation: &Observation) {
        if !matches!(observation.fact, Fact::Source(_)) {
            self.last_stated = self.last_stated.max(observation.moment.earliest());
        }
    }

    /// Somebody stated how it is doing.
    pub(super) fn state(&mut self, at: Moment, state: &SourceState) {
        match state {
            SourceState::Present { .. } => {
                let earliest = self.present.is_none_or(|known| at.sort_order(known).is_lt());
                if earliest {
                    self.present = Some(at);
                }
            }
            SourceState::Absent { reason, .. } | SourceState::Lost { reason, .. } => {
                // The first reason explains the others; where two are as old, the text decides, not the arrival.
                let new = (at, reason.clone());
                let earlier = self
                    .ended
                    .as_ref()
                    .is_none_or(|known| at.sort_order(known.0).then_with(|| reason.cmp(&known.1)).is_lt());
                if earlier {
                    self.ended = Some(new);
                }
            }
            SourceState::Gap { lost, .. } => {
                let place = self.gaps.partition_point(|(m, n)| m.sort_order(at).then(n.cmp(lost)).is_lt());
                self.gaps.insert(place, (at, *lost));
            }
            SourceState::Complete { .. } => self.complete = true,
        }
    }

    /// Whether everything that it could have seen between two nanoseconds, it has stated.
    pub(super) fn watched(&self, from: u64, to: u64) -> bool {
        let began = self.present.is_some_and(|at| at.earliest() <= from);
        let lasted = if self.ended.is_some() || !self.complete { self.last_stated >= to } else { true };
        began && lasted && !self.lost_around(from, to)
    }

    /// Whether it lost records around that time.
    pub(super) fn lost_around(&self, from: u64, to: u64) -> bool {
        self.gaps.iter().any(|(at, _)| overlaps(*at, from, to))
    }

    /// Why it cannot vouch for the time between two nanoseconds.
    pub(super) fn why(&self, from: u64, to: u64) -> String {
        if let Some((at, lost)) = self.gaps.iter().find(|(at, _)| overlaps(*at, from, to)) {
            let _ = at;
            return format!("it lost {lost} records around that time");
        }
        match (&self.present, &self.ended) {
            (Some(_), Some((_, reason))) => format!("it stopped: {reason}"),
            (None, Some((_, reason))) => format!("it was absent: {reason}"),
            (None, None) => "it was absent".to_owned(),
            (Some(_), None) => "the record ends before it had read everything".to_owned(),
        }
    }

    /// For the report.
    pub(super) fn health(&self, source: Source) -> SourceHealth {
        SourceHealth {
            source,
            present: self.present.is_some(),
            complete: self.present.is_some() && self.complete && self.ended.is_none(),
            lost: self.gaps.iter().map(|(_, lost)| lost).sum(),
            reason: self.ended.as_ref().map(|(_, reason)| reason.clone()),
        }
    }
}

/// A gap that is stated as one instant was noticed then; what was lost lies before it.
fn overlaps(gap: Moment, from: u64, to: u64) -> bool {
    let reach = if gap.uncertainty() == 0 { 5_000_000_000 } else { 0 };
    gap.earliest().saturating_sub(reach) <= to && gap.latest() >= from
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Source;

    #[test]
    fn a_look_that_began_before_a_moment_does_not_vouch_for_it() {
        let notified = |from, to| Observation {
            sequence: 0,
            source: Source::Memcg,
            moment: Moment::between(from, to),
            raw: None,
            fact: Fact::OomNotified { cgroup: "/node/web".to_owned() },
        };
        let mut log = SourceLog::default();
        log.state(Moment::exactly(0), &SourceState::Present { of: Source::Memcg });
        // The same look may have seen more, and the source died before it could say so.
        log.stated(&notified(90, 105));
        assert!(!log.watched(50, 100));
        log.stated(&notified(105, 115));
        assert!(log.watched(50, 100));
    }
}
