//! The observers: the kernel log, tracepoints and memory cgroups, each into the records that are being made.
//!
//! [`Observers`] are started once per run, for the whole host. A scenario that runs gets a [`Watch`], which sends what
//! they see to its own recorder.

pub mod trace;

use std::io;
use std::path::PathBuf;

use crate::evidence::{CgroupOwner, ContainerRef};
use crate::recorder::Recorder;

/// The host's observers. Dropping them stops them and removes what they made (the trace instance).
#[derive(Debug)]
pub struct Observers {}

/// One scenario's share in them.
#[derive(Clone, Debug)]
pub struct Watch {}

/// A memory cgroup to be watched.
#[derive(Clone, Debug)]
pub struct WatchedCgroup {
    /// Its directory in the mounted hierarchy.
    pub directory: PathBuf,
    /// Its path as the kernel prints it.
    pub path: String,
    /// Whose it is.
    pub owner: CgroupOwner,
}

impl Observers {
    /// Starts what can be had here; `run` names the trace instance (`exit137-<run>`).
    pub fn start(run: &str) -> io::Result<Self> {
        let _ = run;
        Ok(Self {})
    }

    /// Begins to send what is seen to `recorder`: first which sources are present, absent and why, then calibrations.
    /// Memory samples go to the file at `samples`.
    pub fn watch(&self, recorder: Recorder, samples: PathBuf) -> io::Result<Watch> {
        let _ = (recorder, samples);
        Ok(Watch {})
    }
}

impl Watch {
    /// Watches a memory cgroup: counters and sizes, notifications. Call it before anything runs in the cgroup.
    pub fn add_cgroup(&self, cgroup: WatchedCgroup) -> io::Result<()> {
        let _ = cgroup;
        Ok(())
    }

    /// Reads a cgroup's counters a last time (`Counters { last: true }`) and stops watching it. Call it when everything
    /// in the cgroup has ended, before it is removed.
    pub fn remove_cgroup(&self, path: &str) {
        let _ = path;
    }

    /// Says that this process is the container's main one: whatever it forks is the container's too.
    pub fn add_process(&self, pid: u32, container: &ContainerRef) {
        let _ = (pid, container);
    }

    /// Reads everything that happened until now, states for each source whether it watched to the end, and lets go.
    /// Blocks until that is done (bounded by a second).
    pub fn finish(&self) {}
}
