//! The closed list of causes: the words that a scenario expects with and a diagnosis answers with.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a container ended, or why a process in it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The container reached its own memory limit.
    ContainerOom,
    /// The containers of a pod together reached the pod's limit.
    PodOom,
    /// A level above the pod ran out: see [`Detail`] for which.
    NodeOom,
    /// A process other than the container's main one was OOM-killed.
    ChildOom,
    /// The limit was too small for the container to start at all.
    StartOom,
    /// The limit was lowered below what was in use.
    ResizeOom,
    /// The kubelet stopped the container: its liveness probe failed.
    LivenessProbe,
    /// The kubelet stopped the container: its startup probe failed.
    StartupProbe,
    /// The pod was asked to stop and the container outlived the grace period.
    GracePeriod,
    /// The kubelet evicted the pod under node pressure.
    Eviction,
    /// The pod made room for one of higher priority.
    Preemption,
    /// The pod was active for longer than `activeDeadlineSeconds`.
    Deadline,
    /// The node was shut down.
    NodeShutdown,
    /// A userspace OOM killer (systemd-oomd, earlyoom) sent the SIGKILL.
    UserspaceOom,
    /// Somebody else sent the SIGKILL.
    ExternalKill,
    /// Nothing was killed: the process itself exited with status 137.
    #[serde(rename = "exit-137")]
    Exit137,
    /// The kernel sent a SIGKILL that is no OOM: `RLIMIT_CPU`, seccomp, a PID namespace torn down.
    KernelKill,
    /// The kubelet invented the status; nothing is known to have been killed.
    Synthetic,
    /// The evidence does not settle it; the attribution says what was missing.
    Undetermined,
}

/// Which form of the cause it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Detail {
    /// `node-oom`: the budget that a scenario gives its node was used up.
    Budget,
    /// `node-oom`: the pods together used what the node may allocate to pods (`kubepods`).
    Allocatable,
    /// `node-oom`: a QoS class's cgroup reached its limit.
    Qos,
    /// `node-oom`: a limit outside the node (a kind node's container, an outer pod) was reached.
    Outer,
    /// `node-oom`: the machine itself ran out of memory.
    Global,
    /// `node-oom`: the memory of the NUMA nodes that the process may use ran out.
    Numa,
    /// `child-oom`: a child was killed; the container lived on.
    Hidden,
    /// `child-oom`: the main process passed its child's 137 on as its own exit code.
    Propagated,
    /// `child-oom`: the whole container was stopped because of its child (`memory.oom.group`, a supervisor, systemd).
    ContainerStopped,
    /// `grace-period`: the pod was deleted.
    Delete,
    /// `grace-period`: an eviction through the API, as `kubectl drain` asks for.
    Drain,
    /// `grace-period`: its Deployment replaced the pod by one of another revision.
    Rollout,
    /// `grace-period`: its ReplicaSet was to have fewer pods.
    ScaleDown,
    /// `grace-period`: a taint made the pod leave.
    Taint,
    /// `kernel-kill`: the hard `RLIMIT_CPU` was reached.
    RlimitCpu,
    /// `kernel-kill`: the init of the process's PID namespace had ended.
    PidNamespace,
    /// `kernel-kill`: seccomp's strict mode.
    Seccomp,
}

/// How sure an attribution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// By elimination.
    Low,
    /// One indirect sign.
    Medium,
    /// Counters, or two independent indirect signs.
    High,
    /// A statement by the kernel, the runtime or the kubelet about this very container, or a process proven to be in it.
    Certain,
}

impl Cause {
    /// Every cause, in the order of the documentation's table.
    pub const ALL: [Self; 19] = [
        Self::ContainerOom,
        Self::PodOom,
        Self::NodeOom,
        Self::ChildOom,
        Self::StartOom,
        Self::ResizeOom,
        Self::LivenessProbe,
        Self::StartupProbe,
        Self::GracePeriod,
        Self::Eviction,
        Self::Preemption,
        Self::Deadline,
        Self::NodeShutdown,
        Self::UserspaceOom,
        Self::ExternalKill,
        Self::Exit137,
        Self::KernelKill,
        Self::Synthetic,
        Self::Undetermined,
    ];

    /// The word for it in scenarios and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContainerOom => "container-oom",
            Self::PodOom => "pod-oom",
            Self::NodeOom => "node-oom",
            Self::ChildOom => "child-oom",
            Self::StartOom => "start-oom",
            Self::ResizeOom => "resize-oom",
            Self::LivenessProbe => "liveness-probe",
            Self::StartupProbe => "startup-probe",
            Self::GracePeriod => "grace-period",
            Self::Eviction => "eviction",
            Self::Preemption => "preemption",
            Self::Deadline => "deadline",
            Self::NodeShutdown => "node-shutdown",
            Self::UserspaceOom => "userspace-oom",
            Self::ExternalKill => "external-kill",
            Self::Exit137 => "exit-137",
            Self::KernelKill => "kernel-kill",
            Self::Synthetic => "synthetic",
            Self::Undetermined => "undetermined",
        }
    }

    /// The forms that this cause comes in; empty where there is but one.
    pub fn details(self) -> &'static [Detail] {
        match self {
            Self::NodeOom => &[
                Detail::Budget,
                Detail::Allocatable,
                Detail::Qos,
                Detail::Outer,
                Detail::Global,
                Detail::Numa,
            ],
            Self::ChildOom => &[Detail::Hidden, Detail::Propagated, Detail::ContainerStopped],
            Self::GracePeriod => {
                &[Detail::Delete, Detail::Drain, Detail::Rollout, Detail::ScaleDown, Detail::Taint]
            }
            Self::KernelKill => &[Detail::RlimitCpu, Detail::PidNamespace, Detail::Seccomp],
            Self::ContainerOom
            | Self::PodOom
            | Self::StartOom
            | Self::ResizeOom
            | Self::LivenessProbe
            | Self::StartupProbe
            | Self::Eviction
            | Self::Preemption
            | Self::Deadline
            | Self::NodeShutdown
            | Self::UserspaceOom
            | Self::ExternalKill
            | Self::Exit137
            | Self::Synthetic
            | Self::Undetermined => &[],
        }
    }

    /// Whether only a kubelet brings this cause about, so that a single host cannot reproduce it.
    pub fn needs_cluster(self) -> bool {
        matches!(
            self,
            Self::Eviction | Self::Preemption | Self::Deadline | Self::NodeShutdown | Self::Synthetic
        )
    }
}

impl Detail {
    /// The word for it in scenarios and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Allocatable => "allocatable",
            Self::Qos => "qos",
            Self::Outer => "outer",
            Self::Global => "global",
            Self::Numa => "numa",
            Self::Hidden => "hidden",
            Self::Propagated => "propagated",
            Self::ContainerStopped => "container-stopped",
            Self::Delete => "delete",
            Self::Drain => "drain",
            Self::Rollout => "rollout",
            Self::ScaleDown => "scale-down",
            Self::Taint => "taint",
            Self::RlimitCpu => "rlimit-cpu",
            Self::PidNamespace => "pid-namespace",
            Self::Seccomp => "seccomp",
        }
    }
}

impl Confidence {
    /// The word for it in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Certain => "certain",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_the_one_that_serde_writes() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
            for detail in cause.details() {
                assert_eq!(serde_json::to_value(detail).unwrap(), detail.as_str());
            }
        }
        for confidence in [Confidence::Low, Confidence::Medium, Confidence::High, Confidence::Certain] {
            assert_eq!(serde_json::to_value(confidence).unwrap(), confidence.as_str());
        }
    }

    #[test]
    fn the_list_of_all_causes_names_each_once() {
        let mut seen = Cause::ALL.to_vec();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), Cause::ALL.len());
    }
}
