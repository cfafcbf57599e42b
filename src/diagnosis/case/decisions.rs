//! Decisions about a whole pod: the API states who asked for its end, the kubelet's `Killing` event when it began.

use super::super::timeline::{Seen, Timeline};
use crate::evidence::{ContainerRef, PodStopping, Source, StopReason, Stopping};

/// Since Kubernetes 1.26 a pod's `DisruptionTarget` says who asked, if it was not a plain deletion (KEP-3329).
const SAYS_WHO_ASKED: u32 = 26;

/// The decision about this container's pod, as far as the statements on it go together: the most telling reason, the best
/// moment, the shortest grace period.
pub(super) fn of_pod(timeline: &Timeline, container: &ContainerRef, to: u64) -> Option<Seen<Stopping>> {
    let about = |stop: &&Seen<PodStopping>| stop.fact.pod == container.pod && stop.at.earliest() <= to;
    let all: Vec<&Seen<PodStopping>> = timeline.pod_stops.iter().filter(about).collect();
    let told = all.iter().max_by_key(|stop| telling(timeline, stop))?;
    let began = timeline.stops.iter().find(|stop| {
        stop.fact.container == *container
            && stop.fact.reason == StopReason::WithPod
            && stop.at.earliest() <= to
    });
    let moments = all.iter().map(|stop| stop.at).chain(began.map(|stop| stop.at));
    let at = moments.min_by_key(|at| at.uncertainty())?;
    let of_start = timeline.starts.get(container).map(|start| u64::from(start.fact.grace_seconds) * 1000);
    let stated = all.iter().filter_map(|stop| stop.fact.grace_ms).min();
    let grace_ms = if told.fact.reason == StopReason::Eviction {
        eviction_grace_ms(timeline)
    } else {
        // Nothing else gives less than two seconds (kuberuntime_container.go).
        stated.or(of_start).unwrap_or(30_000).max(2_000)
    };
    let fact = Stopping { container: container.clone(), reason: told.fact.reason, grace_ms };
    Some(Seen { at, sequence: told.sequence, source: told.source, fact })
}

/// The least that an eviction grants. It asks for `immediateEvictionGracePeriodSeconds`, which comes to two seconds; for a
/// while kubelets gave the pod's own instead (kubernetes#115819). Before 1.22 it asked for none, and what an eviction asked for
/// was not raised to the minimum (1.20 kuberuntime_container.go:killContainer): SIGKILL came 8 ms after the decision.
fn eviction_grace_ms(timeline: &Timeline) -> u64 {
    let at_once = timeline.cluster.as_ref().is_some_and(|cluster| (1..22).contains(&cluster.minor));
    if at_once { 0 } else { 2_000 }
}

/// How much a statement says about who asked. That a pod is deleted it is in any case; that its ReplicaSet was to have fewer
/// it is also when that is for the sake of another revision.
fn telling(timeline: &Timeline, stop: &Seen<PodStopping>) -> u8 {
    match (stop.fact.reason, stop.source) {
        (StopReason::Delete, Source::Harness) => 2,
        (StopReason::Delete, _) => u8::from(who_asked_is_said(timeline, &stop.fact.pod)),
        (StopReason::ScaleDown, _) => 3,
        (_, _) => 4,
    }
}

/// Whether that the pod was deleted, and nothing more, means that somebody deleted it. A controller's event may have been
/// lost, and what the garbage collector deletes with its owner nobody comments on.
pub(in crate::diagnosis) fn who_asked_is_said(timeline: &Timeline, pod: &str) -> bool {
    let controlled = timeline.pods.iter().any(|seen| seen.fact.pod == pod && seen.fact.controller.is_some());
    !controlled && timeline.cluster.as_ref().is_none_or(|cluster| cluster.minor >= SAYS_WHO_ASKED)
}
