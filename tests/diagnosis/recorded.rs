//! Runs of the shipped scenarios that were recorded for real (`make record`), judged again.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use exit137::artifacts;
use exit137::diagnosis::Findings;
use exit137::evidence::Observation;
use exit137::loader;
use exit137::report::TrialReport;
use exit137::report::model::Outcome;
use exit137::report::trial::{self, Kept};
use exit137::scenario::Scenario;

use crate::laws::judge;

pub struct Recorded {
    pub name: String,
    pub scenario: Scenario,
    pub kept: Kept,
}

impl Recorded {
    /// What the trial comes to with these observations instead, and readings of memory up to this nanosecond.
    pub fn report(&self, observations: Vec<Observation>, until: u64) -> TrialReport {
        let samples = self.kept.samples.iter().filter(|sample| sample.at < until).cloned().collect();
        trial::report(&self.scenario, 1, &Kept { observations, samples, ..Kept::default() })
    }
}

/// Every recorded run, in the order of the names.
pub fn recorded() -> &'static [Recorded] {
    static ALL: LazyLock<Vec<Recorded>> = LazyLock::new(|| read_all("v1"));
    &ALL
}

/// The same on a kind cluster of Kubernetes 1.20, but for the forty.
pub fn recorded_on_kind() -> &'static [Recorded] {
    static ALL: LazyLock<Vec<Recorded>> = LazyLock::new(|| read_all("kind-1.20-v1"));
    &ALL
}

fn read_all(folder: &str) -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(folder);
    let mut names: Vec<String> = fs::read_dir(folder.as_path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let read = |name: String| {
        let scenario = loader::load_kept(&folder.join(&name).join("scenario.yaml")).unwrap();
        let kept = artifacts::read_trial(&folder.join(&name).join("trial-1")).unwrap();
        Recorded { name, scenario, kept }
    };
    names.into_iter().map(read).collect()
}

/// One line for each end and each hidden kill.
fn summary(findings: &Findings) -> String {
    let mut text = String::new();
    for end in &findings.terminations {
        let how = end.end.map_or("never ran".to_owned(), |end| format!("{end:?}"));
        let why = end.attribution.as_ref().map_or("nothing to explain".to_owned(), |found| {
            let detail = found.detail.map(|detail| format!("/{detail}")).unwrap_or_default();
            let sender = found.sender.as_ref().map(|by| format!(" by {}", by.comm)).unwrap_or_default();
            format!("{}{detail}{sender}, {}", found.cause, found.confidence)
        });
        writeln!(text, "  {}: {how}: {why}", end.container).unwrap();
    }
    for kill in &findings.hidden_kills {
        let comm = kill.comm.as_deref().unwrap_or("a process");
        writeln!(text, "  {}: hidden: {comm}, {}", kill.container, kill.attribution.confidence).unwrap();
    }
    text
}

#[test]
fn a_recorded_run_is_judged_as_it_was() {
    let mut text = String::new();
    for run in recorded() {
        let report = run.report(run.kept.observations.clone(), u64::MAX);
        assert_eq!(
            report.outcome,
            Outcome::Passed,
            "{}: {:?} {:?}",
            run.name,
            report.mismatches,
            report.reasons
        );
        let mut lines: Vec<_> = summary(&judge(&run.kept.observations)).lines().map(str::to_owned).collect();
        lines.sort();
        writeln!(text, "{}", run.name).unwrap();
        for line in lines {
            writeln!(text, "{line}").unwrap();
        }
    }
    insta::assert_snapshot!("recorded_v1", text);
}

/// What a scenario came to: container, run, cause, detail and exit code of each end, and how often each container ran.
fn came_to(run: &Recorded) -> (Vec<String>, Vec<String>) {
    let findings = judge(&run.kept.observations);
    let end = |end: &exit137::diagnosis::Termination| {
        let found = end.attribution.as_ref();
        // What never ran has no exit code of its own: a runtime says 128, our shim how its process ended.
        let code = end.started_at.and(end.end).map(exit137::evidence::End::exit_code);
        format!("{} {:?} {:?} {code:?}", end.container, found.map(|f| f.cause), found.map(|f| f.detail))
    };
    let mut ends: Vec<String> = findings.terminations.iter().map(end).collect();
    ends.sort();
    (ends, findings.starts.iter().map(|(container, runs)| format!("{container} {runs}")).collect())
}

#[test]
fn a_scenario_comes_to_the_same_on_kind_as_on_this_host() {
    let mut compared = 0;
    for kind in recorded_on_kind() {
        assert_eq!(
            trial::report(&kind.scenario, 1, &kind.kept).outcome,
            Outcome::Passed,
            "{} on kind",
            kind.name
        );
        let Some(here) = recorded().iter().find(|run| run.name == kind.name) else { continue };
        // How often a crashing container comes round again is a matter of the back-off, which the local backend scales.
        if kind.name == "limit-leak" {
            continue;
        }
        assert_eq!(came_to(kind), came_to(here), "{}", kind.name);
        compared += 1;
    }
    assert!(compared >= 20, "only {compared} were compared");
}
