//! The scenario: what to do and what must happen, validated. The submodules say how a YAML file becomes one.

mod bound;
mod document;
pub mod expect;
pub mod manifest;
mod object;
pub mod pod;
pub mod problem;
mod qos;
mod quantity;
mod read;
mod schema;
pub mod setting;
mod structure;
pub mod traffic;
mod tree;
mod validate;

pub use expect::{
    Bound, Comparison, ContainerSelector, Expect, ExpectedHiddenKills, ExpectedRestarts, ExpectedTermination,
    Measure, Operator, Reference, Window,
};
pub use object::Object;
pub use pod::{
    Container, EnvVar, Handler, Mount, Pod, PodKind, Probe, Program, QosClass, RestartPolicy, Role, Volume,
    VolumeKind,
};
pub use read::{Text, read, read_set, read_with};
pub use schema::schema;
pub use traffic::{Aggregate, ExpectedTraffic, Metric, Over, Threshold, Traffic};

/// Bytes of memory as Kubernetes writes them (`64Mi`); `None` if it is no amount of memory.
pub fn memory_quantity(text: &str) -> Option<u64> {
    quantity::parse(text).and_then(|quantity| u64::try_from(quantity.milli / 1000).ok())
}

/// How a note on a key begins that a single host cannot honour, so that its scenario is skipped there.
pub const NEEDS_CLUSTER: &str = "needs a cluster";

/// A validated scenario. Times are milliseconds, sizes bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.description`: one line on what it shows.
    pub description: Option<String>,
    /// SHA-256 of the file, in hex.
    pub hash: String,
    /// What must be there, or the scenario is skipped.
    pub requires: Vec<Requirement>,
    /// The node that the pods share.
    pub node: Node,
    /// What is applied before the pods.
    pub objects: Vec<Object>,
    /// The pods, replicas not yet multiplied.
    pub pods: Vec<Pod>,
    /// What is sent to them while they run.
    pub traffic: Vec<Traffic>,
    /// What is done to them while they run.
    pub actions: Vec<Action>,
    /// How long it is watched.
    pub observe: Observe,
    /// What must happen.
    pub expect: Expect,
    /// Milliseconds after which it is inconclusive.
    pub timeout_ms: u64,
    /// Factor on the kubelet's restart back-off (10 s doubling to 300 s).
    pub back_off_scale: f64,
    /// Fields that are without effect on the local backend: `pods[0].spec.containers[0].image: ...`.
    pub without_effect: Vec<String>,
}

impl Scenario {
    /// The memory limit that this container begins with.
    pub fn limit_of(&self, container: &ContainerSelector) -> Option<u64> {
        let pod = self.pods.iter().find(|pod| pod.is_named(&container.pod))?;
        pod.containers.iter().find(|own| own.name == container.container)?.limit
    }

    /// Whether a node's kubelet is away for a while, so that nothing else may run there.
    pub fn stops_a_kubelet(&self) -> bool {
        self.actions.iter().any(|action| matches!(action.act, Act::LoseContainer { .. }))
    }

    /// Whether an action starts this pod, so that the beginning does not.
    pub fn starts_later(&self, pod: &Pod) -> bool {
        self.actions.iter().any(|action| {
            if let Act::Create { pod: later } = &action.act { *later == pod.name } else { false }
        })
    }
}

/// The node that a scenario's pods share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// What all pods together may use.
    pub memory: Option<u64>,
    /// The capacity that `oom_score_adj` is computed from; without it the host's MemTotal, as on kind.
    pub capacity: Option<u64>,
    /// The kubelet's `singleProcessOOMKill`: an OOM kill takes one process instead of its whole container. On cgroup v1 it
    /// always is so.
    pub single_process_oom_kill: bool,
    /// Its kubelet evicts once it uses so much more than when it is idle.
    pub evict_at: Option<u64>,
    /// `status.allocatable.memory`.
    pub allocatable: Option<u64>,
    /// The kubelet's `maxPods`.
    pub max_pods: Option<u32>,
    /// So many nodes for pods alone.
    pub workers: Option<u32>,
    /// A limit around the whole node, so much above what it uses when it is idle.
    pub guard: Option<u64>,
}

impl Node {
    /// Whether the scenario changes its node while it runs, so that nothing else may run there.
    pub fn is_changed(&self) -> bool {
        self.memory.is_some() || self.guard.is_some()
    }

    /// Whether the scenario can make the whole node run out of memory, so that nothing else may run there.
    pub fn is_used_up(&self) -> bool {
        self.is_changed() || self.evict_at.is_some() || self.allocatable.is_some()
    }
}

/// What a scenario needs from where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The memory controller on this cgroup version.
    Cgroup(u8),
    /// A kubelet.
    Cluster,
    /// This program in `PATH`.
    Program(String),
    /// Root's privileges.
    Root,
    /// A machine that may run out of memory as a whole: a throw-away VM, marked by `EXIT137_DISPOSABLE_HOST=1`.
    DisposableHost,
}

/// Something that the scenario does while the pods run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// When.
    pub at: Trigger,
    /// What.
    pub act: Act,
}

/// When an action happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// So many milliseconds after all pods have started.
    Time(u64),
    /// After an event, and then so many milliseconds.
    Event(RunEvent, u64),
}

/// Something that a trigger or the end of the observation can wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// The kernel OOM-killed a process of this container.
    OomKill(ContainerSelector),
    /// So many runs of this container have ended.
    Ended(ContainerSelector, u32),
    /// This container's memory reached so many bytes.
    MemoryReaches(ContainerSelector, u64),
    /// This container is being stopped (SIGTERM was sent).
    Stopping(ContainerSelector),
    /// This container's instance runs.
    Started(ContainerSelector, u32),
}

/// What an action does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Deletes a pod: preStop, SIGTERM, grace, SIGKILL.
    Delete {
        /// Which pod.
        pod: String,
        /// Instead of the pod's own `terminationGracePeriodSeconds`.
        grace_seconds: Option<u32>,
    },
    /// A foreign process (comm `exit137-action`) sends a signal.
    Kill {
        /// To which container.
        container: ContainerSelector,
        /// Its number.
        signal: i32,
        /// To a process other than the main one (the youngest), instead of the main one.
        child: bool,
    },
    /// Writes a container's memory limit, as an in-place resize does.
    SetLimit {
        /// Of which container.
        container: ContainerSelector,
        /// Bytes.
        memory: u64,
        /// Also the pod's limit, as the kubelet would (the sum of its containers').
        pod_too: bool,
    },
    /// Evicts pods through the API, as `kubectl drain` does with each pod of a node.
    Drain {
        /// Which pods.
        pod: String,
    },
    /// Replaces a controller's pods, as `kubectl rollout restart` does.
    Rollout {
        /// Whose.
        pod: String,
    },
    /// Starts a pod that was not started at the beginning.
    Create {
        /// Which.
        pod: String,
    },
    /// Asks the API for another memory limit of a running container: the kubelet resizes it in place, or refuses.
    Resize {
        /// Which container.
        container: ContainerSelector,
        /// Bytes.
        memory: u64,
    },
    /// Takes the kubelet away while a container ends and is removed and its pod deleted: it makes that end up.
    LoseContainer {
        /// Which container.
        container: ContainerSelector,
    },
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delete { pod, .. } => write!(f, "delete pod {pod}"),
            Self::Kill { container, signal, child } => {
                let to = if *child { "a child in " } else { "" };
                write!(f, "send signal {signal} to {to}{container}")
            }
            Self::SetLimit { container, memory, .. } => {
                write!(f, "set the memory limit of {container} to {memory}")
            }
            Self::Drain { pod } => write!(f, "evict pod {pod}"),
            Self::Rollout { pod } => write!(f, "restart the pods of {pod} by a rollout"),
            Self::Create { pod } => write!(f, "create pod {pod}"),
            Self::Resize { container, memory } => {
                write!(f, "resize {container} in place to {memory}")
            }
            Self::LoseContainer { container } => {
                write!(f, "have the kubelet lose {container}")
            }
        }
    }
}

/// How long a scenario is watched. Whatever comes first ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    /// At most so many milliseconds after all pods have started.
    pub for_ms: u64,
    /// Or until this has happened.
    pub until: Option<Until>,
    /// And then so many milliseconds more, in which nothing unexpected may happen.
    pub settle_ms: u64,
}

/// What ends the observation early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// Every container has ended and will not be restarted.
    AllEnded,
    /// This happened.
    Event(RunEvent),
    /// So many container runs have ended, of whichever container.
    Terminations(u32),
}
