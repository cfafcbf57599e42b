//! What a trial's report says, beside what was brought about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use exit137::artifacts;
use exit137::cause::{Cause, Confidence};
use exit137::evidence::{ContainerRef, Fact};
use exit137::report::model::{Outcome, TerminationReport, TrialReport};

use crate::baseline::{Answer, by_exit_code, by_reason, by_wait_status};
use crate::truth::{Expected, Induced};

/// How often each answer was given to one kind of end.
#[derive(Debug, Default)]
pub struct Row {
    pub induced: u32,
    pub unsummarised: u32,
    pub certain: u32,
    pub high: u32,
    pub missed: u32,
    pub wrong: u32,
    pub by_exit_code: BTreeMap<Answer, u32>,
    pub by_reason: BTreeMap<Answer, u32>,
    pub by_wait_status: BTreeMap<Answer, u32>,
}

/// Everything that was compared.
#[derive(Debug, Default)]
pub struct Compared {
    /// By the name of what was induced.
    pub rows: BTreeMap<String, Row>,
    pub trials: u32,
    pub invented: u32,
    /// OOM kills that have no `oom-kill:` line in their record.
    pub unsummarised: u32,
    /// One line for each difference.
    pub wrong: Vec<String>,
}

/// Whose OOM kill the kernel's summary names, from a trial's record.
struct Summaries {
    main: BTreeMap<ContainerRef, u32>,
    named: BTreeSet<u32>,
    victims: BTreeSet<u32>,
}

impl Summaries {
    fn read(trial: &Path) -> Self {
        let kept = artifacts::read_trial(trial).unwrap();
        let mut this = Self { main: BTreeMap::new(), named: BTreeSet::new(), victims: BTreeSet::new() };
        for seen in &kept.observations {
            if let Fact::Started(start) = &seen.fact {
                this.main.extend(start.pid.map(|pid| (start.container.clone(), pid)));
            } else if let Fact::StartFailed(failed) = &seen.fact {
                this.main.extend(failed.pid.map(|pid| (failed.container.clone(), pid)));
            } else if let Fact::OomSummary(summary) = &seen.fact {
                this.named.insert(summary.pid);
            } else if let Fact::KernelKilled(killed) = &seen.fact {
                this.victims.insert(killed.pid);
            }
        }
        this
    }

    /// Whether the OOM killer took this process and its summary was left out.
    fn left_out(&self, pid: Option<u32>) -> bool {
        pid.is_some_and(|pid| self.victims.contains(&pid) && !self.named.contains(&pid))
    }
}

impl Compared {
    /// Takes in a trial whose record lies in `kept`.
    pub fn trial(&mut self, scenario: &str, induced: &Induced, trial: &TrialReport, kept: &Path) {
        self.trials += 1;
        let at = format!("{scenario}, trial {}", trial.number);
        if trial.outcome != Outcome::Passed {
            let mismatches = trial.mismatches.iter().map(|m| format!("{}: {}", m.what, m.actual));
            let why: Vec<String> = trial.reasons.iter().cloned().chain(mismatches).collect();
            self.wrong.push(format!("{at}: {}: {}", trial.outcome.as_str(), why.join("; ")));
        }
        let summaries = Summaries::read(kept);
        let mut found: BTreeMap<String, Vec<&TerminationReport>> = BTreeMap::new();
        for end in &trial.terminations {
            found.entry(name(&end.container)).or_default().push(end);
        }
        for (container, expected) in induced.ends() {
            let ends = found.remove(&container).unwrap_or_default();
            for (nth, expected) in expected.iter().enumerate() {
                self.end(&format!("{at}: {container}"), expected, ends.get(nth).copied(), &summaries);
            }
            for end in ends.iter().skip(expected.len()) {
                self.invent(&format!("{at}: {container}: {}", said(end)));
            }
        }
        for (container, ends) in found {
            for end in ends {
                self.invent(&format!("{at}: {container}: {}", said(end)));
            }
        }
        self.hidden(&at, induced, trial, &summaries);
    }

    fn end(
        &mut self,
        at: &str,
        expected: &Expected,
        found: Option<&TerminationReport>,
        summaries: &Summaries,
    ) {
        let row = self.rows.entry(label(expected)).or_default();
        row.induced += 1;
        let Some(found) = found else {
            row.missed += 1;
            self.wrong.push(format!("{at}: missed {}", label(expected)));
            return;
        };
        if summaries.left_out(summaries.main.get(&found.container).copied()) {
            row.unsummarised += 1;
            self.unsummarised += 1;
        }
        *row.by_exit_code.entry(by_exit_code(expected.cause, found.exit_code)).or_default() += 1;
        let by_reason = by_reason(expected.cause, found.reason.as_deref());
        *row.by_reason.entry(by_reason).or_default() += 1;
        let by_wait_status = by_wait_status(expected.cause, found.end);
        *row.by_wait_status.entry(by_wait_status).or_default() += 1;
        let same_code = expected.exit_code.is_none() || expected.exit_code == found.exit_code;
        let confidence = match (&found.attribution, expected.cause) {
            (None, None) => Some(Confidence::Certain),
            (Some(found), Some(cause)) if (found.cause, found.detail) == (cause, expected.detail) => {
                Some(found.confidence)
            }
            // A kubelet that has lost a container makes a 137 up, whatever was induced: it is right to say so.
            (Some(said), None) if said.cause == Cause::Synthetic && is_invented(found) => {
                Some(said.confidence)
            }
            (_, _) => None,
        };
        match confidence {
            Some(Confidence::Certain) if same_code => row.certain += 1,
            Some(Confidence::High) if same_code => row.high += 1,
            Some(_) | None => {
                row.wrong += 1;
                self.wrong.push(format!("{at}: {} was induced, found {}", label(expected), said(found)));
            }
        }
    }

    fn hidden(&mut self, at: &str, induced: &Induced, trial: &TrialReport, summaries: &Summaries) {
        let mut expected = induced.hidden();
        for kill in &trial.hidden_kills {
            let container = name(&kill.container);
            let Some(left) = expected.get_mut(&container).filter(|left| **left > 0) else {
                self.invent(&format!("{at}: {container}: a hidden OOM kill"));
                continue;
            };
            *left -= 1;
            let row = self.rows.entry(hidden_label()).or_default();
            row.induced += 1;
            if summaries.left_out(kill.pid) {
                row.unsummarised += 1;
                self.unsummarised += 1;
            }
            match kill.attribution.confidence {
                Confidence::Certain => row.certain += 1,
                Confidence::High => row.high += 1,
                Confidence::Medium | Confidence::Low => {
                    row.wrong += 1;
                    self.wrong.push(format!("{at}: {container}: a hidden kill that is not sure"));
                }
            }
            *row.by_exit_code.entry(Answer::Missed).or_default() += 1;
            *row.by_reason.entry(Answer::Missed).or_default() += 1;
            *row.by_wait_status.entry(Answer::Missed).or_default() += 1;
        }
        for (container, left) in expected {
            for _ in 0..left {
                let row = self.rows.entry(hidden_label()).or_default();
                row.induced += 1;
                row.missed += 1;
                self.wrong.push(format!("{at}: {container}: missed a hidden OOM kill"));
            }
        }
    }

    fn invent(&mut self, what: &str) {
        self.invented += 1;
        self.wrong.push(format!("{what}: invented"));
    }
}

/// Whether Kubernetes' own word for this end is that it does not know (kubelet_pods.go:convertStatusToAPIStatus).
fn is_invented(end: &TerminationReport) -> bool {
    end.reason.as_deref() == Some("ContainerStatusUnknown")
}

fn name(container: &ContainerRef) -> String {
    format!("{}/{}", container.pod, container.container)
}

fn label(expected: &Expected) -> String {
    let detail = expected.detail.map(|detail| format!("/{detail}")).unwrap_or_default();
    expected.cause.map_or("exit by itself, not 137".to_owned(), |cause| format!("{cause}{detail}"))
}

fn hidden_label() -> String {
    format!("{}/hidden", Cause::ChildOom)
}

fn said(end: &TerminationReport) -> String {
    let found = end.attribution.as_ref();
    let cause = found.map_or("nothing to explain".to_owned(), |found| {
        let detail = found.detail.map(|detail| format!("/{detail}")).unwrap_or_default();
        format!("{}{detail} ({}): {}", found.cause, found.confidence, found.explanation)
    });
    format!("exit code {:?}, {cause}", end.exit_code)
}
