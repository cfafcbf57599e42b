//! How a node stands, by its object.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::Api;

use super::api_error;
use super::client::Client;
use crate::backend::BackendError;
use crate::scenario::memory_quantity;

/// As far as it matters to whoever wants to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeState {
    pub(super) ready: bool,
    pub(super) memory_pressure: bool,
    /// Bytes.
    pub(super) capacity: u64,
    /// Bytes.
    pub(super) allocatable: u64,
}

pub(super) async fn node_state(client: &Client, node: &str) -> Result<NodeState, BackendError> {
    let nodes: Api<Node> = client.all();
    let node = nodes.get(node).await.map_err(|error| api_error(&format!("look at node {node}"), &error))?;
    let status = node.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let is = |kind: &str| conditions.iter().any(|found| found.type_ == kind && found.status == "True");
    let memory = |quantities: Option<std::collections::BTreeMap<String, Quantity>>| {
        quantities.and_then(|found| memory_quantity(&found.get("memory")?.0)).unwrap_or(0)
    };
    Ok(NodeState {
        ready: is("Ready"),
        memory_pressure: is("MemoryPressure"),
        capacity: memory(status.capacity),
        allocatable: memory(status.allocatable),
    })
}
