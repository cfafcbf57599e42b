//! Events on a pod. They are lossy (the kubelet's correlator drops those past 25 per object): none is no evidence of anything.

use k8s_openapi::api::core::v1::{Container, Event, Probe};

use super::pod::{PodReader, Received, granted_ms};
use super::{SECOND, Statement};
use crate::evidence::{
    ContainerRef, Fact, Moment, Noted, ProbeFailed, ProbeKind, Source, StartFailed, StopReason, Stopping,
};

/// How the message of a `Killing` begins that does not say why.
const STOPPING: &str = "Stopping container";

pub(super) fn read(reader: &mut PodReader, event: &Event, received: Received<'_>) -> Vec<Statement> {
    let name = event.metadata.name.clone().unwrap_or_default();
    let count = event.count.or_else(|| event.series.as_ref()?.count).unwrap_or(1);
    let before = reader.counts.insert(name.clone(), count).unwrap_or(0);
    if count <= before {
        return Vec::new();
    }
    let at = moment(event, count, received);
    let reason = event.reason.as_deref().unwrap_or_default();
    let message = event.message.as_deref().unwrap_or_default();
    let mut statements = Vec::new();
    let state = |fact| Statement {
        source: Source::Kubelet,
        moment: at,
        raw: Some(format!("{reason}: {message}")),
        fact,
    };
    let container = event.involved_object.field_path.as_deref().and_then(container_of);
    match (reason, container) {
        ("Killing", Some(container)) => {
            let stop = killing(reader, container, message, at);
            if stop.reason == StopReason::WithPod {
                reader.stopped_with_pod.push((container.to_owned(), at));
            } else {
                reader.failures.retain(|(stopped, _), _| stopped != container);
            }
            statements.push(state(Fact::Stopping(stop)));
        }
        ("Unhealthy", Some(container)) => {
            let more = u32::try_from(count - before).unwrap_or(1);
            let failed = unhealthy(reader, container, message, more, at);
            if let Some(Fact::ProbeFailed(failed)) = &failed
                && failed.failures >= failed.threshold
            {
                reader.given_up = Some((container.to_owned(), failed.probe, at));
                statements.extend(stopped_for_it(reader, container, at));
            }
            statements.extend(failed.map(state));
        }
        ("FailedCreatePodSandBox", _) if TOO_SMALL.iter().any(|words| message.contains(words)) => {
            statements.extend(no_sandbox(reader, message).map(state));
        }
        ("Evicted", _) => reader.stopping(StopReason::Eviction, None, message.into(), at, &mut statements),
        ("Preempted" | "Preempting", _) => {
            reader.stopping(StopReason::Preemption, None, message.into(), at, &mut statements);
        }
        ("TaintManagerEviction", _) if message.starts_with("Marking") => {
            reader.stopping(StopReason::Taint, None, message.into(), at, &mut statements);
        }
        ("DeadlineExceeded", _) => {
            reader.stopping(StopReason::Deadline, None, message.into(), at, &mut statements);
        }
        (_, _) => {
            let object = format!("pod/{}", reader.pod);
            let noted = Noted { object, reason: reason.to_owned(), message: message.to_owned() };
            statements.push(state(Fact::Noted(noted)));
        }
    }
    statements
}

/// An event's name ends in the nanosecond of its first occurrence (client-go `record/event.go:makeEvent`); later ones have
/// whole seconds.
pub(super) fn moment(event: &Event, count: i32, received: Received<'_>) -> Moment {
    if count == 1 {
        let suffix = event.metadata.name.as_deref().and_then(|name| name.rsplit('.').next());
        let ns = suffix.filter(|hex| hex.len() == 16).and_then(|hex| i128::from_str_radix(hex, 16).ok());
        if let Some(ns) = ns {
            return received.wall.moment(ns, ns);
        }
    }
    let exact = event.event_time.as_ref().map(|time| time.0.as_nanosecond());
    if let Some(ns) = exact.filter(|_| count == 1) {
        return received.wall.moment(ns, ns);
    }
    let last = event.last_timestamp.as_ref().map(|time| i128::from(time.0.as_second()) * SECOND);
    last.map_or(received.at, |from| received.wall.moment(from, from + SECOND))
}

/// `spec.containers{app}` names `app`.
fn container_of(path: &str) -> Option<&str> {
    let (list, rest) = path.split_once('{')?;
    let known = ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"];
    known.contains(&list).then(|| rest.trim_end_matches('}'))
}

/// The kubelet stops a container (`kuberuntime_container.go:killContainer`): its message says why, or nothing.
fn killing(reader: &PodReader, name: &str, message: &str, at: Moment) -> Stopping {
    let found = container(reader, name);
    let probe = |probe: Option<&Probe>| {
        let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
        own.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(reader.grace_seconds())
    };
    let given_up = || reader.gave_up_on(name, at).filter(|_| message.starts_with(STOPPING));
    let of_probe = if message.contains("failed liveness probe") {
        Some(ProbeKind::Liveness)
    } else if message.contains("failed startup probe") {
        Some(ProbeKind::Startup)
    } else {
        given_up()
    };
    let (reason, grace) = if of_probe == Some(ProbeKind::Liveness) {
        (StopReason::LivenessProbe, probe(found.and_then(|c| c.liveness_probe.as_ref())))
    } else if of_probe == Some(ProbeKind::Startup) {
        (StopReason::StartupProbe, probe(found.and_then(|c| c.startup_probe.as_ref())))
    } else if message.contains("PostStartHook") {
        (StopReason::PostStartHook, reader.grace_seconds())
    } else if message.contains("definition changed") || message.contains("resize requires restart") {
        (StopReason::Restart, reader.grace_seconds())
    } else {
        (StopReason::WithPod, reader.grace_seconds())
    };
    Stopping { container: run_at(reader, name, at), reason, grace_ms: granted_ms(grace) }
}

/// The stop that followed a probe's last failure, where the API told of it first: events of the same millisecond come in any
/// order.
fn stopped_for_it(reader: &PodReader, name: &str, failed: Moment) -> Option<Statement> {
    let (_, at) = reader
        .stopped_with_pod
        .iter()
        .find(|(container, at)| container == name && at.latest() >= failed.earliest())?;
    let stop = killing(reader, name, STOPPING, *at);
    let fact = Fact::Stopping(stop.clone());
    let statement = Statement { source: Source::Kubelet, moment: *at, raw: Some(STOPPING.to_owned()), fact };
    stop.reason.probe().map(|_| statement)
}

fn unhealthy(reader: &mut PodReader, name: &str, message: &str, more: u32, at: Moment) -> Option<Fact> {
    let found = container(reader, name);
    let (probe, kind, spec) = if message.starts_with("Liveness") {
        (ProbeKind::Liveness, "liveness", found.and_then(|c| c.liveness_probe.as_ref()))
    } else if message.starts_with("Startup") {
        (ProbeKind::Startup, "startup", found.and_then(|c| c.startup_probe.as_ref()))
    } else {
        return None;
    };
    let threshold = spec.and_then(|probe| probe.failure_threshold).unwrap_or(3);
    let failures = reader.failures.entry((name.to_owned(), kind)).or_default();
    *failures += more;
    let failures = *failures;
    Some(Fact::ProbeFailed(ProbeFailed {
        container: run_at(reader, name, at),
        probe,
        message: message.to_owned(),
        failures,
        threshold: u32::try_from(threshold).unwrap_or(3),
    }))
}

/// What a runtime says of a sandbox for which the limit is too small (runc process_linux.go:initProcess.start, fs/memory.go). One
/// that fails for other reasons, such as a network that is not ready, is made again.
const TOO_SMALL: [&str; 2] = ["OOM-killed", "unable to set memory limit"];

/// The pod's sandbox could not be made: with a limit too small even the runtime's first process is OOM-killed in it.
fn no_sandbox(reader: &mut PodReader, message: &str) -> Option<Fact> {
    let first = reader.spec.containers.first()?.name.clone();
    let container = ContainerRef { pod: reader.pod.clone(), container: first, instance: 0 };
    let message = message.to_owned();
    reader.news(format!("no sandbox {container}")).then_some(Fact::StartFailed(StartFailed {
        container,
        pid: None,
        message,
        end: None,
    }))
}

fn container<'a>(reader: &'a PodReader, name: &str) -> Option<&'a Container> {
    let init = reader.spec.init_containers.iter().flatten();
    init.chain(&reader.spec.containers).find(|container| container.name == name)
}

/// The run that an event speaks of.
fn run_at(reader: &PodReader, name: &str, at: Moment) -> ContainerRef {
    let instance = reader.run_at(name, at);
    ContainerRef { pod: reader.pod.clone(), container: name.to_owned(), instance }
}
