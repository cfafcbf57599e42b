//! One pod: its cgroup, its namespaces, and the lives of its containers.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use super::cgroup::Cgroup;
use super::container::{self, RunEnd, StopRequest};
use super::probe::Place;
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
    /// Asks the main containers to stop.
    pub stop: watch::Sender<Option<StopRequest>>,
    /// Asks the sidecars to stop, after the main ones.
    pub stop_sidecars: watch::Sender<Option<StopRequest>>,
    /// Whether the pod counts as started.
    pub started: watch::Sender<bool>,
    /// The sidecars that are up.
    pub ready_sidecars: watch::Sender<HashSet<String>>,
}

/// The kubelet's back-off between restarts: 10 s, doubling to 300 s (`kuberuntime_manager.go`, `MaxContainerBackOff`).
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

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
    let mut sidecars = tokio::task::JoinSet::new();
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
                let stop = pod.stop_sidecars.subscribe();
                sidecars.spawn(async move { keep_running(&context, &container, stop).await });
                let mut ready = pod.ready_sidecars.subscribe();
                let mut stopped = pod.stop.subscribe();
                tokio::select! {
                    _ = ready.wait_for(|ready| ready.contains(&name)) => {}
                    _ = stopped.wait_for(Option::is_some) => {}
                }
            }
            Role::Main => {}
        }
    }
    if initialised {
        let mut main = tokio::task::JoinSet::new();
        for container in pod.of_role(Role::Main) {
            let (context, container, stop) = (Arc::clone(&pod), container.clone(), pod.stop.subscribe());
            main.spawn(async move { keep_running(&context, &container, stop).await });
        }
        while main.join_next().await.is_some() {}
    }
    pod.started.send_replace(true);
    let asked = *pod.stop.borrow();
    let grace_ms = u64::from(pod.spec.grace_seconds) * 1000;
    let request = asked.unwrap_or(StopRequest { reason: StopReason::PodCompleted, grace_ms });
    pod.stop_sidecars.send_if_modified(|current| current.is_none() && current.replace(request).is_none());
    while sidecars.join_next().await.is_some() {}
}

/// Runs a container, again and again as its pod's restart policy says, until it is done or asked to stop. `None` where it
/// was stopped before it could run.
async fn keep_running(
    pod: &PodContext,
    container: &Container,
    mut stop: watch::Receiver<Option<StopRequest>>,
) -> Option<RunEnd> {
    let mut back_off = FIRST_BACK_OFF;
    let mut instance = 0;
    loop {
        if stop.borrow().is_some() {
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
        if stop.borrow().is_some() || !restarts(pod.spec.restart_policy, container.role, end) {
            return Some(end);
        }
        tokio::select! {
            () = sleep(back_off.mul_f64(pod.back_off_scale)) => {}
            _ = stop.wait_for(Option::is_some) => return Some(end),
        }
        back_off = (back_off * 2).min(LONGEST_BACK_OFF);
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
