//! The model: everything that a rendering may show, and nothing that must be computed again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clients::{ClientsReport, TrafficReport};
use crate::cause::{Cause, Confidence, Detail};
use crate::diagnosis::{MemoryAtDeath, Mismatch, Missing, Sender, SourceHealth};
use crate::evidence::{ContainerRef, End, HostFacts, Source};
use crate::exit_status::ExitStatus;

/// The version of this model.
pub const VERSION: &str = "exit137/report/v1";

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `exit137/report/v1`.
    pub version: String,
    /// What the run ran on.
    pub host: Option<HostReport>,
    /// The clusters that it ran on, and what can be seen there.
    #[serde(default)]
    pub clusters: Vec<ClusterReport>,
    /// How many scenarios came to what.
    pub summary: Summary,
    /// Each scenario.
    pub scenarios: Vec<ScenarioReport>,
}

/// Where a run ran, and what ran it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    /// The version of exit137.
    pub exit137: String,
    /// The kernel's release.
    pub kernel: String,
    /// Which cgroup version has the memory controller: 1 or 2.
    pub cgroup_version: u8,
    /// MemTotal in bytes.
    pub memory_total: u64,
    /// SwapTotal in bytes.
    pub swap_total: u64,
    /// Whether the kernel's PIDs are exit137's too; without that they are not used.
    pub initial_pid_namespace: bool,
    /// The kernel's `boot_id`.
    pub boot_id: String,
}

impl From<HostFacts> for HostReport {
    fn from(facts: HostFacts) -> Self {
        Self {
            exit137: facts.exit137,
            kernel: facts.kernel,
            cgroup_version: facts.cgroup_version,
            memory_total: facts.memory_total,
            swap_total: facts.swap_total,
            initial_pid_namespace: facts.initial_pid_namespace,
            boot_id: facts.boot_id,
        }
    }
}

/// A cluster, and which of its sources see an OOM kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// The kube context's name.
    pub context: String,
    /// The API server's version.
    pub version: String,
    /// The sources that saw a canary being OOM-killed: a container that was let run into its limit before the scenarios.
    pub sees: Vec<Source>,
    /// Those that did not, and why.
    pub blind: Vec<Missing>,
    /// Whether that was in an earlier run, on the same boot, nodes and cluster.
    pub remembered: bool,
}

/// How many scenarios came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// All trials passed.
    pub passed: u32,
    /// A trial failed.
    pub failed: u32,
    /// A trial was inconclusive, none failed.
    pub inconclusive: u32,
    /// exit137 or the environment failed.
    pub errored: u32,
    /// Something it requires is missing.
    pub skipped: u32,
}

/// What a scenario or a trial came to, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was not run.
    Skipped,
    /// All that was expected happened, and nothing else.
    Passed,
    /// The evidence does not reach to say.
    Inconclusive,
    /// Something differs.
    Failed,
    /// exit137 or the environment failed.
    Errored,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub description: Option<String>,
    /// SHA-256 of its file.
    pub hash: String,
    /// The worst of its trials.
    pub outcome: Outcome,
    /// Why it was not run.
    pub skipped: Option<String>,
    /// How many of its trials passed.
    pub passed: u32,
    /// Its keys that have no effect here.
    pub without_effect: Vec<String>,
    /// Its trials.
    pub trials: Vec<TrialReport>,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrialReport {
    /// From 1.
    pub number: u32,
    /// What it came to.
    pub outcome: Outcome,
    /// Why it errored or was inconclusive.
    pub reasons: Vec<String>,
    /// Where it differs from what was expected.
    pub mismatches: Vec<Mismatch>,
    /// How containers ended.
    pub terminations: Vec<TerminationReport>,
    /// OOM kills that no container's status shows.
    pub hidden_kills: Vec<HiddenKillReport>,
    /// What the clients of each traffic saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficReport>,
    /// How much memory each container took.
    pub memory: Vec<MemoryReport>,
    /// How the sources did.
    pub sources: Vec<SourceHealth>,
    /// `memory.oom.group` of each container's cgroup, as read; absent on cgroup v1.
    pub oom_group: Option<bool>,
    /// Other things worth a line.
    pub notes: Vec<String>,
    /// The observations that mismatches and attributions rest on.
    pub evidence: Vec<Quote>,
    /// From its first fact to its last, in milliseconds.
    pub duration_ms: u64,
}

/// An observation, quoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    /// Its place in the record.
    pub sequence: u64,
    /// Who saw it.
    pub source: Source,
    /// The text it was read from, or the fact itself.
    pub text: String,
}

/// A moment, for people and for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeReport {
    /// Wall clock, RFC 3339 with microseconds; absent where no calibration tells.
    pub wall: Option<String>,
    /// `CLOCK_BOOTTIME` in nanoseconds: the middle of the interval.
    pub boot_ns: u64,
    /// Give or take so many nanoseconds.
    pub uncertainty_ns: u64,
    /// Microseconds since the container's main process began to run.
    pub since_start_us: Option<u64>,
    /// Who stated it.
    pub source: Source,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TerminationReport {
    /// Which.
    pub container: ContainerRef,
    /// Kubernetes' exit code.
    pub exit_code: Option<i32>,
    /// Whether it exited or a signal ended it.
    pub end: Option<End>,
    /// Whether it ran and was gone, and nobody saw how it ended.
    #[serde(default)]
    pub unseen: bool,
    /// The `reason` that Kubernetes gives for it, on a cluster: `OOMKilled`, `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The moment of the SIGKILL.
    pub killed_at: Option<TimeReport>,
    /// When it was reaped.
    pub ended_at: Option<TimeReport>,
    /// Why.
    pub attribution: Option<AttributionReport>,
    /// What had asked it to end before it did, where something had.
    pub asked: Option<String>,
    /// Its memory at death.
    pub memory_at_death: MemoryAtDeath,
    /// What the clients of traffic that went to it saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientsReport>,
    /// The last lines that it wrote, of a program of the user's own in a trial that did not pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// Why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttributionReport {
    /// Why.
    pub cause: Cause,
    /// In which form.
    pub detail: Option<Detail>,
    /// How sure.
    pub confidence: Confidence,
    /// Who sent the SIGKILL.
    pub sender: Option<Sender>,
    /// The cgroup whose limit was reached.
    pub domain: Option<String>,
    /// One sentence.
    pub explanation: String,
    /// The observations that it rests on: see the trial's `evidence`.
    pub evidence: Vec<u64>,
    /// What was missing.
    pub missing: Vec<Missing>,
    /// What else happened to the container.
    pub also_seen: Vec<String>,
}

/// An OOM kill that no container's status shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HiddenKillReport {
    /// In which container.
    pub container: ContainerRef,
    /// The victim's PID.
    pub pid: Option<u32>,
    /// The victim's name.
    pub comm: Option<String>,
    /// When.
    pub killed_at: Option<TimeReport>,
    /// Why.
    pub attribution: AttributionReport,
}

/// How much memory a container took, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryReport {
    /// Which.
    pub container: ContainerRef,
    /// Its request.
    pub request: Option<u64>,
    /// Its limit.
    pub limit: Option<u64>,
    /// All that is charged: 50th and 95th percentile over time, and the most.
    pub memory: Option<Percentiles>,
    /// The kubelet's measure: the same without inactive file pages.
    pub working_set: Option<Percentiles>,
    /// The most ever charged, as the kernel counted it.
    pub peak: Option<u64>,
    /// How often use met the limit.
    pub limit_hits: Option<u64>,
    /// Pages read back.
    pub refaults: Option<u64>,
    /// The worst PSI `full avg10`, in percent.
    pub pressure_full: Option<f64>,
    /// The worst PSI `some avg10`, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure_some: Option<f64>,
    /// How many readings this rests on.
    pub samples: u64,
}

/// A distribution over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    /// Half the time it was at most this.
    pub p50: u64,
    /// 95 % of the time it was at most this.
    pub p95: u64,
    /// The most that was read.
    pub peak: u64,
}

impl Report {
    /// The report of these scenarios.
    pub fn new(host: Option<HostFacts>, scenarios: Vec<ScenarioReport>) -> Self {
        let mut summary = Summary::default();
        for scenario in &scenarios {
            *match scenario.outcome {
                Outcome::Passed => &mut summary.passed,
                Outcome::Failed => &mut summary.failed,
                Outcome::Inconclusive => &mut summary.inconclusive,
                Outcome::Errored => &mut summary.errored,
                Outcome::Skipped => &mut summary.skipped,
            } += 1;
        }
        let (version, host) = (VERSION.to_owned(), host.map(HostReport::from));
        Self { version, host, clusters: Vec::new(), summary, scenarios }
    }

    /// The same, run on these clusters.
    #[must_use]
    pub fn on(mut self, clusters: Vec<ClusterReport>) -> Self {
        self.clusters = clusters;
        self
    }

    /// The exit status that these outcomes ask for.
    pub fn exit_status(&self) -> ExitStatus {
        ExitStatus::choose(self.scenarios.iter().map(|scenario| match scenario.outcome {
            Outcome::Passed => ExitStatus::Passed,
            Outcome::Failed => ExitStatus::Failed,
            Outcome::Inconclusive => ExitStatus::Inconclusive,
            Outcome::Errored => ExitStatus::Environment,
            Outcome::Skipped => ExitStatus::NothingRan,
        }))
    }
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::Errored => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// The JSON Schema of report.json.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Report).to_value()
}
