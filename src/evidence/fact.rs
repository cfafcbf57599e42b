//! The closed list of facts that an observation can state.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Source;
use super::clients::{TrafficEnded, TrafficStarted, TrafficWindow};
use super::cluster::{ClusterFacts, Invented, Noted, PodOver, PodSeen, PodStopping};

/// A container, and which of its runs (0 is the first, then one more per restart).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ContainerRef {
    /// The pod's name; with replicas, `<name>-<index>`.
    pub pod: String,
    /// The container's name in the pod.
    pub container: String,
    /// How many times it had been restarted before.
    pub instance: u32,
}

impl ContainerRef {
    /// The file below a trial's `logs` that has what this run of it wrote.
    pub fn log_file(&self) -> String {
        format!("{}-{}-{}.log", self.pod, self.container, self.instance)
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fact {
    /// What this host is: the record's first fact.
    Host(HostFacts),
    /// A source began, ended or lost something.
    Source(SourceState),
    /// The wall clock as Unix nanoseconds at this moment, give or take the moment's width.
    WallClock {
        /// `CLOCK_REALTIME` in nanoseconds.
        unix_ns: u64,
    },
    /// The kernel log's clock beside boot time: boot time = stamp + offset.
    KernelLogClock {
        /// What to add to a stamp, in nanoseconds.
        offset_ns: i64,
        /// How far off that may be.
        error_ns: u64,
    },

    /// A cgroup exists from now on, and this is whose it is.
    Cgroup(CgroupMade),
    /// A container's main process runs.
    Started(ContainerStarted),
    /// A container could not be started.
    StartFailed(StartFailed),
    /// A container's main process was reaped.
    Ended(ContainerEnded),
    /// This process belongs to this container.
    Process(ProcessSeen),

    /// A probe of ours, or of the kubelet's, failed.
    ProbeFailed(ProbeFailed),
    /// It was decided to stop a container (Kubernetes' `Killing` event): what follows is SIGTERM, grace, SIGKILL.
    Stopping(Stopping),
    /// The runtime itself sent a signal to a container's main process.
    RuntimeSignal {
        /// To which container.
        container: ContainerRef,
        /// Which signal.
        signal: i32,
    },
    /// An action of the scenario was carried out.
    Action(ActionDone),
    /// A memory limit was written.
    LimitChanged(LimitChanged),

    /// Kernel log: `COMM invoked oom-killer`.
    OomInvoked {
        /// The task in whose context the killer ran. It need not belong to the cgroup that ran out.
        comm: String,
        /// Allocation order; -1 is sysrq.
        order: i32,
    },
    /// Kernel log: the `oom-kill:` line. Rate-limited: ten per five seconds for the whole kernel.
    OomSummary(OomSummary),
    /// Kernel log: `Killed process`. Not rate-limited.
    KernelKilled(KernelKilled),
    /// Kernel log: `Tasks in CGROUP are going to be killed due to memory.oom.group set`.
    OomGroup {
        /// The cgroup that is killed as a whole, as the kernel names it.
        cgroup: String,
    },

    /// Tracepoint `signal:signal_generate`.
    Signal(SignalSent),
    /// Tracepoint `oom:mark_victim`.
    Victim(VictimMarked),

    /// The cluster that the scenario runs on.
    Cluster(ClusterFacts),
    /// A pod of the scenario is known to the API server.
    Pod(PodSeen),
    /// It was decided that a pod is to stop.
    PodStopping(PodStopping),
    /// A pod is over.
    PodOver(PodOver),
    /// An event of the API that is only kept.
    Noted(Noted),

    /// A generator of traffic was told when to begin.
    TrafficStarted(TrafficStarted),
    /// What a generator's clients saw in a stretch of time.
    TrafficWindow(TrafficWindow),
    /// A generator of traffic is over.
    TrafficEnded(TrafficEnded),

    /// The run of the scenario is over: the record's last fact. Without it the harness died before it could say so.
    Finished(Ending),

    /// A memory cgroup's counters, when one of them changed.
    Counters(Counters),
    /// cgroup v1: the OOM eventfd of this cgroup fired. It fires for the cgroup that ran out and for all below it.
    OomNotified {
        /// The cgroup whose eventfd fired.
        cgroup: String,
    },
}

impl Fact {
    /// The run of a container that a node states to have begun, to have ended, or to have this process.
    pub fn run_on_node_mut(&mut self) -> Option<&mut ContainerRef> {
        if let Self::Started(started) = self {
            Some(&mut started.container)
        } else if let Self::Ended(ended) = self {
            Some(&mut ended.container)
        } else if let Self::Process(seen) = self {
            Some(&mut seen.container)
        } else {
            None
        }
    }
}

/// What is known of the host before anything runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// `uname -r`.
    pub kernel: String,
    /// 1 or 2: the hierarchy that has the memory controller.
    pub cgroup_version: u8,
    /// `MemTotal`, in bytes.
    pub memory_total: u64,
    /// `SwapTotal`, in bytes.
    pub swap_total: u64,
    /// Whether this is the initial PID namespace, where the kernel's PIDs are ours.
    pub initial_pid_namespace: bool,
    /// The boot's id: moments of two boots cannot be compared.
    pub boot_id: String,
    /// This program's version.
    pub exit137: String,
    /// The scenario's name.
    pub scenario: String,
    /// SHA-256 of the scenario's file.
    pub scenario_hash: String,
}

/// How the run of a scenario came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "kebab-case")]
pub enum Ending {
    /// It was observed as long as it said.
    Observed,
    /// Its timeout came first.
    TimedOut,
    /// It was interrupted.
    Interrupted,
    /// The environment or the harness failed.
    Failed {
        /// What happened, and what to do.
        why: String,
    },
}

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SourceState {
    /// It watches from here on.
    Present {
        /// Which source.
        of: Source,
    },
    /// It cannot be had on this host.
    Absent {
        /// Which source.
        of: Source,
        /// Why, and what would mend it.
        reason: String,
    },
    /// It was there and died.
    Lost {
        /// Which source.
        of: Source,
        /// What happened.
        reason: String,
    },
    /// It skipped some: so many records were overwritten before they could be read.
    Gap {
        /// Which source.
        of: Source,
        /// How many records.
        lost: u64,
    },
    /// It watched until here, in good order; everything up to here has been read.
    Complete {
        /// Which source.
        of: Source,
    },
}

/// Whose cgroup it is. The levels go from the outermost to the innermost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "level", rename_all = "kebab-case")]
pub enum CgroupOwner {
    /// The node: what all its pods share (`kubepods`, or the scenario's budget).
    Node,
    /// One QoS class of a node.
    Qos {
        /// `burstable` or `besteffort`.
        class: String,
    },
    /// A pod.
    Pod {
        /// Its name.
        pod: String,
    },
    /// A pod's pause process.
    Pause {
        /// Its pod.
        pod: String,
    },
    /// A container's run.
    Container(ContainerRef),
}

/// A cgroup that exists from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMade {
    /// Its path below the memory hierarchy's root, as the kernel prints it (`/exit137-…/node/web/app-0`).
    pub path: String,
    /// Whose it is.
    pub owner: CgroupOwner,
    /// Its memory limit in bytes, as read back.
    pub limit: Option<u64>,
    /// v2: `memory.oom.group`, as read back.
    pub oom_group: Option<bool>,
}

/// A container's main process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStarted {
    /// Which one.
    pub container: ContainerRef,
    /// The runtime's ID of this run of it, on a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The main process's PID in the initial PID namespace, where it is known.
    pub pid: Option<u32>,
    /// The PID of the program that starts, signals and reaps it for us (the shim).
    pub runtime_pid: Option<u32>,
    /// Its memory request in bytes.
    pub request: Option<u64>,
    /// Its own memory limit in bytes, as the scenario states it.
    pub limit: Option<u64>,
    /// Whether the pod states a limit of its own (`spec.resources.limits.memory`).
    pub pod_level_limit: bool,
    /// How many containers the pod runs beside it (init containers that ended are not counted).
    pub neighbours: u32,
    /// `oom_score_adj`, as read back.
    pub oom_score_adj: Option<i32>,
    /// What it was to be.
    #[serde(default)]
    pub oom_score_adj_asked: Option<i32>,
    /// Hard `RLIMIT_CPU` in seconds, where there is one.
    pub rlimit_cpu: Option<u64>,
    /// The grace period that a stop gives it, in seconds.
    pub grace_seconds: u32,
}

/// A container that never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailed {
    /// Which one.
    pub container: ContainerRef,
    /// The PID that would have become its main process.
    pub pid: Option<u32>,
    /// What went wrong.
    pub message: String,
    /// How the process that was to become it ended, where it ended by itself.
    pub end: Option<End>,
}

/// How a process ended, from its raw wait status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It called `exit` with this status.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
    /// Only Kubernetes' number is known (128 + signal, or an exit status: it does not say which).
    Code(i32),
}

/// A container's main process was reaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEnded {
    /// Which one.
    pub container: ContainerRef,
    /// How.
    pub end: End,
    /// The `reason` that Kubernetes gives, on a cluster.
    pub reason: Option<String>,
    /// Whether the kubelet made this end up, and on what occasion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invented: Option<Invented>,
    /// CPU time that it and its reaped children used, in milliseconds.
    pub cpu_ms: Option<u64>,
}

/// A process that belongs to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSeen {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// Whose it is.
    pub container: ContainerRef,
    /// The process that forked it, where that was seen.
    pub parent: Option<u32>,
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// `livenessProbe`.
    Liveness,
    /// `startupProbe`.
    Startup,
}

/// A probe that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFailed {
    /// Of which container.
    pub container: ContainerRef,
    /// Which probe.
    pub probe: ProbeKind,
    /// What it said.
    pub message: String,
    /// So many in a row now.
    pub failures: u32,
    /// So many in a row stop the container.
    pub threshold: u32,
}

/// Why a container is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// The liveness probe failed too often.
    LivenessProbe,
    /// The startup probe failed too often.
    StartupProbe,
    /// The pod was deleted.
    Delete,
    /// The pod was evicted through the API, as `kubectl drain` does.
    Drain,
    /// Its Deployment replaced it by a pod of another revision.
    Rollout,
    /// Its ReplicaSet was to have fewer pods.
    ScaleDown,
    /// The pod did not tolerate a taint of its node.
    Taint,
    /// A pod of higher priority needed the room: the scheduler's preemption, or the kubelet's for a critical pod.
    Preemption,
    /// The kubelet evicted the pod under pressure on its node.
    Eviction,
    /// `activeDeadlineSeconds` was over.
    Deadline,
    /// The node is shut down.
    NodeShutdown,
    /// The container itself is to be restarted: its definition or its resources have changed.
    Restart,
    /// The postStart hook failed.
    PostStartHook,
    /// The kubelet stops it with its pod; why, others say.
    WithPod,
    /// The pod's main containers are done, so its sidecars are stopped.
    PodCompleted,
    /// The run is over: what is left is torn down. Ends from here on are not the scenario's.
    TearDown,
}

/// The decision to stop a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Which one.
    pub container: ContainerRef,
    /// Why.
    pub reason: StopReason,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub grace_ms: u64,
}

/// An action of the scenario that was carried out, or could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionDone {
    /// Its place in the scenario's list, from 0.
    pub index: usize,
    /// What was done, in words.
    pub what: String,
    /// What prevented it.
    pub error: Option<String>,
}

/// A limit that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitChanged {
    /// Of which cgroup.
    pub cgroup: String,
    /// Bytes before.
    pub from: Option<u64>,
    /// Bytes asked for.
    pub to: u64,
    /// Who wrote it: the comm that the kernel names when the write itself has to kill. None where the limit was only found to be
    /// another.
    pub writer: Option<String>,
    /// Why the kernel refused it (cgroup v1: `EBUSY` below use).
    pub refused: Option<String>,
}

/// What ran out, as the kernel puts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "constraint", rename_all = "kebab-case")]
pub enum OomDomain {
    /// `CONSTRAINT_MEMCG`: the limit of this cgroup.
    Memcg {
        /// `oom_memcg`.
        cgroup: String,
    },
    /// `CONSTRAINT_NONE`: the machine.
    Global,
    /// `CONSTRAINT_CPUSET` or `CONSTRAINT_MEMORY_POLICY`: the NUMA nodes that the task may use.
    Numa,
}

/// The kernel log's `oom-kill:` line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomSummary {
    /// What ran out.
    pub domain: OomDomain,
    /// The victim's cgroup, `task_memcg`.
    pub task_memcg: String,
    /// The victim's name.
    pub comm: String,
    /// The victim's PID in the initial PID namespace.
    pub pid: u32,
}

/// The kernel log's `Killed process` line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelKilled {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// `Memory cgroup out of memory:` (true) or `Out of memory:` (false).
    pub memcg: bool,
    /// Bytes of anonymous memory it held.
    pub anon_rss: u64,
    /// Bytes of file pages.
    pub file_rss: u64,
    /// Bytes of shared memory.
    pub shmem_rss: u64,
    /// Its `oom_score_adj`; kernels before 5.x do not say.
    pub oom_score_adj: Option<i32>,
}

/// Tracepoint `signal:signal_generate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSent {
    /// Which signal.
    pub signal: i32,
    /// `si_code`: 0 a `kill`, -6 a `tgkill`, 128 the kernel.
    pub code: i32,
    /// The sender's PID in the initial PID namespace.
    pub sender_pid: u32,
    /// The sender's name. For a signal from the kernel: whoever was running.
    pub sender_comm: String,
    /// The receiver's PID.
    pub target_pid: u32,
    /// The receiver's name.
    pub target_comm: String,
    /// `res`: 0 is delivered; anything else is not a kill.
    pub result: i32,
}

/// Tracepoint `oom:mark_victim`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VictimMarked {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// Its name; older kernels do not say.
    pub comm: Option<String>,
}

/// A memory cgroup's counters. They only ever grow; only differences mean something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Whose: the path as the kernel prints it.
    pub cgroup: String,
    /// Whether this is the reading after everything in it had ended.
    #[serde(default)]
    pub last: bool,
    /// v2 `memory.events.local`: `oom`: allocations that failed at this very cgroup's limit. Not a number of kills.
    pub oom_local: Option<u64>,
    /// Processes of this very cgroup that were OOM-killed (v1 `memory.oom_control`, v2 `memory.events.local`: `oom_kill`).
    pub oom_kill_local: Option<u64>,
    /// v2 `memory.events`: `oom_kill`, of everything below too.
    pub oom_kill: Option<u64>,
    /// v2 `memory.events`: `oom_group_kill`.
    pub oom_group_kill: Option<u64>,
    /// Times that use met the limit (v2 `memory.events`: `max`; v1 `memory.failcnt`).
    pub max: Option<u64>,
    /// The most memory ever charged, in bytes (v1 `memory.max_usage_in_bytes`, v2 `memory.peak`).
    pub peak: Option<u64>,
    /// The most processes that were ever seen in it at once, by an observer whose PIDs are not the kernel log's: one in a pod
    /// on kind, which therefore states no PID at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.pod, self.container, self.instance)
    }
}

impl End {
    /// Kubernetes' exit code for it (containerd's `exitStatus`: 128 + signal).
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Exited(code) | Self::Code(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }

    /// Whether a SIGKILL ended it; unknown where only the code is known.
    pub fn sigkilled(self) -> Option<bool> {
        match self {
            Self::Exited(_) => Some(false),
            Self::Signaled(signal) => Some(signal == 9),
            Self::Code(137) => None,
            Self::Code(_) => Some(false),
        }
    }
}

impl StopReason {
    /// The probe that failed too often, if that is why.
    pub fn probe(self) -> Option<ProbeKind> {
        match self {
            Self::LivenessProbe => Some(ProbeKind::Liveness),
            Self::StartupProbe => Some(ProbeKind::Startup),
            Self::Delete
            | Self::Drain
            | Self::Taint
            | Self::Rollout
            | Self::ScaleDown
            | Self::Preemption
            | Self::Eviction
            | Self::Deadline
            | Self::NodeShutdown
            | Self::Restart
            | Self::PostStartHook
            | Self::WithPod
            | Self::PodCompleted
            | Self::TearDown => None,
        }
    }
}

impl SourceState {
    /// Which source it is about.
    pub fn of(&self) -> Source {
        match self {
            Self::Present { of }
            | Self::Absent { of, .. }
            | Self::Lost { of, .. }
            | Self::Gap { of, .. }
            | Self::Complete { of } => *of,
        }
    }
}
