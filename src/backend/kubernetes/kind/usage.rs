//! What a node's container uses and may use, as its own cgroup says.

use super::Kind;
use crate::backend::BackendError;
use crate::backend::kubernetes::changes::NO_LIMIT;

/// Prints use and both kinds of page cache, for either cgroup version; v1's totals count what lies below (`memory.stat`).
const READ: &str = "cd /sys/fs/cgroup; if [ -e memory.current ]; then cat memory.current; \
    grep -E '^(in)?active_file ' memory.stat; else cd memory; cat memory.usage_in_bytes; \
    grep -E '^total_(in)?active_file ' memory.stat; fi";

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeUse {
    /// All that is charged.
    pub(super) all: u64,
    inactive_file: u64,
}

impl NodeUse {
    /// What the kubelet calls the working set (`cadvisor handler.go:setMemoryStats`).
    pub(super) fn working_set(self) -> u64 {
        self.all.saturating_sub(self.inactive_file)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let all = lines.next()?.trim().parse().ok()?;
        let inactive = lines.filter_map(|line| line.split_once(' '));
        let mut inactive = inactive.filter(|(key, _)| key.trim_start_matches("total_") == "inactive_file");
        Some(Self { all, inactive_file: inactive.next()?.1.trim().parse().ok()? })
    }
}

impl Kind {
    /// The memory limit of the node's own cgroup. The engine need not know: podman does not tell what a limit was updated to.
    pub(super) async fn node_limit(&self, node: &str) -> Result<Option<u64>, BackendError> {
        let limit = self.node_number(node, "memory.max", "memory/memory.limit_in_bytes").await?;
        Ok(limit.filter(|bytes| *bytes < NO_LIMIT))
    }

    /// How many processes and threads the node may have.
    pub(super) async fn node_processes(&self, node: &str) -> Result<Option<u64>, BackendError> {
        self.node_number(node, "pids.max", "pids/pids.max").await
    }

    /// A number that the node's own cgroup has: the file's name on v2, and its path below `/sys/fs/cgroup` on v1. `max` is none,
    /// as is what is not there.
    async fn node_number(&self, node: &str, v2: &str, v1: &str) -> Result<Option<u64>, BackendError> {
        let read = format!("cd /sys/fs/cgroup; cat {v2} 2>/dev/null || cat {v1} 2>/dev/null || echo max");
        Ok(self.engine(&["exec", node, "sh", "-c", &read]).await?.trim().parse().ok())
    }

    pub(super) async fn node_use(&self, node: &str) -> Result<NodeUse, BackendError> {
        let text = self.engine(&["exec", node, "sh", "-c", READ]).await?;
        NodeUse::parse(&text)
            .ok_or_else(|| BackendError(format!("node {node} does not say what it uses: {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_set_is_all_but_the_inactive_page_cache_on_either_version() {
        for text in [
            "1000\ntotal_inactive_file 300\ntotal_active_file 200\n",
            "1000\ninactive_file 300\nactive_file 200\n",
        ] {
            assert_eq!(NodeUse::parse(text).unwrap().working_set(), 700, "{text}");
        }
        assert_eq!(NodeUse::parse("cat: no such file"), None);
    }
}
