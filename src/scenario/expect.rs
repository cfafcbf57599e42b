//! What must happen.

use super::ExpectedTraffic;
use crate::cause::{Cause, Confidence, Detail};

/// Everything that a scenario expects. What happens and is not expected is a mismatch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    /// Containers that must end, and how.
    pub terminations: Vec<ExpectedTermination>,
    /// Containers that must run from the start to the end of the observation.
    pub survive: Vec<ContainerSelector>,
    /// How often containers are restarted.
    pub restarts: Vec<ExpectedRestarts>,
    /// OOM kills that the container's status does not show.
    pub hidden_kills: Vec<ExpectedHiddenKills>,
    /// Bounds on memory.
    pub bounds: Vec<Bound>,
    /// What the clients of traffic must have seen.
    pub traffic: Vec<ExpectedTraffic>,
}

/// One or all replicas' container: `pod/container`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerSelector {
    /// A pod's name, or one replica's (`web-0`). The name of a pod with replicas means each of them.
    pub pod: String,
    /// The container's name.
    pub container: String,
}

/// A container that must end.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedTermination {
    /// Which.
    pub container: ContainerSelector,
    /// Why; `None` where the scenario does not care.
    pub cause: Option<Cause>,
    /// In which form.
    pub detail: Option<Detail>,
    /// At least so sure; where it is not said, `high`.
    pub confidence: Confidence,
    /// With which exit code.
    pub exit_code: Option<i32>,
    /// Who sent the SIGKILL (its comm).
    pub sender: Option<String>,
    /// When, counted from the start of that container instance.
    pub within: Option<Window>,
    /// Memory at death.
    pub memory_at_death: Option<Comparison>,
    /// Of which instance; `None` means any.
    pub instance: Option<u32>,
    /// How many such terminations: at least and at most.
    pub times: (u32, u32),
}

/// A stretch of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Not before.
    pub from_ms: u64,
    /// Not after.
    pub to_ms: u64,
}

/// How often a container is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedRestarts {
    /// Which.
    pub container: ContainerSelector,
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

/// OOM kills that stay hidden from the container's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedHiddenKills {
    /// In which container.
    pub container: ContainerSelector,
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

/// A bound on a container's memory over the whole observation, such as `peak < 80% of limit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Of which container.
    pub container: ContainerSelector,
    /// What is measured.
    pub measure: Measure,
    /// What it must be.
    pub comparison: Comparison,
    /// As the scenario wrote it.
    pub text: String,
}

/// What is measured of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The most memory ever charged.
    Peak,
    /// The 95th percentile of memory.
    P95,
    /// The most working set (usage less inactive file pages), the kubelet's measure.
    WorkingSet,
    /// PSI `full avg10` of the container, at its worst, in percent (cgroup v2).
    PressureFull,
    /// PSI `some avg10`.
    PressureSome,
    /// Pages that had to be read back (`workingset_refault_*`).
    Refaults,
    /// Times that use met the limit, the container's or its pod's.
    LimitHits,
}

/// A comparison with a value or with a share of the limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// `<`, `<=`, `>` or `>=`.
    pub operator: Operator,
    /// Against what.
    pub reference: Reference,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// What a measure is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reference {
    /// Bytes.
    Bytes(u64),
    /// A share of the container's limit: 0.8 is 80 %.
    OfLimit(f64),
    /// A share of the container's request.
    OfRequest(f64),
    /// A plain number: percent for pressure, a count for the rest.
    Number(f64),
}

impl Comparison {
    /// Whether `value` satisfies it; `None` where it refers to a limit or a request that there is none of.
    pub fn holds(&self, value: f64, limit: Option<u64>, request: Option<u64>) -> Option<bool> {
        #[expect(clippy::cast_precision_loss, reason = "sizes below 2^53 bytes are exact")]
        let reference = match self.reference {
            Reference::Bytes(bytes) => bytes as f64,
            Reference::OfLimit(share) => limit? as f64 * share,
            Reference::OfRequest(share) => request? as f64 * share,
            Reference::Number(number) => number,
        };
        Some(match self.operator {
            Operator::Less => value < reference,
            Operator::AtMost => value <= reference,
            Operator::Greater => value > reference,
            Operator::AtLeast => value >= reference,
        })
    }
}

impl std::fmt::Display for ContainerSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.pod, self.container)
    }
}
