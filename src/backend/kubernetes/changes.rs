//! What a scenario changes of its node for as long as it runs: the budget of all pods (`node.memory`), the limit around the
//! node (`node.guard`), the scores of its processes (`node.capacity`), whether its kubelet is there (`loseContainer`).
//!
//! Only nodes of a cluster that the run made for itself are changed: nobody else's pods are there, and after a `kill -9` the next
//! start removes the cluster, limits and all.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::KubernetesBackend;
use super::client::Client;
use super::condition::node_state;
use super::kind::{Guard, Kind, for_pods};
use super::node::{LocalNode, kubepods};
use crate::backend::BackendError;
use crate::backend::local::cgroup::Cgroup;
use crate::clock;
use crate::evidence::{Fact, LimitChanged, Moment, Source};
use crate::recorder::Recorder;
use crate::scenario::Scenario;

/// How long pressure may take to go: 30 s are what the kubelet is told, then it looks every 10 s.
const PRESSURE_GOES: Duration = Duration::from_secs(90);

/// What is to be undone.
#[derive(Debug)]
pub(super) struct NodeChanges {
    client: Client,
    nodes: Vec<LocalNode>,
    kind: Option<(Kind, String)>,
    made: Mutex<Made>,
    /// Held while a kubelet is being stopped.
    stopping: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Made {
    budgets: Vec<(Cgroup, Option<u64>)>,
    guards: Vec<Guard>,
    /// The nodes whose kubelets are away.
    kubelets: Vec<String>,
}

impl NodeChanges {
    pub(super) fn new(backend: &KubernetesBackend) -> Self {
        let (client, nodes, kind) = (backend.client.clone(), backend.nodes.clone(), backend.kind.clone());
        Self { client, nodes, kind, made: Mutex::default(), stopping: Arc::default() }
    }

    /// Makes the nodes what the scenario says; what has been made when something fails is undone by [`Self::undo`] all the same.
    pub(super) async fn make(&self, scenario: &Scenario, recorder: &Recorder) -> Result<(), BackendError> {
        let node = scenario.node;
        if node == crate::scenario::Node::default() {
            return Ok(());
        }
        let Some((kind, cluster)) = &self.kind else {
            // What changes nothing runs on any cluster.
            if !node.is_changed() {
                return Ok(());
            }
            return Err(BackendError("only nodes of a cluster that this run made are changed".to_owned()));
        };
        let names = for_pods(kind.nodes(cluster).await?);
        // An eviction shows in the node's object up to ten seconds later (`nodeStatusUpdateFrequency`).
        let holds = if node.evict_at.is_some() { Duration::from_secs(12) } else { Duration::ZERO };
        for name in &names {
            self.wait_for_calm(name, holds).await?;
        }
        if let Some(memory) = node.memory {
            for node in self.nodes.iter().filter(|node| names.contains(&node.name)) {
                self.budget(node, memory, recorder).await?;
            }
        }
        if let Some(room) = node.guard {
            for name in &names {
                let guard = kind.guard_for_a_while(name, room).await?;
                self.made.lock().await.guards.push(guard);
            }
        }
        Ok(())
    }

    /// An eviction leaves its node under pressure for a while, and a pod without requests is not admitted then.
    async fn wait_for_calm(&self, node: &str, holds: Duration) -> Result<(), BackendError> {
        let until = Instant::now() + PRESSURE_GOES;
        let mut calm_since = Instant::now();
        loop {
            let state = node_state(&self.client, node).await?;
            if !state.ready || state.memory_pressure {
                calm_since = Instant::now();
            } else if calm_since.elapsed() >= holds {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(BackendError(format!(
                    "node {node} is still not ready for pods after {} s: {state:?}; what uses its memory?",
                    PRESSURE_GOES.as_secs()
                )));
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Limits all pods together to so much above what those that are there already hold for good.
    async fn budget(&self, node: &LocalNode, memory: u64, recorder: &Recorder) -> Result<(), BackendError> {
        for directory in kubepods(node) {
            let doing = |error| BackendError::doing(format!("limit the pods of node {}", node.name), error);
            let path = directory.strip_prefix(&node.mount).unwrap_or(&directory);
            let path = format!("/{}", path.display());
            let cgroup = Cgroup { version: node.version, directory, path };
            let limit = held(&cgroup.directory).map_err(doing)?.saturating_add(memory);
            let former = cgroup.limit();
            self.made.lock().await.budgets.push((cgroup.clone(), former));
            write(&cgroup, limit, recorder).map_err(doing)?;
            tracing::info!("all pods of node {} may use {} MiB for a while", node.name, limit >> 20);
        }
        Ok(())
    }

    fn own_kind(&self) -> Result<&Kind, BackendError> {
        let own = self.kind.as_ref().map(|(kind, _)| kind);
        own.ok_or_else(|| BackendError("only nodes of a cluster that this run made are changed".to_owned()))
    }

    /// Stops a node's kubelet until it is brought back.
    pub(super) async fn take_kubelet_away(&self, node: &str) -> Result<(), BackendError> {
        let (kind, name) = (self.own_kind()?.clone(), node.to_owned());
        let busy = Arc::clone(&self.stopping).lock_owned().await;
        self.made.lock().await.kubelets.push(name.clone());
        // What has begun in the node goes on if nobody waits for it any more, and must not come after the start.
        let stopping = tokio::spawn(async move {
            let stopped = kind.stop_kubelet(&name).await;
            drop(busy);
            stopped
        });
        stopping.await.map_err(|error| BackendError::doing(format!("stop the kubelet of {node}"), error))?
    }

    /// Waits until a container has ended by itself, and has the node's runtime forget it.
    pub(super) async fn remove_once_ended(&self, node: &str, id: &str) -> Result<(), BackendError> {
        self.own_kind()?.remove_once_ended(node, id).await
    }

    /// Starts the kubelets that are away; answers which could not be.
    pub(super) async fn bring_kubelets_back(&self) -> Vec<String> {
        let _stopped = self.stopping.lock().await;
        let Ok(kind) = self.own_kind() else { return Vec::new() };
        let mut left = Vec::new();
        // Each stays noted until it is back, in case this is broken off.
        while let Some(node) = self.next_away().await {
            let back = kind.start_kubelet(&node).await;
            left.extend(back.err().map(|error| format!("the kubelet of {node}: {error}")));
            self.made.lock().await.kubelets.retain(|away| *away != node);
        }
        left
    }

    async fn next_away(&self) -> Option<String> {
        self.made.lock().await.kubelets.first().cloned()
    }

    /// Gives everything back; answers what could not be.
    pub(super) async fn undo(&self, recorder: &Recorder) -> Vec<String> {
        let mut left = self.bring_kubelets_back().await;
        let Made { budgets, guards, kubelets: _ } = std::mem::take(&mut *self.made.lock().await);
        for guard in guards {
            left.extend(guard.undo().await.err().map(|error| format!("a node's limit: {error}")));
        }
        for (cgroup, former) in budgets {
            let undone = write(&cgroup, former.unwrap_or(NO_LIMIT), recorder);
            left.extend(undone.err().map(|error| format!("the limit of {}: {error}", cgroup.path)));
        }
        left
    }
}

/// What the kernel reads as no limit: v2 takes any number, v1 caps it to its largest (`page_counter_memparse`).
pub(super) const NO_LIMIT: u64 = i64::MAX as u64 / 4096 * 4096;

fn write(cgroup: &Cgroup, bytes: u64, recorder: &Recorder) -> io::Result<()> {
    let (from, before) = (cgroup.limit(), clock::boot_ns());
    let written = cgroup
        .limit_writes(bytes)
        .into_iter()
        .try_for_each(|(file, bytes)| fs::write(file, bytes.to_string()));
    let changed = LimitChanged {
        cgroup: cgroup.path.clone(),
        from,
        to: bytes,
        writer: Some("exit137".into()),
        refused: written.as_ref().err().map(ToString::to_string),
    };
    let at = Moment::between(before, clock::boot_ns());
    recorder.record(Source::Harness, at, None, Fact::LimitChanged(changed));
    written
}

/// What is charged to a cgroup and everything below it but page cache, which the kernel drops before it kills.
fn held(directory: &Path) -> io::Result<u64> {
    let read = |file: &str| fs::read_to_string(directory.join(file));
    let all = read("memory.current").or_else(|_| read("memory.usage_in_bytes"))?;
    let stat = read("memory.stat")?;
    // v1 has both: the totals count what lies below.
    let prefix = if stat.contains("total_inactive_file ") { "total_" } else { "" };
    let of = |key: &str| {
        let mut lines = stat.lines().filter_map(|line| line.strip_prefix(prefix)?.strip_prefix(key));
        lines.next().and_then(|bytes| bytes.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let cache = of("inactive_file ").saturating_add(of("active_file "));
    Ok(all.trim().parse::<u64>().map_err(io::Error::other)?.saturating_sub(cache))
}

/// Gives a process its score. Where the harness may not lower one, the runtime could not either: then it is as low as can be.
pub(super) fn score(pid: u32, adj: i32) -> io::Result<()> {
    let file = format!("/proc/{pid}/oom_score_adj");
    match fs::write(&file, adj.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && adj < 0 => Ok(()),
        // It has ended.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_cache_is_not_held() {
        let folder = tempfile::tempdir().unwrap();
        let stat = "inactive_file 1\nactive_file 1\ntotal_inactive_file 300\ntotal_active_file 200\n";
        fs::write(folder.path().join("memory.usage_in_bytes"), "1000\n").unwrap();
        fs::write(folder.path().join("memory.stat"), stat).unwrap();
        assert_eq!(held(folder.path()).unwrap(), 500);
        fs::write(folder.path().join("memory.current"), "900\n").unwrap();
        fs::write(folder.path().join("memory.stat"), "inactive_file 300\nactive_file 200\n").unwrap();
        assert_eq!(held(folder.path()).unwrap(), 400);
    }
}
