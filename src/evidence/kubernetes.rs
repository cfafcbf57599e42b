//! What the API says of pods: objects and events into facts. Nothing here asks; it only reads what was received.

mod controller;
mod event;
mod pod;
mod sidecars;

use super::{ContainerRef, Fact, Moment, Source};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

pub use controller::Controllers;
pub use pod::PodReader;

/// How the wall clock stands to boot time, both read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallOffset {
    /// Nanoseconds since 1970, less boot time.
    pub unix_minus_boot_ns: i128,
}

/// A fact that the API states.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Who saw it.
    pub source: Source,
    /// When it happened.
    pub moment: Moment,
    /// The piece of the object that it was read from.
    pub raw: Option<String>,
    /// What.
    pub fact: Fact,
}

const SECOND: i128 = 1_000_000_000;

impl WallOffset {
    /// A stretch of wall-clock time in boot time.
    pub fn moment(&self, from_unix_ns: i128, to_unix_ns: i128) -> Moment {
        let boot = |unix: i128| u64::try_from((unix - self.unix_minus_boot_ns).max(0)).unwrap_or(u64::MAX);
        Moment::between(boot(from_unix_ns), boot(to_unix_ns))
    }

    /// A time of the API: whole seconds, cut off (`metav1.Time`), so it was within the second that follows.
    fn second(&self, time: jiff::Timestamp) -> Moment {
        let from = i128::from(time.as_second()) * SECOND;
        self.moment(from, from + SECOND)
    }
}

/// The runtime's IDs of the container runs that an object names, and which runs they are.
pub fn container_ids(pod: &str, object: &Pod) -> Vec<(String, ContainerRef)> {
    let mut ids = Vec::new();
    for status in statuses(object) {
        let run = |instance| ContainerRef { pod: pod.to_owned(), container: status.name.clone(), instance };
        let last = terminated_id(status.last_state.as_ref());
        ids.extend(last.clone().zip(last_instance(status)).map(|(id, instance)| (id, run(instance))));
        // A container that waits to be started again still shows its last run's ID as its own.
        let now = status.container_id.as_deref().map(bare_id).filter(|id| Some(id) != last.as_ref());
        ids.extend(now.map(|id| (id, run(instance(status)))));
    }
    ids
}

fn terminated_id(state: Option<&k8s_openapi::api::core::v1::ContainerState>) -> Option<String> {
    state?.terminated.as_ref()?.container_id.as_deref().map(bare_id).filter(|id| !id.is_empty())
}

/// All container statuses of a pod.
fn statuses(object: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = object.status.as_ref();
    let of = move |list: fn(&k8s_openapi::api::core::v1::PodStatus) -> &Option<Vec<ContainerStatus>>| {
        status.and_then(move |status| list(status).as_ref()).into_iter().flatten()
    };
    of(|status| &status.init_container_statuses)
        .chain(of(|status| &status.container_statuses))
        .chain(of(|status| &status.ephemeral_container_statuses))
}

fn instance(status: &ContainerStatus) -> u32 {
    u32::try_from(status.restart_count).unwrap_or(0)
}

/// Which run `lastState` is of: the one before the run that `state` is of, or, while the container waits to be started
/// again, the latest there was (kubelet_pods.go:convertToAPIContainerStatuses).
fn last_instance(status: &ContainerStatus) -> Option<u32> {
    let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    if waits { Some(instance(status)) } else { instance(status).checked_sub(1) }
}

/// `containerd://<id>` without its scheme.
fn bare_id(id: &str) -> String {
    id.rsplit("//").next().unwrap_or(id).to_owned()
}
