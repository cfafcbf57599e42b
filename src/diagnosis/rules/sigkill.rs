//! A SIGKILL that neither the OOM killer nor a stop explains.

use crate::cause::{Cause, Confidence, Detail};
use crate::diagnosis::Attribution;
use crate::diagnosis::case::{Case, Hand};
use crate::diagnosis::domain::touches;
use crate::diagnosis::timeline::{MS, SECOND};
use crate::evidence::{End, Source};

/// How much later than its limit a process may be found to have used up its CPU time: the kernel looks at each tick
/// (`posix-cpu-timers.c:check_process_timers`), and wait status comes with what tearing it down took.
const CPU_SLACK_MS: u64 = 1_000;

/// Programs that kill for want of memory without the kernel's doing, by the names that the kernel keeps of them (15 bytes).
const USERSPACE_KILLERS: [&str; 4] = ["systemd-oomd", "earlyoom", "nohang", "oomd"];

/// A process other than the runtime sent it.
pub(in crate::diagnosis) fn external(case: &Case<'_>) -> Option<Attribution> {
    let sigkill = case.sigkill.filter(|seen| seen.fact.code <= 0)?;
    if case.sigkilled() == Some(false) || case.hand() != Hand::Other {
        return None;
    }
    let known = case.start.is_some_and(|start| start.fact.runtime_pid.is_some());
    let confidence = if known { Confidence::Certain } else { Confidence::High };
    let fact = &sigkill.fact;
    // Anybody can take such a name, so it is never more than high.
    let (cause, confidence, what) = if USERSPACE_KILLERS.contains(&fact.sender_comm.as_str()) {
        (Cause::UserspaceOom, confidence.min(Confidence::High), ", a userspace OOM killer,")
    } else {
        (Cause::ExternalKill, confidence, "")
    };
    let explanation =
        format!("{} (PID {}){what} sent SIGKILL to its main process.", fact.sender_comm, fact.sender_pid);
    let mut found = case.attribute(cause, None, confidence, explanation);
    found.sender = case.sender();
    found.evidence.push(sigkill.sequence);
    Some(found)
}

/// The kernel sent it (`si_code` above 0), and no mark, log line or counter makes it an OOM.
pub(in crate::diagnosis) fn kernel(case: &Case<'_>) -> Option<Attribution> {
    if case.end != Some(End::Signaled(9)) || case.main_kill.is_some() || case.failed.is_some() {
        return None;
    }
    let sources = case.no_oom_by();
    let from_kernel = case.sigkill.map(|seen| seen.fact.code > 0);
    let at = case.sigkill.map_or(case.ended_at, |seen| seen.at);
    // A process that shares a victim's memory is killed with it, and no line names it (oom_kill.c:__oom_kill_process).
    let beside = case.child_kills.iter().any(|kill| touches(kill.at.moment, at, 20 * MS));
    if sources.is_empty() || beside || case.unnamed_kills() > 0 {
        return None;
    }
    let used_up = cpu_used_up(case, if from_kernel == Some(true) { 4 } else { 10 });
    let (detail, confidence) = match from_kernel {
        Some(true) => {
            let sure = if sources.len() >= 2 { Confidence::High } else { Confidence::Medium };
            (used_up.then_some(Detail::RlimitCpu), sure)
        }
        // Nobody saw who sent it, but nothing lives past its hard limit for long.
        None if used_up && case.hand() != Hand::RuntimeSays && case.decision().is_none() => {
            if case.watched(Source::Trace) {
                return None;
            }
            (Some(Detail::RlimitCpu), Confidence::Medium)
        }
        Some(false) | None => return None,
    };
    let explanation = if used_up {
        "The kernel killed it: it had used up the CPU time that its hard RLIMIT_CPU allows.".to_owned()
    } else {
        "The kernel sent SIGKILL to its main process, and not for want of memory.".to_owned()
    };
    let mut found = case.attribute(Cause::KernelKill, detail, confidence, explanation);
    found.evidence.extend(case.sigkill.map(|seen| seen.sequence));
    Some(found)
}

/// Whether it had used the CPU time of its hard limit, but for one part in `slack`.
///
/// The kernel compares time that it counts in ticks, wait status has it to the nanosecond (`thread_group_cputime`): on a
/// busy machine they were seen to differ by 12 %. Where the kernel is known to have sent the SIGKILL, that is room enough.
fn cpu_used_up(case: &Case<'_>, slack: u64) -> bool {
    let limit = case.start.and_then(|start| start.fact.rlimit_cpu).map(|seconds| seconds * 1_000);
    match (limit, case.cpu_ms) {
        (Some(limit), Some(used)) => used + limit / slack >= limit && used <= limit + CPU_SLACK_MS,
        (_, _) => false,
    }
}

/// The wait status says SIGKILL and no signal was ever generated: so does seccomp's strict mode
/// (`seccomp.c:__secure_computing_strict` calls `do_exit(SIGKILL)`). It is by elimination, and so never more than medium.
pub(in crate::diagnosis) fn seccomp(case: &Case<'_>) -> Option<Attribution> {
    let unseen = case.sigkill.is_none() && case.watched(Source::Trace) && case.main_pid.is_some();
    if case.end != Some(End::Signaled(9)) || !unseen || case.failed.is_some() || case.main_kill.is_some() {
        return None;
    }
    let elsewhere = case.no_oom_by().iter().any(|source| *source != Source::Trace);
    if !elsewhere || case.runtime_sent(9).is_some() || case.unnamed_kills() > 0 || a_thread_was_killed(case) {
        return None;
    }
    let explanation =
        "Its main process was killed without any SIGKILL being sent, as seccomp's strict mode does.";
    Some(case.attribute(Cause::KernelKill, Some(Detail::Seccomp), Confidence::Medium, explanation.to_owned()))
}

/// A SIGKILL to any thread of a process kills all of it; a thread is seen as one more process of the container.
fn a_thread_was_killed(case: &Case<'_>) -> bool {
    let to = case.ended_at.latest();
    let mut signals = case.timeline.signals.between(to.saturating_sub(SECOND), to);
    signals.any(|seen| {
        let fact = &seen.fact;
        let ours =
            case.timeline.processes.iter().any(|process| {
                process.fact.pid == fact.target_pid && process.fact.container == *case.container
            });
        ours && fact.signal == 9 && fact.code <= 0 && fact.result == 0
    })
}
