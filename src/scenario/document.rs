//! A scenario as its file writes it. [`super::validate`] makes a [`super::Scenario`] of it.
//!
//! Where exactly one of several things is to be said, all are optional here: the schema and the validation count them, and
//! so can say more than "no variant matched".

mod traffic;

use exit137_workload::{Bytes, Span};
use k8s_openapi::api::core::v1::PodSpec;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cause::{Cause, Confidence, Detail};
pub(super) use traffic::{Executor, ExpectedTraffic, Http, Over, Request, Thresholds, Traffic};

/// One scenario: what to do and what must happen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Scenario")]
pub(super) struct Document {
    /// The version of the language.
    #[expect(dead_code, reason = "there is one version yet; the type has checked it")]
    pub(super) api_version: ApiVersion,
    #[expect(dead_code, reason = "there is one kind of document yet; the type has checked it")]
    pub(super) kind: DocumentKind,
    pub(super) metadata: Metadata,
    /// What must be there, or the scenario is skipped: `cgroup-v1`, `cgroup-v2`, `cluster`, `root`, `disposable-host`,
    /// `program:java`.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "pattern": "^(cgroup-v1|cgroup-v2|cluster|root|disposable-host|program:[^/ ]+)$"}))]
    pub(super) requires: Vec<String>,
    /// After so long it is inconclusive; without it `observe.for`, `observe.settle` and 30s.
    pub(super) timeout: Option<Span>,
    pub(super) back_off: Option<BackOff>,
    pub(super) node: Option<Node>,
    /// Kubernetes objects that are applied before the pods: LimitRange, ResourceQuota, PriorityClass, ConfigMap, …; they need a
    /// cluster.
    #[serde(default)]
    #[schemars(with = "Vec<Object>")]
    pub(super) objects: Vec<serde_json::Value>,
    /// The pods, started at the beginning unless a `create` action names them.
    #[schemars(length(min = 1))]
    pub(super) pods: Vec<Pod>,
    /// Requests that are sent to them while they run.
    #[serde(default)]
    pub(super) traffic: Vec<Traffic>,
    /// What is done to them while they run.
    #[serde(default)]
    pub(super) actions: Vec<Action>,
    pub(super) observe: Observe,
    pub(super) expect: Expect,
}

/// The version of the language.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) enum ApiVersion {
    #[serde(rename = "exit137/v1")]
    V1,
}

/// The kind of this document.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) enum DocumentKind {
    Scenario,
}

/// What it is called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    /// Its name, unique in a run: lower-case letters, digits and hyphens.
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub(super) name: String,
    /// One line on what it shows.
    pub(super) description: Option<String>,
}

/// The kubelet's restart back-off (none, then 10s, doubling to 300s).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BackOff {
    /// A factor on it: 0.01 makes the second restart wait 100ms.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) scale: f64,
}

/// The node that the pods share.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    /// What all pods together may use.
    pub(super) memory: Option<Bytes>,
    /// The capacity that `oom_score_adj` is computed from; without it the host's memory, as on kind.
    pub(super) capacity: Option<Bytes>,
    /// The kubelet's setting of that name: an OOM kill takes one process instead of its whole container (cgroup v2). On
    /// cgroup v1 it always is so.
    #[serde(default, rename = "singleProcessOOMKill")]
    pub(super) single_process_oom_kill: bool,
    /// The kubelet evicts (`evictionHard`, `memory.available`) once the node uses so much more than when it is idle.
    pub(super) evict_at: Option<Bytes>,
    /// The node's `status.allocatable.memory`, which is also what all its pods together may use: the rest is `systemReserved`.
    pub(super) allocatable: Option<Bytes>,
    /// The kubelet's `maxPods`.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) max_pods: Option<u32>,
    /// So many nodes for pods alone, beside the control plane's.
    #[schemars(range(min = 1, max = 10))]
    pub(super) workers: Option<u32>,
    /// A limit around the whole node, so much above what it uses when it is idle.
    pub(super) guard: Option<Bytes>,
}

/// A Kubernetes object of any kind; its namespace is the trial's.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("additionalProperties" = true))]
#[expect(
    dead_code,
    reason = "it says what the schema asks of any object; objects are kept as they are written"
)]
struct Object {
    /// Its group and version: `v1`, `autoscaling/v2`.
    #[schemars(length(min = 1))]
    api_version: String,
    /// Its kind.
    #[schemars(length(min = 1))]
    kind: String,
    /// What it is called, and its labels and annotations.
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// One pod, or several alike.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Pod {
    /// Its name; with replicas they are `name-0`, `name-1`, …
    #[schemars(length(max = 50), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub(super) name: String,
    /// What it is an instance of; all but `Pod` need a cluster.
    #[serde(default)]
    pub(super) kind: PodKind,
    /// How many.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub(super) replicas: u32,
    /// What the controller's own spec says beside its template: `{backoffLimit: 1}`, `{strategy: …}`.
    #[serde(default)]
    pub(super) controller: serde_json::Map<String, serde_json::Value>,
    /// A Kubernetes `PodSpec`, in which each container may have a `workload` instead of a command.
    #[schemars(with = "Option<PodSpec>")]
    pub(super) spec: Option<serde_json::Value>,
    /// In the place of a spec: a file with a Pod, Deployment, StatefulSet, DaemonSet or Job of your own. What else is in it is
    /// applied as it is.
    #[expect(dead_code, reason = "it was put into the spec before the document was read")]
    manifest: Option<String>,
    /// Which object of the manifest, where it has several: `Deployment/checkout`.
    #[expect(dead_code, reason = "as above")]
    object: Option<String>,
    /// Changes the manifest's `PodSpec` by a strategic merge: `{containers: [{name: app, resources: …}]}`.
    #[expect(dead_code, reason = "as above")]
    patch: Option<serde_json::Map<String, serde_json::Value>>,
}

fn one() -> u32 {
    1
}

/// What a pod is an instance of.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub(super) enum PodKind {
    #[default]
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
}

/// One thing that is done, either `at` a time or `on` an event.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Action {
    /// So long after all pods have started.
    pub(super) at: Option<Span>,
    /// When this has happened.
    pub(super) on: Option<Event>,
    /// So long after `on`.
    pub(super) delay: Option<Span>,
    pub(super) delete: Option<Delete>,
    /// Evicts pods through the API, as `kubectl drain` does; needs a cluster.
    pub(super) drain: Option<Whole>,
    /// Replaces a controller's pods, as `kubectl rollout restart` does; needs a cluster.
    pub(super) rollout: Option<Whole>,
    /// Starts a pod, which then is not started at the beginning.
    pub(super) create: Option<Whole>,
    pub(super) kill: Option<Kill>,
    pub(super) set_limit: Option<SetLimit>,
    pub(super) resize: Option<Resize>,
    pub(super) lose_container: Option<LoseContainer>,
}

/// A pod as a whole.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Whole {
    /// Which.
    pub(super) pod: String,
}

/// Deletes a pod: preStop, SIGTERM, grace, SIGKILL.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Delete {
    /// Which.
    pub(super) pod: String,
    /// Instead of the pod's own `terminationGracePeriodSeconds`.
    pub(super) grace_period_seconds: Option<u32>,
}

/// Sends a signal from a process that is no part of the pod.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kill {
    /// To which container: `pod/container`.
    pub(super) container: String,
    /// Which; without it SIGKILL.
    #[serde(default)]
    pub(super) signal: Signal,
    /// To which of its processes.
    #[serde(default)]
    pub(super) process: Process,
}

/// A signal.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub(super) enum Signal {
    #[default]
    #[serde(rename = "SIGKILL")]
    Kill,
    #[serde(rename = "SIGTERM")]
    Term,
    #[serde(rename = "SIGINT")]
    Int,
    #[serde(rename = "SIGQUIT")]
    Quit,
    #[serde(rename = "SIGHUP")]
    Hup,
    #[serde(rename = "SIGABRT")]
    Abrt,
    #[serde(rename = "SIGSEGV")]
    Segv,
    #[serde(rename = "SIGBUS")]
    Bus,
    #[serde(rename = "SIGUSR1")]
    Usr1,
    #[serde(rename = "SIGUSR2")]
    Usr2,
    #[serde(rename = "SIGSTOP")]
    Stop,
    #[serde(rename = "SIGCONT")]
    Cont,
}

impl Signal {
    /// Its number on Linux (x86 and ARM).
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Quit => 3,
            Self::Abrt => 6,
            Self::Bus => 7,
            Self::Kill => 9,
            Self::Usr1 => 10,
            Self::Segv => 11,
            Self::Usr2 => 12,
            Self::Term => 15,
            Self::Cont => 18,
            Self::Stop => 19,
        }
    }
}

/// One of a container's processes: its first, or the youngest other.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Process {
    #[default]
    Main,
    Child,
}

/// Writes a container's memory limit, as an in-place resize does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SetLimit {
    /// Of which container: `pod/container`.
    pub(super) container: String,
    /// To how much.
    pub(super) memory: Bytes,
    /// Also the pod's limit, as the kubelet would.
    #[serde(default)]
    pub(super) pod_too: bool,
}

/// Asks the API for another memory limit of a container that runs (`pods/resize`); needs a cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Resize {
    /// Of which container: `pod/container`.
    pub(super) container: String,
    /// To how much.
    pub(super) memory: Bytes,
}

/// Takes the kubelet away while a container ends, goes, and its pod is deleted; needs a kind cluster of the run's own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LoseContainer {
    /// Which: `pod/container`. It has to end within a minute.
    pub(super) container: String,
}

/// One thing that can happen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Event {
    /// The kernel OOM-killed a process of this container.
    pub(super) oom_kill: Option<String>,
    pub(super) ended: Option<Ended>,
    pub(super) memory_reaches: Option<MemoryReaches>,
    /// This container is being stopped: SIGTERM was sent.
    pub(super) stopping: Option<String>,
    pub(super) started: Option<Started>,
}

/// What ends the observation early.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Until {
    /// Every container has ended and will not be restarted.
    #[schemars(extend("const" = true))]
    pub(super) all_ended: Option<bool>,
    /// So many container runs have ended, of whichever container.
    #[schemars(range(min = 1))]
    pub(super) terminations: Option<u32>,
    /// The kernel OOM-killed a process of this container.
    pub(super) oom_kill: Option<String>,
    pub(super) ended: Option<Ended>,
    pub(super) memory_reaches: Option<MemoryReaches>,
    /// This container is being stopped: SIGTERM was sent.
    pub(super) stopping: Option<String>,
    pub(super) started: Option<Started>,
}

/// So many runs of a container have ended.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Ended {
    /// Which: `pod/container`.
    pub(super) container: String,
    /// How many.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub(super) times: u32,
}

/// A container's memory has reached so much.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MemoryReaches {
    /// Which: `pod/container`.
    pub(super) container: String,
    /// How much.
    pub(super) memory: Bytes,
}

/// An instance of a container runs: 0 is the first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Started {
    /// Which: `pod/container`.
    pub(super) container: String,
    /// Which of its runs.
    #[serde(default)]
    pub(super) instance: u32,
}

/// How long it is watched; what comes first ends it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Observe {
    /// At most so long after all pods have started.
    #[serde(rename = "for")]
    pub(super) at_most: Span,
    /// Or until this has happened.
    pub(super) until: Option<Until>,
    /// And then so long more, in which nothing unexpected may happen; without it 200ms.
    pub(super) settle: Option<Span>,
}

/// What must happen. What happens and is not expected is a failure.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expect {
    /// No container ends and no process is killed.
    #[schemars(extend("const" = true))]
    pub(super) nothing_dies: Option<bool>,
    /// Containers that must end, and how.
    #[serde(default)]
    pub(super) terminations: Vec<Termination>,
    /// Containers that must run from the start to the end: `pod/container`.
    #[serde(default)]
    pub(super) survive: Vec<String>,
    /// How often containers are restarted.
    #[serde(default)]
    pub(super) restarts: Vec<Count>,
    /// OOM kills that the container's status does not show.
    #[serde(default)]
    pub(super) hidden_kills: Vec<Count>,
    /// Bounds on memory.
    #[serde(default)]
    pub(super) bounds: Vec<Bound>,
    /// What the clients of traffic must have seen.
    #[serde(default)]
    pub(super) traffic: Vec<ExpectedTraffic>,
}

/// A container that must end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Termination {
    /// Which: `pod/container`.
    pub(super) container: String,
    /// Why.
    pub(super) cause: Option<Cause>,
    /// In which form.
    pub(super) detail: Option<Detail>,
    /// At least so sure; without it high.
    pub(super) confidence: Option<Confidence>,
    /// With which exit code.
    #[schemars(range(min = 0, max = 255))]
    pub(super) exit_code: Option<i32>,
    /// Who sent the SIGKILL: the name of the program.
    pub(super) sender: Option<String>,
    /// When, counted from the start of that run of the container.
    pub(super) within: Option<Window>,
    /// Memory at death: `>= 95% of limit`.
    pub(super) memory_at_death: Option<String>,
    /// Of which run of the container; 0 is the first. Without it, of any.
    pub(super) instance: Option<u32>,
    /// Exactly so often; without it and the next two, once.
    #[schemars(range(min = 1))]
    pub(super) times: Option<u32>,
    /// At least so often.
    pub(super) min_times: Option<u32>,
    /// At most so often.
    #[schemars(range(min = 1))]
    pub(super) max_times: Option<u32>,
}

/// A stretch of time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Window {
    /// Not before.
    #[serde(default)]
    pub(super) from: Span,
    /// Not after.
    pub(super) to: Span,
}

/// How often something happens to a container.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Count {
    /// Which: `pod/container`.
    pub(super) container: String,
    /// At least.
    pub(super) min: Option<u32>,
    /// At most.
    pub(super) max: Option<u32>,
}

/// A bound on a container's memory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Bound {
    /// Which: `pod/container`.
    pub(super) container: String,
    /// For example `peak < 80% of limit`, `working set <= 64Mi`, `pressure full < 5%`, `refaults < 100`.
    pub(super) is: String,
}
