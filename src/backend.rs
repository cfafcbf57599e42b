//! Where pods run. A backend owns its sources: the runner wires no observer itself.

mod clients;
pub mod kubernetes;
pub mod local;

use std::fmt::Debug;
use std::path::Path;

use tokio::sync::oneshot;

use crate::evidence::HostFacts;
use crate::recorder::Recorder;
use crate::scenario::{Act, Scenario};

/// Why a backend cannot go on. The text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

impl BackendError {
    /// An error in doing `what`.
    pub fn doing(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self(format!("cannot {what}: {error}"))
    }
}

/// Where the pods of a run's scenarios are.
pub trait Backend: Debug + Send + Sync + 'static {
    /// A scenario whose pods are there.
    type Running: Running;

    /// What the harness itself runs on: the first fact of every record.
    fn host(&self) -> HostFacts;

    /// How much later than it happened something may be told here, in milliseconds.
    fn lag_ms(&self) -> u64 {
        0
    }

    /// Makes what a scenario's pods share and begins to observe: facts go to the recorder, samples and logs into the folder.
    /// A trial has a name that no other of the run has.
    fn begin(
        &self,
        scenario: &Scenario,
        trial: &str,
        recorder: Recorder,
        folder: &Path,
    ) -> Result<Self::Running, BackendError>;

    /// A trial, in this folder and begun at this Unix time, was judged: keeps what a person would ask for where it did not pass.
    fn judged(&self, _trial: &Path, _passed: bool, _began_unix_ns: u64) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Removes everything that is left of the run; answers what could not be.
    fn tear_down(self) -> impl Future<Output = Vec<String>> + Send;
}

/// A scenario that runs somewhere.
pub trait Running: Debug + Send + Sync + 'static {
    /// Starts every pod and waits until each has begun to run its containers.
    fn start(&self, scenario: &Scenario) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Carries out the action with this index, and records what came of it.
    fn apply(&self, index: usize, act: &Act) -> impl Future<Output = ()> + Send;

    /// Tells the generators of the scenario's traffic with this index when its load begins, in nanoseconds of `CLOCK_BOOTTIME`. They are
    /// ready, since [`Self::start`] has returned; what they say becomes facts of the source `clients`.
    fn start_traffic(&self, index: usize, zero_ns: u64);

    /// Stops traffic and hears it to its end, then stops what still runs and removes everything; answers what could not be removed.
    fn tear_down(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Hears what is still on its way, states for each source whether it watched to the end, and lets the observers go.
    fn finish(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// What this cgroup held when it was last looked at.
    fn latest_usage(&self, cgroup: &str) -> Option<u64>;

    /// Told when this cgroup holds so many bytes; dropped when it is gone before.
    fn on_usage(&self, cgroup: &str, bytes: u64) -> oneshot::Receiver<()>;
}
