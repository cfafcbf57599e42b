//! A node whose pods' cgroups can be seen from here, and their processes: a kind node on this very host, or the one that an agent
//! runs on.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::limits::Limits;
use super::stirs::Stirs;
use crate::backend::local::cgroup::{Cgroup, Version};
use crate::backend::local::in_initial_pid_namespace;
use crate::clock;
use crate::evidence::{CgroupMade, CgroupOwner, ContainerRef, ContainerStarted, Fact, Moment, Source};
use crate::observe::{Watch, WatchedCgroup};
use crate::recorder::Recorder;

/// How often a container's main process is looked for. One that dies at once lives some 20 ms for the runtime's sake.
const LOOK: Duration = Duration::from_millis(4);
/// How soon a new pod is looked at: its first container is not there before its sandbox is.
const LOOK_FOR_PODS: Duration = Duration::from_millis(20);
/// How often the pods' cgroups are looked through where nothing is said to have come or gone: where that is not told.
const LOOK_ANYWAY: u64 = 500_000_000;

/// A node whose cgroups can be seen.
#[derive(Clone, Debug)]
pub struct LocalNode {
    /// Its name.
    pub name: String,
    /// Its own cgroup, below the mount: `/docker/<id>`.
    pub cgroup: String,
    /// Where the memory hierarchy is mounted.
    pub mount: PathBuf,
    /// Whose version that is.
    pub version: Version,
}

/// A container's run as its node has it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cgroup: Cgroup,
    pub(super) main_pid: Option<u32>,
}

/// Looks for the cgroups of pods, watches them, and finds their main processes.
#[derive(Debug)]
pub(super) struct Finder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Each node, with a cgroup that holds all its pods.
    nodes: Vec<(LocalNode, PathBuf)>,
    /// What the kernel prints before a path below the mount.
    above: String,
    /// Whether PIDs are those that the kernel names.
    pids_mean_something: bool,
    recorder: Recorder,
    watch: Watch,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stop: bool,
    /// Whether other pods matter than when they were last looked at.
    changed: bool,
    /// The pods that matter, by UID.
    pods: Vec<String>,
    /// Those of them that the API server no longer has.
    leaving: Vec<String>,
    /// What has been said of the levels above them.
    levels: Vec<CgroupMade>,
    /// What is watched, by directory.
    watched: HashMap<PathBuf, String>,
    /// By the runtime's ID.
    places: HashMap<String, Place>,
    /// Of containers that run, and of their pods.
    limits: Limits,
}

impl Finder {
    pub(super) fn start(nodes: Vec<LocalNode>, recorder: Recorder, watch: Watch) -> std::io::Result<Self> {
        Self::start_below(String::new(), nodes, recorder, watch)
    }

    /// The same where the kernel prints `above` before the paths that are seen.
    pub(super) fn start_below(
        above: String,
        nodes: Vec<LocalNode>,
        recorder: Recorder,
        watch: Watch,
    ) -> std::io::Result<Self> {
        let with_pods = |node: LocalNode| kubepods(&node).into_iter().map(move |pods| (node.clone(), pods));
        let nodes = nodes.into_iter().flat_map(with_pods).collect();
        let pids_mean_something = in_initial_pid_namespace();
        let state = Mutex::default();
        let shared = Arc::new(Shared { nodes, above, pids_mean_something, recorder, watch, state });
        for (node, pods) in &shared.nodes {
            shared.watch_levels(node, pods);
        }
        let (theirs, stirs) = (Arc::clone(&shared), Stirs::new());
        let thread =
            std::thread::Builder::new().name("exit137-pods".into()).spawn(move || theirs.run(stirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on this pod matters.
    pub(super) fn add_pod(&self, uid: &str) {
        let mut state = self.shared.lock();
        if !state.pods.iter().any(|known| known == uid) {
            state.pods.push(uid.to_owned());
            state.changed = true;
        }
    }

    /// This pod is gone, or is about to: it matters for as long as there is a cgroup of it.
    pub(super) fn remove_pod(&self, uid: &str) {
        let mut state = self.shared.lock();
        state.leaving.push(uid.to_owned());
        state.changed = true;
    }

    /// How many cgroups of pods there are whose levels can be watched: without, this is no node that runs pods.
    pub(super) fn has_pods(&self) -> bool {
        !self.shared.nodes.is_empty()
    }

    /// Says again what is said once only, for somebody who begins to listen: the levels above the pods.
    pub(super) fn retell(&self) {
        let levels = self.shared.lock().levels.clone();
        for made in levels {
            let path = made.path.clone();
            self.shared.recorder.now(Source::Harness, Fact::Cgroup(made));
            self.shared.watch.retell(&path);
        }
    }

    /// Where a container's run is, by the runtime's ID.
    pub(super) fn place(&self, id: &str) -> Option<Place> {
        self.shared.lock().places.get(id).cloned()
    }

    /// Looks no more, and reads what is still there a last time.
    pub(super) fn stop(&mut self) {
        self.shared.lock().stop = true;
        if let Some(thread) = self.thread.take() {
            // It has said what it had to say.
            let _ = thread.join();
        }
        let paths: Vec<String> = self.shared.lock().watched.drain().map(|(_, path)| path).collect();
        for path in paths {
            self.shared.watch.remove_cgroup(&path);
        }
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut stirs: Stirs) {
        let (mut looked, mut looked_through) = (clock::boot_ns(), 0);
        let mut stirred = true;
        loop {
            let (stop, changed, pods) = {
                let mut state = self.lock();
                (state.stop, std::mem::take(&mut state.changed), state.pods.clone())
            };
            if stop {
                return;
            }
            let now = clock::boot_ns();
            if stirred || changed || now >= looked_through + LOOK_ANYWAY {
                self.look_through(&mut stirs, &pods);
                looked_through = now;
            }
            let searching = self.look_for_main_processes(Moment::between(looked, now));
            looked = now;
            stirred = stirs.wait(if searching { LOOK } else { LOOK_FOR_PODS });
        }
    }

    fn look_through(&self, stirs: &mut Stirs, pods: &[String]) {
        for (node, kubepods) in &self.nodes {
            stirs.watch(kubepods);
            for class in ["burstable", "besteffort"] {
                stirs.watch(&kubepods.join(class));
                stirs.watch(&slice_below(kubepods, class));
            }
            for uid in pods {
                self.look_at_pod(stirs, node, kubepods, uid);
            }
        }
        self.look_at_limits();
        self.let_go();
        self.let_pods_go();
    }

    fn look_at_limits(&self) {
        let changes = self.lock().limits.changes(clock::boot_ns);
        for (at, changed) in changes {
            self.recorder.record(Source::Harness, at, None, Fact::LimitChanged(changed));
        }
    }

    /// The levels above the pods: a QoS class and all pods of the node.
    fn watch_levels(&self, node: &LocalNode, kubepods: &Path) {
        self.add(node, kubepods, CgroupOwner::Node);
        for class in ["burstable", "besteffort"] {
            for directory in [kubepods.join(class), slice_below(kubepods, class)] {
                if directory.is_dir() {
                    self.add(node, &directory, CgroupOwner::Qos { class: class.to_owned() });
                }
            }
        }
    }

    fn look_at_pod(&self, stirs: &mut Stirs, node: &LocalNode, kubepods: &Path, uid: &str) {
        for directory in pod_directories(kubepods, uid) {
            // Before it is read: what comes after that is told.
            stirs.watch(&directory);
            if !self.lock().watched.contains_key(&directory) {
                self.add(node, &directory, CgroupOwner::Pod { pod: uid.to_owned() });
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(id) = container_id(&name) else { continue };
                let directory = entry.path();
                if self.lock().watched.contains_key(&directory) {
                    continue;
                }
                let container = ContainerRef { pod: uid.to_owned(), container: id.clone(), instance: 0 };
                let path = self.add(node, &directory, CgroupOwner::Container(container));
                if let Some(path) = path {
                    let cgroup = Cgroup { version: node.version, directory, path };
                    self.lock().places.insert(id, Place { cgroup, main_pid: None });
                }
            }
        }
    }

    /// Watches a cgroup and says whose it is; `None` if it has gone meanwhile.
    fn add(&self, node: &LocalNode, directory: &Path, owner: CgroupOwner) -> Option<String> {
        let path = format!("{}/{}", self.above, directory.strip_prefix(&node.mount).ok()?.display());
        let watched =
            WatchedCgroup { directory: directory.to_owned(), path: path.clone(), owner: owner.clone() };
        self.watch.add_cgroup(watched).ok()?;
        let cgroup = Cgroup { version: node.version, directory: directory.to_owned(), path: path.clone() };
        let group = fs::read_to_string(directory.join("memory.oom.group")).ok();
        let made = CgroupMade {
            path: path.clone(),
            owner,
            limit: cgroup.limit(),
            oom_group: group.map(|text| text.trim() == "1"),
        };
        if matches!(made.owner, CgroupOwner::Node | CgroupOwner::Qos { .. }) {
            self.lock().levels.push(made.clone());
        }
        self.recorder.now(Source::Harness, Fact::Cgroup(made));
        self.lock().watched.insert(directory.to_owned(), path.clone());
        Some(path)
    }

    /// A container's main process is the first of its PID namespace, once it has become the container's own program. Answers
    /// whether one was looked for.
    fn look_for_main_processes(&self, seen: Moment) -> bool {
        let searched: Vec<(String, Place)> = {
            let state = self.lock();
            let without = state.places.iter().filter(|(_, place)| place.main_pid.is_none());
            without.map(|(id, place)| (id.clone(), place.clone())).collect()
        };
        let searching = !searched.is_empty();
        for (id, place) in searched {
            let Ok(processes) = place.cgroup.processes() else { continue };
            let Some(pid) = processes.into_iter().find(|pid| is_main(*pid)) else { continue };
            let pod = self.pod_of(&place);
            let container = ContainerRef { pod, container: id.clone(), instance: 0 };
            if self.pids_mean_something {
                self.watch.add_main_process(pid, &container);
            }
            let oom_score_adj = fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
            let started = ContainerStarted {
                container,
                id: Some(id.clone()),
                pid: Some(pid).filter(|_| self.pids_mean_something),
                runtime_pid: None,
                request: None,
                limit: None,
                pod_level_limit: false,
                neighbours: 0,
                oom_score_adj: oom_score_adj.ok().and_then(|text| text.trim().parse().ok()),
                oom_score_adj_asked: None,
                rlimit_cpu: hard_cpu_limit(pid),
                grace_seconds: 0,
            };
            self.recorder.record(Source::Harness, seen, None, Fact::Started(started));
            let mut state = self.lock();
            let now = clock::boot_ns();
            state.limits.know(place.cgroup.clone(), now);
            state.limits.know(parent(&place.cgroup), now);
            if let Some(place) = state.places.get_mut(&id) {
                place.main_pid = Some(pid);
            }
        }
        searching
    }

    fn pod_of(&self, place: &Place) -> String {
        let state = self.lock();
        state.pods.iter().find(|uid| lies_in_pod(&place.cgroup.path, uid)).cloned().unwrap_or_default()
    }

    /// Lets go of cgroups that are no more.
    fn let_go(&self) {
        let gone: Vec<(PathBuf, String)> = {
            let state = self.lock();
            let gone = state.watched.iter().filter(|(directory, _)| !directory.exists());
            gone.map(|(directory, path)| (directory.clone(), path.clone())).collect()
        };
        for (directory, path) in gone {
            self.watch.remove_cgroup(&path);
            let mut state = self.lock();
            state.watched.remove(&directory);
            state.places.retain(|_, place| place.cgroup.directory != directory || place.main_pid.is_some());
        }
    }

    /// Forgets pods that are gone with all their cgroups.
    fn let_pods_go(&self) {
        let mut state = self.lock();
        let there = |uid: &String| self.nodes.iter().any(|(_, pods)| !pod_directories(pods, uid).is_empty());
        let (still, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut state.leaving).into_iter().partition(there);
        state.leaving = still;
        for uid in gone {
            state.pods.retain(|pod| *pod != uid);
            state.places.retain(|_, place| !lies_in_pod(&place.cgroup.path, &uid));
        }
    }
}

/// The pod's cgroup, of a container's.
fn parent(cgroup: &Cgroup) -> Cgroup {
    let directory = cgroup.directory.parent().unwrap_or(&cgroup.directory).to_owned();
    let path = cgroup.path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
    Cgroup { version: cgroup.version, directory, path }
}

/// The cgroups that hold all pods of a node, by either driver.
pub(super) fn kubepods(node: &LocalNode) -> Vec<PathBuf> {
    let own = node.mount.join(node.cgroup.trim_start_matches('/'));
    ["kubelet/kubepods", "kubelet.slice/kubelet-kubepods.slice", "kubepods", "kubepods.slice"]
        .iter()
        .map(|below| own.join(below))
        .filter(|directory| directory.is_dir())
        .collect()
}

/// What systemd calls a slice below another.
fn slice_below(parent: &Path, child: &str) -> PathBuf {
    let name = parent.file_name().unwrap_or_default().to_string_lossy().into_owned();
    parent.join(format!("{}-{child}.slice", name.trim_end_matches(".slice")))
}

fn lies_in_pod(path: &str, uid: &str) -> bool {
    path.contains(uid) || path.contains(&uid.replace('-', "_"))
}

/// Where a pod's cgroup may be (kubelet `cm/pod_container_manager_linux.go:GetPodContainerName`).
fn pod_directories(kubepods: &Path, uid: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let (plain, escaped) = (format!("pod{uid}"), format!("pod{}", uid.replace('-', "_")));
    found.extend([kubepods.join(&plain), slice_below(kubepods, &escaped)]);
    for class in ["burstable", "besteffort"] {
        let slice = slice_below(kubepods, class);
        found.extend([kubepods.join(class).join(&plain), slice_below(&slice, &escaped)]);
    }
    found.retain(|directory| directory.is_dir());
    found
}

/// The runtime's ID in the name of a container's cgroup: `<64 hex>`, `cri-containerd-<64 hex>.scope`, `crio-<64 hex>.scope`.
fn container_id(name: &str) -> Option<String> {
    let bare = name.trim_end_matches(".scope");
    let id = bare.strip_prefix("cri-containerd-").or_else(|| bare.strip_prefix("crio-")).unwrap_or(bare);
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Whether it is the first process of its PID namespace and no longer the runtime's.
fn is_main(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let first = field("NSpid:").and_then(|pids| pids.split_whitespace().last()) == Some("1");
    first && !field("Name:").is_some_and(|name| name.starts_with("runc") || name == "exe")
}

/// A process's hard RLIMIT_CPU in seconds, where it has one.
fn hard_cpu_limit(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max cpu time"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_cgroup_has_the_runtimes_id_in_its_name() {
        let id = "ab".repeat(32);
        for name in [id.clone(), format!("cri-containerd-{id}.scope"), format!("crio-{id}.scope")] {
            assert_eq!(container_id(&name).as_deref(), Some(id.as_str()), "{name}");
        }
        assert_eq!(container_id("memory.stat"), None);
        assert_eq!(container_id(&id[1..]), None);
    }

    #[test]
    fn systemd_names_a_slice_after_all_above_it() {
        let pods = Path::new("/x/kubelet.slice/kubelet-kubepods.slice");
        let expected = pods.join("kubelet-kubepods-burstable.slice");
        assert_eq!(slice_below(pods, "burstable"), expected);
    }
}
