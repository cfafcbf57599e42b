//! The trials of one value: how many more, and what they come to.

use super::search::Held;
use crate::report::model::Outcome;

/// What the trials of a value have come to so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    wanted: u32,
    passed: u32,
    failed: u32,
    /// Inconclusive and errored ones, which say neither; and the worse of what they were.
    open: u32,
    worst: Option<Outcome>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Begin so many trials, beside each other where that is allowed; the first failure settles it.
    Begin(u32),
    /// They say this.
    Settled(Held),
    /// They do not say, twice: because of this.
    Open(Outcome),
}

impl Tally {
    /// Of so many trials that all must pass.
    pub fn new(wanted: u32) -> Self {
        Self { wanted: wanted.max(1), passed: 0, failed: 0, open: 0, worst: None }
    }

    /// Counts a trial.
    pub fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Inconclusive | Outcome::Errored | Outcome::Skipped => {
                self.open += 1;
                self.worst = self.worst.max(Some(outcome));
            }
        }
    }

    /// What to do next. The first trial is alone: most values that fail do so in it.
    pub fn next(&self) -> Next {
        match (self.failed, self.open, self.worst) {
            (1.., ..) => Next::Settled(Held::Fails),
            (0, 2.., Some(worst)) => Next::Open(worst),
            (0, ..) if self.passed >= self.wanted => Next::Settled(Held::Holds),
            (0, ..) if self.passed == 0 || self.open > 0 => Next::Begin(1),
            (0, ..) => Next::Begin(self.wanted - self.passed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(wanted: u32, outcomes: &[Outcome]) -> Next {
        let mut tally = Tally::new(wanted);
        for outcome in outcomes {
            tally.count(*outcome);
        }
        tally.next()
    }

    #[test]
    fn a_value_holds_once_every_trial_has_passed_and_fails_with_the_first_that_fails() {
        use Outcome::{Failed, Passed};
        assert_eq!(after(3, &[]), Next::Begin(1));
        assert_eq!(after(3, &[Passed]), Next::Begin(2));
        assert_eq!(after(3, &[Passed, Passed, Passed]), Next::Settled(Held::Holds));
        assert_eq!(after(3, &[Failed]), Next::Settled(Held::Fails));
        assert_eq!(after(3, &[Passed, Passed, Failed]), Next::Settled(Held::Fails));
    }

    #[test]
    fn a_trial_that_says_neither_is_tried_once_more() {
        use Outcome::{Errored, Failed, Inconclusive, Passed};
        assert_eq!(after(2, &[Inconclusive]), Next::Begin(1));
        assert_eq!(after(2, &[Passed, Inconclusive, Passed]), Next::Settled(Held::Holds));
        assert_eq!(after(2, &[Inconclusive, Failed]), Next::Settled(Held::Fails));
        assert_eq!(after(2, &[Inconclusive, Inconclusive]), Next::Open(Inconclusive));
        assert_eq!(after(2, &[Inconclusive, Passed, Errored]), Next::Open(Errored));
    }
}
