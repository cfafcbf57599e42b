//! What somebody says who has the exit code alone, Kubernetes' own reason, or the raw wait status alone.

use exit137::cause::Cause;
use exit137::evidence::End;

/// How an answer stands to the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It names what it was.
    Right,
    /// It names something else.
    Wrong,
    /// It says that it does not know.
    Untold,
    /// It does not notice that anything happened.
    Missed,
}

/// "137 means OOMKilled". To its favour any OOM counts as named, whosever limit it was.
pub fn by_exit_code(truth: Option<Cause>, code: Option<i32>) -> Answer {
    match (code == Some(137), truth) {
        (true, _) if is_oom(truth) => Answer::Right,
        (true, _) => Answer::Wrong,
        (false, None) => Answer::Right,
        (false, Some(_)) => Answer::Missed,
    }
}

/// "`OOMKilled` means an OOM kill, and `Error` that there was none." On this host nobody gives a reason.
pub fn by_reason(truth: Option<Cause>, reason: Option<&str>) -> Answer {
    match (reason, is_oom(truth)) {
        (None, _) => Answer::Untold,
        (Some("OOMKilled"), true) => Answer::Right,
        (Some("OOMKilled"), false) => Answer::Wrong,
        (Some(_), true) => Answer::Missed,
        // It is right that it was no OOM kill, and does not say what it was.
        (Some(_), false) if truth.is_some() => Answer::Untold,
        (Some(_), false) => Answer::Right,
    }
}

fn is_oom(truth: Option<Cause>) -> bool {
    matches!(
        truth,
        Some(
            Cause::ContainerOom
                | Cause::PodOom
                | Cause::NodeOom
                | Cause::ChildOom
                | Cause::StartOom
                | Cause::ResizeOom
        )
    )
}

/// "Signal 9: somebody sent SIGKILL" and "status 137: it exited by itself".
pub fn by_wait_status(truth: Option<Cause>, end: Option<End>) -> Answer {
    match (end, truth) {
        (Some(End::Signaled(_)), _) => Answer::Untold,
        (Some(End::Exited(_)), Some(Cause::Exit137) | None) => Answer::Right,
        (Some(End::Exited(_)), Some(_)) => Answer::Wrong,
        (Some(End::Code(_)) | None, _) => Answer::Untold,
    }
}
