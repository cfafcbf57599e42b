//! Pods on this host: cgroups for their limits, namespaces for the rest. No cluster, no container engine.

pub mod admission;
mod back_off;
pub mod cgroup;
mod clients;
mod container;
mod endpoints;
mod expand;
pub mod gc;
mod guardian;
mod helper;
pub mod lock;
mod network;
pub(in crate::backend) mod oom_score_adj;
mod pause;
mod pod;
mod probe;
mod process;
pub mod program;
mod protocol;
mod root;
mod running;
mod shim;
mod stop;
mod sys;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::watch;

use super::{Backend, BackendError};
use crate::evidence::HostFacts;
use crate::observe::Observers;
use crate::recorder::Recorder;
use crate::scenario::Scenario;
use cgroup::{Cgroup, Hierarchy};
pub use process::in_path;
pub(in crate::backend) use protocol::ActionSpec;
pub use running::RunningScenario;
pub(in crate::backend) use running::{act, write_limit};

/// The part of this program that runs as a helper process, if `arg` names one. To be asked before any thread exists.
pub fn helper_main(arg: &str) -> Option<ExitCode> {
    match arg {
        "__shim" => Some(shim::main()),
        "__exec" => Some(shim::exec_main()),
        "__pause" => Some(pause::main()),
        "__act" => Some(pause::act_main()),
        "__guardian" => Some(guardian::main()),
        _ => None,
    }
}

/// The local backend, for the length of a run.
#[derive(Debug)]
pub struct LocalBackend {
    run: String,
    root: Cgroup,
    workload: PathBuf,
    rootless: bool,
    initial_pid_namespace: bool,
    memory_total: u64,
    guardian: guardian::Guardian,
    observers: Arc<Observers>,
    _lock: lock::RunLock,
}

impl LocalBackend {
    /// Makes what a run needs: its lock with what it may take at most, its cgroup, its guardian.
    pub async fn prepare(run: &str, bound: u64) -> Result<Self, BackendError> {
        let workload = program::find_workload()?;
        let base = Hierarchy::find()?.base()?;
        // The promise comes first, so of two runs that begin together each sees the other's.
        let lock = lock::RunLock::take(run, bound).map_err(|error| {
            BackendError::doing(format!("lock {}", lock::directory().join(run).display()), error)
        })?;
        let room = admission::look(&base, run);
        if bound > room.free() {
            return Err(BackendError(format!(
                "a scenario may take up to {} MiB, but only {} MiB are free beyond the reserve of {} MiB ({} MiB are \
                 promised to other runs); lower its limits or its node.memory, or free some memory",
                bound >> 20,
                room.free() >> 20,
                room.reserve >> 20,
                room.promised >> 20
            )));
        }
        let root = base.make_child(&format!("exit137-{run}")).map_err(|error| {
            BackendError(format!(
                "cannot make a cgroup in {}: {error}; run as root, or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes exit137 run)",
                base.directory.display()
            ))
        })?;
        let started = guardian::Guardian::start(run, &root, room.reserve).await;
        let guardian = match started {
            Ok(guardian) => guardian,
            Err(error) => {
                // Nothing is in it yet.
                let _ = root.remove();
                return Err(error);
            }
        };
        let observers = match Observers::start(run) {
            Ok(observers) => observers,
            Err(error) => {
                let _ = root.remove();
                guardian.dismiss().await;
                return Err(BackendError::doing("start the observers", error));
            }
        };
        let backend = Self {
            run: run.to_owned(),
            root,
            workload,
            rootless: !rustix::process::geteuid().is_root(),
            initial_pid_namespace: in_initial_pid_namespace(),
            memory_total: admission::meminfo("MemTotal").unwrap_or(0),
            guardian,
            observers,
            _lock: lock,
        };
        match backend.root.delegate_memory() {
            Ok(()) => Ok(backend),
            Err(error) => {
                backend.reclaim().await;
                Err(BackendError::doing("delegate the memory controller", error))
            }
        }
    }

    /// Why everything is to stop, once it is.
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.guardian.alarm.clone()
    }

    async fn reclaim(self) -> Vec<String> {
        // Their threads are joined and the trace instance is removed.
        drop(self.observers);
        let (run, root) = (self.run.clone(), self.root.clone());
        let removed = tokio::task::spawn_blocking(move || gc::reclaim(&run, &root).failed).await;
        self.guardian.dismiss().await;
        removed.unwrap_or_else(|error| vec![error.to_string()])
    }
}

impl Backend for LocalBackend {
    type Running = RunningScenario;

    fn host(&self) -> HostFacts {
        host(self.root.version.number())
    }

    fn begin(
        &self,
        scenario: &Scenario,
        trial: &str,
        recorder: Recorder,
        folder: &Path,
    ) -> Result<RunningScenario, BackendError> {
        RunningScenario::new(self, scenario, trial, recorder, folder)
    }

    async fn tear_down(self) -> Vec<String> {
        self.reclaim().await
    }
}

/// What this host is.
pub fn host(cgroup_version: u8) -> HostFacts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    HostFacts {
        kernel: read("/proc/sys/kernel/osrelease"),
        cgroup_version,
        memory_total: admission::meminfo("MemTotal").unwrap_or(0),
        swap_total: admission::meminfo("SwapTotal").unwrap_or(0),
        initial_pid_namespace: in_initial_pid_namespace(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        exit137: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: String::new(),
        scenario_hash: String::new(),
    }
}

/// Whether the kernel's PIDs are this process's too: the initial PID namespace has a fixed inode
/// (`include/linux/proc_ns.h`, `PROC_PID_INIT_INO`).
pub fn in_initial_pid_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
}
