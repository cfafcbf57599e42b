//! The kubelet made the 137 up: it had lost the container and put a number in the place of its end.

use crate::cause::{Cause, Confidence};
use crate::diagnosis::Attribution;
use crate::diagnosis::case::Case;
use crate::evidence::{ContainerEnded, End, Invented, Source};

/// The kubelet counts restarts by what its runtime still has: of a container that it lost it starts the next run under the same
/// number (`restartCount: 0`; seen on 1.20). What is told of that number is then of two runs, and no cause is certain to be of either.
pub(in crate::diagnosis) fn two_under_one_number(case: &Case<'_>) -> Option<Attribution> {
    let ids = case.timeline.ids.get(case.container).filter(|ids| ids.len() > 1)?;
    let (count, number) = (ids.len(), case.container.instance);
    let ids = ids.iter().map(|id| id.get(..12).unwrap_or(id)).collect::<Vec<_>>().join(", ");
    Some(case.undetermined(format!(
        "The kubelet lost a run and gave its number to the next: {count} runs bear the number {number} (containers {ids}), and which of \
         them something happened to is not told apart."
    )))
}

/// Nobody saw how it really ended, and nothing says that a SIGKILL did.
pub(in crate::diagnosis) fn alone(case: &Case<'_>) -> Option<Attribution> {
    let made_up = case.invention.filter(|_| case.only_invented())?;
    let said = in_words(&made_up.fact);
    if case.unnamed_kills() > 0 || case.strangers() > 0 {
        return Some(case.undetermined(format!(
            "{said}; the kernel OOM-killed something meanwhile, and whether that was its main process is not known."
        )));
    }
    // Whoever watches for SIGKILLs, or for the ends of processes, would have told of one.
    let telling = [Source::Trace, Source::Exits];
    let a_kill_would_show = case.main_pid.is_some() && telling.into_iter().any(|source| case.watched(source));
    let confidence = if a_kill_would_show { Confidence::High } else { Confidence::Medium };
    let explanation =
        format!("{said}. How it really ended nobody saw; nothing is known to have been killed.");
    let mut found = case.attribute(Cause::Synthetic, None, confidence, explanation);
    let (from, to) = case.window();
    let seeing = [Source::Kmsg, Source::Trace, Source::Memcg, Source::Exits];
    found.missing = case.timeline.missing(&seeing, from, to);
    Some(found)
}

/// It ended, not by a SIGKILL and not with 137, and the kubelet did not see that (kubernetes#104107).
pub(in crate::diagnosis) fn over_another_end(case: &Case<'_>) -> Option<Attribution> {
    let made_up = case.invention?;
    let really = match case.end? {
        End::Exited(137) | End::Signaled(9) | End::Code(137) => return None,
        End::Exited(code) => format!("it had exited by itself with {code}"),
        End::Signaled(signal) => format!("signal {signal} had ended it"),
        End::Code(code) => format!("it had ended with {code}"),
    };
    let explanation = format!("{}: really, {really}.", in_words(&made_up.fact));
    let mut found = case.attribute(Cause::Synthetic, None, Confidence::Certain, explanation);
    found.evidence.push(made_up.sequence);
    Some(found)
}

/// The invention in words.
pub(in crate::diagnosis) fn in_words(made_up: &ContainerEnded) -> String {
    let code = made_up.end.exit_code();
    let reason = made_up.reason.as_deref().unwrap_or_default();
    let why = match made_up.invented {
        Some(Invented::RestartAllContainers) => "it had removed the container to restart all of its pod's",
        Some(Invented::StatusUnknown) | None => "it could not find the container any more",
    };
    format!("The kubelet made its {code} up, since {why} ({reason})")
}
