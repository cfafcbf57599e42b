//! From the timeline to the findings: every end with its cause, and the kills that no end shows.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Case;
use super::classify::classify;
use super::counters::Counter;
use super::kills::{Kill, Owner, kills};
use super::timeline::Timeline;
use super::{Attribution, Findings, HiddenKill, Stamped, Termination};
use crate::cause::{Cause, Confidence, Detail};
use crate::evidence::{ContainerRef, Moment, Source};

/// Settles what is known.
pub(super) fn settle(timeline: &Timeline) -> Findings {
    let kills = kills(timeline);
    let runs: BTreeSet<&ContainerRef> =
        timeline.starts.keys().chain(timeline.failures.keys()).chain(timeline.ends.keys()).collect();
    let mut findings = Findings { sources: timeline.health(), ..Findings::default() };
    for container in &runs {
        let case = Case::gather(timeline, &kills, container);
        let settled = case.as_ref().map(|case| (case, classify(case)));
        let own = own_kills(timeline, &kills, container);
        match settled {
            Some((case, attribution)) => {
                let killed_at = killed_at(case, attribution.as_ref());
                let hidden = hidden(timeline, container, &own, Some((case, attribution.as_ref())));
                findings.hidden_kills.extend(hidden);
                if torn_down_first(timeline, case, killed_at) {
                    findings.survivors.push((*container).clone());
                } else {
                    findings.terminations.push(termination(case, attribution, killed_at));
                }
            }
            None => {
                findings.hidden_kills.extend(hidden(timeline, container, &own, None));
                findings.survivors.push((*container).clone());
            }
        }
    }
    findings.terminations.sort_by(|a, b| {
        let at = |t: &Termination| {
            t.ended_at.map_or((u64::MAX, 0), |at| (at.moment.earliest(), at.moment.latest()))
        };
        at(a).cmp(&at(b)).then(a.container.cmp(&b.container))
    });
    findings.starts = starts(&runs);
    findings.notes = notes(timeline, &kills, &runs);
    findings
}

/// Ends that came after the tear-down was decided are the tear-down's. What counts is the kill where there was one: a
/// large victim is reaped long after it.
fn torn_down_first(timeline: &Timeline, case: &Case<'_>, killed_at: Option<Stamped>) -> bool {
    let decisive = killed_at.map_or(case.ended_at, |killed| killed.moment);
    timeline.torn_down(case.container).is_some_and(|stop| stop.at.middle() <= decisive.middle())
}

/// The SIGKILL that ended it, from whoever knows best.
fn killed_at(case: &Case<'_>, attribution: Option<&Attribution>) -> Option<Stamped> {
    if case.sigkilled() == Some(false) {
        return None;
    }
    let cause = attribution.map(|attribution| attribution.cause);
    let by_counters = || {
        let counts = case.main_kill.is_none() && !matches!(cause, None | Some(Cause::Undetermined));
        let oom = matches!(
            cause,
            Some(Cause::ContainerOom | Cause::PodOom | Cause::NodeOom | Cause::StartOom | Cause::ResizeOom)
        );
        let rise = case.late_rises().into_iter().next_back().filter(|_| counts && oom)?;
        Some(Stamped { moment: rise.at, source: Source::Memcg })
    };
    let stopped = matches!(cause, Some(Cause::LivenessProbe | Cause::StartupProbe | Cause::GracePeriod));
    case.sigkill
        .map(super::timeline::Seen::stamped)
        .or_else(|| case.main_kill.map(|kill| kill.at))
        .or_else(by_counters)
        .or_else(|| case.runtime_sent(9).filter(|_| stopped))
}

fn termination(case: &Case<'_>, attribution: Option<Attribution>, killed_at: Option<Stamped>) -> Termination {
    let ended = Stamped { moment: case.ended_at, source: Source::Runtime };
    Termination {
        container: case.container.clone(),
        end: case.end,
        started_at: case.start.map(super::timeline::Seen::stamped),
        killed_at,
        ended_at: Some(ended),
        attribution,
        limit: case
            .start
            .and_then(|start| start.fact.limit)
            .or_else(|| case.cgroup.and_then(|made| made.fact.limit)),
        request: case.start.and_then(|start| start.fact.request),
    }
}

/// OOM kills in a container's run, before it was torn down.
fn own_kills<'a>(timeline: &Timeline, kills: &'a [Kill], container: &ContainerRef) -> Vec<&'a Kill> {
    let torn = timeline.torn_down(container).map(|stop| stop.at.middle());
    kills
        .iter()
        .filter(|kill| kill.owner == Owner::Container(container.clone()))
        .filter(|kill| torn.is_none_or(|torn| kill.at.moment.middle() < torn))
        .collect()
}

/// OOM kills that the container's end does not show: those that nobody's cause is.
fn hidden(
    timeline: &Timeline,
    container: &ContainerRef,
    own: &[&Kill],
    ended: Option<(&Case<'_>, Option<&Attribution>)>,
) -> Vec<HiddenKill> {
    // Without the main process's PID or its end, a kill cannot be told to be a child's.
    let main = timeline.main_pid(container);
    if !timeline.starts.contains_key(container) {
        return Vec::new();
    }
    let cause = ended.and_then(|(_, attribution)| attribution);
    let spoken_for: BTreeSet<u64> = cause.iter().flat_map(|cause| cause.evidence.iter().copied()).collect();
    let group_died = ended.is_some_and(|(case, _)| case.main_kill.is_some() && case.killed_as_group());
    let undetermined = cause.is_some_and(|cause| cause.cause == Cause::Undetermined);
    let named: Vec<HiddenKill> = own
        .iter()
        .filter(|kill| Some(kill.pid) != main && !group_died)
        .filter(|_| main.is_some() || !undetermined)
        .filter(|kill| !kill.evidence.iter().any(|sequence| spoken_for.contains(sequence)))
        .map(|kill| hidden_kill(container, kill))
        .collect();
    let unnamed = unnamed(timeline, container, own, ended, group_died);
    named.into_iter().chain(unnamed).collect()
}

fn hidden_kill(container: &ContainerRef, kill: &Kill) -> HiddenKill {
    let comm = kill.comm.as_deref().unwrap_or("a process");
    let domain = kill.domain.as_ref().and_then(|domain| match domain {
        crate::evidence::OomDomain::Memcg { cgroup } => Some(cgroup.clone()),
        crate::evidence::OomDomain::Global | crate::evidence::OomDomain::Numa => None,
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
fn unnamed(
    timeline: &Timeline,
    container: &ContainerRef,
    own: &[&Kill],
    ended: Option<(&Case<'_>, Option<&Attribution>)>,
    group_died: bool,
) -> Vec<HiddenKill> {
    let Some(made) = timeline.container_path(container).filter(|_| !group_died) else { return Vec::new() };
    let Some(log) = timeline.counters.get(&made.fact.path) else { return Vec::new() };
    let torn = timeline.torn_down(container).map(|stop| stop.at.middle());
    let mut named = own.len();
    if let Some((case, Some(cause))) = ended {
        match cause.cause {
            // It may be the main process's; the termination says so.
            Cause::Undetermined => named += usize::try_from(case.unnamed_kills()).unwrap_or(usize::MAX),
            // A rise that is the cause's own evidence is not hidden.
            Cause::ContainerOom | Cause::PodOom | Cause::NodeOom | Cause::StartOom | Cause::ResizeOom
                if case.main_kill.is_none() =>
            {
                named += usize::try_from(case.unnamed_kills()).unwrap_or(usize::MAX);
            }
            Cause::ChildOom if case.child_kills.is_empty() => named += 1,
            Cause::ContainerOom
            | Cause::PodOom
            | Cause::NodeOom
            | Cause::ChildOom
            | Cause::StartOom
            | Cause::ResizeOom
            | Cause::LivenessProbe
            | Cause::StartupProbe
            | Cause::GracePeriod
            | Cause::Eviction
            | Cause::Preemption
            | Cause::Deadline
            | Cause::NodeShutdown
            | Cause::UserspaceOom
            | Cause::ExternalKill
            | Cause::Exit137
            | Cause::KernelKill
            | Cause::Synthetic => {}
        }
    }
    let rises = log.rises(Counter::Kills, Some(made.at));
    let rises: Vec<_> =
        rises.into_iter().filter(|rise| torn.is_none_or(|torn| rise.at.earliest() < torn)).collect();
    let counted: u64 = rises.iter().map(|rise| rise.by).sum();
    let left = counted.saturating_sub(u64::try_from(named).unwrap_or(u64::MAX));
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

/// Each container once, with the number of its runs; the reference names the last of them.
fn starts(runs: &BTreeSet<&ContainerRef>) -> Vec<(ContainerRef, u32)> {
    let mut counts: BTreeMap<(&str, &str), (ContainerRef, u32)> = BTreeMap::new();
    for run in runs {
        let entry = counts.entry((&run.pod, &run.container)).or_insert_with(|| ((*run).clone(), 0));
        entry.0 = (*run).clone();
        entry.1 += 1;
    }
    counts.into_values().collect()
}

/// Things worth a line that change no cause.
fn notes(timeline: &Timeline, kills: &[Kill], runs: &BTreeSet<&ContainerRef>) -> Vec<String> {
    let mut notes = Vec::new();
    for limit in timeline.limits.iter() {
        if let Some(why) = &limit.fact.refused {
            notes.push(format!(
                "the kernel refused to lower the limit of {} to {} bytes: {why}",
                limit.fact.cgroup, limit.fact.to
            ));
        }
    }
    for action in timeline.actions.iter() {
        if let Some(why) = &action.fact.error {
            notes.push(format!("an action failed: {}: {why}", action.fact.what));
        }
    }
    for failed in timeline.failures.values() {
        notes.push(format!("{} could not be started: {}", failed.fact.container, failed.fact.message));
    }
    if !timeline.sources.get(&Source::Runtime).is_some_and(|log| log.health(Source::Runtime).present) {
        notes.push("the runtime's facts are missing: how containers ended is not known".to_owned());
    }
    for kill in kills {
        let comm = kill.comm.as_deref().unwrap_or("a process");
        match &kill.owner {
            Owner::Container(container) if !runs.contains(container) => {
                notes.push(format!("the kernel OOM-killed {comm} (PID {}) in {container}", kill.pid));
            }
            Owner::Container(_) => {}
            Owner::Ours(path) => {
                notes.push(format!("the kernel OOM-killed {comm} (PID {}) in {path}", kill.pid))
            }
            Owner::Foreign => {
                notes.push(format!(
                    "outside of this scenario the kernel OOM-killed {comm} (PID {})",
                    kill.pid
                ));
            }
            Owner::Unknown => {
                notes.push(format!(
                    "the kernel OOM-killed {comm} (PID {}); whose process it was is not known",
                    kill.pid
                ));
            }
        }
    }
    notes
}
