//! An outer memory limit around every node, so that a runaway ends at the node and not at this machine.

use super::Kind;
use crate::backend::BackendError;
use crate::backend::kubernetes::changes::NO_LIMIT;
use crate::backend::local::admission;

/// A guard is never below this, which a control plane reaches in an hour.
const FLOOR: u64 = 4 << 30;
/// What a node may grow by.
const ROOM: u64 = 6 << 30;
/// What the host keeps.
const RESERVE: u64 = 1 << 30;
/// Less room than this, and a guard would be what kills.
const LEAST_ROOM: u64 = 512 << 20;

/// `forty-kills` did not run within the 2048 that podman gives a container unless it is told otherwise.
const PROCESSES: u64 = 4096;

/// A node's outer limit that was changed for a while.
#[derive(Debug)]
pub struct Guard {
    kind: Kind,
    node: String,
    former: Option<u64>,
}

/// The guard of a node that uses so much, on a host that has so much; `None` if the host is too small for one.
fn size(used: u64, host: u64) -> Option<u64> {
    let wanted = FLOOR.max(used.saturating_add(ROOM)).min(host.saturating_sub(RESERVE));
    (wanted >= used.saturating_add(LEAST_ROOM)).then_some(wanted)
}

impl Kind {
    /// Limits each node's container that has no limit, above what it uses, and says where a node may have few processes.
    pub async fn guard_all(&self, cluster: &str) -> Result<(), BackendError> {
        for node in self.nodes(cluster).await? {
            if let Some(few) = self.node_processes(&node).await?.filter(|most| *most < PROCESSES) {
                tracing::warn!(
                    "node {node} may have {few} processes and threads in all, too few for scenarios with many pods; \
                     podman's default is pids_limit in containers.conf (0 is no limit)"
                );
            }
            if self.node_limit(&node).await?.is_some() {
                continue;
            }
            let used = self.node_use(&node).await?.all;
            let Some(bytes) = admission::meminfo("MemTotal").and_then(|host| size(used, host)) else {
                tracing::warn!("node {node} has no memory limit of its own: this host is too small for one");
                continue;
            };
            self.limit(&node, Some(bytes)).await?;
            tracing::info!(
                "node {node} uses {} MiB and may use {} MiB: what runs away there does not reach this host",
                used >> 20,
                bytes >> 20
            );
        }
        Ok(())
    }

    /// Limits a node to so much above what it uses now, for a while.
    pub async fn guard_for_a_while(&self, node: &str, room: u64) -> Result<Guard, BackendError> {
        let former = self.node_limit(node).await?;
        let limit = self.node_use(node).await?.working_set().saturating_add(room);
        let guard = Guard { kind: self.clone(), node: node.to_owned(), former };
        tracing::info!("node {node} may use {} MiB for a while", limit >> 20);
        match self.limit(node, Some(limit)).await {
            Ok(()) => Ok(guard),
            Err(error) => {
                guard.undo().await?;
                Err(error)
            }
        }
    }

    async fn limit(&self, node: &str, limit: Option<u64>) -> Result<(), BackendError> {
        // Memory with swap as much as memory alone: swap would let the node outgrow it.
        let bytes = limit.unwrap_or(NO_LIMIT).to_string();
        self.engine(&["update", "--memory", &bytes, "--memory-swap", &bytes, node]).await.map(drop)
    }
}

impl Guard {
    /// Gives the node back the limit that it had.
    pub async fn undo(&self) -> Result<(), BackendError> {
        self.kind.limit(&self.node, self.former).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_leaves_the_node_room_and_the_host_its_reserve() {
        let gib = |n: u64| n << 30;
        assert_eq!(size(gib(1), gib(64)), Some(gib(7)));
        assert_eq!(size(0, gib(64)), Some(gib(6)));
        assert_eq!(size(gib(1), gib(4)), Some(gib(3)));
        assert_eq!(size(gib(3), gib(4)), None);
    }
}
