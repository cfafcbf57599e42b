//! The kernel's OOM killer ended it.

use crate::cause::{Cause, Confidence, Detail};
use crate::diagnosis::case::Case;
use crate::diagnosis::domain::{Scope, TELL_DOMAIN, scope, touches};
use crate::diagnosis::kills::{Kill, Level, Owner};
use crate::diagnosis::timeline::{MS, SECOND};
use crate::diagnosis::{Attribution, Missing};
use crate::evidence::{Moment, Source};

/// A victim may take so long to die that a runtime signals it still.
const LATE: u64 = 200 * MS;

/// The limit was too small for the container to start: a process in its cgroup was OOM-killed before exec (causes.md C17).
pub(in crate::diagnosis) fn start(case: &Case<'_>) -> Option<Attribution> {
    let failed = case.failed?;
    let why =
        |how: &str| format!("It never started: {how} before the program could run, so the limit is too low.");
    let others = || case.child_kills.iter().chain(&case.nameless_kills).next().copied();
    if let Some(kill) = case.main_kill.or_else(others) {
        let how = format!("the kernel OOM-killed its process {}", kill.pid);
        let mut found = case.attribute(Cause::StartOom, None, Confidence::Certain, why(&how));
        found.evidence.extend(&kill.evidence);
        found.domain = scope(case, Some(kill), kill.at.moment).ok().and_then(|scope| scope.domain);
        return Some(found);
    }
    // What a runtime says when it has looked at the counter itself (runc process_linux.go:initProcess.start).
    let said = failed.fact.message.contains("OOM-killed");
    // runc moves itself in and then cannot set a limit below what it uses (fs/memory.go:setMemory); v1 answers EBUSY.
    if failed.fact.message.contains("unable to set memory limit to") {
        let how = "the runtime could not set its limit below what starting it takes";
        return Some(case.attribute(Cause::StartOom, None, Confidence::High, why(how)));
    }
    let mut rises = case.late_rises();
    rises.retain(|rise| rise.at.earliest() <= failed.at.latest() + SECOND);
    let exited = case.end.is_some_and(|end| end.sigkilled() == Some(false));
    if !said && (rises.is_empty() || exited) {
        return None;
    }
    let how = "its cgroup counted an OOM kill";
    let mut found = case.attribute(Cause::StartOom, None, Confidence::High, why(how));
    found.evidence.extend(rises.iter().map(|rise| rise.evidence));
    Some(found)
}

/// The kernel names the main process as a victim.
pub(in crate::diagnosis) fn main_process(case: &Case<'_>) -> Option<Attribution> {
    if case.failed.is_some() || case.sigkilled() == Some(false) {
        return None;
    }
    let kill = case.main_kill?;
    if case.killed_as_group() && !case.alone_in_group_kill() && chosen_may_be_another(case, kill) {
        return Some(
            case.undetermined(
                "An OOM group kill took the container, and whose process was chosen first is not known."
                    .to_owned(),
            ),
        );
    }
    // That it was the main process follows from there having been no other, where nobody told its PID.
    let surely_main = if case.main_pid.is_some() { Confidence::Certain } else { Confidence::High };
    let mut found = attribute(case, Some(kill), kill.at.moment, surely_main);
    found.evidence.extend(&kill.evidence);
    Some(found)
}

/// The kernel names victims in it, and nobody its main process. Where the kill took all of the container, whose process was
/// chosen decides nothing if it was not the container's own limit; otherwise it cannot be told.
pub(in crate::diagnosis) fn nameless(case: &Case<'_>) -> Option<Attribution> {
    let kill = case.nameless_kills.first().copied()?;
    let at_once = case.nameless_kills.iter().any(|kill| touches(kill.at.moment, case.ended_at, SECOND));
    if case.failed.is_some() || case.sigkilled() == Some(false) || !at_once {
        return None;
    }
    let scope = scope(case, Some(kill), kill.at.moment);
    let mut found = match scope {
        Ok(scope) if case.killed_as_group() && scope.cause != Cause::ContainerOom => {
            settled(case, &scope, None, Confidence::High)
        }
        Ok(scope) if case.alone_in_group_kill() => settled(case, &scope, None, Confidence::High),
        Ok(_) | Err(_) => case.undetermined(format!(
            "The kernel OOM-killed {} in it about then; whether that was its main process is not known.",
            kill.comm.as_deref().unwrap_or("a process")
        )),
    };
    found.evidence.extend(case.nameless_kills.iter().flat_map(|kill| &kill.evidence));
    if found.cause == Cause::Undetermined {
        let (from, to) = case.window();
        let naming = [Source::Trace, Source::Exits, Source::Kubelet, Source::Memcg];
        found.missing = case.timeline.missing(&naming, from, to);
    }
    Some(found)
}

/// Counters and the wait status alone: the container's cgroup counted a kill that nobody named, and it was the main
/// process's because there was no other process, or because the kernel is known to have sent it a SIGKILL.
///
/// With other processes about, and without a group kill that counted but one, the counter cannot tell an OOM kill of the main process from a hidden child's with a
/// `kill -9` a moment later; then this rule does not match.
pub(in crate::diagnosis) fn by_counters(case: &Case<'_>) -> Option<Attribution> {
    if case.failed.is_some() || case.sigkilled() == Some(false) || case.main_kill.is_some() {
        return None;
    }
    let by_kernel = case.sigkill.map(|seen| seen.fact.code > 0);
    let excluded = by_kernel == Some(false)
        || case.no_oom_by().contains(&Source::Kmsg)
        || (by_kernel.is_none() && case.no_oom_by().contains(&Source::Trace));
    if excluded || case.unnamed_kills() == 0 {
        return None;
    }
    let rise = case.late_rises().into_iter().next_back()?;
    // A runtime that still had a process to kill well after the counted kill: that one had not ended it.
    let outlived = case.runtime_sent(9).is_some_and(|sent| sent.moment.earliest() > rise.at.latest() + LATE);
    if by_kernel != Some(true) && (outlived || !(case.single_process() || case.alone_in_group_kill())) {
        return None;
    }
    let at = case.sigkill.map_or(rise.at, |seen| seen.at);
    let mut found = attribute(case, None, at, Confidence::High);
    found.evidence.push(rise.evidence);
    found.evidence.extend(case.sigkill.map(|seen| seen.sequence));
    Some(found)
}

/// Whether a victim that nobody knows may have been chosen before the main process. The kernel log's line on the group
/// names all of it; without that line, any kill just before may have been its first.
fn chosen_may_be_another(case: &Case<'_>, main: &Kill) -> bool {
    let just_before = |kill: &Kill| {
        let (other, main) = (kill.at.moment.middle(), main.at.moment.middle());
        other <= main && main - other <= SECOND
    };
    let mut unknown = case.kills.iter().filter(|kill| kill.owner == Owner::Unknown);
    main.domain.is_none() && main.group.is_none() && unknown.any(just_before)
}

fn attribute(case: &Case<'_>, kill: Option<&Kill>, at: Moment, surely_main: Confidence) -> Attribution {
    match scope(case, kill, at) {
        Ok(scope) => {
            let found = settled(case, &scope, kill, surely_main);
            Attribution { domain: scope.domain.clone(), ..found }
        }
        Err(why) => {
            let (from, to) = case.window();
            let mut found = case.undetermined(format!("The kernel OOM-killed its main process, but {why}."));
            if found.missing.is_empty() {
                found.missing = case.timeline.missing(&TELL_DOMAIN, from, to);
            }
            if found.missing.is_empty() && kill.is_some_and(|kill| kill.domain.is_none()) {
                let why = "it has no summary (`oom-kill:`) of this kill, of which the kernel prints ten in five seconds \
                           (oom_kill.c:oom_kill_process, `oom_rs`); it would have told whose limit was reached";
                found.missing.push(Missing { source: Source::Kmsg, why: why.to_owned() });
            }
            found
        }
    }
}

fn settled(case: &Case<'_>, scope: &Scope, kill: Option<&Kill>, surely_main: Confidence) -> Attribution {
    let by_elimination = !scope.stated && scope.domain.is_none();
    let confidence = match () {
        () if by_elimination => Confidence::Medium,
        () if scope.stated => surely_main,
        () => surely_main.min(Confidence::High),
    };
    let main = kill.map_or("its main process".to_owned(), |kill| {
        let comm = kill.comm.as_deref().unwrap_or("its main process");
        format!("{comm} (PID {}), its main process,", kill.pid)
    });
    let explanation = format!("The kernel OOM-killed {main} because {}.", because(case, kill, scope));
    let mut found = case.attribute(scope.cause, scope.detail, confidence, explanation);
    found.evidence.extend(&scope.evidence);
    found
}

/// A pod's own cgroup was full, and that is its one container's affair.
fn charged_at_pod(case: &Case<'_>, kill: Option<&Kill>) -> String {
    let alone = case.start.is_none_or(|start| start.fact.neighbours == 0);
    let path = case.levels.get(&Level::Container);
    let peak = path.and_then(|path| case.timeline.counters.get(path)?.peak());
    // A reading from before the last growth says nothing of how much was held in the end.
    let rss = kill.and_then(|kill| kill.rss);
    let peak = peak.filter(|peak| rss.is_none_or(|rss| rss <= *peak));
    let limit = case.start.and_then(|start| start.fact.limit);
    match peak.zip(limit) {
        Some((peak, limit)) if alone && u128::from(peak) * 100 < u128::from(limit) * 90 => format!(
            "its pod reached the limit, which is the same as its own; the container itself held at most {} MiB, and the rest \
             is the pod's, such as files that an earlier run left in a memory volume",
            peak >> 20
        ),
        _ if alone => {
            "the container reached its memory limit (charged at its pod, whose limit is the same)".to_owned()
        }
        _ => "the container reached its memory limit (charged at its pod)".to_owned(),
    }
}

fn because(case: &Case<'_>, kill: Option<&Kill>, scope: &Scope) -> String {
    let own = case.levels.get(&Level::Container) == scope.domain.as_ref();
    match (scope.cause, scope.detail) {
        (Cause::ContainerOom, _) if own => "the container reached its memory limit".to_owned(),
        (Cause::ContainerOom, _) => charged_at_pod(case, kill),
        (Cause::PodOom, _) => "the pod's containers together reached the pod's limit".to_owned(),
        (Cause::ResizeOom, _) => "its memory limit had been lowered below what was in use".to_owned(),
        (_, Some(Detail::Budget)) => "the node's pods together used up the node's budget".to_owned(),
        (_, Some(Detail::Global)) => "the machine ran out of memory".to_owned(),
        (_, Some(Detail::Numa)) => "the NUMA nodes that it may use ran out of memory".to_owned(),
        (_, Some(Detail::Outer)) => "a limit outside of the node was reached".to_owned(),
        (_, Some(Detail::Qos)) => "its QoS class's cgroup reached its limit".to_owned(),
        (_, _) => "a level above its pod ran out of memory".to_owned(),
    }
}
