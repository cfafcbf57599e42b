//! Pods on a cluster: kind, or any other by its kube context. `docs/adr/0004-the-cluster-backend.md` says who sees what.

pub mod agent;
mod artifacts;
mod changes;
mod client;
mod condition;
pub mod image;
mod keep;
pub mod kind;
mod lease;
mod leftovers;
mod limits;
mod logs;
pub mod manifest;
mod members;
mod names;
mod node;
mod objects;
pub mod preflight;
mod rights;
mod running;
mod scheduling;
mod stirs;
mod told;
mod traffic;
mod untold;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{Api, ListParams};

use super::local::cgroup::Hierarchy;
use super::local::lock::RunLock;
use super::local::{self, gc};
use super::{Backend, BackendError};
use crate::evidence::{ClusterFacts, HostFacts, NodeFacts};
use crate::observe::Observers;
use crate::recorder::Recorder;
use crate::scenario::Scenario;
use client::{Client, PATIENT, persist};
pub use keep::Keep;
pub use leftovers::Collected;
pub use node::LocalNode;
pub use running::RunningOnCluster;

/// The kubelet looks at its containers once a second and then writes to the API; on a busy node that takes seconds.
const LAG_MS: u64 = 10_000;

/// How a cluster is reached, and what of it is to be had from here.
#[derive(Clone, Debug)]
pub struct Access {
    /// The kube context.
    pub context: String,
    /// The file that it is in, if that is not the user's own.
    pub kubeconfig: Option<PathBuf>,
    /// Our image, as the cluster's nodes have it.
    pub image: String,
    /// The nodes that can be watched from this host.
    pub nodes: Vec<LocalNode>,
    /// The kind cluster that the run made for itself, whose nodes scenarios may change.
    pub kind: Option<(kind::Kind, String)>,
    /// What stays of the trials.
    pub keep: Keep,
}

/// The cluster backend, for the length of a run.
#[derive(Debug)]
pub struct KubernetesBackend {
    run: String,
    client: Client,
    image: String,
    cluster: ClusterFacts,
    /// The nodes that are containers on this host, where they can be watched from here.
    nodes: Vec<LocalNode>,
    /// The kind cluster that the run made for itself, whose nodes scenarios may change.
    kind: Option<(kind::Kind, String)>,
    observers: Result<Arc<Observers>, String>,
    /// What watches them otherwise.
    agents: Option<agent::Agents>,
    keep: Keep,
    undecided: Arc<keep::Undecided>,
    lease: lease::Held,
    _lock: RunLock,
}

impl KubernetesBackend {
    /// Reaches a cluster, removes what dead runs left there, and makes what this run needs.
    pub async fn prepare(access: Access) -> Result<Self, BackendError> {
        let Access { context, kubeconfig, image, nodes, kind, keep } = access;
        let client = Client::of_context(&context, kubeconfig.as_deref()).await?;
        let cluster = facts(&context, &client).await?;
        rights::check(&context, &client, nodes.is_empty()).await?;
        let mut collected = leftovers::collect(&client).await?;
        collected.gone.extend(agent::collect(&client, Some(&image)).await?);
        for what in collected.gone {
            tracing::warn!("removed what a killed run left behind: {what}");
        }
        for what in collected.stuck {
            tracing::warn!("a killed run's leftovers do not go: {what}");
        }
        let run = gc::new_run_name();
        // What the observers make on this host is removed by the next start on it, unless this run is alive.
        for what in
            tokio::task::spawn_blocking(gc::collect).await.map_or_else(|_| Vec::new(), |removed| removed.gone)
        {
            tracing::warn!("removed what a killed run left behind: {what}");
        }
        let lock = RunLock::take(&run, 0).map_err(|error| {
            BackendError::doing(format!("lock {}", local::lock::directory().join(&run).display()), error)
        })?;
        let agents = nodes.is_empty().then(|| agent::name(&image));
        let lease = lease::Held::take(&client, &run, agents.as_deref()).await?;
        let observers = if nodes.is_empty() {
            Err("the nodes are not on this host, or exit137 does not run as root".to_owned())
        } else {
            Observers::start_on_node(&run)
                .map_err(|error| format!("the observers cannot be started: {error}"))
        };
        let deployed = match agents {
            Some(_) => agent::Agents::deploy(&client, &image, &run).await.map(Some),
            None => Ok(None),
        };
        let agents = match deployed {
            Ok(agents) => agents,
            Err(error) => {
                lease.give_up().await;
                if let Err(left) = agent::collect(&client, None).await {
                    tracing::warn!("left behind: {left}");
                }
                return Err(error);
            }
        };
        let undecided = Arc::default();
        Ok(Self {
            run,
            client,
            image,
            cluster,
            nodes,
            kind,
            observers,
            agents,
            keep,
            undecided,
            lease,
            _lock: lock,
        })
    }

    /// What a scenario asks for that this cluster does not serve.
    pub async fn lack(&self, scenario: &Scenario) -> Result<Option<String>, BackendError> {
        objects::lack(&self.client, scenario).await
    }

    /// What tells whether another run's experience with the sources holds for this one: cluster, nodes, their boot, and how they
    /// are watched from here. `None` where the API does not say which cluster it is.
    pub async fn identity(&self) -> Option<String> {
        let namespaces: Api<Namespace> = self.client.all();
        let system = ListParams::default().fields("metadata.name=kube-system");
        let listed = persist(PATIENT, || namespaces.list_metadata(&system)).await.ok()?;
        let uid = listed.items.first()?.metadata.uid.clone()?;
        let node = |node: &NodeFacts| {
            let NodeFacts { name, kubelet, runtime, kernel, boot_id, .. } = node;
            format!("{name} {kubelet} {runtime} {kernel} {boot_id}")
        };
        let mut nodes: Vec<String> = self.cluster.nodes.iter().map(node).collect();
        nodes.sort();
        let watched = match (&self.observers, &self.agents) {
            (Ok(_), _) => "from its host",
            (Err(_), Some(_)) => "by agents",
            (Err(why), None) => why.as_str(),
        };
        let version = env!("CARGO_PKG_VERSION");
        Some(format!("{uid} {} exit137 {version} {watched} {}", self.host().boot_id, nodes.join("; ")))
    }

    /// Keeps or removes the namespace of a trial that was judged.
    async fn decide(&self, namespace: &str, passed: bool) {
        if passed && self.keep != Keep::Everything {
            // What stays, the end of the run tells.
            keep::remove(&self.client, namespace).await;
            return;
        }
        let context = &self.cluster.context;
        match keep::keep(&self.client, namespace, &self.run).await {
            Ok(()) => tracing::warn!(
                "kept the namespace {namespace}: `kubectl --context {context} -n {namespace} get pods` shows its pods, \
                 `exit137 gc --context {context} --kept` removes it"
            ),
            Err(error) => tracing::warn!("the namespace {namespace} could not be kept: {error}"),
        }
    }

    /// What the cluster is.
    pub fn cluster(&self) -> &ClusterFacts {
        &self.cluster
    }
}

impl Backend for KubernetesBackend {
    type Running = RunningOnCluster;

    fn host(&self) -> HostFacts {
        let own = local::host(Hierarchy::find().map_or(0, |hierarchy| hierarchy.version.number()));
        match self.agents.as_ref().map(agent::Agents::see) {
            Some((cgroup_version, initial_pid_namespace)) => {
                HostFacts { cgroup_version, initial_pid_namespace, ..own }
            }
            None => own,
        }
    }

    fn lag_ms(&self) -> u64 {
        LAG_MS
    }

    fn begin(
        &self,
        scenario: &Scenario,
        trial: &str,
        recorder: Recorder,
        folder: &Path,
    ) -> Result<RunningOnCluster, BackendError> {
        RunningOnCluster::new(self, scenario, trial, recorder, folder)
    }

    async fn judged(&self, trial: &Path, passed: bool, began_unix_ns: u64) {
        if passed {
            artifacts::drop_all(trial);
        } else {
            // The same boot is the same machine: its engine has the nodes, and its kernel's log is theirs.
            let here = self.cluster.nodes.iter().any(|node| node.boot_id == self.host().boot_id);
            let kind = self.cluster.context.starts_with("kind-") && here;
            let engine = kind.then(kind::engine);
            artifacts::gather_nodes(trial, &self.client, engine.as_deref(), began_unix_ns).await;
        }
        if let Some(namespace) = self.undecided.take(trial) {
            self.decide(&namespace, passed).await;
        }
    }

    async fn tear_down(self) -> Vec<String> {
        // Their threads are joined and the trace instance is removed.
        drop(self.observers);
        let mut left = leftovers::wait_until_gone(&self.client, &self.run, leftovers::NAMESPACES_GO).await;
        // First the lease: of two runs that end together, the later one to look sees nobody else and removes the agents.
        self.lease.give_up().await;
        if let Some(agents) = self.agents {
            left.extend(agents.give_up().await);
        }
        left
    }
}

/// What the cluster is.
async fn facts(context: &str, client: &Client) -> Result<ClusterFacts, BackendError> {
    // Asked once: a server that is not there is to be told at once.
    let version = persist(Duration::ZERO, || client.version()).await;
    let version =
        version.map_err(|error| api_error(&format!("reach the cluster of context {context:?}"), &error))?;
    let nodes: Api<Node> = client.all();
    let all = ListParams::default();
    let nodes = persist(PATIENT, || nodes.list(&all)).await;
    let nodes = match nodes {
        Ok(nodes) => nodes.items,
        // What is missing without it, the check of rights tells.
        Err(kube::Error::Api(status)) if status.code == 403 => Vec::new(),
        Err(error) => return Err(api_error("list the nodes", &error)),
    };
    // A provider may say `31+`.
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    Ok(ClusterFacts {
        context: context.to_owned(),
        version: version.git_version,
        minor: digits.parse().unwrap_or(0),
        nodes: nodes.into_iter().map(node_facts).collect(),
    })
}

fn node_facts(node: Node) -> NodeFacts {
    let status = node.status.unwrap_or_default();
    let info = status.node_info.unwrap_or_default();
    let memory = |quantities: &std::collections::BTreeMap<String, _>| {
        let text: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = quantities.get("memory")?;
        crate::scenario::memory_quantity(&text.0)
    };
    NodeFacts {
        name: node.metadata.name.unwrap_or_default(),
        kubelet: info.kubelet_version,
        runtime: info.container_runtime_version,
        kernel: info.kernel_version,
        boot_id: info.boot_id,
        memory: status.capacity.as_ref().and_then(memory),
        allocatable: status.allocatable.as_ref().and_then(memory),
    }
}

/// An error of the API, with what to do about the usual ones.
pub(super) fn api_error(what: &str, error: &kube::Error) -> BackendError {
    let kube::Error::Api(status) = error else {
        return BackendError(format!(
            "cannot {what}: {}; does the cluster run, and is its address right?",
            root(error)
        ));
    };
    let hint = match status.code {
        401 => "; the context's credentials are not accepted: have they expired?",
        // RBAC's words are `User "x" cannot create resource "pods"`; all others are an admission's.
        403 if status.message.contains(" cannot ") => {
            "; the context's user may not do that (README: what exit137 needs on a cluster)"
        }
        403 | 422 => {
            "; the cluster's admission refuses it (a ResourceQuota, a LimitRange, a Pod Security level, a webhook): change the scenario or the rule"
        }
        _ => "",
    };
    BackendError(format!("cannot {what}: {}{hint}", status.message))
}

/// The innermost error, which says what really happened; those around it say that there was one.
fn root(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

/// Removes what dead runs left on the cluster of a kube context, and if asked what runs kept there.
pub async fn collect(context: &str, kept: bool) -> Result<Collected, BackendError> {
    let client = Client::of_context(context, None).await?;
    let mut collected = leftovers::collect(&client).await?;
    if kept {
        leftovers::collect_kept(&client, &mut collected).await?;
    }
    collected.gone.extend(agent::collect(&client, None).await?);
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn told(code: u16, message: &str) -> String {
        let status = Status::failure(message, "Forbidden").with_code(code).boxed();
        api_error("apply pod web", &kube::Error::Api(status)).to_string()
    }

    #[test]
    fn who_lacks_a_right_is_told_apart_from_whom_an_admission_refuses() {
        let rbac = told(403, r#"pods is forbidden: User "ci" cannot create resource "pods" in API group """#);
        assert!(rbac.contains("README") && rbac.contains("cannot create resource"), "{rbac}");
        let quota = told(403, r#"pods "web" is forbidden: exceeded quota: small, requested: memory=64Mi"#);
        assert!(quota.contains("exceeded quota") && quota.contains("admission"), "{quota}");
        let range = told(
            403,
            r#"pods "web" is forbidden: maximum memory usage per Container is 32Mi, but limit is 64Mi"#,
        );
        assert!(range.contains("maximum memory usage") && range.contains("LimitRange"), "{range}");
        let standard = told(
            403,
            r#"pods "web" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true"#,
        );
        assert!(standard.contains("Pod Security"), "{standard}");
        assert!(told(401, "Unauthorized").contains("expired"));
    }
}
