//! What a kubelet is told when its node is there already: a threshold above what the idle node uses cannot be known before.
//!
//! Assuming something generous at creation would be simpler, and wrong: an idle node of one version uses three times what another's
//! does, and 100 MiB more or less decide whether a scenario evicts. So the kubelet's own signal is read, the threshold is
//! written below it, and the kubelet is started anew; its containers go on meanwhile.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::config::Settings;
use super::{Kind, call, for_pods};
use crate::backend::BackendError;
use crate::backend::kubernetes::client::Client;
use crate::backend::kubernetes::condition::{NodeState, node_state};

/// Where kubeadm puts it (`kubeadm/app/constants`).
const CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// How long a kubelet may take to begin anew and to say so.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(500);

impl Kind {
    /// Gives the nodes that run pods what the settings say of their memory.
    pub async fn tune(
        &self,
        cluster: &str,
        context: &str,
        kubeconfig: Option<&std::path::Path>,
        settings: &Settings,
    ) -> Result<(), BackendError> {
        let client = Client::of_context(context, kubeconfig).await?;
        for node in for_pods(self.nodes(cluster).await?) {
            let ready = wait(&client, &node, "be ready", |state| state.ready).await?;
            let Some(reserve) = self.reserve(&client, &node, &ready, settings).await? else { continue };
            self.rewrite(&node, &reserve).await?;
            // What is allocatable is its capacity less both (`cm/node_container_manager_linux.go:getNodeAllocatableAbsolute`).
            let expected = ready.capacity.saturating_sub(reserve.bytes);
            let near = move |state: &NodeState| state.ready && state.allocatable.abs_diff(expected) < 2 << 20;
            if let Err(error) = wait(&client, &node, "take its new settings", near).await {
                let args =
                    ["exec", &node, "journalctl", "-u", "kubelet", "-n", "8", "--no-pager", "-o", "cat"];
                let said = self.engine(&args).await.unwrap_or_default();
                return Err(BackendError(format!("{error}; its kubelet says:\n{said}")));
            }
            tracing::info!("node {node}: {} {} for its kubelet", reserve.key, reserve.inner);
        }
        Ok(())
    }

    /// What is kept from the pods: a threshold below what is available now, or a reservation.
    async fn reserve(
        &self,
        client: &Client,
        node: &str,
        state: &NodeState,
        settings: &Settings,
    ) -> Result<Option<Reserve>, BackendError> {
        let capacity = state.capacity;
        let reserve = |key, inner, bytes| Some(Reserve { key, inner, bytes: bytes >> 10 << 10 });
        if let Some(room) = settings.evict_at {
            let available = available(client, node).await?;
            let bytes = available.saturating_sub(room);
            return Ok(reserve("evictionHard", "memory.available", bytes));
        }
        let Some(allocatable) = settings.allocatable else { return Ok(None) };
        let Some(bytes) = capacity.checked_sub(allocatable) else {
            return Err(BackendError(format!(
                "node {node} has {capacity} bytes of memory; {} needs {allocatable} allocatable: lower node.allocatable",
                settings.wanted_by.join(", ")
            )));
        };
        Ok(reserve("systemReserved", "memory", bytes))
    }

    /// Writes it into the kubelet's configuration and starts the kubelet anew.
    async fn rewrite(&self, node: &str, reserve: &Reserve) -> Result<(), BackendError> {
        let text = self.engine(&["exec", node, "cat", CONFIG]).await?;
        let mut config: Map<String, Value> = serde_saphyr::from_str(&text)
            .map_err(|error| BackendError::doing(format!("read {CONFIG} of node {node}"), error))?;
        let section = config.entry(reserve.key).or_insert_with(|| json!({}));
        if !section.is_object() {
            *section = json!({});
        }
        section[reserve.inner] = json!(format!("{}Ki", reserve.bytes >> 10));
        // JSON is YAML.
        let text = Value::Object(config).to_string();
        let write = format!("cat > {CONFIG} && systemctl restart kubelet");
        let args = ["exec", "-i", node, "sh", "-c", &write];
        call::run_with_input(&self.engine, &args, text.as_bytes()).await.map(drop)
    }
}

/// Memory that is kept from pods, and the setting that does it.
struct Reserve {
    key: &'static str,
    inner: &'static str,
    bytes: u64,
}

/// The kubelet's own `memory.available`, read after everything that is loaded has been loaded.
async fn available(client: &Client, node: &str) -> Result<u64, BackendError> {
    let from = crate::clock::unix_ns();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        // The kubelet answers what its last look found, at most 15 s ago; the look must be a new one.
        if let Some((at, available)) = client.node_memory(node).await?
            && at.as_nanosecond() > i128::from(from)
        {
            return Ok(available);
        }
        sleep(LOOK).await;
    }
    Err(BackendError(format!(
        "the kubelet of node {node} says nothing new of its memory; is the node too busy?"
    )))
}

async fn wait(
    client: &Client,
    node: &str,
    what: &str,
    until: impl Fn(&NodeState) -> bool,
) -> Result<NodeState, BackendError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = node_state(client, node).await?;
        if until(&state) {
            return Ok(state);
        }
        if Instant::now() >= deadline {
            return Err(BackendError(format!(
                "node {node} did not {what} within {} s: {state:?}",
                PATIENCE.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
}
