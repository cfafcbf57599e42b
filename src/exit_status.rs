//! The program's exit statuses, and the one function that chooses among them.

/// What a run's parts came to; the process's exit status follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitStatus {
    /// All passed.
    Passed,
    /// A scenario failed.
    Failed,
    /// The command line or a scenario is wrong; nothing was started.
    Usage,
    /// The environment or the harness failed.
    Environment,
    /// Nothing ran: nothing was selected, or all was skipped.
    NothingRan,
    /// Something is inconclusive, and nothing failed.
    Inconclusive,
    /// SIGINT ended it.
    Interrupted,
    /// SIGTERM ended it.
    Terminated,
}

/// What `--help` says of them.
pub const HELP: &str = "\
Exit status:
  0    every scenario passed
  1    a scenario failed
  2    wrong usage, or an invalid scenario; nothing was started
  3    the environment or exit137 itself failed
  4    nothing ran: no scenario was selected, or all were skipped
  5    inconclusive, and nothing failed
  130  interrupted by SIGINT
  143  interrupted by SIGTERM
Where several apply: 130 and 143 before 3, 1, 5, 4 and 0. It is never 137.";

impl ExitStatus {
    /// Every status, the one that wins first.
    const PRECEDENCE: [Self; 8] = [
        Self::Interrupted,
        Self::Terminated,
        Self::Usage,
        Self::Environment,
        Self::Failed,
        Self::Inconclusive,
        Self::NothingRan,
        Self::Passed,
    ];

    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::NothingRan => 4,
            Self::Inconclusive => 5,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The one status for all of these; of nothing at all, that nothing ran.
    ///
    /// That something was skipped says nothing while something else passed, so "nothing ran" counts only alone.
    pub fn choose(of: impl IntoIterator<Item = Self>) -> Self {
        let all: Vec<Self> = of.into_iter().collect();
        if all.contains(&Self::Passed)
            && all.iter().all(|status| matches!(status, Self::Passed | Self::NothingRan))
        {
            return Self::Passed;
        }
        Self::PRECEDENCE.into_iter().find(|status| all.contains(status)).unwrap_or(Self::NothingRan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interruption_comes_before_failure_of_the_environment_before_failure_before_inconclusive() {
        let order = [
            ExitStatus::Interrupted,
            ExitStatus::Environment,
            ExitStatus::Failed,
            ExitStatus::Inconclusive,
            ExitStatus::NothingRan,
        ];
        for (index, first) in order.iter().enumerate() {
            for second in &order[index..] {
                for third in &order[index..] {
                    assert_eq!(ExitStatus::choose([*third, *first, *second]), *first);
                }
            }
        }
    }

    #[test]
    fn a_skip_beside_a_pass_is_a_pass_and_nothing_is_nothing() {
        assert_eq!(ExitStatus::choose([ExitStatus::NothingRan, ExitStatus::Passed]), ExitStatus::Passed);
        assert_eq!(ExitStatus::choose([ExitStatus::NothingRan]), ExitStatus::NothingRan);
        assert_eq!(ExitStatus::choose([]), ExitStatus::NothingRan);
    }

    #[test]
    fn no_status_is_137_and_each_is_told_in_the_help() {
        for status in ExitStatus::PRECEDENCE {
            assert_ne!(status.code(), 137);
            assert!(HELP.contains(&format!("\n  {:<4} ", status.code())), "{status:?}");
        }
    }
}
