//! It exited by itself with 137, or nothing settles what happened.

use crate::cause::{Cause, Confidence};
use crate::diagnosis::Attribution;
use crate::diagnosis::case::{Case, Hand};
use crate::diagnosis::domain::touches;
use crate::diagnosis::timeline::{MS, SECOND};
use crate::evidence::{End, Source};

/// The wait status says that it called `exit(137)`, and no child of it was OOM-killed shortly before.
pub(in crate::diagnosis) fn by_itself(case: &Case<'_>) -> Option<Attribution> {
    if case.end != Some(End::Exited(137)) || case.failed.is_some() {
        return None;
    }
    let late_child = case.child_kills.iter().any(|kill| case.shortly_before(kill.at.moment));
    if late_child || case.unnamed_kills() > 0 {
        return None;
    }
    let counted = case.kills_counted();
    let logs = [Source::Kmsg, Source::Trace].into_iter().filter(|source| case.watched(*source)).count();
    // A victim whose owner is unknown may have been its child; only its own counter says that it was not.
    let no_strangers = case.strangers() == 0;
    let confidence = match (counted, logs) {
        (true, _) => Confidence::Certain,
        (false, 2) if no_strangers => Confidence::Certain,
        (false, 1) if no_strangers => Confidence::High,
        (false, _) => {
            return Some(case.undetermined(
                "It exited with 137 by itself, and whether a child's OOM kill made it do so cannot be excluded."
                    .to_owned(),
            ));
        }
    };
    let explanation = "Nothing killed it: the process itself exited with status 137.".to_owned();
    let mut found = case.attribute(Cause::Exit137, None, confidence, explanation);
    let killed = killed_children(case);
    found.evidence.extend(&killed);
    if !killed.is_empty() {
        found.also_seen.push("one of its other processes got SIGKILL just before".to_owned());
    }
    Some(found)
}

/// SIGKILLs that its other processes got in the second before, from whomever.
fn killed_children(case: &Case<'_>) -> Vec<u64> {
    let to = case.ended_at.latest();
    let signals = case.timeline.signals.between(to.saturating_sub(SECOND), to);
    let ours = |pid: u32| {
        case.timeline
            .processes
            .iter()
            .any(|seen| seen.fact.pid == pid && seen.fact.container == *case.container)
    };
    signals
        .filter(|seen| seen.fact.signal == 9 && seen.fact.code <= 0 && seen.fact.result == 0)
        .filter(|seen| Some(seen.fact.target_pid) != case.main_pid && ours(seen.fact.target_pid))
        .map(|seen| seen.sequence)
        .collect()
}

/// A SIGKILL, or Kubernetes' 137, that no rule explains.
pub(in crate::diagnosis) fn undetermined(case: &Case<'_>) -> Option<Attribution> {
    if case.sigkilled() == Some(false) {
        return None;
    }
    let counted = case.unnamed_kills();
    let ended = match case.end {
        Some(End::Code(_)) => "It ended with 137",
        Some(End::Exited(_) | End::Signaled(_)) | None => "SIGKILL ended it",
    };
    let explanation = match () {
        () if counted > 0 => format!(
            "{ended} and its cgroup counted {counted} OOM kills, but it had other processes: whether its main \
             process was the victim cannot be told."
        ),
        () if touches_a_stranger(case) => {
            format!("{ended}, and about then the kernel OOM-killed a process whose owner is not known.")
        }
        () if matches!(case.end, Some(End::Code(_))) => {
            format!("{ended}: whether a SIGKILL did it, or the program itself, nothing says.")
        }
        () if case.hand() == Hand::Unknown => format!("{ended}, and nothing says who sent it."),
        () => format!("{ended}; neither the runtime nor anything else that was watched explains it."),
    };
    let mut found = case.undetermined(explanation);
    found.evidence.extend(case.late_rises().iter().map(|rise| rise.evidence));
    Some(found)
}

fn touches_a_stranger(case: &Case<'_>) -> bool {
    let unknown =
        |kill: &&crate::diagnosis::kills::Kill| kill.owner == crate::diagnosis::kills::Owner::Unknown;
    case.kills.iter().filter(unknown).any(|kill| touches(kill.at.moment, case.ended_at, 500 * MS))
}
