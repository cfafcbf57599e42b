//! An outer memory limit around every node, so that a runaway ends at the node and not at this machine.

use super::Kind;
use crate::backend::BackendError;
use crate::backend::local::admission;

/// A guard is never below this, which a control plane reaches in an hour.
const FLOOR: u64 = 4 << 30;
/// What a node may grow by.
const ROOM: u64 = 6 << 30;
/// What the host keeps.
const RESERVE: u64 = 1 << 30;
/// Less room than this, and a guard would be what kills.
const LEAST_ROOM: u64 = 512 << 20;

/// A node's outer limit that was changed for a while.
#[derive(Debug)]
pub struct Guard {
    kind: Kind,
    node: String,
    former: Limits,
}

/// As the engine has them: 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    memory: i64,
    swap: i64,
}

/// The guard of a node that uses so much, on a host that has so much; `None` if the host is too small for one.
fn size(used: u64, host: u64) -> Option<u64> {
    let wanted = FLOOR.max(used.saturating_add(ROOM)).min(host.saturating_sub(RESERVE));
    (wanted >= used.saturating_add(LEAST_ROOM)).then_some(wanted)
}

impl Kind {
    /// Limits each node's container that has no limit, above what it uses.
    pub async fn guard_all(&self, cluster: &str) -> Result<(), BackendError> {
        for node in self.nodes(cluster).await? {
            if self.limits(&node).await?.memory > 0 {
                continue;
            }
            let used = self.node_use(&node).await?.all;
            let Some(bytes) = admission::meminfo("MemTotal").and_then(|host| size(used, host)) else {
                tracing::warn!("node {node} has no memory limit of its own: this host is too small for one");
                continue;
            };
            self.limit(&node, Limits::both(bytes)).await?;
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
        let former = self.limits(node).await?;
        let limit = self.node_use(node).await?.working_set().saturating_add(room);
        let guard = Guard { kind: self.clone(), node: node.to_owned(), former };
        tracing::info!("node {node} may use {} MiB for a while", limit >> 20);
        match self.limit(node, Limits::both(limit)).await {
            Ok(()) => Ok(guard),
            Err(error) => {
                guard.undo().await?;
                Err(error)
            }
        }
    }

    async fn limits(&self, node: &str) -> Result<Limits, BackendError> {
        let format = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}";
        let text = self.engine(&["inspect", "-f", format, node]).await?;
        let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or(0));
        Ok(Limits { memory: numbers.next().unwrap_or(0), swap: numbers.next().unwrap_or(0) })
    }

    async fn limit(&self, node: &str, limits: Limits) -> Result<(), BackendError> {
        // The engine takes -1 for none, and 0 for no change.
        let text = |bytes: i64| if bytes > 0 { bytes.to_string() } else { "-1".to_owned() };
        let (memory, swap) = (text(limits.memory), text(limits.swap));
        self.engine(&["update", "--memory", &memory, "--memory-swap", &swap, node]).await.map(drop)
    }
}

impl Limits {
    /// Memory alone: swap would let the node outgrow it.
    fn both(bytes: u64) -> Self {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        Self { memory: bytes, swap: bytes }
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
