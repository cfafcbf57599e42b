//! One pod: its cgroup, its namespaces, and the lives of its containers.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::back_off::BackOff;
use super::cgroup::Cgroup;
use super::container::{self, RunEnd};
use super::endpoints::Endpoints;
use super::probe::Place;
use super::stop::{self, StopRequest};
use crate::evidence::{Fact, Source, StopReason};
use crate::observe::Watch;
use crate::recorder::Recorder;
use crate::scenario::{Container, Pod, RestartPolicy, Role};

/// What the containers of a pod share.
#[derive(Debug)]
pub struct PodContext {
    /// The pod's name; with replicas, the replica's.
    pub name: String,
    /// What the scenario says of it.
    pub spec: Pod,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its pause process.
    pub pause_pid: u32,
    /// The capacity that `oom_score_adj` is computed from.
    pub capacity: u64,
    /// Whether an OOM kill takes one process instead of its container.
    pub single_process_oom_kill: bool,
    /// Factor on the restart back-off.
    pub back_off_scale: f64,
    /// Where its containers' output goes.
    pub logs: PathBuf,
    /// Whether user namespaces are in play.
    pub rootless: bool,
    /// Whether PIDs are those of the kernel.
    pub initial_pid_namespace: bool,
    /// Takes facts.
    pub recorder: Recorder,
    /// The observers' share.
    pub watch: Watch,
    /// The containers that exist now: what actions act upon.
    pub targets: Mutex<HashMap<String, (Cgroup, Option<Place>)>>,
    /// The limits that resizes have given its containers: they hold for each next run too.
    pub resized: watch::Sender<HashMap<String, u64>>,
    /// Asks the pod to stop: its main containers now, its sidecars after them.
    pub stop: watch::Sender<Option<StopRequest>>,
    /// Whether the pod counts as started.
    pub started: watch::Sender<bool>,
    /// Where traffic finds it.
    pub endpoints: Arc<Endpoints>,
    /// The sidecars that are up.
    pub ready_sidecars: watch::Sender<HashSet<String>>,
}

impl PodContext {
    /// Records a fact of now.
    pub fn record(&self, source: Source, fact: Fact) {
        self.recorder.now(source, fact);
    }

    /// Whether it is the pod of this name, or one of that pod's replicas.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.spec.name == name
    }

    /// Gives a container another limit, as a resize of the pod's spec does; answers the cgroup in which it runs now.
    /// Without one there is nothing to resize, and nothing changes.
    pub async fn resize(&self, container: &str, limit: u64) -> Option<Cgroup> {
        let targets = self.targets.lock().await;
        let (cgroup, _) = targets.get(container)?;
        self.resized.send_modify(|resized| {
            resized.insert(container.to_owned(), limit);
        });
        Some(cgroup.clone())
    }

    /// The container's limit, as its last resize left it.
    pub fn limit_of(&self, container: &Container) -> Option<u64> {
        self.resized.borrow().get(&container.name).copied().or(container.limit)
    }

    /// What the scenario says of it, as resizes have left it.
    pub fn spec_now(&self) -> Pod {
        let mut spec = self.spec.clone();
        for container in &mut spec.containers {
            container.limit = self.limit_of(container);
        }
        spec
    }

    /// How many containers may run beside this one.
    pub fn neighbours(&self, container: &Container) -> u32 {
        let beside = |other: &&Container| match container.role {
            Role::Main | Role::Sidecar => other.role != Role::Init && other.name != container.name,
            Role::Init => other.role == Role::Sidecar,
        };
        u32::try_from(self.spec.containers.iter().filter(beside).count()).unwrap_or(u32::MAX)
    }

    /// A sidecar is up: its startup probe succeeded, or it has none.
    pub fn sidecar_ready(&self, name: &str) {
        self.ready_sidecars.send_if_modified(|ready| ready.insert(name.to_owned()));
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = &Container> {
        self.spec.containers.iter().filter(move |container| container.role == role)
    }
}

/// Lives a pod's life: init containers and sidecars in their order, then the main ones, then the sidecars' end.
pub async fn live(pod: Arc<PodContext>) {
    let mut sidecars = Vec::new();
    let mut initialised = true;
    for container in &pod.spec.containers {
        match container.role {
            Role::Init => {
                let end = keep_running(&pod, container, pod.stop.subscribe()).await;
                if end.is_none_or(|end| end.end.is_none_or(|end| end.exit_code() != 0)) {
                    initialised = false;
                    break;
                }
            }
            Role::Sidecar => {
                let (context, container) = (Arc::clone(&pod), container.clone());
                let name = container.name.clone();
                let (ask, stop) = watch::channel(None);
                let mut life = JoinSet::new();
                life.spawn(async move { keep_running(&context, &container, stop).await });
                sidecars.push((ask, life));
                let mut ready = pod.ready_sidecars.subscribe();
                let mut stopped = pod.stop.subscribe();
                tokio::select! {
                    _ = ready.wait_for(|ready| ready.contains(&name)) => {}
                    _ = stopped.wait_for(Option::is_some) => {
                        initialised = false;
                        break;
                    }
                }
            }
            Role::Main => {}
        }
    }
    if initialised {
        let mut main = JoinSet::new();
        for container in pod.of_role(Role::Main) {
            let (context, container, stop) = (Arc::clone(&pod), container.clone(), pod.stop.subscribe());
            main.spawn(async move { keep_running(&context, &container, stop).await });
        }
        while main.join_next().await.is_some() {}
    }
    pod.started.send_replace(true);
    stop_sidecars(&pod, sidecars).await;
}

/// A sidecar's life, and what asks it to stop.
type Sidecar = (watch::Sender<Option<StopRequest>>, JoinSet<Option<RunEnd>>);

/// Stops the sidecars one after the other, the last one first, all within what is left of the pod's grace period
/// (`kuberuntime_termination_order.go`).
async fn stop_sidecars(pod: &PodContext, sidecars: Vec<Sidecar>) {
    let mut asked = pod.stop.subscribe();
    let grace_ms = u64::from(pod.spec.grace_seconds) * 1000;
    let deleted = *asked.borrow_and_update();
    let mut request = deleted.unwrap_or_else(|| StopRequest::now(StopReason::PodCompleted, grace_ms));
    for (ask, mut life) in sidecars.into_iter().rev() {
        ask.send_replace(Some(request.left()));
        loop {
            tokio::select! {
                _ = life.join_next() => break,
                newer = stop::next_request(&mut asked) => {
                    if newer.due() < request.due() {
                        request = newer;
                        ask.send_replace(Some(request));
                    }
                }
            }
        }
    }
}

/// Runs a container, again and again as its pod's restart policy says, until it is done or asked to stop. `None` where it
/// was stopped before it could run.
async fn keep_running(
    pod: &PodContext,
    container: &Container,
    mut stop: watch::Receiver<Option<StopRequest>>,
) -> Option<RunEnd> {
    let mut back_off = BackOff::new(pod.back_off_scale);
    let mut instance = 0;
    loop {
        if stop.borrow().is_some() || pod.stop.borrow().is_some() {
            return None;
        }
        let (is_main, ready_at_once) = (container.role == Role::Main, container.startup.is_none());
        let end = container::run(pod, container, instance, &mut stop, || {
            if is_main {
                pod.started.send_replace(true);
            } else if container.role == Role::Sidecar && ready_at_once {
                pod.sidecar_ready(&container.name);
            }
        })
        .await;
        // A pod whose first attempt failed has been started too: there is nothing more to wait for.
        pod.started.send_replace(true);
        // A pod that is to stop restarts nothing, its sidecars neither.
        let stopped = stop.borrow().is_some() || pod.stop.borrow().is_some();
        if stopped || !restarts(pod.spec.restart_policy, container.role, end) {
            return Some(end);
        }
        tokio::select! {
            () = sleep(back_off.wait(Instant::now())) => {}
            _ = stop.wait_for(Option::is_some) => return Some(end),
        }
        instance += 1;
    }
}

/// Whether a container that ended so is started again (`pkg/kubelet/container/helpers.go:ShouldContainerBeRestarted`).
fn restarts(policy: RestartPolicy, role: Role, run: RunEnd) -> bool {
    let succeeded = run.end.is_some_and(|end| end.exit_code() == 0);
    match (role, policy) {
        (Role::Sidecar, _) | (Role::Main, RestartPolicy::Always) => true,
        (Role::Init | Role::Main, RestartPolicy::Never) => false,
        (Role::Init, RestartPolicy::Always | RestartPolicy::OnFailure)
        | (Role::Main, RestartPolicy::OnFailure) => !succeeded,
    }
}
