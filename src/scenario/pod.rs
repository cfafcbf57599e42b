//! Pods and containers: what of a PodSpec the local backend honours, in bytes and milliseconds.

use exit137_workload::Workload;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Map, Value};

use super::Object;

/// No controller makes more pods than that in a scenario that can be watched.
const MOST_REPLACED: u32 = 1000;

/// What a pod is an instance of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodKind {
    /// A bare pod.
    Pod,
    /// Pods of a controller; they need a cluster.
    Deployment,
    /// As above.
    StatefulSet,
    /// As above.
    DaemonSet,
    /// As above.
    Job,
}

impl PodKind {
    /// Whether a controller makes the pods, and others in their place.
    pub fn is_controller(self) -> bool {
        self != Self::Pod
    }
}

/// One entry of `pods:`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name, and the stem of its replicas' names.
    pub name: String,
    /// What it is an instance of.
    pub kind: PodKind,
    /// How many. With one, the pod's name is `name`, with more `name-0`, `name-1`, …
    pub replicas: u32,
    /// All containers: init containers and sidecars in their order, then the main ones.
    pub containers: Vec<Container>,
    /// `spec.volumes` that containers mount.
    pub volumes: Vec<Volume>,
    /// `spec.restartPolicy`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace_seconds: u32,
    /// `spec.resources.limits.memory`.
    pub pod_limit: Option<u64>,
    /// `spec.resources.requests.memory`.
    pub pod_request: Option<u64>,
    /// Whether `spec.priorityClassName` is `system-node-critical`.
    pub node_critical: bool,
    /// The whole spec as Kubernetes types it, `workload:` taken out.
    pub spec: Box<PodSpec>,
    /// The controller's own spec, beside its template and its replicas.
    pub controller: Map<String, Value>,
    /// The object of a manifest that this is about; its pods' spec is `spec`.
    pub object: Option<Box<Object>>,
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// After an exit code other than 0.
    OnFailure,
    /// Never.
    Never,
}

/// What part a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its part in the pod.
    pub role: Role,
    /// What it runs.
    pub program: Program,
    /// `env` with plain values.
    pub env: Vec<EnvVar>,
    /// `workingDir`.
    pub working_dir: Option<String>,
    /// `resources.requests.memory`; where only a limit is given, the limit (Kubernetes' defaulting).
    pub request: Option<u64>,
    /// `resources.limits.memory`.
    pub limit: Option<u64>,
    /// Whether a CPU request and an equal limit are given too: Guaranteed needs both.
    pub cpu_guaranteed: bool,
    /// `livenessProbe`.
    pub liveness: Option<Probe>,
    /// `startupProbe`.
    pub startup: Option<Probe>,
    /// `readinessProbe`: whether traffic is sent to it.
    pub readiness: Option<Probe>,
    /// `lifecycle.preStop`.
    pub pre_stop: Option<Handler>,
    /// `volumeMounts`.
    pub mounts: Vec<Mount>,
    /// `securityContext.runAsUser`, the container's before the pod's.
    pub run_as_user: Option<u32>,
    /// `securityContext.allowPrivilegeEscalation: true`.
    pub allow_privilege_escalation: bool,
}

/// What a container runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Program {
    /// A built-in behaviour.
    Workload(Box<Workload>),
    /// `command` and `args`.
    Command(Vec<String>),
}

/// One of `env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A probe and its timing, Kubernetes' defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What it does.
    pub handler: Handler,
    /// `initialDelaySeconds` (0).
    pub initial_delay_seconds: u32,
    /// `periodSeconds` (10).
    pub period_seconds: u32,
    /// `timeoutSeconds` (1).
    pub timeout_seconds: u32,
    /// `successThreshold` (1).
    pub success_threshold: u32,
    /// `failureThreshold` (3).
    pub failure_threshold: u32,
    /// The probe's own `terminationGracePeriodSeconds`.
    pub grace_seconds: Option<u32>,
}

/// What a probe or a hook does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Runs a command in the container.
    Exec(Vec<String>),
    /// Asks by HTTP; 200 to 399 is a success.
    HttpGet {
        /// Instead of the pod's own address.
        host: Option<String>,
        /// The port.
        port: u16,
        /// The path.
        path: String,
        /// Headers.
        headers: Vec<(String, String)>,
    },
    /// Opens a TCP connection.
    TcpSocket {
        /// Instead of the pod's own address.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// Sleeps (`preStop` only).
    Sleep(u32),
}

/// One of `volumes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: VolumeKind,
}

/// Volumes that a single host can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// `emptyDir` with `medium: Memory`: a tmpfs.
    Memory {
        /// `sizeLimit` in bytes.
        size_limit: Option<u64>,
    },
    /// `emptyDir` on disk.
    Disk,
}

/// One of `volumeMounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which volume.
    pub volume: String,
    /// Where.
    pub path: String,
    /// `readOnly`.
    pub read_only: bool,
}

/// A pod's quality of service, from which `oom_score_adj` follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has equal requests and limits for CPU and memory.
    Guaranteed,
    /// Some container has a request or a limit.
    Burstable,
    /// None has.
    BestEffort,
}

impl Pod {
    /// The names of the pods that there are at the beginning.
    pub fn replica_names(&self) -> Vec<String> {
        (0..self.replicas).map(|index| self.name_of(index)).collect()
    }

    /// What the pod that was created as the n-th (from 0) is called. A controller goes on counting where it replaces pods: of one
    /// replica they are `web`, `web-1`, `web-2`, of two `web-0`, `web-1`, and then `web-2`.
    pub fn name_of(&self, index: u32) -> String {
        if self.replicas == 1 && index == 0 { self.name.clone() } else { format!("{}-{index}", self.name) }
    }

    /// What the API calls the controller.
    pub fn api_name(&self) -> &str {
        self.object.as_ref().map_or(&self.name, |object| &object.name)
    }

    /// Whether one of its pods is called so, or may come to be.
    pub fn is_named(&self, name: &str) -> bool {
        let index = name.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('-'));
        let index = index
            .filter(|index| *index == "0" || !index.starts_with(['0', '+']))
            .and_then(|index| index.parse().ok());
        let may_come =
            |index: &u32| *index < if self.kind.is_controller() { MOST_REPLACED } else { self.replicas };
        name == self.name || index.filter(may_come).is_some_and(|index| self.name_of(index) == name)
    }

    /// The limit of the pod's cgroup: its own, or, where every container has one, what they have at once
    /// (kubelet `cm/helpers_linux.go:ResourceConfigForPod`).
    pub fn cgroup_limit(&self) -> Option<u64> {
        if self.pod_limit.is_some() {
            return self.pod_limit;
        }
        let every_limited = self.containers.iter().all(|container| container.limit.is_some());
        every_limited.then(|| self.at_once(|container| container.limit.unwrap_or(0)))
    }
}
