//! What the trials of a value say together.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::TrialReport;
use crate::report::model::{MemoryReport, Outcome};

/// The trials of one value, together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// How many were run.
    pub runs: u32,
    /// In how many every expectation held.
    pub passed: u32,
    /// In how many something differed.
    pub failed: u32,
    /// How many said neither.
    pub open: u32,
    /// How often containers and processes died of what.
    pub causes: BTreeMap<String, u32>,
    /// From a container's start to its first kill: the median of the trials that saw one, in milliseconds.
    pub time_to_kill_ms: Option<u64>,
    /// What 99 % of the requests took at most, in milliseconds: the worst traffic of the worst trial, where there is traffic.
    pub p99_ms: Option<f64>,
    /// The most memory that each container took in any trial.
    pub memory: Vec<Memory>,
    /// What differed or was missing, each once.
    pub reasons: Vec<String>,
}

/// A container's memory, in bytes: the worst of all trials, replicas and restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// `pod/container`.
    pub container: String,
    /// Its limit.
    pub limit: Option<u64>,
    /// The most ever charged.
    pub peak: Option<u64>,
    /// The most in use without inactive file pages.
    pub working_set: Option<u64>,
    /// How often use met the limit.
    pub limit_hits: Option<u64>,
    /// Pages read back.
    pub refaults: Option<u64>,
    /// The worst PSI `full avg10`, in percent; absent on cgroup v1.
    pub pressure_full: Option<f64>,
    /// The worst PSI `some avg10`, in percent; absent on cgroup v1.
    pub pressure_some: Option<f64>,
}

impl Digest {
    /// Of these trials. `pod` says which of the scenario's pods one belongs to.
    pub fn of<'a>(trials: impl IntoIterator<Item = &'a TrialReport>, pod: impl Fn(&str) -> String) -> Self {
        let mut digest = Self::default();
        let (mut kills, mut memory) = (Vec::new(), BTreeMap::new());
        for trial in trials {
            digest.count(trial);
            kills.extend(first_kill(trial));
            let latencies = trial.traffic.iter().filter_map(|traffic| traffic.whole.latency);
            digest.p99_ms = latencies.map(|latency| Some(latency.p99)).fold(digest.p99_ms, worse);
            for report in &trial.memory {
                let container = format!("{}/{}", pod(&report.container.pod), report.container.container);
                let worst = memory.entry(container.clone());
                worst.or_insert_with(|| Memory { container, ..Memory::default() }).add(report);
            }
        }
        kills.sort_unstable();
        digest.time_to_kill_ms = kills.get(kills.len() / 2).copied();
        digest.memory = memory.into_values().collect();
        digest
    }

    fn count(&mut self, trial: &TrialReport) {
        self.runs += 1;
        *match trial.outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Failed => &mut self.failed,
            Outcome::Inconclusive | Outcome::Errored | Outcome::Skipped => &mut self.open,
        } += 1;
        let ended = trial.terminations.iter().filter_map(|end| end.attribution.as_ref());
        let hidden = trial.hidden_kills.iter().map(|kill| &kill.attribution);
        for attribution in ended.chain(hidden) {
            *self.causes.entry(attribution.cause.to_string()).or_default() += 1;
        }
        let differs = trial.mismatches.iter().map(|mismatch| {
            format!("{}: expected {}, got {}", mismatch.what, mismatch.expected, mismatch.actual)
        });
        for reason in differs.chain(trial.reasons.iter().cloned()) {
            if !self.reasons.contains(&reason) {
                self.reasons.push(reason);
            }
        }
    }

    /// The most that any container took.
    pub fn peak(&self) -> Option<u64> {
        self.memory.iter().filter_map(|memory| memory.peak).max()
    }

    /// The causes in words: `container-oom, 3 liveness-probe`.
    pub fn causes(&self) -> String {
        let word = |(cause, count): (&String, &u32)| {
            if *count == 1 { cause.clone() } else { format!("{count} {cause}") }
        };
        self.causes.iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

impl Memory {
    fn add(&mut self, report: &MemoryReport) {
        let sampled = report.memory.map(|memory| memory.peak);
        self.limit = self.limit.max(report.limit);
        self.peak = self.peak.max(report.peak).max(sampled);
        self.working_set = self.working_set.max(report.working_set.map(|set| set.peak));
        self.limit_hits = self.limit_hits.max(report.limit_hits);
        self.refaults = self.refaults.max(report.refaults);
        self.pressure_full = worse(self.pressure_full, report.pressure_full);
        self.pressure_some = worse(self.pressure_some, report.pressure_some);
    }
}

fn worse(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (one, other) => one.or(other),
    }
}

fn first_kill(trial: &TrialReport) -> Option<u64> {
    let ended = trial.terminations.iter().map(|end| &end.killed_at);
    let killed = ended.chain(trial.hidden_kills.iter().map(|kill| &kill.killed_at)).flatten();
    killed.filter_map(|at| Some(at.since_start_us? / 1000)).min()
}
