//! Somebody decided to stop it.

use crate::cause::{Cause, Confidence, Detail};
use crate::diagnosis::case::{Case, Hand};
use crate::diagnosis::classify::why_stopped;
use crate::diagnosis::timeline::{MS, SECOND, Seen};
use crate::diagnosis::{Attribution, Missing};
use crate::evidence::{End, Source, StopReason, Stopping};

/// A decision to stop it is known, and the end followed from it.
pub(in crate::diagnosis) fn decided(case: &Case<'_>) -> Option<Attribution> {
    let stop = case.decision().filter(|_| !case.only_invented())?;
    let killed = case.sigkilled() != Some(false);
    let confidence = if killed { by_sigkill(case, &stop)? } else { by_asking(case, &stop)? };
    let (why_cause, detail) = match stop.fact.reason {
        StopReason::LivenessProbe => (Cause::LivenessProbe, None),
        StopReason::StartupProbe => (Cause::StartupProbe, None),
        // Before 1.26 nobody says whether it was a deletion or a drain, unless it was our own.
        StopReason::Delete if stop.source == Source::Harness || case.deletions_are_told_apart() => {
            (Cause::GracePeriod, Some(Detail::Delete))
        }
        StopReason::Delete => (Cause::GracePeriod, None),
        StopReason::Drain => (Cause::GracePeriod, Some(Detail::Drain)),
        StopReason::Rollout => (Cause::GracePeriod, Some(Detail::Rollout)),
        StopReason::ScaleDown => (Cause::GracePeriod, Some(Detail::ScaleDown)),
        StopReason::Taint => (Cause::GracePeriod, Some(Detail::Taint)),
        StopReason::PodCompleted | StopReason::Restart | StopReason::PostStartHook | StopReason::WithPod => {
            (Cause::GracePeriod, None)
        }
        StopReason::Preemption => (Cause::Preemption, None),
        StopReason::Eviction => (Cause::Eviction, None),
        StopReason::Deadline => (Cause::Deadline, None),
        StopReason::NodeShutdown => (Cause::NodeShutdown, None),
        StopReason::TearDown => return None,
    };
    let evicted = stop.fact.reason == StopReason::Eviction;
    let why = if evicted { evicted_for(case) } else { why_stopped(stop.fact.reason).to_owned() };
    let grace = stop.fact.grace_ms;
    let explanation = if killed {
        let outlived = if evicted && grace == 0 {
            "was granted no time, and got SIGKILL".to_owned()
        } else if evicted {
            // Old kubelets gave the pod's own grace period, newer ones a second (kubernetes#115819).
            "did not end when asked, and got SIGKILL".to_owned()
        } else {
            format!("outlived its grace period of {grace} ms, and got SIGKILL")
        };
        let how = if case.by_kubelet() { "got SIGKILL from the kubelet itself".to_owned() } else { outlived };
        format!("It was stopped because {why}, {how}.")
    } else {
        format!("It was stopped because {why}, and ended within its grace period of {grace} ms.")
    };
    let mut found = case.attribute(why_cause, detail, confidence, explanation);
    found.sender = case.sender();
    found.evidence.push(stop.sequence);
    found.evidence.extend(case.sigkill.map(|seen| seen.sequence));
    found.evidence.extend(failures(case, &stop));
    Some(found)
}

/// The end of the grace period: SIGKILL from the runtime.
fn by_sigkill(case: &Case<'_>, stop: &Seen<Stopping>) -> Option<Confidence> {
    let oom_excluded = !case.no_oom_by().is_empty();
    let nameless = !case.nameless_kills.is_empty();
    let oom_possible = case.main_kill.is_some() || (!oom_excluded && (nameless || case.unnamed_kills() > 0));
    let unconfirmed = if oom_excluded { Confidence::High } else { Confidence::Medium };
    match case.hand() {
        // A cluster's runtime has more than one master: a SIGKILL before the grace period was over is another's.
        Hand::Runtime if case.on_cluster() && too_early(case, stop) => None,
        Hand::Runtime => Some(Confidence::Certain),
        Hand::RuntimeSays => (!oom_possible).then_some(unconfirmed),
        Hand::Other => None,
        // On a cluster nobody tells of the runtime's signals: the grace period must at least have been over.
        Hand::Unknown => {
            let over = stop.at.earliest() + stop.fact.grace_ms * MS;
            (!oom_possible && case.ended_at.latest() + SECOND >= over).then_some(unconfirmed)
        }
    }
}

/// Whether the SIGKILL came clearly before this decision's grace period was over.
fn too_early(case: &Case<'_>, stop: &Seen<Stopping>) -> bool {
    let killed = case.sigkill.map_or(case.ended_at, |seen| seen.at);
    !case.by_kubelet() && killed.latest() + 1_500 * MS < stop.at.earliest() + stop.fact.grace_ms * MS
}

/// A container that a probe had stopped and that ended in time is still the probe's; one whose pod was deleted and that
/// ended in time simply ended.
fn by_asking(case: &Case<'_>, stop: &Seen<Stopping>) -> Option<Confidence> {
    stop.fact.reason.probe()?;
    let over = stop.at.latest() + stop.fact.grace_ms * MS + 5 * SECOND;
    if case.ended_at.earliest() > over {
        return None;
    }
    Some(if case.runtime_sent(15).is_some() { Confidence::Certain } else { Confidence::High })
}

/// What the pod was evicted for, by the kubelet's own message (eviction/helpers.go, eviction_manager.go). Not all of it is
/// memory.
fn evicted_for(case: &Case<'_>) -> String {
    let stops = case.timeline.pod_stops.iter();
    let mut said = stops
        .filter(|stop| stop.fact.pod == case.container.pod && stop.fact.reason == StopReason::Eviction)
        .map(|stop| stop.fact.message.as_str());
    let storage =
        ["Usage of EmptyDir volume", "ephemeral local storage usage", "local ephemeral storage limit"];
    let words = said.find_map(|said| {
        if storage.iter().any(|words| said.contains(words)) {
            return Some("it used more local storage than its limit, which is no want of memory".to_owned());
        }
        let (_, rest) = said.split_once("The node was low on resource: ")?;
        let resource: String = rest.chars().take_while(|c| !".[] ".contains(*c)).collect();
        let memory = if resource == "memory" { "" } else { ", which is no want of memory" };
        Some(format!("its node was low on {resource}{memory}"))
    });
    let words = words.map(|words| format!("the kubelet evicted its pod: {words}"));
    words.unwrap_or_else(|| why_stopped(StopReason::Eviction).to_owned())
}

/// The failures of the probe that led to the decision.
fn failures(case: &Case<'_>, stop: &Seen<Stopping>) -> Vec<u64> {
    let Some(probe) = stop.fact.reason.probe() else { return Vec::new() };
    let seen = case.timeline.probes.iter().filter(|seen| {
        seen.fact.container == *case.container
            && seen.fact.probe == probe
            && seen.at.earliest() <= stop.at.latest()
    });
    seen.map(|seen| seen.sequence).collect()
}

/// The runtime stopped it, so somebody had decided to, and whoever would know was not listening. This is never an
/// `external-kill`.
pub(in crate::diagnosis) fn decision_unknown(case: &Case<'_>) -> Option<Attribution> {
    if case.decision().is_some() || case.failed.is_some() || case.only_invented() {
        return None;
    }
    let kubelet = case.watched(Source::Kubelet);
    let killed = case.sigkilled() != Some(false);
    let stopped = if killed {
        matches!(case.hand(), Hand::Runtime | Hand::RuntimeSays)
    } else {
        let asked = case.runtime_sent(15).is_some()
            || matches!(case.end, Some(End::Exited(143) | End::Signaled(15) | End::Code(143)));
        asked && !kubelet
    };
    if !stopped || case.main_kill.is_some() {
        return None;
    }
    let mut found = case.undetermined("The runtime stopped it, and who decided so is not known.".to_owned());
    found.sender = case.sender();
    found.evidence.extend(case.sigkill.map(|seen| seen.sequence));
    if case.stopped_with_pod() {
        "The runtime stopped it because its pod was to stop, and who decided that is not known."
            .clone_into(&mut found.explanation);
    }
    if kubelet && case.on_cluster() && !case.stopped_with_pod() {
        let why = "no event says it: of more than 25 about one pod, a kubelet sends one in five minutes (client-go \
                   tools/record/events_cache.go); it would have told whether and why it was decided to stop the container";
        found.missing.push(Missing { source: Source::Kubelet, why: why.to_owned() });
        found.missing.sort();
    }
    Some(found)
}
