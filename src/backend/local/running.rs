//! A scenario that runs: its pods, what is done to them, and their end.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinSet;

use super::LocalBackend;
use super::cgroup::Cgroup;
use super::clients::{self, Clients};
use super::endpoints::Endpoints;
use super::gc;
use super::helper::Helper;
use super::pod::{self, PodContext};
use super::protocol::{ActionSpec, PauseSpec, Report, VolumeSource, VolumeSpec};
use super::stop::StopRequest;
use super::{oom_score_adj, probe::Place};
use crate::backend::{BackendError, Running};
use crate::evidence::{
    ActionDone, CgroupMade, CgroupOwner, Fact, LimitChanged, Source, SourceState, StopReason,
};
use crate::observe::{Watch, WatchedCgroup};
use crate::recorder::Recorder;
use crate::scenario::{Act, ContainerSelector, Pod, Role, Scenario, VolumeKind};

/// The sources that are this backend itself.
const OURS: [Source; 2] = [Source::Runtime, Source::Kubelet];

/// A scenario whose pods have been started.
#[derive(Debug)]
pub struct RunningScenario {
    node: Cgroup,
    node_watched: Cgroup,
    scratch: PathBuf,
    workload: PathBuf,
    recorder: Recorder,
    watch: Watch,
    logs: PathBuf,
    rootless: bool,
    initial_pid_namespace: bool,
    capacity: u64,
    back_off_scale: f64,
    single_process_oom_kill: bool,
    /// Pods that actions create.
    later: Mutex<Vec<Pod>>,
    pods: Mutex<Vec<RunningPod>>,
    endpoints: Arc<Endpoints>,
    clients: OnceLock<Clients>,
    lives: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct RunningPod {
    context: Arc<PodContext>,
    pause: Helper,
}

impl RunningScenario {
    pub(super) fn new(
        backend: &LocalBackend,
        scenario: &Scenario,
        trial: &str,
        recorder: Recorder,
        folder: &Path,
    ) -> Result<Self, BackendError> {
        // What these two see is recorded by the backend itself, for as long as it lives.
        for of in OURS {
            recorder.now(of, Fact::Source(SourceState::Present { of }));
        }
        let observing = |error| BackendError::doing(format!("observe into {}", folder.display()), error);
        let watch =
            backend.observers.watch(recorder.clone(), &folder.join("samples.csv")).map_err(observing)?;
        let logs = folder.join("logs");
        fs::create_dir(&logs).map_err(observing)?;
        let doing = |error| BackendError::doing(format!("make the cgroup of {trial}"), error);
        let node = backend.root.make_child(trial).map_err(doing)?;
        node.delegate_memory().map_err(doing)?;
        let pods = node.make_child("node").map_err(doing)?;
        let running = Self {
            node_watched: pods,
            scratch: gc::scratch(&backend.run).join(trial),
            workload: backend.workload.clone(),
            recorder,
            watch,
            logs,
            rootless: backend.rootless,
            initial_pid_namespace: backend.initial_pid_namespace,
            capacity: scenario.node.capacity.unwrap_or(backend.memory_total),
            back_off_scale: scenario.back_off_scale,
            single_process_oom_kill: scenario.node.single_process_oom_kill,
            node,
            later: Mutex::default(),
            pods: Mutex::default(),
            endpoints: Arc::default(),
            clients: OnceLock::new(),
            lives: Mutex::default(),
        };
        running.announce(&running.node_watched, CgroupOwner::Node, scenario.node.memory).map_err(doing)?;
        running.node_watched.delegate_memory().map_err(doing)?;
        Ok(running)
    }

    async fn start_all(&self, scenario: &Scenario) -> Result<(), BackendError> {
        let start = clients::Start {
            program: &self.workload,
            logs: &self.logs,
            recorder: &self.recorder,
            endpoints: &self.endpoints,
        };
        let clients = Clients::start(scenario, &start).await?;
        let _ = self.clients.set(clients);
        let (later, first): (Vec<_>, Vec<_>) =
            scenario.pods.iter().partition(|pod| scenario.starts_later(pod));
        self.later.lock().await.extend(later.into_iter().cloned());
        let contexts = self.start_pods(first).await?;
        for context in contexts {
            let mut started = context.started.subscribe();
            // A pod that has gone has been started.
            let _ = started.wait_for(|started| *started).await;
        }
        Ok(())
    }

    /// Makes pods and lets them live.
    async fn start_pods<'a>(
        &self,
        pods: impl IntoIterator<Item = &'a Pod>,
    ) -> Result<Vec<Arc<PodContext>>, BackendError> {
        let mut contexts = Vec::new();
        for pod in pods {
            for name in pod.replica_names() {
                let running = self.start_pod(pod, &name).await?;
                contexts.push(Arc::clone(&running.context));
                self.pods.lock().await.push(running);
            }
        }
        for context in &contexts {
            self.lives.lock().await.spawn(pod::live(Arc::clone(context)));
        }
        Ok(contexts)
    }

    /// Starts a pod that the beginning did not.
    async fn create(&self, name: &str) -> Result<(), String> {
        let of_name = |pod: &Pod| pod.name == name;
        let pod = self.later.lock().await.iter().find(|pod| of_name(pod)).cloned();
        let pod = pod.ok_or_else(|| format!("there is no pod {name} to be created"))?;
        self.start_pods([&pod]).await.map(drop).map_err(|error| error.to_string())
    }

    async fn start_pod(&self, spec: &Pod, name: &str) -> Result<RunningPod, BackendError> {
        let doing = |what: &str| {
            let what = format!("{what} of pod {name}");
            move |error: std::io::Error| BackendError::doing(what, error)
        };
        let cgroup = self.node_watched.make_child(name).map_err(doing("make the cgroup"))?;
        let owner = CgroupOwner::Pod { pod: name.to_owned() };
        self.announce(&cgroup, owner, spec.cgroup_limit()).map_err(doing("set the limit"))?;
        cgroup.delegate_memory().map_err(doing("delegate the memory controller"))?;
        let pause_cgroup = cgroup.make_child("pause").map_err(doing("make the pause cgroup"))?;
        self.announce(&pause_cgroup, CgroupOwner::Pause { pod: name.to_owned() }, None)
            .map_err(doing("watch the pause cgroup"))?;
        let spec_of_pause = PauseSpec {
            cgroup_procs: pause_cgroup.directory.join("cgroup.procs"),
            hostname: name.to_owned(),
            workload: self.workload.clone(),
            volumes: self.volumes(spec, name).map_err(doing("make the volumes"))?,
            oom_score_adj: oom_score_adj::PAUSE,
            rootless: self.rootless,
        };
        let mut pause =
            Helper::start("__pause", &spec_of_pause).await.map_err(doing("start the pause process"))?;
        if !matches!(pause.hear::<Report>().await, Ok(Some(Report::Ready))) {
            let (_, said) = pause.output().await.map_err(doing("start the pause process"))?;
            return Err(BackendError(format!("cannot make the namespaces of pod {name}: {said}")));
        }
        let pause_pid = pause.child.id().unwrap_or(0);
        let beside = spec.containers.iter().filter(|container| container.role != Role::Init);
        self.endpoints.add(name, pause_pid, beside.map(|container| container.name.clone()));
        let context = PodContext {
            name: name.to_owned(),
            spec: spec.clone(),
            cgroup,
            pause_pid,
            capacity: self.capacity,
            back_off_scale: self.back_off_scale,
            single_process_oom_kill: self.single_process_oom_kill,
            logs: self.logs.clone(),
            rootless: self.rootless,
            initial_pid_namespace: self.initial_pid_namespace,
            recorder: self.recorder.clone(),
            watch: self.watch.clone(),
            targets: Mutex::default(),
            resized: watch::Sender::new(HashMap::new()),
            stop: watch::Sender::new(None),
            started: watch::Sender::new(false),
            endpoints: Arc::clone(&self.endpoints),
            ready_sidecars: watch::Sender::new(HashSet::new()),
        };
        Ok(RunningPod { context: Arc::new(context), pause })
    }

    /// Limits a cgroup, records it, and has it watched.
    fn announce(&self, cgroup: &Cgroup, owner: CgroupOwner, limit: Option<u64>) -> std::io::Result<()> {
        if let Some(limit) = limit {
            cgroup.set_limit(limit)?;
        }
        let made = CgroupMade {
            path: cgroup.path.clone(),
            owner: owner.clone(),
            limit: cgroup.limit(),
            oom_group: None,
        };
        self.recorder.now(Source::Harness, Fact::Cgroup(made));
        self.watch.add_cgroup(WatchedCgroup {
            directory: cgroup.directory.clone(),
            path: cgroup.path.clone(),
            owner,
        })
    }

    fn volumes(&self, pod: &Pod, name: &str) -> std::io::Result<Vec<VolumeSpec>> {
        let source = |volume: &crate::scenario::Volume| -> std::io::Result<VolumeSource> {
            Ok(match volume.kind {
                // The kubelet's: the smaller of sizeLimit and the pod's limit (`empty_dir.go:calculateEmptyDirMemorySize`).
                VolumeKind::Memory { size_limit } => {
                    VolumeSource::Tmpfs([size_limit, pod.cgroup_limit()].into_iter().flatten().min())
                }
                VolumeKind::Disk => {
                    let directory = self.scratch.join(name).join(&volume.name);
                    fs::create_dir_all(&directory)?;
                    fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
                    VolumeSource::Directory(directory)
                }
            })
        };
        pod.volumes
            .iter()
            .map(|volume| Ok(VolumeSpec { name: volume.name.clone(), source: source(volume)? }))
            .collect()
    }

    async fn carry_out(&self, index: usize, act: &Act) {
        let outcome = match act {
            Act::Delete { pod, grace_seconds } => self.delete(pod, *grace_seconds).await,
            Act::Kill { container, signal, child } => self.kill(container, *signal, *child).await,
            Act::SetLimit { container, memory, pod_too } => {
                self.set_limit(container, *memory, *pod_too).await
            }
            Act::Create { pod } => self.create(pod).await,
            // What needs a cluster is skipped before it comes here.
            Act::Drain { .. } | Act::Rollout { .. } | Act::Resize { .. } | Act::LoseContainer { .. } => {
                Err("it needs a cluster".to_owned())
            }
        };
        let what = act.to_string();
        self.recorder.now(Source::Harness, Fact::Action(ActionDone { index, what, error: outcome.err() }));
    }

    async fn delete(&self, pod: &str, grace_seconds: Option<u32>) -> Result<(), String> {
        let mut found = false;
        for pod in self.selected(pod).await {
            let grace_seconds = grace_seconds.unwrap_or(pod.spec.grace_seconds);
            let request = StopRequest::now(StopReason::Delete, u64::from(grace_seconds) * 1000);
            // A grace period can only be made shorter (`pod_workers.go:calculateEffectiveGracePeriod`).
            pod.stop.send_if_modified(|current| {
                let sooner = current.is_none_or(|current| request.due() < current.due());
                if sooner {
                    *current = Some(request);
                }
                sooner
            });
            self.endpoints.leaves(&pod.name);
            found = true;
        }
        if found { Ok(()) } else { Err(format!("there is no pod {pod}")) }
    }

    async fn kill(&self, container: &ContainerSelector, signal: i32, child: bool) -> Result<(), String> {
        for (cgroup, place) in self.targets(container).await? {
            let main_pid = place.ok_or_else(|| format!("{container} does not run"))?.main_pid;
            let cgroup_procs = cgroup.directory.join("cgroup.procs");
            act(&ActionSpec::Kill { cgroup_procs, main_pid, child, signal }).await?;
        }
        Ok(())
    }

    async fn set_limit(
        &self,
        container: &ContainerSelector,
        memory: u64,
        pod_too: bool,
    ) -> Result<(), String> {
        let mut found = false;
        for pod in self.selected(&container.pod).await {
            let Some(cgroup) = pod.resize(&container.container, memory).await else { continue };
            found = true;
            let lowered = cgroup.limit().is_none_or(|limit| limit > memory);
            let mut changes = vec![(cgroup, memory)];
            if pod_too && let Some(sum) = pod.spec_now().cgroup_limit() {
                // No container's limit is ever above its pod's.
                changes.insert(usize::from(lowered), (pod.cgroup.clone(), sum));
            }
            for (cgroup, bytes) in changes {
                write_limit(cgroup, bytes, &self.recorder).await?;
            }
        }
        if found { Ok(()) } else { Err(format!("{container} does not exist now")) }
    }

    /// The pods of this name: one, or all its replicas.
    async fn selected(&self, name: &str) -> Vec<Arc<PodContext>> {
        let pods = self.pods.lock().await;
        let selected = pods.iter().filter(|pod| pod.context.is_named(name));
        selected.map(|pod| Arc::clone(&pod.context)).collect()
    }

    async fn targets(&self, selector: &ContainerSelector) -> Result<Vec<(Cgroup, Option<Place>)>, String> {
        let mut found = Vec::new();
        for pod in self.selected(&selector.pod).await {
            found.extend(pod.targets.lock().await.get(&selector.container).cloned());
        }
        if found.is_empty() { Err(format!("{selector} does not exist now")) } else { Ok(found) }
    }

    async fn stop_and_remove(&self) -> Vec<String> {
        if let Some(clients) = self.clients.get() {
            clients.stop().await;
        }
        for pod in self.pods.lock().await.iter() {
            pod.context.stop.send_replace(Some(StopRequest::tear_down()));
        }
        let mut lives = std::mem::take(&mut *self.lives.lock().await);
        while lives.join_next().await.is_some() {}
        for pod in self.pods.lock().await.drain(..) {
            let pause = format!("{}/pause", pod.context.cgroup.path);
            // The namespaces and every mount in them go with the pause process.
            if let Err(error) = pod.pause.output().await {
                tracing::warn!(pod = pod.context.name, %error, "the pause process did not end well");
            }
            self.watch.remove_cgroup(&pause);
            self.watch.remove_cgroup(&pod.context.cgroup.path);
        }
        self.watch.remove_cgroup(&self.node_watched.path);
        let (node, scratch) = (self.node.clone(), self.scratch.clone());
        let removed = tokio::task::spawn_blocking(move || {
            let mut failed = Vec::new();
            if let Err(error) = node.kill().and_then(|()| node.remove()) {
                failed.push(format!("cgroup {}: {error}", node.directory.display()));
            }
            if scratch.exists()
                && let Err(error) = fs::remove_dir_all(&scratch)
            {
                failed.push(format!("directory {}: {error}", scratch.display()));
            }
            failed
        });
        removed.await.unwrap_or_else(|error| vec![error.to_string()])
    }
}

impl Running for RunningScenario {
    async fn start(&self, scenario: &Scenario) -> Result<(), BackendError> {
        self.start_all(scenario).await
    }

    async fn apply(&self, index: usize, act: &Act) {
        self.carry_out(index, act).await;
    }

    fn start_traffic(&self, index: usize, zero_ns: u64) {
        if let Some(clients) = self.clients.get() {
            clients.begin(index, zero_ns);
        }
    }

    async fn tear_down(&self) -> Vec<String> {
        self.stop_and_remove().await
    }

    async fn finish(&self) -> Result<(), BackendError> {
        let watch = self.watch.clone();
        let finished = tokio::task::spawn_blocking(move || watch.finish()).await;
        for of in OURS {
            self.recorder.now(of, Fact::Source(SourceState::Complete { of }));
        }
        finished.map_err(|error| BackendError::doing("let the observers finish", error))
    }

    fn latest_usage(&self, cgroup: &str) -> Option<u64> {
        self.watch.latest_usage(cgroup)
    }

    fn on_usage(&self, cgroup: &str, bytes: u64) -> oneshot::Receiver<()> {
        self.watch.on_usage(cgroup, bytes)
    }
}

/// Does one thing in a process of its own.
pub(in crate::backend) async fn act(spec: &ActionSpec) -> Result<(), String> {
    let run = async { Helper::start("__act", spec).await?.output().await };
    match run.await {
        Ok((true, _)) => Ok(()),
        Ok((false, said)) => Err(said),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes a limit in a process of its own, and records what came of it.
pub(in crate::backend) async fn write_limit(
    cgroup: Cgroup,
    bytes: u64,
    recorder: &Recorder,
) -> Result<(), String> {
    let from = cgroup.limit();
    let before = crate::clock::boot_ns();
    let refused = act(&ActionSpec::SetLimits(cgroup.limit_writes(bytes))).await.err();
    let changed = LimitChanged {
        cgroup: cgroup.path,
        from,
        to: bytes,
        writer: Some("exit137-resize".into()),
        refused: refused.clone(),
    };
    let at = crate::evidence::Moment::between(before, crate::clock::boot_ns());
    recorder.record(Source::Harness, at, None, Fact::LimitChanged(changed));
    refused.map_or(Ok(()), |why| Err(format!("the kernel refused it: {why}")))
}
