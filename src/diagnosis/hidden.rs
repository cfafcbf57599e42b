//! OOM kills that no container's status shows.

use std::collections::BTreeSet;

use super::case::{CONSEQUENCE, Case};
use super::counters::Counter;
use super::kills::{Kill, Owner};
use super::timeline::Timeline;
use super::{Attribution, HiddenKill, Stamped};
use crate::cause::{Cause, Confidence, Detail};
use crate::evidence::{ContainerRef, End, Moment, OomDomain, Source};

/// OOM kills in a container's run, before it was torn down.
fn own_kills<'a>(timeline: &Timeline, kills: &'a [Kill], container: &ContainerRef) -> Vec<&'a Kill> {
    let torn = timeline.torn_down(container).map(|stop| stop.at.middle());
    kills
        .iter()
        .filter(|kill| kill.owner == Owner::Container(container.clone()))
        .filter(|kill| torn.is_none_or(|torn| kill.at.moment.middle() < torn))
        .collect()
}

/// A container run's end and its cause.
type Ended<'a> = Option<(&'a Case<'a>, Option<&'a Attribution>)>;

/// OOM kills in a container's run that are not what ended it.
pub(super) fn hidden_kills(
    timeline: &Timeline,
    kills: &[Kill],
    container: &ContainerRef,
    ended: Ended<'_>,
) -> Vec<HiddenKill> {
    // Without the runtime's facts a kill cannot be told to be a child's.
    if !timeline.starts.contains_key(container) {
        return Vec::new();
    }
    let group_died = ended.is_some_and(|(case, _)| {
        (case.main_kill.is_some() || !case.nameless_kills.is_empty()) && case.killed_as_group()
    });
    if group_died {
        return Vec::new();
    }
    let own = own_kills(timeline, kills, container);
    let main = timeline.main_pid(container);
    let cause = ended.and_then(|(_, attribution)| attribution);
    let undetermined = cause.is_some_and(|cause| cause.cause == Cause::Undetermined);
    let spoken_for: BTreeSet<u64> = cause.iter().flat_map(|cause| cause.evidence.iter().copied()).collect();
    let named = own
        .iter()
        .filter(|kill| outlived(timeline, container, kill.at.moment))
        .filter(|kill| Some(kill.pid) != main)
        .filter(|kill| !undetermined || ended.is_none_or(|(case, _)| !may_have_ended(case, kill)))
        .filter(|kill| !kill.evidence.iter().any(|sequence| spoken_for.contains(sequence)))
        .map(|kill| named(container, kill));
    named.chain(unnamed(timeline, container, own.len(), ended)).collect()
}

/// Whether the runtime would have told of an end that a kill at this moment brought about: it told of the end, or it
/// watched for as long as an end can follow. Otherwise the kill may be what ended the container.
fn outlived(timeline: &Timeline, container: &ContainerRef, at: Moment) -> bool {
    let torn = timeline.torn_down(container).map_or(u64::MAX, |stop| stop.at.earliest());
    let to = at.latest().saturating_add(CONSEQUENCE).min(torn);
    timeline.ends.contains_key(container) || timeline.watched(Source::Runtime, at.latest(), to)
}

/// Whether an end that nothing settles may have followed from this kill: it was the main process's, or was passed on.
fn may_have_ended(case: &Case<'_>, kill: &Kill) -> bool {
    let code = matches!(case.end, Some(End::Code(_)));
    (case.main_pid.is_none() || code || case.unseen()) && case.shortly_before(kill.at.moment)
}

fn named(container: &ContainerRef, kill: &Kill) -> HiddenKill {
    let comm = kill.comm.as_deref().unwrap_or("a process");
    let domain = kill.domain.as_ref().and_then(|domain| match domain {
        OomDomain::Memcg { cgroup } => Some(cgroup.clone()),
        OomDomain::Global | OomDomain::Numa => None,
    });
    let explanation = format!(
        "The kernel OOM-killed {comm} (PID {}), a child; its container's status does not show it.",
        kill.pid
    );
    HiddenKill {
        container: container.clone(),
        pid: Some(kill.pid),
        comm: kill.comm.clone(),
        killed_at: Some(kill.at),
        attribution: Attribution {
            domain,
            ..child_oom(Confidence::Certain, explanation, kill.evidence.clone())
        },
    }
}

/// Kills that only the cgroup's counter tells of.
fn unnamed(timeline: &Timeline, container: &ContainerRef, named: usize, ended: Ended<'_>) -> Vec<HiddenKill> {
    let Some(made) = timeline.container_path(container) else { return Vec::new() };
    let Some(log) = timeline.counters.get(&made.fact.path) else { return Vec::new() };
    let torn = timeline.torn_down(container).map(|stop| stop.at.middle());
    let named = u64::try_from(named).unwrap_or(u64::MAX).saturating_add(told_by_the_end(ended));
    let rises = log.rises(Counter::Kills, Some(made.at));
    let rises: Vec<_> = rises
        .into_iter()
        .filter(|rise| torn.is_none_or(|torn| rise.at.earliest() < torn))
        .filter(|rise| outlived(timeline, container, rise.at))
        .collect();
    let counted: u64 = rises.iter().map(|rise| rise.by).sum();
    let left = counted.saturating_sub(named);
    let last: Option<(Moment, u64)> = rises.last().map(|rise| (rise.at, rise.evidence));
    (0..left)
        .map(|_| {
            let explanation =
                "Its cgroup counted an OOM kill of a child; its container's status does not show it.";
            let evidence = last.iter().map(|(_, sequence)| *sequence).collect();
            HiddenKill {
                container: container.clone(),
                pid: None,
                comm: None,
                killed_at: last
                    .filter(|_| left == 1)
                    .map(|(moment, _)| Stamped { moment, source: Source::Memcg }),
                attribution: child_oom(Confidence::High, explanation.to_owned(), evidence),
            }
        })
        .collect()
}

/// How many of the unnamed kills the container's end accounts for, or may.
fn told_by_the_end(ended: Ended<'_>) -> u64 {
    let Some((case, Some(found))) = ended else { return 0 };
    let is_oom = matches!(
        found.cause,
        Cause::ContainerOom | Cause::PodOom | Cause::NodeOom | Cause::StartOom | Cause::ResizeOom
    );
    let passed_on = found.cause == Cause::ChildOom && case.child_kills.is_empty();
    match () {
        // It may have been the main process; the termination says so.
        () if found.cause == Cause::Undetermined => case.unnamed_kills(),
        () if is_oom && case.main_kill.is_none() => case.unnamed_kills(),
        () if passed_on => 1,
        () => 0,
    }
}

fn child_oom(confidence: Confidence, explanation: String, evidence: Vec<u64>) -> Attribution {
    Attribution {
        cause: Cause::ChildOom,
        detail: Some(Detail::Hidden),
        confidence,
        sender: None,
        domain: None,
        explanation,
        evidence,
        missing: Vec::new(),
        also_seen: Vec::new(),
    }
}
