//! What a diagnosis answers.

use exit137_workload::traffic::Window;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clients::Tally;
use crate::cause::{Cause, Confidence, Detail};
use crate::evidence::{ContainerRef, End, Moment, Source};

/// Everything that a run's observations tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// How containers ended, in the order of their ends. Ends that the tear-down brought about are not among them.
    pub terminations: Vec<Termination>,
    /// OOM kills that no container's status shows.
    pub hidden_kills: Vec<HiddenKill>,
    /// What the clients of each traffic saw.
    pub traffic: Vec<TrafficFindings>,
    /// Containers that were started, each run of each, and still ran when the observation ended.
    pub survivors: Vec<ContainerRef>,
    /// Containers that were started at all, with the number of their runs.
    pub starts: Vec<(ContainerRef, u32)>,
    /// How the sources did.
    pub sources: Vec<SourceHealth>,
    /// OOM kills of processes that the evidence gives to nobody.
    pub unowned_kills: u32,
    /// Things worth a line that change no cause: a refused limit, a failed action, a foreign OOM nearby.
    pub notes: Vec<String>,
}

/// How a container's run ended, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    /// Which one.
    pub container: ContainerRef,
    /// How its main process ended; `None` where it never ran, or where nobody saw it end.
    pub end: Option<End>,
    /// Whether it is known to have ended and nobody saw how.
    pub unseen: bool,
    /// The `reason` that Kubernetes gives: `OOMKilled`, `Error`. It may name another cause, or none.
    pub reason: Option<String>,
    /// When its main process began to run.
    pub started_at: Option<Stamped>,
    /// The SIGKILL, where there was one.
    pub killed_at: Option<Stamped>,
    /// When it was reaped.
    pub ended_at: Option<Stamped>,
    /// Why; `None` where there is nothing to explain (it exited by itself, and not with 137).
    pub attribution: Option<Attribution>,
    /// What had asked it to end before it did, where something had.
    pub asked: Option<String>,
    /// Its own limit in bytes.
    pub limit: Option<u64>,
    /// Its request in bytes.
    pub request: Option<u64>,
    /// What clients of traffic that went to it saw.
    pub clients: Vec<ClientImpact>,
}

/// What the clients of one traffic saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficFindings {
    /// Its name.
    pub name: String,
    /// Where it went: `container:port`.
    pub to: String,
    /// Why what is known of it is not all of it; empty where it is.
    pub doubts: Vec<String>,
    /// How late 99 % of the iterations of an open load were sent at most, in milliseconds.
    pub late_p99_ms: Option<f64>,
    /// All of it.
    pub whole: Tally,
    /// The windows of all its generators, in the order of their ends.
    pub windows: Vec<Window>,
}

/// What the clients of one traffic saw of the end of a container that it went to. Times are nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientImpact {
    /// Of which traffic.
    pub traffic: String,
    /// The earliest moment of the kill, or of the end where nothing killed it: what the rest is counted from.
    pub killed_ns: u64,
    /// The first request that failed since then.
    pub first_failed_ns: Option<u64>,
    /// The last one, before answers were good again.
    pub last_failed_ns: Option<u64>,
    /// The first connection that was reset or closed in the middle.
    pub first_reset_ns: Option<u64>,
    /// The first good answer after which no request failed for a second; `None` where there was none before the next end.
    pub good_again_ns: Option<u64>,
    /// Since the end before was got over, or since the beginning.
    pub before: Tally,
    /// Until answers were good again.
    pub during: Tally,
    /// Until the next end, or until all was over.
    pub after: Tally,
}

/// A moment, and who stated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// When.
    pub moment: Moment,
    /// By which source.
    pub source: Source,
}

/// Why, and by which observations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// Why.
    pub cause: Cause,
    /// In which form.
    pub detail: Option<Detail>,
    /// How sure.
    pub confidence: Confidence,
    /// Who sent the SIGKILL, where that is known.
    pub sender: Option<Sender>,
    /// The cgroup whose limit was reached, where a limit was.
    pub domain: Option<String>,
    /// One sentence for a person.
    pub explanation: String,
    /// Sequence numbers of the observations that it rests on.
    pub evidence: Vec<u64>,
    /// What was missing, and what it would have told.
    pub missing: Vec<Missing>,
    /// Other things that happened to this container and did not end it.
    pub also_seen: Vec<String>,
}

/// Who sent a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sender {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

/// A source that would have told more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// Which.
    pub source: Source,
    /// Why it is missing and what it would have told.
    pub why: String,
}

/// A process that was OOM-killed while its container lived on, or before it ended for another reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HiddenKill {
    /// In which container.
    pub container: ContainerRef,
    /// Its PID, where it is known.
    pub pid: Option<u32>,
    /// Its name, where it is known.
    pub comm: Option<String>,
    /// When.
    pub killed_at: Option<Stamped>,
    /// Why: `child-oom` with the detail `hidden`, the domain, the evidence.
    pub attribution: Attribution,
}

/// A container's memory when it was killed, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryAtDeath {
    /// The last reading before the kill, or the limit itself where the kernel says that it was reached.
    pub usage: Option<u64>,
    /// The limit that counted.
    pub limit: Option<u64>,
}

/// How a source did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceHealth {
    /// Which.
    pub source: Source,
    /// It watched from the start.
    pub present: bool,
    /// It watched to the end.
    pub complete: bool,
    /// So many records it lost.
    pub lost: u64,
    /// Why it was absent, or what it died of.
    pub reason: Option<String>,
}
