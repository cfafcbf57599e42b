//! From the timeline to the findings: every end with its cause, and the kills that no end shows.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Case;
use super::classify::{classify, why_stopped};
use super::hidden::hidden_kills;
use super::kills::{Kill, Owner, kills};
use super::limits;
use super::timeline::Timeline;
use super::{Attribution, Findings, Stamped, Termination};
use crate::cause::Cause;
use crate::evidence::{ContainerRef, Source};

/// Settles what is known.
pub(super) fn settle(timeline: &Timeline) -> Findings {
    let kills = kills(timeline);
    let ends = timeline.ends.keys().chain(timeline.inventions.keys());
    let runs: BTreeSet<&ContainerRef> =
        timeline.starts.keys().chain(timeline.failures.keys()).chain(ends).collect();
    let mut findings = Findings { sources: timeline.health(), ..Findings::default() };
    let mut too_late = Vec::new();
    for container in &runs {
        let settled = Case::gather(timeline, &kills, container).and_then(|case| {
            let attribution = classify(&case);
            let killed_at = killed_at(&case, attribution.as_ref());
            // What the tear-down ended had survived the scenario.
            let survived = torn_down_first(timeline, &case, killed_at);
            too_late.extend(was_being_stopped(timeline, &case).filter(|_| survived));
            (!survived).then_some((case, attribution, killed_at))
        });
        let ended = settled.as_ref().map(|(case, attribution, _)| (case, attribution.as_ref()));
        findings.hidden_kills.extend(hidden_kills(timeline, &kills, container, ended));
        match settled {
            Some((case, attribution, killed_at)) => {
                findings.terminations.push(termination(&case, attribution, killed_at));
            }
            None => findings.survivors.push((*container).clone()),
        }
    }
    findings.terminations.sort_by(|a, b| {
        let at = |t: &Termination| {
            t.ended_at.map_or((u64::MAX, 0), |at| (at.moment.earliest(), at.moment.latest()))
        };
        at(a).cmp(&at(b)).then(a.container.cmp(&b.container))
    });
    findings.traffic = timeline.clients.settle(&mut findings.terminations);
    findings.starts = starts(&runs);
    let unowned = kills.iter().filter(|kill| kill.owner == Owner::Unknown).count();
    findings.unowned_kills = u32::try_from(unowned).unwrap_or(u32::MAX);
    findings.notes = notes(timeline, &kills, &runs);
    findings.notes.extend(too_late);
    findings
}

/// That it was already being stopped when the run was over: its end may have been a moment away.
fn was_being_stopped(timeline: &Timeline, case: &Case<'_>) -> Option<String> {
    let (stop, over) = (case.decision()?, timeline.torn_down(case.container)?);
    let why = why_stopped(stop.fact.reason);
    (stop.at.latest() < over.at.earliest()).then(|| {
        format!("{} was being stopped ({why}) when the observation ended: observe for longer", case.container)
    })
}

/// Ends that came after the tear-down was decided are the tear-down's. What counts is the kill where there was one: a
/// large victim is reaped long after it.
fn torn_down_first(timeline: &Timeline, case: &Case<'_>, killed_at: Option<Stamped>) -> bool {
    let decisive = killed_at.map_or(case.ended_at, |killed| killed.moment);
    let decisive = match () {
        // It was gone by then, and the tear-down had not been decided when it was last there.
        () if case.unseen() => return false,
        // When a container that the kubelet lost had ended nobody knows; that it was lost was told then.
        () if case.only_invented() => decisive.latest(),
        // The second in which it ended had begun before; and pods are deleted only when the API has had its say.
        () if case.end_is_rough() => decisive.earliest(),
        () => decisive.middle(),
    };
    timeline.torn_down(case.container).is_some_and(|stop| stop.at.middle() <= decisive)
}

/// The SIGKILL that ended it, from whoever knows best.
fn killed_at(case: &Case<'_>, attribution: Option<&Attribution>) -> Option<Stamped> {
    if case.sigkilled() == Some(false) {
        return None;
    }
    let found = attribution.map(|found| found.cause);
    let by_counters = || {
        let counts = case.main_kill.is_none() && !matches!(found, None | Some(Cause::Undetermined));
        let oom = matches!(
            found,
            Some(Cause::ContainerOom | Cause::PodOom | Cause::NodeOom | Cause::StartOom | Cause::ResizeOom)
        );
        let rise = case.late_rises().into_iter().next_back().filter(|_| counts && oom)?;
        Some(Stamped { moment: rise.at, source: Source::Memcg })
    };
    let stopped = matches!(found, Some(Cause::LivenessProbe | Cause::StartupProbe | Cause::GracePeriod));
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
        end: case.end.or(case.invention.map(|made_up| made_up.fact.end)),
        unseen: case.unseen(),
        reason: case.reason.clone(),
        started_at: case.start.map(super::timeline::Seen::stamped),
        killed_at,
        ended_at: Some(ended),
        attribution,
        asked: asked(case),
        limit: limits::in_force(case, case.ended_at),
        request: case.start.and_then(|start| start.fact.request),
        clients: Vec::new(),
    }
}

/// What had asked it to end: a decision to stop it, or somebody's SIGTERM.
fn asked(case: &Case<'_>) -> Option<String> {
    if let Some(stop) = case.decision() {
        return Some(why_stopped(stop.fact.reason).to_owned());
    }
    let (from, to) = case.timeline.lifetime(case.container);
    let sent = case.timeline.signals.between(from, to).find(|seen| {
        Some(seen.fact.target_pid) == case.main_pid && seen.fact.signal == 15 && seen.fact.result == 0
    })?;
    Some(format!("{} (PID {}) sent it SIGTERM", sent.fact.sender_comm, sent.fact.sender_pid))
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
            let raised = limit.fact.from.is_some_and(|from| from < limit.fact.to);
            let what = if raised { "raise" } else { "lower" };
            notes.push(format!(
                "the kernel refused to {what} the limit of {} to {} bytes: {why}",
                limit.fact.cgroup, limit.fact.to
            ));
        }
    }
    for action in timeline.actions.iter() {
        if let Some(why) = &action.fact.error {
            notes.push(format!("an action failed: {}: {why}", action.fact.what));
        }
    }
    for start in
        timeline.starts.values().map(|start| &start.fact).filter(|start| start.container.instance == 0)
    {
        if let (Some(is), Some(asked)) = (start.oom_score_adj, start.oom_score_adj_asked)
            && is != asked
        {
            notes.push(format!(
                "oom_score_adj of {} is {is} instead of {asked}: lowering it takes CAP_SYS_RESOURCE",
                start.container
            ));
        }
    }
    for failed in timeline.failures.values() {
        notes.push(format!("{} could not be started: {}", failed.fact.container, failed.fact.message));
    }
    if !timeline.sources.get(&Source::Runtime).is_some_and(|log| log.health(Source::Runtime).present) {
        notes.push("the runtime's facts are missing: how containers ended is not known".to_owned());
    }
    let (mut foreign, mut unknown) = (0, 0);
    for kill in kills {
        let comm = kill.comm.as_deref().unwrap_or("a process");
        match &kill.owner {
            Owner::Container(container) if !runs.contains(container) => {
                notes.push(format!("the kernel OOM-killed {comm} (PID {}) in {container}", kill.pid));
            }
            Owner::Container(_) => {}
            Owner::Ours(path) => {
                notes.push(format!("the kernel OOM-killed {comm} (PID {}) in {path}", kill.pid));
            }
            Owner::Foreign => foreign += 1,
            Owner::Unknown => unknown += 1,
        }
    }
    for (count, whose) in [(foreign, "outside of this scenario"), (unknown, "whose owner is not known")] {
        if count > 0 {
            let s = if count == 1 { "" } else { "es" };
            notes.push(format!("the kernel also OOM-killed {count} process{s} {whose}"));
        }
    }
    notes
}
