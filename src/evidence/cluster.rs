//! What only a cluster has: pods that an API server knows, and control planes that decide to stop them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StopReason;

/// A cluster, as far as it bears on what its API and its nodes can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// The kube context's name.
    pub context: String,
    /// The API server's version, `v1.36.2`.
    pub version: String,
    /// Its minor number: 36.
    pub minor: u32,
    /// Its nodes.
    pub nodes: Vec<NodeFacts>,
}

/// A node, from its object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet: String,
    /// `status.nodeInfo.containerRuntimeVersion`.
    pub runtime: String,
    /// `status.nodeInfo.kernelVersion`.
    pub kernel: String,
    /// `status.nodeInfo.bootID`.
    pub boot_id: String,
    /// `status.capacity.memory` in bytes.
    pub memory: Option<u64>,
    /// `status.allocatable.memory` in bytes.
    pub allocatable: Option<u64>,
}

/// PIDs of different machines in one record are kept apart by what is put before them: no kernel has more than 2^22
/// (`PID_MAX_LIMIT`).
pub const PIDS_OF_A_MACHINE: u32 = 1 << 22;

/// The machine, among those of its record, that a PID is of.
pub fn machine_of(pid: u32) -> u32 {
    pid / PIDS_OF_A_MACHINE
}

/// A pod that the API server knows: which of the scenario's pods it is, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSeen {
    /// What the record calls it (`web`, `web-0`): the pod of every [`super::ContainerRef`].
    pub pod: String,
    /// Its name in the API.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.nodeName`, once it is scheduled.
    pub node: Option<String>,
    /// What made it and may end it (`metadata.ownerReferences`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
}

/// An object that makes pods and answers for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// `ReplicaSet`, `StatefulSet`, `DaemonSet`, `Job`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// It was decided that a pod is to stop: all of its containers get SIGTERM, and SIGKILL when the grace period is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStopping {
    /// Which one.
    pub pod: String,
    /// Why, as far as this statement says.
    pub reason: StopReason,
    /// Milliseconds between SIGTERM and SIGKILL, where it says so.
    pub grace_ms: Option<u64>,
    /// The words of it: a condition's, an event's, the pod's own message.
    pub message: String,
}

/// A pod runs nothing any more, and will not again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodOver {
    /// Which one.
    pub pod: String,
    /// By which sign.
    pub sign: PodSign,
}

/// What says that a pod is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodSign {
    /// `status.phase: Succeeded`.
    Succeeded,
    /// `status.phase: Failed`. The kubelet may say so of a pod whose containers it has yet to stop.
    Failed,
    /// The API server has its object no more.
    Removed,
}

/// An event of the API that is kept as it is: it bears on no cause, and a person may want it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// On what: `pod/web`, `node/kind-worker`.
    pub object: String,
    /// `reason`.
    pub reason: String,
    /// `message`.
    pub message: String,
}

/// A 137 that the kubelet made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Invented {
    /// `ContainerStatusUnknown`: the container could not be located any more (kubelet_pods.go:convertStatusToAPIStatus).
    StatusUnknown,
    /// `RestartingAllContainers`: it was removed because its pod's containers are all restarted in place.
    RestartAllContainers,
}
