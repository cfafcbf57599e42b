//! The table of rules: the first that matches says the cause, later matches are what was also seen.

use super::Attribution;
use super::case::Case;
use super::rules::{child, exit, oom, sigkill, stop, synthetic};
use super::unseen;
use crate::cause::Cause;
use crate::evidence::StopReason;

/// One rule: a name for the documentation and the tests, and the function.
struct Rule {
    name: &'static str,
    matches: fn(&Case<'_>) -> Option<Attribution>,
}

/// In the order of causes.md section 7: of what is not one run nothing is told; what nobody saw no rule explains; what the kubelet made up (R0) needs no other cause; what the kernel's OOM killer did (R1 to R4) comes before who asked for an end
/// (R5, R6), before who else may have sent a SIGKILL or exited (R9), before what is left (R10).
const RULES: [Rule; 17] = [
    Rule { name: "two runs under one number", matches: synthetic::two_under_one_number },
    Rule { name: "an end that nobody saw", matches: unseen::rule },
    Rule { name: "an end that only the kubelet's invention tells of", matches: synthetic::alone },
    Rule { name: "OOM before it could start", matches: oom::start },
    Rule { name: "group kill whose first victim was a child", matches: child::group_kill },
    Rule { name: "OOM kill of the main process", matches: oom::main_process },
    Rule { name: "OOM kill of a process that nobody can place", matches: oom::nameless },
    Rule { name: "OOM kill by the counters alone", matches: oom::by_counters },
    Rule { name: "a child's OOM kill passed on as 137", matches: child::propagated },
    Rule { name: "stopped by decision", matches: stop::decided },
    Rule { name: "stopped, and by whose decision is not known", matches: stop::decision_unknown },
    Rule { name: "SIGKILL from somebody else", matches: sigkill::external },
    Rule { name: "SIGKILL from the kernel that is no OOM", matches: sigkill::kernel },
    Rule { name: "killed without any SIGKILL being sent", matches: sigkill::seccomp },
    Rule { name: "exit with 137 by itself", matches: exit::by_itself },
    Rule { name: "an invented 137 over another end", matches: synthetic::over_another_end },
    Rule { name: "nothing settles it", matches: exit::undetermined },
];

/// Why a container's run ended; `None` where there is nothing to explain.
pub(super) fn classify(case: &Case<'_>) -> Option<Attribution> {
    let mut matches = RULES.iter().filter_map(|rule| Some((rule.name, (rule.matches)(case)?)));
    let (_, mut first) = matches.next()?;
    for (name, later) in matches {
        if later.cause != Cause::Undetermined && later.cause != first.cause {
            first.also_seen.push(format!("{name}: {}", later.explanation));
        }
    }
    first.also_seen.extend(bystanders(case, &first));
    first.evidence.sort_unstable();
    first.evidence.dedup();
    Some(first)
}

/// What happened to the container beside its cause.
fn bystanders(case: &Case<'_>, first: &Attribution) -> Vec<String> {
    let mut seen = Vec::new();
    let stop_is_cause = matches!(
        first.cause,
        Cause::LivenessProbe
            | Cause::StartupProbe
            | Cause::GracePeriod
            | Cause::Eviction
            | Cause::Preemption
            | Cause::Deadline
            | Cause::NodeShutdown
    );
    if !stop_is_cause && let Some(stop) = case.decision() {
        seen.push(format!("it was being stopped already: {}", why_stopped(stop.fact.reason)));
    }
    let cause_is_child = first.cause == Cause::ChildOom;
    if !cause_is_child && !case.child_kills.is_empty() {
        let count = case.child_kills.len();
        seen.push(format!("{count} of its other processes OOM-killed before"));
    }
    let made_up = case.invention.filter(|_| first.cause != Cause::Synthetic);
    seen.extend(made_up.map(|made_up| synthetic::in_words(&made_up.fact)));
    let own = case.levels.values().next().and_then(|path| case.timeline.counters.get(path));
    if let Some(hits) = own.and_then(super::counters::CounterLog::limit_hits).filter(|hits| *hits > 0) {
        seen.push(format!("memory pressure: its use met the limit {hits} times"));
    }
    seen
}

/// A stop's reason in words.
pub(super) fn why_stopped(reason: StopReason) -> &'static str {
    match reason {
        StopReason::LivenessProbe => "its liveness probe failed",
        StopReason::StartupProbe => "its startup probe failed",
        StopReason::Delete => "its pod was deleted",
        StopReason::Drain => "its pod was evicted through the API",
        StopReason::Rollout => "its Deployment replaced its pod by one of another revision",
        StopReason::ScaleDown => "its ReplicaSet was to have fewer pods",
        StopReason::Taint => "its pod did not tolerate a taint of its node",
        StopReason::Preemption => "a pod of higher priority needed the room",
        StopReason::Eviction => "the kubelet evicted its pod under pressure on the node",
        StopReason::Deadline => "its pod's activeDeadlineSeconds were over",
        StopReason::NodeShutdown => "its node is shut down",
        StopReason::Restart => "it was to be restarted: its definition or its resources changed",
        StopReason::PostStartHook => "its postStart hook failed",
        StopReason::WithPod => "its pod was to end",
        StopReason::PodCompleted => "its pod's main containers were done",
        StopReason::TearDown => "the run was over",
    }
}
