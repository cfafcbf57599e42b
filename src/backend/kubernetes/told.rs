//! What the API and the nodes tell, brought together into one record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use tokio::sync::watch;

use super::members::{Member, Members};
use super::names::{Names, Renamed};
use super::untold::Untold;
use crate::clock;
use crate::evidence::kubernetes::{Controllers, PodReader, Statement, WallOffset, container_ids};
use crate::evidence::{
    CgroupOwner, ContainerRef, Fact, Moment, Observation, PodStopping, Source, StopReason, Stopping,
};
use crate::recorder::Recorder;
use crate::scenario::Pod as ScenarioPod;

/// How far a pod has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Begun {
    /// Nothing of it has run yet; why, as far as the API says.
    #[default]
    No,
    /// It has begun to run its containers, or has failed at it.
    Yes,
    /// It never will.
    Never(String),
}

/// What is known so far.
#[derive(Debug)]
pub(super) struct Told {
    recorder: Recorder,
    state: Mutex<State>,
    /// By what the record calls the pods.
    pub(super) begun: watch::Sender<BTreeMap<String, Begun>>,
}

#[derive(Debug)]
struct State {
    members: Members,
    names: Names,
    readers: HashMap<String, PodReader>,
    controllers: Controllers,
    /// What the nodes told of containers that the API has not named yet.
    waiting: Vec<Observation>,
    /// The containers of each pod, by its object.
    containers: BTreeMap<String, Vec<String>>,
    torn_down_at: Option<Moment>,
    /// Containers that ended with 137 and whose decision to stop, if there was one, has not been told.
    unexplained: BTreeSet<ContainerRef>,
    explained: BTreeSet<ContainerRef>,
    untold: Untold,
}

impl Told {
    pub(super) fn new(recorder: Recorder, pods: &[ScenarioPod]) -> Self {
        let state = State {
            members: Members::new(pods),
            names: Names::default(),
            readers: HashMap::new(),
            controllers: Controllers::default(),
            waiting: Vec::new(),
            containers: BTreeMap::new(),
            torn_down_at: None,
            unexplained: BTreeSet::new(),
            explained: BTreeSet::new(),
            untold: Untold::default(),
        };
        Self { recorder, state: Mutex::new(state), begun: watch::Sender::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod's object, the last one if it is gone; answers its UID if it was not known.
    pub(super) fn pod(&self, object: &Pod, gone: bool) -> Option<String> {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let mut state = self.lock();
        let new = !state.members.knows(&uid);
        // What a controller makes while all is torn down is no part of the scenario.
        if new && state.torn_down_at.is_some() {
            return None;
        }
        let name = state.members.learn(object, gone)?;
        if new {
            state.names.learn_pod(&uid, &name);
            state.containers.insert(name.clone(), containers(object));
        }
        let (received, wall) = now();
        state.controllers.pod(&name, object, &wall);
        let reader = state.readers.entry(name.clone()).or_insert_with(|| PodReader::new(&name));
        let mut statements = reader.object(object, received, &wall);
        if gone {
            statements.extend(reader.removed(received));
        }
        let mut learned = false;
        let mut late = Vec::new();
        for (id, container) in container_ids(&name, object) {
            if state.names.learn_container(id, container.clone()) {
                learned = true;
                late.extend(state.torn_down_at.map(|at| (at, container)));
            }
        }
        let freed = if learned { state.free() } else { Vec::new() };
        drop(state);
        for (at, container) in late {
            self.ends_with_us(at, container);
        }
        self.state_all(statements);
        self.record_all(freed);
        self.begun.send_if_modified(|begun| {
            let now = begun_of(object);
            let known = begun.entry(name).or_default();
            let changed = *known != now && *known != Begun::Yes;
            if changed {
                *known = now;
            }
            changed
        });
        new.then_some(uid)
    }

    /// An event on one of the pods, or on what made them.
    pub(super) fn event(&self, event: &Event) {
        let (received, wall) = now();
        let uid = event.involved_object.uid.clone().unwrap_or_default();
        let statements = {
            let mut state = self.lock();
            let State { members, readers, controllers, .. } = &mut *state;
            match members.name(&uid).and_then(|name| readers.get_mut(name)) {
                Some(reader) => reader.event(event, received, &wall),
                None => controllers.event(event, received, &wall),
            }
        };
        self.state_all(statements);
    }

    /// What a node tells, under provisional names.
    pub(super) fn node(&self, mut observation: Observation) {
        let mut state = self.lock();
        match state.names.rename(observation.fact) {
            Renamed::Fact(fact) => {
                observation.fact = fact;
                drop(state);
                self.record_all(vec![observation]);
            }
            Renamed::NotYet(fact) => {
                observation.fact = fact;
                state.waiting.push(observation);
            }
        }
    }

    /// Whether something that ended waits for its name.
    pub(super) fn waits_for_names(&self) -> bool {
        let state = self.lock();
        state.waiting.iter().any(|waiting| {
            if let Fact::Ended(ended) = &waiting.fact {
                // Of a pod that has gone or is over, it can only be the pause process.
                let uid = &ended.container.pod;
                let over = state.members.name(uid).is_some_and(|name| state.untold.is_over(name));
                !over && !state.members.is_gone(uid)
            } else {
                false
            }
        })
    }

    /// Whether a container is gone and its end has yet to be told.
    pub(super) fn waits_for_ends(&self) -> bool {
        self.lock().untold.any()
    }

    /// Whether a container of one of these pods got a SIGKILL that an event may still explain.
    pub(super) fn waits_for_events(&self, of: impl Fn(&str) -> bool) -> bool {
        self.lock().unexplained.iter().any(|container| of(&container.pod))
    }

    /// The runtime's ID of a container's latest run.
    pub(super) fn latest_id(&self, pod: &str, container: &str) -> Option<String> {
        self.lock().names.latest_id(pod, container).map(str::to_owned)
    }

    /// What the record calls a pod that the API has told of.
    pub(super) fn name_of(&self, object: &Pod) -> Option<String> {
        self.lock().members.name(object.metadata.uid.as_deref()?).map(str::to_owned)
    }

    /// The pods of this name that are there now: one, or all of an entry.
    pub(super) fn there_now(&self, name: &str) -> Vec<Member> {
        self.lock().members.there_now(name)
    }

    /// exit137 itself has asked for a pod's end, at this moment, and the API has agreed.
    pub(super) fn asked(&self, pod: &str, reason: StopReason, grace_ms: Option<u64>, at: Moment) {
        let message = "exit137 asked for it".to_owned();
        let stopping = PodStopping { pod: pod.to_owned(), reason, grace_ms, message };
        self.recorder.record(Source::Harness, at, None, Fact::PodStopping(stopping));
    }

    /// From now on, what ends is the tear-down's: the runs that are known, and those that may just begin.
    pub(super) fn tear_down(&self) {
        let at = Moment::exactly(clock::boot_ns());
        let mut state = self.lock();
        state.torn_down_at = Some(at);
        let mut known: BTreeSet<ContainerRef> = state.names.containers().into_iter().cloned().collect();
        for (pod, containers) in &state.containers {
            let first =
                |name: &String| ContainerRef { pod: pod.clone(), container: name.clone(), instance: 0 };
            let begun = |of: &ContainerRef| {
                known.iter().any(|run| run.pod == of.pod && run.container == of.container)
            };
            let not_begun: Vec<_> = containers.iter().map(first).filter(|of| !begun(of)).collect();
            known.extend(not_begun);
        }
        drop(state);
        for container in known {
            self.ends_with_us(at, container);
        }
    }

    /// This run, and the one that may follow it, end no earlier than we tear down, if they have not ended by then.
    fn ends_with_us(&self, at: Moment, mut container: ContainerRef) {
        for _ in 0..2 {
            let reason = StopReason::TearDown;
            let stopping = Stopping { container: container.clone(), reason, grace_ms: 0 };
            self.recorder.record(Source::Harness, at, None, Fact::Stopping(stopping));
            container.instance += 1;
        }
    }

    /// The API will tell no more: what has no name by now was a pause process's, or nobody's.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        let mut pods = BTreeSet::new();
        for observation in waiting {
            // A pod's pause process is its first; another may be a run that the API did not come to tell of.
            if let Fact::Cgroup(made) = &observation.fact
                && let CgroupOwner::Container(provisional) = &made.owner
                && pods.insert(provisional.pod.clone())
                && let Some(fact) = state.names.as_pause(made)
            {
                self.recorder.record(observation.source, observation.moment, observation.raw, fact);
            }
        }
    }

    fn state_all(&self, statements: Vec<Statement>) {
        let torn_down = self.lock().torn_down_at.is_some();
        // That we ourselves delete what is left is no part of the scenario.
        let ours = |fact: &Fact| {
            torn_down && matches!(fact, Fact::PodStopping(stop) if stop.reason == StopReason::Delete)
        };
        for Statement { source, moment, raw, fact } in statements.into_iter().filter(|s| !ours(&s.fact)) {
            self.lock().explain(source, &fact);
            self.recorder.record(source, moment, raw, fact);
        }
    }

    fn record_all(&self, observations: Vec<Observation>) {
        for Observation { source, moment, raw, fact, .. } in observations {
            self.lock().explain(source, &fact);
            self.recorder.record(source, moment, raw, fact);
        }
    }
}

impl State {
    /// Keeps which ends nobody has told, and which SIGKILLs nobody has explained.
    fn explain(&mut self, source: Source, fact: &Fact) {
        self.untold.take(source, fact);
        if let Fact::Ended(ended) = fact
            && ended.end.exit_code() == 137
            && !self.explained.contains(&ended.container)
        {
            self.unexplained.insert(ended.container.clone());
        } else if let Fact::Stopping(stop) = fact {
            self.explained.insert(stop.container.clone());
            self.unexplained.remove(&stop.container);
        }
    }

    /// What has waited for names and has them now.
    fn free(&mut self) -> Vec<Observation> {
        let mut free = Vec::new();
        for mut observation in std::mem::take(&mut self.waiting) {
            match self.names.rename(observation.fact) {
                Renamed::Fact(fact) => {
                    observation.fact = fact;
                    free.push(observation);
                }
                Renamed::NotYet(fact) => {
                    observation.fact = fact;
                    self.waiting.push(observation);
                }
            }
        }
        free
    }
}

fn containers(object: &Pod) -> Vec<String> {
    let spec = object.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let main = spec.map(|spec| &spec.containers).into_iter().flatten();
    init.chain(main).map(|container| container.name.clone()).collect()
}

/// This moment, and how the wall clock stands to boot time.
fn now() -> (Moment, WallOffset) {
    let boot = clock::boot_ns();
    let unix_minus_boot_ns = i128::from(clock::unix_ns()) - i128::from(boot);
    (Moment::exactly(boot), WallOffset { unix_minus_boot_ns })
}

/// Reasons for which a container waits in vain (kubelet `images/types.go`, `kuberuntime/kuberuntime_container.go`).
const IN_VAIN: [&str; 6] = [
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "ErrImageInspect",
];

fn begun_of(pod: &Pod) -> Begun {
    let Some(status) = &pod.status else { return Begun::No };
    let all = || {
        let lists = [&status.init_container_statuses, &status.container_statuses];
        lists.into_iter().flatten().flatten()
    };
    if let Some(why) = all().find_map(in_vain) {
        return Begun::Never(why);
    }
    let main = || status.container_statuses.iter().flatten();
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let tried = all().any(ended_badly);
    if over || tried || main().any(has_run) { Begun::Yes } else { Begun::No }
}

fn in_vain(status: &ContainerStatus) -> Option<String> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    IN_VAIN.contains(&reason).then(|| format!("container {}: {reason}: {message}", status.name))
}

fn has_run(status: &ContainerStatus) -> bool {
    let now =
        status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some());
    now || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
}

fn ended_badly(status: &ContainerStatus) -> bool {
    [&status.state, &status.last_state]
        .into_iter()
        .flatten()
        .any(|state| state.terminated.as_ref().is_some_and(|terminated| terminated.exit_code != 0))
}
