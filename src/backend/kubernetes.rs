//! Pods on a cluster: kind, or any other by its kube context. `docs/adr/0004-the-cluster-backend.md` says who sees what.

pub mod agent;
mod client;
pub mod image;
pub mod kind;
mod lease;
pub mod manifest;
mod names;
mod node;
mod running;
mod told;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};

use super::local::cgroup::Hierarchy;
use super::local::lock::RunLock;
use super::local::{self, gc};
use super::{Backend, BackendError};
use crate::evidence::{ClusterFacts, HostFacts, NodeFacts};
use crate::observe::Observers;
use crate::recorder::Recorder;
use crate::scenario::Scenario;
use client::Client;
pub use node::LocalNode;
pub use running::RunningOnCluster;

/// How long namespaces may take to go.
const NAMESPACES_GO: Duration = Duration::from_mins(1);

/// The kubelet looks at its containers once a second and then writes to the API; on a busy node that takes seconds.
const LAG_MS: u64 = 10_000;

/// The cluster backend, for the length of a run.
#[derive(Debug)]
pub struct KubernetesBackend {
    run: String,
    client: Client,
    image: String,
    cluster: ClusterFacts,
    /// The nodes that are containers on this host, where they can be watched from here.
    nodes: Vec<LocalNode>,
    observers: Result<Arc<Observers>, String>,
    /// What watches them otherwise.
    agents: Option<agent::Agents>,
    lease: lease::Held,
    _lock: RunLock,
}

impl KubernetesBackend {
    /// Reaches the cluster of a kube context, removes what dead runs left there, and makes what this run needs. `image` is
    /// ours, as the cluster's nodes have it; `nodes` are those that can be watched from this host.
    pub async fn prepare(context: &str, image: String, nodes: Vec<LocalNode>) -> Result<Self, BackendError> {
        let client = Client::of_context(context).await?;
        let cluster = facts(context, &client).await?;
        let mut left = lease::collect(&client).await?;
        left.extend(agent::collect(&client, Some(&image)).await?);
        for what in left {
            tracing::warn!("removed what a killed run left behind: {what}");
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
        Ok(Self { run, client, image, cluster, nodes, observers, agents, lease, _lock: lock })
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
            Some((initial_pid_namespace, cgroup_version)) => {
                HostFacts { initial_pid_namespace, cgroup_version, ..own }
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

    async fn tear_down(self) -> Vec<String> {
        // Their threads are joined and the trace instance is removed.
        drop(self.observers);
        let left = lease::wait_until_gone(&self.client, &self.run, NAMESPACES_GO).await;
        let mut left: Vec<String> =
            left.into_iter().map(|namespace| format!("namespace {namespace}")).collect();
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
    let version = client.version().await.map_err(|error| {
        BackendError(format!("cannot reach the cluster of context {context:?}: {error}; is it running?"))
    })?;
    let nodes: Api<Node> = client.all();
    let nodes =
        nodes.list(&ListParams::default()).await.map_err(|error| api_error("list the nodes", &error))?;
    // A provider may say `31+`.
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    Ok(ClusterFacts {
        context: context.to_owned(),
        version: version.git_version,
        minor: digits.parse().unwrap_or(0),
        nodes: nodes.items.into_iter().map(node_facts).collect(),
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
    let code = if let kube::Error::Api(status) = error { Some(status.code) } else { None };
    let hint = match code {
        Some(403) => "; the context's user may not do that (README: what exit137 needs on a cluster)",
        Some(401) => "; the context's credentials are not accepted",
        Some(_) => "",
        None => "; does the cluster still run?",
    };
    BackendError(format!("cannot {what}: {error}{hint}"))
}

/// Removes what dead runs left on the cluster of a kube context; answers what that was.
pub async fn collect(context: &str) -> Result<Vec<String>, BackendError> {
    let client = Client::of_context(context).await?;
    let mut gone = lease::collect(&client).await?;
    gone.extend(agent::collect(&client, None).await?);
    Ok(gone)
}
