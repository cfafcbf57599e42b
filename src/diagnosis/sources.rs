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
    /// The last nanosecond at which it stated anything: until then it was alive.
    last_stated: u64,
}

impl SourceLog {
    /// It stated a fact.
    pub(super) fn stated(&mut self, observation: &Observation) {
        if !matches!(observation.fact, Fact::Source(_)) {
            self.last_stated = self.last_stated.max(observation.moment.latest());
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
        began && lasted && !self.gaps.iter().any(|(at, _)| overlaps(*at, from, to))
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
