//! Whether what happened is what the scenario said.

mod bounds;
mod ends;
mod traffic;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Findings;
use crate::cause::Cause;
use crate::evidence::{ContainerRef, Source};
use crate::scenario::{ContainerSelector, Expect, Pod};
use crate::statistics::MemorySummaries;

/// Pass, fail, or the honest third.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// All that was expected happened, and nothing else.
    Pass,
    /// Something differs for sure.
    Fail {
        /// What.
        mismatches: Vec<Mismatch>,
        /// What beside that could not be said.
        open: Vec<String>,
    },
    /// The evidence does not reach to say pass or fail.
    Inconclusive {
        /// Why not.
        reasons: Vec<String>,
    },
}

/// A difference between what was expected and what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mismatch {
    /// Of what.
    pub what: String,
    /// What the scenario says.
    pub expected: String,
    /// What happened.
    pub actual: String,
    /// Sequence numbers of the observations that show it.
    pub evidence: Vec<u64>,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What must happen.
    pub expect: &'a Expect,
    /// The scenario's pods: which replicas a selector means.
    pub pods: &'a [Pod],
    /// What happened.
    pub findings: &'a Findings,
    /// How much memory it took.
    pub memory: &'a MemorySummaries,
    /// Whether the scenario met its timeout.
    pub timed_out: bool,
}

/// What judging has found so far.
#[derive(Debug, Default)]
struct Notes {
    mismatches: Vec<Mismatch>,
    reasons: Vec<String>,
}

/// Whether what happened is what the scenario said.
pub fn judge(judged: &Judged<'_>) -> Verdict {
    let mut notes = Notes::default();
    ends::compare(judged, &mut notes);
    survivors(judged, &mut notes);
    restarts(judged, &mut notes);
    hidden_kills(judged, &mut notes);
    bounds::compare(judged, &mut notes);
    traffic::compare(judged, &mut notes);
    sources(judged.findings, &mut notes);
    if judged.timed_out {
        // What was seen until then is worth showing, but the scenario was not played to its end.
        let seen = notes
            .mismatches
            .iter()
            .map(|m| format!("until then: {}: expected {}, was {}", m.what, m.expected, m.actual));
        let mut reasons = vec!["the scenario met its timeout".to_owned()];
        reasons.extend(seen);
        reasons.append(&mut notes.reasons);
        return Verdict::Inconclusive { reasons };
    }
    match (notes.mismatches.is_empty(), notes.reasons.is_empty()) {
        (false, _) => Verdict::Fail { mismatches: notes.mismatches, open: notes.reasons },
        (true, false) => Verdict::Inconclusive { reasons: notes.reasons },
        (true, true) => Verdict::Pass,
    }
}

impl Notes {
    fn mismatch(
        &mut self,
        what: String,
        expected: impl Into<String>,
        actual: impl Into<String>,
        evidence: Vec<u64>,
    ) {
        let (expected, actual) = (expected.into(), actual.into());
        self.mismatches.push(Mismatch { what, expected, actual, evidence });
    }
}

impl Judged<'_> {
    /// The names of the pods that a selector means: a pod with replicas means each of them.
    fn pods_of(&self, selector: &ContainerSelector) -> Vec<String> {
        let pod = self.pods.iter().find(|pod| pod.name == selector.pod);
        pod.map_or_else(|| vec![selector.pod.clone()], Pod::replica_names)
    }

    /// Whether the end of a container would have been seen.
    fn runtime_watched(&self) -> bool {
        watched(self.findings, Source::Runtime)
    }
}

fn watched(findings: &Findings, source: Source) -> bool {
    findings.sources.iter().any(|health| health.source == source && health.complete && health.lost == 0)
}

fn is(container: &ContainerRef, pod: &str, name: &str) -> bool {
    container.pod == pod && container.container == name
}

/// Containers that must run from the start to the end.
fn survivors(judged: &Judged<'_>, notes: &mut Notes) {
    for selector in &judged.expect.survive {
        for pod in judged.pods_of(selector) {
            let what = format!("survival of {pod}/{}", selector.container);
            let is_it = |container: &ContainerRef| is(container, &pod, &selector.container);
            let ended = judged.findings.terminations.iter().find(|end| is_it(&end.container));
            if let Some(end) = ended.filter(|end| end.unseen) {
                notes.reasons.push(format!("{what}: {}", ends::unseen(end)));
            } else if let Some(end) = ended {
                notes.mismatch(what, "to run until the end", ends::describe(end), ends::evidence(end));
            } else if !judged.findings.survivors.iter().any(is_it) {
                if judged.runtime_watched() {
                    notes.mismatch(what, "to run until the end", "it was never started", Vec::new());
                } else {
                    notes.reasons.push(format!("{what}: the runtime did not watch to the end"));
                }
            }
        }
    }
}

/// How often containers were restarted.
fn restarts(judged: &Judged<'_>, notes: &mut Notes) {
    for expected in &judged.expect.restarts {
        for pod in judged.pods_of(&expected.container) {
            let name = &expected.container.container;
            let what = format!("restarts of {pod}/{name}");
            let starts = judged.findings.starts.iter().find(|(container, _)| is(container, &pod, name));
            let actual = starts.map_or(0, |(_, runs)| runs.saturating_sub(1));
            if (expected.min..=expected.max).contains(&actual) {
                continue;
            }
            if judged.runtime_watched() {
                notes.mismatch(what, range(expected.min, expected.max), actual.to_string(), Vec::new());
            } else {
                notes.reasons.push(format!("{what}: the runtime did not watch to the end"));
            }
        }
    }
}

/// OOM kills that no status shows: those that are expected, and no others.
fn hidden_kills(judged: &Judged<'_>, notes: &mut Notes) {
    let kills = &judged.findings.hidden_kills;
    let all_known = every_kill_known(judged.findings);
    if !all_known {
        notes
            .reasons
            .push("hidden OOM kills: nothing that tells whose they were watched to the end".to_owned());
    }
    let mut expected_in = Vec::new();
    for expected in &judged.expect.hidden_kills {
        for pod in judged.pods_of(&expected.container) {
            let name = expected.container.container.clone();
            let own: Vec<_> = kills.iter().filter(|kill| is(&kill.container, &pod, &name)).collect();
            let count = u32::try_from(own.len()).unwrap_or(u32::MAX);
            let what = format!("hidden OOM kills in {pod}/{name}");
            // One that is wanting may be what an end was that nothing settles.
            let unsettled = judged.findings.terminations.iter().any(|end| {
                let cause = end.attribution.as_ref().map(|found| found.cause);
                is(&end.container, &pod, &name) && cause == Some(Cause::Undetermined)
            });
            let sure = all_known && judged.runtime_watched() && !unsettled;
            if count > expected.max || (count < expected.min && sure) {
                let evidence = own.iter().flat_map(|kill| kill.attribution.evidence.clone()).collect();
                notes.mismatch(what, range(expected.min, expected.max), count.to_string(), evidence);
            } else if count < expected.min {
                notes.reasons.push(format!("{what}: only {count} are known"));
            }
            expected_in.push((pod, name));
        }
    }
    for kill in kills {
        if !expected_in.iter().any(|(pod, name)| is(&kill.container, pod, name)) {
            let what = format!("unexpected OOM kill in {}", kill.container);
            notes.mismatch(
                what,
                "no OOM kill",
                kill.attribution.explanation.clone(),
                kill.attribution.evidence.clone(),
            );
        }
    }
}

/// Whether no OOM kill in the scenario can have been missed: the cgroups count each, and where the kernel or a tracepoint
/// names the victims, whose each was must be known.
fn every_kill_known(findings: &Findings) -> bool {
    let named = [Source::Kmsg, Source::Trace].iter().any(|source| watched(findings, *source));
    watched(findings, Source::Memcg) || (named && findings.unowned_kills == 0)
}

/// A source that died makes the verdict inconclusive, never silently poorer. One that was absent from the start has
/// cost what it cost: attributions that needed it say so.
fn sources(findings: &Findings, notes: &mut Notes) {
    for health in findings.sources.iter().filter(|health| health.present && !health.complete) {
        let why = health.reason.as_deref().unwrap_or("the record ends before it had read everything");
        notes.reasons.push(format!("the source {} did not watch to the end: {why}", health.source));
    }
    let runtime = findings.sources.iter().find(|health| health.source == Source::Runtime && health.present);
    if let Some(lost) = runtime.map(|health| health.lost).filter(|lost| *lost > 0) {
        notes
            .reasons
            .push(format!("the source runtime has missed how some runs of containers ended: {lost}"));
    }
}

/// A size as a person reads it, beside the limit that it is compared with.
fn size(bytes: f64, limit: Option<u64>) -> String {
    let size = format!("{:.1} MiB", bytes / f64::from(1 << 20));
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let share = limit.map(|limit| format!(", {:.1}% of limit", bytes / limit as f64 * 100.0));
    size + &share.unwrap_or_default()
}

fn range(min: u32, max: u32) -> String {
    match (min, max) {
        (min, max) if min == max => min.to_string(),
        (min, u32::MAX) => format!("at least {min}"),
        (0, max) => format!("at most {max}"),
        (min, max) => format!("{min} to {max}"),
    }
}
