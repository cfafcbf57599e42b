//! A process other than the main one was OOM-killed, and that ended the container.

use std::time::Duration;

use crate::cause::{Cause, Confidence, Detail};
use crate::diagnosis::Attribution;
use crate::diagnosis::case::Case;
use crate::diagnosis::domain::scope;
use crate::diagnosis::kills::Kill;
use crate::diagnosis::timeline::SECOND;
use crate::evidence::End;

/// `memory.oom.group` took the main process too, and the victim that was chosen first was one of its children.
///
/// Where the main process was chosen itself, or is the only one, it is simply the container's OOM; and where the pod or
/// the node ran out, that says more than whose process was the largest. Those are the next rule's.
pub(in crate::diagnosis) fn group_kill(case: &Case<'_>) -> Option<Attribution> {
    let main = case.main_kill.filter(|_| case.failed.is_none())?;
    if !case.killed_as_group() || case.sigkilled() == Some(false) {
        return None;
    }
    let chosen = case.child_kills.iter().find(|kill| {
        let (child, main) = (kill.at.moment.middle(), main.at.moment.middle());
        child < main && main - child <= SECOND
    })?;
    // Only the victim that was chosen has a summary of its own; the others die without one.
    if main.domain.is_some() {
        return None;
    }
    let scope = scope(case, Some(chosen), chosen.at.moment).ok()?;
    if scope.cause != Cause::ContainerOom {
        return None;
    }
    let confidence = if scope.stated { Confidence::Certain } else { Confidence::High };
    let comm = chosen.comm.as_deref().unwrap_or("a child");
    let explanation = format!(
        "The container reached its memory limit; the kernel chose {comm} (PID {}), a child, and killed the whole \
         container with it (memory.oom.group).",
        chosen.pid
    );
    let mut found = case.attribute(Cause::ChildOom, Some(Detail::ContainerStopped), confidence, explanation);
    found.evidence.extend(chosen.evidence.iter().chain(&main.evidence).chain(&scope.evidence));
    found.domain = scope.domain;
    Some(found)
}

/// A parent that passes its child's end on does so at once; a machine that is busy takes a moment.
const AT_ONCE: u64 = SECOND;

/// A supervisor that tidies up first may pass the 137 on seconds later; a program that has its own reasons may too.
fn too_late(case: &Case<'_>, kill: &Kill, after: u64) -> Attribution {
    let mut found = case.undetermined(format!(
        "It exited with 137 by itself, {:.1} s after the kernel had OOM-killed a child (PID {}): whether it passed that on \
         cannot be told.",
        Duration::from_nanos(after).as_secs_f64(),
        kill.pid
    ));
    found.domain = scope(case, Some(kill), kill.at.moment).ok().and_then(|scope| scope.domain);
    found
}

/// The main process exited with 137 by itself within five seconds after a child was OOM-killed: a shell or a supervisor
/// passes a child's SIGKILL on as 128 + 9 (causes.md C19, R3).
pub(in crate::diagnosis) fn propagated(case: &Case<'_>) -> Option<Attribution> {
    if case.end != Some(End::Exited(137)) || case.failed.is_some() {
        return None;
    }
    let kill = case.child_kills.iter().rfind(|kill| case.shortly_before(kill.at.moment));
    if let Some(kill) = kill {
        let after = case.ended_at.middle().saturating_sub(kill.at.moment.middle());
        if after > AT_ONCE {
            return Some(too_late(case, kill, after));
        }
        let comm = kill.comm.as_deref().unwrap_or("a child");
        let explanation = format!(
            "The kernel OOM-killed {comm} (PID {}), a child; the main process then exited with 137 by itself.",
            kill.pid
        );
        let mut found =
            case.attribute(Cause::ChildOom, Some(Detail::Propagated), Confidence::Certain, explanation);
        found.evidence.extend(&kill.evidence);
        found.domain = scope(case, Some(kill), kill.at.moment).ok().and_then(|scope| scope.domain);
        return Some(found);
    }
    let rise = case.late_rises().into_iter().next_back()?;
    let explanation =
        "Its cgroup counted an OOM kill of a child; the main process then exited with 137 by itself.";
    let mut found =
        case.attribute(Cause::ChildOom, Some(Detail::Propagated), Confidence::High, explanation.to_owned());
    found.evidence.push(rise.evidence);
    found.domain = scope(case, None, rise.at).ok().and_then(|scope| scope.domain);
    Some(found)
}
