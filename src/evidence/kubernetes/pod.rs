//! One pod's successive objects: each thing is said once.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod, PodCondition, PodSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;

use super::controller::controller_of;
use super::{SECOND, Statement, WallOffset, bare_id, event, instance, last_instance, statuses};
use crate::evidence::{
    ContainerEnded, ContainerRef, ContainerStarted, End, Fact, Invented, Moment, PodOver, PodSeen, PodSign,
    PodStopping, ProbeKind, Source, SourceState, StartFailed, StopReason,
};
use crate::scenario::memory_quantity;

/// A kubelet acts on a probe's failure at its next turn.
const JUST_NOW: u64 = 3_000_000_000;

/// Reads one pod's objects and events.
#[derive(Debug)]
pub struct PodReader {
    pub(super) pod: String,
    pub(super) spec: PodSpec,
    /// Everything that has been said.
    pub(super) said: HashSet<String>,
    /// How often an event had happened when it was last seen.
    pub(super) counts: BTreeMap<String, i32>,
    /// The container whose probe failed as often as it may, the probe, and when.
    pub(super) given_up: Option<(String, ProbeKind, Moment)>,
    /// The containers that were stopped for no reason of their own, and when.
    pub(super) stopped_with_pod: Vec<(String, Moment)>,
    deleted: bool,
    /// How often each container's probe has failed since it was last stopped. One whose words differ each time is an event of
    /// its own each time.
    pub(super) failures: BTreeMap<(String, &'static str), u32>,
    /// The latest run of each container that was heard of.
    runs: BTreeMap<String, u32>,
    /// When each run of each container began.
    begun: BTreeMap<(String, u32), Moment>,
}

/// What an object or an event was received with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'a> {
    pub(super) at: Moment,
    pub(super) wall: &'a WallOffset,
}

/// What of a spec bears on causes: of hundreds of pods nothing else is kept.
fn what_counts(spec: &PodSpec) -> PodSpec {
    let of = |container: &Container| Container {
        name: container.name.clone(),
        resources: container.resources.clone(),
        restart_policy: container.restart_policy.clone(),
        liveness_probe: container.liveness_probe.clone(),
        startup_probe: container.startup_probe.clone(),
        ..Container::default()
    };
    PodSpec {
        containers: spec.containers.iter().map(of).collect(),
        init_containers: spec.init_containers.as_ref().map(|init| init.iter().map(of).collect()),
        resources: spec.resources.clone(),
        restart_policy: spec.restart_policy.clone(),
        termination_grace_period_seconds: spec.termination_grace_period_seconds,
        ..PodSpec::default()
    }
}

impl PodReader {
    /// The reader of a pod that the record calls so.
    pub fn new(pod: &str) -> Self {
        Self {
            pod: pod.to_owned(),
            spec: PodSpec::default(),
            said: HashSet::new(),
            counts: BTreeMap::new(),
            given_up: None,
            stopped_with_pod: Vec::new(),
            deleted: false,
            failures: BTreeMap::new(),
            runs: BTreeMap::new(),
            begun: BTreeMap::new(),
        }
    }

    /// What is new in this object.
    pub fn object(&mut self, object: &Pod, received: Moment, wall: &WallOffset) -> Vec<Statement> {
        let received = Received { at: received, wall };
        if let Some(spec) = &object.spec {
            self.spec = what_counts(spec);
        }
        let mut statements = Vec::new();
        self.seen(object, received, &mut statements);
        for status in statuses(object) {
            self.container(status, received, &mut statements);
        }
        self.decisions(object, received, &mut statements);
        if !self.deleted {
            self.sidecars(object, received, &mut statements);
        }
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        match phase {
            Some("Succeeded") => self.over(PodSign::Succeeded, received.at, &mut statements),
            Some("Failed") => self.over(PodSign::Failed, received.at, &mut statements),
            Some(_) | None => {}
        }
        statements
    }

    /// What is new when its object has gone, beside what the object's last form says.
    pub fn removed(&mut self, received: Moment) -> Vec<Statement> {
        let mut statements = Vec::new();
        self.over(PodSign::Removed, received, &mut statements);
        statements
    }

    fn over(&mut self, sign: PodSign, at: Moment, statements: &mut Vec<Statement>) {
        if self.news(format!("over {sign:?}")) {
            let fact = Fact::PodOver(PodOver { pod: self.pod.clone(), sign });
            statements.push(Statement { source: Source::Runtime, moment: at, raw: None, fact });
        }
    }

    /// What is new in this event.
    pub fn event(&mut self, event: &Event, received: Moment, wall: &WallOffset) -> Vec<Statement> {
        event::read(self, event, Received { at: received, wall })
    }

    /// Whether this is said for the first time.
    pub(super) fn news(&mut self, what: String) -> bool {
        self.said.insert(what)
    }

    fn seen(&mut self, object: &Pod, received: Received<'_>, statements: &mut Vec<Statement>) {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let node = object.spec.as_ref().and_then(|spec| spec.node_name.clone());
        if !self.news(format!("pod {uid} {node:?}")) {
            return;
        }
        let fact = Fact::Pod(PodSeen {
            pod: self.pod.clone(),
            name: object.metadata.name.clone().unwrap_or_default(),
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            uid,
            node,
            controller: controller_of(object),
        });
        statements.push(Statement { source: Source::Kubelet, moment: received.at, raw: None, fact });
    }

    fn container(
        &mut self,
        status: &ContainerStatus,
        received: Received<'_>,
        statements: &mut Vec<Statement>,
    ) {
        let restarts = instance(status);
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let of_last = last.and_then(|_| last_instance(status));
        if let (Some(terminated), Some(instance)) = (last, of_last) {
            self.terminated(&status.name, instance, terminated, received, statements);
        }
        self.skipped(&status.name, restarts, of_last, received, statements);
        match &status.state {
            Some(ContainerState { running: Some(running), .. }) => {
                let at = running.started_at.as_ref().map(|time| received.wall.second(time.0));
                let id = status.container_id.as_deref().map(bare_id);
                self.started(&status.name, restarts, id, at, received, statements);
            }
            Some(ContainerState { terminated: Some(terminated), .. }) => {
                self.terminated(&status.name, restarts, terminated, received, statements);
            }
            Some(ContainerState { .. }) | None => {}
        }
    }

    /// A container that was restarted more often than its ends were seen: the watch came too late for some.
    fn skipped(
        &mut self,
        name: &str,
        restarts: u32,
        of_last: Option<u32>,
        received: Received<'_>,
        statements: &mut Vec<Statement>,
    ) {
        let known = self.runs.get(name).copied();
        self.runs.insert(name.to_owned(), restarts.max(known.unwrap_or(0)));
        let told = known.map_or(0, |known| known + 1);
        let last_known = of_last.is_some_and(|last| last < restarts);
        let lost = restarts.saturating_sub(u32::from(last_known)).saturating_sub(told);
        if lost > 0 {
            let gap = SourceState::Gap { of: Source::Runtime, lost: u64::from(lost) };
            statements.push(Statement {
                source: Source::Runtime,
                moment: received.at,
                raw: None,
                fact: Fact::Source(gap),
            });
        }
    }

    fn run(&self, name: &str, instance: u32) -> ContainerRef {
        ContainerRef { pod: self.pod.clone(), container: name.to_owned(), instance }
    }

    fn started(
        &mut self,
        name: &str,
        instance: u32,
        id: Option<String>,
        at: Option<Moment>,
        received: Received<'_>,
        statements: &mut Vec<Statement>,
    ) {
        // Its number is that of a run before it where the kubelet had lost that one.
        let another = id.as_ref().is_some_and(|id| self.news(format!("id {name} {instance} {id}")));
        if !self.news(format!("started {name} {instance}")) && !another {
            return;
        }
        let fact = Fact::Started(self.start_of(name, instance, id));
        let moment = at.unwrap_or(received.at);
        self.begun.entry((name.to_owned(), instance)).or_insert(moment);
        statements.push(Statement { source: Source::Runtime, moment, raw: None, fact });
    }

    /// What the spec says of a container's run.
    fn start_of(&self, name: &str, instance: u32, id: Option<String>) -> ContainerStarted {
        let init = self.spec.init_containers.as_deref().unwrap_or_default();
        let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
        let found = init.iter().chain(&self.spec.containers).find(|container| container.name == name);
        let resources = found.and_then(|container| container.resources.as_ref());
        let pod_level = self.spec.resources.as_ref().map(|resources| &resources.limits);
        let only_init = init.iter().any(|c| c.name == name && !sidecar(&c));
        let others = init.iter().filter(sidecar).chain(self.spec.containers.iter().filter(|_| !only_init));
        let beside = others.filter(|container| container.name != name).count();
        let limit = resources.and_then(|resources| memory(resources.limits.as_ref()));
        ContainerStarted {
            container: self.run(name, instance),
            id,
            pid: None,
            runtime_pid: None,
            request: resources.and_then(|resources| memory(resources.requests.as_ref())).or(limit),
            limit,
            pod_level_limit: pod_level.is_some_and(|limits| memory(limits.as_ref()).is_some()),
            neighbours: u32::try_from(beside).unwrap_or(u32::MAX),
            oom_score_adj: None,
            oom_score_adj_asked: None,
            rlimit_cpu: None,
            grace_seconds: self.grace_seconds(),
        }
    }

    /// The probe for which the kubelet has just given a container up. A container that will not be restarted goes with its
    /// pod, and then the event only says `Stopping container` (kuberuntime_manager.go:computePodActions).
    pub(super) fn gave_up_on(&self, name: &str, at: Moment) -> Option<ProbeKind> {
        let ends_pod = matches!(self.spec.restart_policy.as_deref(), Some("Never" | "OnFailure"));
        let (container, probe, failed) = self.given_up.as_ref().filter(|_| ends_pod && !self.deleted)?;
        let soon = at.middle().saturating_sub(failed.middle()) <= JUST_NOW;
        (container == name && soon).then_some(*probe)
    }

    /// The run of a container at this moment: the latest that had begun by then. An event may be heard of when the next run
    /// has begun already.
    pub(super) fn run_at(&self, name: &str, at: Moment) -> u32 {
        let of_it = || self.begun.iter().filter(|((container, _), _)| container == name);
        let begun = of_it().rfind(|(_, begun)| begun.latest() <= at.latest()).or_else(|| of_it().next());
        begun.map(|((_, run), _)| *run).or_else(|| self.runs.get(name).copied()).unwrap_or(0)
    }

    /// The latest run, up to this one, that was heard to begin. With an end that it makes up the kubelet may have counted
    /// the restart already that is still to come (kubelet_pods.go:convertToAPIContainerStatuses), and may not have.
    fn latest_begun(&self, name: &str, instance: u32) -> u32 {
        let begun = |run: &u32| self.said.contains(&format!("started {name} {run}"));
        (0..=instance).rev().find(begun).unwrap_or(instance)
    }

    /// The pod's own grace period.
    pub(super) fn grace_seconds(&self) -> u32 {
        let seconds = self.spec.termination_grace_period_seconds.unwrap_or(30);
        u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
    }

    fn terminated(
        &mut self,
        name: &str,
        instance: u32,
        terminated: &ContainerStateTerminated,
        received: Received<'_>,
        statements: &mut Vec<Statement>,
    ) {
        let reason = terminated.reason.as_deref();
        let invented = invented(reason);
        let instance = invented.map_or(instance, |_| self.latest_begun(name, instance));
        let container = self.run(name, instance);
        let never_ran = matches!(reason, Some("StartError" | "ContainerCannotRun"));
        // The zero time is what an invented or failed run has.
        let time = |time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            let time = time.map(|time| time.0).filter(|time| time.as_second() > 0)?;
            Some(received.wall.second(time))
        };
        // When what was lost had ended the kubelet does not know.
        let untold = if invented.is_some() { Moment::between(0, received.at.latest()) } else { received.at };
        let moment = time(terminated.finished_at.as_ref()).unwrap_or(untold);
        if !never_ran {
            let id = terminated.container_id.as_deref().map(bare_id).filter(|id| !id.is_empty());
            if let Some(at) = time(terminated.started_at.as_ref()) {
                self.started(name, instance, id, Some(at), received, statements);
            }
        }
        if !self.news(format!("ended {name} {instance} {reason:?} {}", terminated.exit_code)) {
            return;
        }
        let fact = if never_ran {
            let message = terminated.message.clone().unwrap_or_default();
            Fact::StartFailed(StartFailed { container, pid: None, message, end: None })
        } else {
            Fact::Ended(ContainerEnded {
                container,
                end: End::Code(terminated.exit_code),
                reason: terminated.reason.clone(),
                invented,
                cpu_ms: None,
            })
        };
        statements.push(Statement { source: Source::Runtime, moment, raw: raw(terminated), fact });
    }

    /// Who decided that the pod is to stop, as its object says.
    fn decisions(&mut self, object: &Pod, received: Received<'_>, statements: &mut Vec<Statement>) {
        let grace = object.metadata.deletion_grace_period_seconds.unwrap_or(0);
        // When all has ended the kubelet deletes the object for good, with no grace: that decides nothing any more.
        let final_one = self.deleted && grace == 0;
        if let Some(deletion) = object.metadata.deletion_timestamp.as_ref().filter(|_| !final_one) {
            self.deleted = true;
            let grace = grace.max(0);
            // The time of the request, and the grace period added to it (apimachinery rest/delete.go:BeforeDelete).
            let asked = (i128::from(deletion.0.as_second()) - i128::from(grace)) * SECOND;
            let at = received.wall.moment(asked, asked + SECOND);
            let grace_ms = u64::try_from(grace).ok().map(|grace| grace * 1000);
            let said = format!("deletionTimestamp {}", deletion.0);
            self.stopping(StopReason::Delete, grace_ms, said, at, statements);
        }
        let status = object.status.as_ref();
        for condition in status.and_then(|status| status.conditions.as_ref()).into_iter().flatten() {
            if let Some(reason) = disruption(condition) {
                let at = condition.last_transition_time.as_ref();
                let at = at.map_or(received.at, |time| received.wall.second(time.0));
                let message = condition.message.clone().unwrap_or_default();
                let said = format!("{}: {message}", condition.reason.as_deref().unwrap_or_default());
                self.stopping(reason, None, said, at, statements);
            }
        }
        let message = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
        if let Some(reason) = status.and_then(|status| pod_reason(status.reason.as_deref()?, message)) {
            // The status is written when all has ended (status_manager.go:mergePodStatus), so when it was decided it does not say.
            let at = Moment::between(0, received.at.latest());
            self.stopping(reason, None, message.to_owned(), at, statements);
        }
    }

    /// Says that it was decided to stop the pod.
    pub(super) fn stopping(
        &mut self,
        reason: StopReason,
        grace_ms: Option<u64>,
        message: String,
        at: Moment,
        statements: &mut Vec<Statement>,
    ) {
        if self.news(format!("stopping {reason:?} {grace_ms:?} {message}")) {
            let raw = Some(message.clone());
            let fact = Fact::PodStopping(PodStopping { pod: self.pod.clone(), reason, grace_ms, message });
            statements.push(Statement { source: Source::Kubelet, moment: at, raw, fact });
        }
    }
}

/// What the kubelet grants of a grace period: never below two seconds (`minimumGracePeriodInSeconds`).
pub(super) fn granted_ms(seconds: u32) -> u64 {
    u64::from(seconds.max(2)) * 1000
}

/// `DisruptionTarget` (since 1.26): who asked for the pod's end. What the kubelet itself decided its status says better.
fn disruption(condition: &PodCondition) -> Option<StopReason> {
    if condition.type_ != "DisruptionTarget" || condition.status != "True" {
        return None;
    }
    match condition.reason.as_deref()? {
        "EvictionByEvictionAPI" => Some(StopReason::Drain),
        "PreemptionByScheduler" => Some(StopReason::Preemption),
        "DeletionByTaintManager" => Some(StopReason::Taint),
        _ => None,
    }
}

/// The kubelet's own decisions, by `status.reason` (causes.md C12, C16). A pod that it did not admit never ran.
fn pod_reason(reason: &str, message: &str) -> Option<StopReason> {
    match reason {
        "Evicted" if message.starts_with("The node had condition") => None,
        "Evicted" => Some(StopReason::Eviction),
        "Preempting" => Some(StopReason::Preemption),
        "DeadlineExceeded" => Some(StopReason::Deadline),
        "Terminated" | "Shutdown" if message.contains("shutdown") => Some(StopReason::NodeShutdown),
        _ => None,
    }
}

/// Whether the kubelet made the end up (causes.md C20, C21).
fn invented(reason: Option<&str>) -> Option<Invented> {
    match reason? {
        "ContainerStatusUnknown" => Some(Invented::StatusUnknown),
        "RestartingAllContainers" => Some(Invented::RestartAllContainers),
        _ => None,
    }
}

fn memory(quantities: Option<&BTreeMap<String, Quantity>>) -> Option<u64> {
    memory_quantity(&quantities?.get("memory")?.0)
}

fn raw(what: &impl Serialize) -> Option<String> {
    serde_json::to_string(what).ok()
}
