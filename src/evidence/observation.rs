//! One fact, from one source, at one moment.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fact, Moment};

/// Who saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// exit137 itself: what it made and what it did, known because it did it.
    Harness,
    /// What starts containers and reaps them: the shim on this host, containerd's status on a cluster.
    Runtime,
    /// What decides to stop containers: our own prober on this host, the kubelet on a cluster.
    Kubelet,
    /// The kernel log, `/dev/kmsg`.
    Kmsg,
    /// Tracepoints: `signal:signal_generate`, `oom:mark_victim`, `sched:sched_process_fork`.
    Trace,
    /// The memory cgroups' files and notifications.
    Memcg,
    /// The kernel's notices of processes that ended (the proc connector), on a cluster's nodes.
    Exits,
    /// Generators of traffic: what clients saw.
    Clients,
}

/// One fact as it was observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Its place in the record; a reader sees what is missing.
    pub sequence: u64,
    /// Who saw it.
    pub source: Source,
    /// When it happened (not when it was read).
    pub moment: Moment,
    /// The text it was read from, for sources that are text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// What was seen.
    pub fact: Fact,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 8] = [
        Self::Harness,
        Self::Runtime,
        Self::Kubelet,
        Self::Kmsg,
        Self::Trace,
        Self::Memcg,
        Self::Exits,
        Self::Clients,
    ];

    /// The word for it in records and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Harness => "harness",
            Self::Runtime => "runtime",
            Self::Kubelet => "kubelet",
            Self::Kmsg => "kmsg",
            Self::Trace => "trace",
            Self::Memcg => "memcg",
            Self::Exits => "exits",
            Self::Clients => "clients",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
