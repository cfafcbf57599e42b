//! What the harness tells its helper processes, and what they tell it: JSON, a line each, over their standard streams.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::evidence::{End, Moment};

/// For the pause process: what a pod's containers share.
#[derive(Debug, Serialize, Deserialize)]
pub struct PauseSpec {
    /// The `cgroup.procs` that it enters.
    pub cgroup_procs: PathBuf,
    /// The pod's host name.
    pub hostname: String,
    /// The workload program on this host.
    pub workload: PathBuf,
    /// The pod's volumes.
    pub volumes: Vec<VolumeSpec>,
    /// `oom_score_adj`, where it can be set.
    pub oom_score_adj: i32,
    /// Whether it needs a user namespace to make the others.
    pub rootless: bool,
}

/// One volume of a pod.
#[derive(Debug, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// A tmpfs of at most so many bytes, or this directory of the host.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeSource {
    /// A tmpfs; with a size of its own or without.
    Tmpfs(Option<u64>),
    /// A directory of the host.
    Directory(PathBuf),
}

/// For a process that is to run in a pod: by the shim, or by an exec probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment beside PATH.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// As whom.
    pub user: u32,
    /// Whether it may gain privileges.
    pub allow_privilege_escalation: bool,
    /// The `cgroup.procs` that it enters.
    pub cgroup_procs: PathBuf,
    /// Its `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Whether user namespaces are in play.
    pub rootless: bool,
}

/// For the shim: a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShimSpec {
    /// The pod's pause process, a child of the harness that is not reaped while the shim may read this.
    pub pause_pid: u32,
    /// Its main process.
    pub process: ProcessSpec,
    /// Which volume is mounted where, and whether read-only.
    pub mounts: Vec<(String, String, bool)>,
    /// Where its standard output and error go.
    pub log: PathBuf,
}

/// For an exec probe or hook: a process beside a container's main one.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The container's main process.
    pub main_pid: u32,
    /// The process.
    pub process: ProcessSpec,
}

/// For an action: what a foreign process does.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionSpec {
    /// Sends a signal to a member of a cgroup.
    Kill {
        /// The cgroup's `cgroup.procs`.
        cgroup_procs: PathBuf,
        /// The container's main process.
        main_pid: u32,
        /// To the youngest other process instead.
        child: bool,
        /// Which signal.
        signal: i32,
    },
    /// Writes limits, in this order; all of them or none.
    SetLimits(Vec<(PathBuf, u64)>),
}

/// What a shim or a pause process reports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The pod's namespaces are there.
    Ready,
    /// The main process runs its program.
    Started {
        /// Its PID, as the shim's PID namespace has it.
        pid: u32,
        /// When.
        at: Moment,
        /// What `oom_score_adj` came to be.
        oom_score_adj: Option<i32>,
    },
    /// It never came to run its program.
    StartFailed {
        /// The process that was to.
        pid: Option<u32>,
        /// When.
        at: Moment,
        /// Why.
        message: String,
        /// How it ended, if it was killed on its way.
        end: Option<End>,
    },
    /// A signal was sent, as told.
    Signaled {
        /// Which.
        signal: i32,
        /// When.
        at: Moment,
    },
    /// The main process was reaped.
    Ended {
        /// How it ended.
        end: End,
        /// When it was reaped.
        at: Moment,
        /// CPU time in milliseconds.
        cpu_ms: Option<u64>,
    },
}

/// What the harness tells a running shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Send this signal to the main process.
    Signal(i32),
}
