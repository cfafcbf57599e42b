//! What clients saw against the thresholds.

use exit137_workload::traffic::Window;

use super::{Judged, Notes, is};
use crate::diagnosis::clients::{decisive, recovery_ns};
use crate::diagnosis::{Tally, Termination, TrafficFindings};
use crate::scenario::{Aggregate, ContainerSelector, ExpectedTraffic, Metric, Over, Threshold};

const MS: u64 = 1_000_000;

/// A part of a run: what it is called, what clients saw in it, and how long answers took to be good again where that can be asked.
struct Part {
    name: String,
    tally: Tally,
    recovery_ms: Option<f64>,
}

/// Compares every threshold with each part of the run that it is about.
pub(super) fn compare(judged: &Judged<'_>, notes: &mut Notes) {
    for expected in &judged.expect.traffic {
        let found = judged.findings.traffic.iter().find(|traffic| traffic.name == expected.of);
        let Some(found) = found else {
            notes.reasons.push(format!("traffic {} did not begin", expected.of));
            continue;
        };
        if !found.doubts.is_empty() {
            let why = found.doubts.join("; ");
            notes.reasons.push(format!("traffic {}: what clients saw is not all known: {why}", found.name));
            continue;
        }
        // What is said around an end leans on when that was, and on which it was.
        let sure = !matches!(expected.over, Over::Around { .. }) || judged.runtime_watched();
        for part in parts(judged, expected, found, notes) {
            for threshold in &expected.thresholds {
                check(&found.name, threshold, &part, sure, notes);
            }
        }
    }
}

fn parts(
    judged: &Judged<'_>,
    expected: &ExpectedTraffic,
    found: &TrafficFindings,
    notes: &mut Notes,
) -> Vec<Part> {
    match &expected.over {
        Over::Run => {
            vec![Part { name: String::new(), tally: found.whole.clone(), recovery_ms: None }]
        }
        Over::Stage(stage) => {
            let windows = found.windows.iter().filter(|window| window.stage == *stage);
            vec![Part { name: format!(" in stage {stage}"), tally: Tally::of(windows), recovery_ms: None }]
        }
        Over::Around { container, before_ms, after_ms } => {
            let mut ends = ends_of(judged, container);
            if ends.is_empty() {
                let what = format!("traffic {} around the end of {container}", found.name);
                if judged.runtime_watched() {
                    notes.mismatch(what, "an end of it", "no data: it did not end", Vec::new());
                } else {
                    notes.reasons.push(format!("{what}: the runtime did not watch to the end"));
                }
            }
            ends.sort_by_key(|(_, at)| *at);
            let next = |at: u64| ends.iter().map(|(_, other)| *other).find(|other| *other > at);
            let around = |(end, at): &(&Termination, u64)| {
                let (from, to) = (at.saturating_sub(before_ms * MS), at.saturating_add(after_ms * MS));
                // Whole windows, of at most a second.
                let in_it = |window: &&Window| window.to_ns > from && window.from_ns < to;
                #[expect(clippy::cast_precision_loss, reason = "a day has fewer nanoseconds than 2^53")]
                let ms = |ns: u64| ns as f64 / 1e6;
                Part {
                    name: format!(" around the end of {}", end.container),
                    tally: Tally::of(found.windows.iter().filter(in_it)),
                    recovery_ms: recovery_ns(&found.windows, *at, next(*at).unwrap_or(u64::MAX)).map(ms),
                }
            };
            ends.iter().map(around).collect()
        }
    }
}

fn ends_of<'a>(judged: &Judged<'a>, container: &ContainerSelector) -> Vec<(&'a Termination, u64)> {
    let pods = judged.pods_of(container);
    let meant = |end: &&Termination| pods.iter().any(|pod| is(&end.container, pod, &container.container));
    let ends = judged.findings.terminations.iter().filter(meant);
    ends.filter_map(|end| decisive(end).map(|at| (end, at))).collect()
}

fn check(traffic: &str, threshold: &Threshold, part: &Part, sure: bool, notes: &mut Notes) {
    let what = format!("{} of traffic {traffic}{}", threshold.metric.as_str(), part.name);
    let value = measure(threshold, part);
    if value.is_some_and(|value| threshold.holds(value)) {
        return;
    }
    if !sure {
        notes.reasons.push(format!("{what}: {}: the runtime did not watch to the end", threshold.text));
        return;
    }
    let actual = match (value, threshold.metric) {
        (Some(value), _) => shown(threshold, value),
        (None, Metric::Recovery) if part.tally.requests() > 0 => "answers were not good again".to_owned(),
        (None, _) => "no data".to_owned(),
    };
    notes.mismatch(what, threshold.text.clone(), actual, Vec::new());
}

/// The value that a threshold is about; `None` where there is no data.
fn measure(threshold: &Threshold, part: &Part) -> Option<f64> {
    let tally = &part.tally;
    #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
    let number = |count: u64| count as f64;
    let (requests, seconds) = (number(tally.requests()), tally.seconds());
    let per_second = |count: u64| (seconds > 0.0).then(|| number(count) / seconds);
    let counted = match threshold.metric {
        Metric::Failed => number(tally.failed()),
        Metric::Requests => requests,
        Metric::Dropped => number(tally.dropped),
        Metric::Duration | Metric::Recovery => 0.0,
    };
    match (threshold.metric, threshold.aggregate) {
        (Metric::Recovery, _) => part.recovery_ms,
        (Metric::Failed, Aggregate::Rate) => (requests > 0.0).then(|| counted / requests),
        (Metric::Requests, Aggregate::Rate) => per_second(tally.requests()),
        (Metric::Dropped, Aggregate::Rate) => per_second(tally.dropped),
        (Metric::Failed, _) => (requests > 0.0).then_some(counted),
        (Metric::Requests | Metric::Dropped, _) => (tally.to_ns > 0).then_some(counted),
        (Metric::Duration, Aggregate::Average) => tally.mean(),
        (Metric::Duration, Aggregate::Minimum) => tally.least(),
        (Metric::Duration, Aggregate::Maximum) => tally.most(),
        (Metric::Duration, Aggregate::Percentile(percent)) => tally.percentile(percent),
        (Metric::Duration, Aggregate::Rate | Aggregate::Count | Aggregate::Value) => None,
    }
}

/// A measured value as a person reads it.
fn shown(threshold: &Threshold, value: f64) -> String {
    match (threshold.metric, threshold.aggregate) {
        (Metric::Duration | Metric::Recovery, _) => format!("{value:.1} ms"),
        (Metric::Failed, Aggregate::Rate) => format!("{value:.4}"),
        (Metric::Requests | Metric::Dropped, Aggregate::Rate) => format!("{value:.1} per second"),
        (Metric::Failed | Metric::Requests | Metric::Dropped, _) => format!("{value}"),
    }
}
