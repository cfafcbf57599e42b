//! Bounds on memory: a release gate asks for headroom, not only for survival.

use super::{Judged, Notes, is, watched};
use crate::evidence::Source;
use crate::scenario::{Bound, Measure, Operator};
use crate::statistics::MemorySummary;

/// Compares every bound with every run of the containers that it means.
pub(super) fn compare(judged: &Judged<'_>, notes: &mut Notes) {
    for bound in &judged.expect.bounds {
        for pod in judged.pods_of(&bound.container) {
            let mut found = false;
            for (container, summary) in judged.memory.iter() {
                if is(container, &pod, &bound.container.container) {
                    found = true;
                    check(bound, &container.to_string(), &summary, sure(judged, bound), notes);
                }
            }
            if !found {
                notes.reasons.push(format!("{pod}/{}: {}: no data", bound.container.container, bound.text));
            }
        }
    }
}

/// Whether what was measured cannot come to satisfy the bound any more: it was measured to the end, or it is a most that
/// only grows and has outgrown the bound.
fn sure(judged: &Judged<'_>, bound: &Bound) -> bool {
    let most = match bound.measure {
        Measure::P95 => false,
        Measure::Peak
        | Measure::WorkingSet
        | Measure::PressureFull
        | Measure::PressureSome
        | Measure::Refaults
        | Measure::LimitHits => true,
    };
    let above = matches!(bound.comparison.operator, Operator::Less | Operator::AtMost);
    watched(judged.findings, Source::Memcg) || (most && above)
}

fn check(bound: &Bound, container: &str, summary: &MemorySummary, sure: bool, notes: &mut Notes) {
    let value = measure(bound.measure, summary);
    let holds = value.and_then(|value| bound.comparison.holds(value, summary.limit, summary.request));
    match (holds, value) {
        (Some(true), _) => {}
        (Some(false), Some(_)) if !sure => {
            notes.reasons.push(format!("{container}: {}: it was not measured to the end", bound.text));
        }
        (Some(false), Some(value)) => {
            notes.mismatch(
                format!("bound on {container}"),
                bound.text.clone(),
                shown(bound.measure, value, summary.limit),
                Vec::new(),
            );
        }
        (_, None) => {
            let why = match bound.measure {
                // Known to be met, or else there would be a count.
                Measure::LimitHits if summary.peak.is_some() => {
                    ": it met the limit, and this kernel's cgroup v1 does not count how often"
                }
                Measure::PressureFull | Measure::PressureSome => ": it needs cgroup v2 with PSI",
                Measure::LimitHits
                | Measure::Peak
                | Measure::P95
                | Measure::WorkingSet
                | Measure::Refaults => "",
            };
            notes.reasons.push(format!("{container}: {}: no data{why}", bound.text));
        }
        (None, Some(_)) => {
            notes.reasons.push(format!("{container}: {}: there is nothing to compare with", bound.text));
        }
    }
}

/// A measured value as a person reads it.
fn shown(measure: Measure, value: f64, limit: Option<u64>) -> String {
    match measure {
        Measure::Peak | Measure::P95 | Measure::WorkingSet => super::size(value, limit),
        Measure::PressureFull | Measure::PressureSome => format!("{value}%"),
        Measure::Refaults | Measure::LimitHits => format!("{value}"),
    }
}

/// What was measured; `None` where nothing was.
fn measure(measure: Measure, summary: &MemorySummary) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "sizes and counts below 2^53 are exact")]
    let number = |value: Option<u64>| value.map(|value| value as f64);
    match measure {
        Measure::Peak => number(summary.peak),
        Measure::P95 => number(summary.usage.map(|usage| usage.p95)),
        Measure::WorkingSet => number(summary.working_set.map(|set| set.peak)),
        Measure::PressureFull => summary.pressure_full,
        Measure::PressureSome => summary.pressure_some,
        Measure::Refaults => number(summary.refaults),
        Measure::LimitHits => number(summary.limit_hits),
    }
}
