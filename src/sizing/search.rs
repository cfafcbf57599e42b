//! Bisection as a state machine: what to try next follows from what is known, and nothing else.
//!
//! Values are ranked by how easy they are to survive: the last rank is the far end, which should hold if any does, and the
//! answer is the lowest rank that holds. Where survival is not what the ranking supposes, what was tried decides: the answer
//! holds, the value next to it fails, and all that was tried beyond it holds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which value is wanted of those at which every expectation holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Find {
    /// The smallest: of limits.
    #[default]
    Smallest,
    /// The largest: of rates, users, replicas.
    Largest,
}

impl Find {
    /// The rank of a value by its index, and the other way around.
    pub fn rank(self, index: usize, last: usize) -> usize {
        match self {
            Self::Smallest => index,
            Self::Largest => last.saturating_sub(index),
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smallest => "smallest",
            Self::Largest => "largest",
        }
    }
}

/// What a value came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// Every trial passed.
    Holds,
    /// A trial failed.
    Fails,
}

/// What is known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    last: usize,
    known: BTreeMap<usize, Held>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Try the value of this rank.
    Try(usize),
    /// Enough is known.
    Done(Answer),
}

/// What has been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This rank holds, and the one below it fails.
    Found(usize),
    /// The near end holds already, and so does what was tried beyond it.
    NearEndHolds,
    /// Even the far end fails.
    FarEndFails {
        /// And the near end holds: survival goes the other way around.
        near_end_holds: bool,
    },
}

impl Search {
    /// Among ranks 0 to `last`, of which nothing is known.
    pub fn new(last: usize) -> Self {
        Self { last, known: BTreeMap::new() }
    }

    /// At most so many values will be tried: both ends, and one for each halving of what lies between them.
    pub fn most(last: usize) -> usize {
        2 + usize::try_from(last.max(1).next_power_of_two().trailing_zeros()).unwrap_or(0)
    }

    /// Remembers what the value of a rank came to.
    pub fn tell(&mut self, rank: usize, held: Held) {
        self.known.insert(rank, held);
    }

    /// What to do next.
    pub fn next(&self) -> Step {
        let Some(far) = self.known.get(&self.last) else { return Step::Try(self.last) };
        let Some(near) = self.known.get(&0) else { return Step::Try(0) };
        if *far == Held::Fails {
            return Step::Done(Answer::FarEndFails { near_end_holds: *near == Held::Holds });
        }
        let middle = self.last / 2;
        match self.bracket() {
            (Some(fails), Some(holds)) if holds - fails > 1 => Step::Try(fails + (holds - fails) / 2),
            (Some(_), holds) => Step::Done(Answer::Found(holds.unwrap_or(self.last))),
            // An answer from the two ends alone would rest on the ranking; there is room to look between them.
            (None, _) if !self.known.contains_key(&middle) => Step::Try(middle),
            (None, _) => Step::Done(Answer::NearEndHolds),
        }
    }

    /// The highest rank that is known to fail, and the lowest above it that is known to hold.
    pub fn bracket(&self) -> (Option<usize>, Option<usize>) {
        let of =
            |held: Held| self.known.iter().filter(move |(_, known)| **known == held).map(|(rank, _)| *rank);
        let fails = of(Held::Fails).max();
        (fails, of(Held::Holds).find(|rank| fails.is_none_or(|fails| *rank > fails)))
    }

    /// Ranks that hold although a higher one fails, each with the highest that does.
    pub fn contradictions(&self) -> Vec<(usize, usize)> {
        let Some(fails) = self.bracket().0 else { return Vec::new() };
        self.known
            .range(..fails)
            .filter(|(_, held)| **held == Held::Holds)
            .map(|(rank, _)| (*rank, fails))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a search against a truth; answers what was tried, in its order, and what was found.
    fn search(last: usize, truth: impl Fn(usize) -> bool) -> (Vec<usize>, Search, Answer) {
        let (mut search, mut tried) = (Search::new(last), Vec::new());
        loop {
            match search.next() {
                Step::Done(answer) => return (tried, search, answer),
                Step::Try(rank) => {
                    assert!(rank <= last && !tried.contains(&rank), "{rank} is tried once, and in the range");
                    tried.push(rank);
                    search.tell(rank, if truth(rank) { Held::Holds } else { Held::Fails });
                }
            }
        }
    }

    #[test]
    fn every_threshold_on_every_grid_is_found_within_the_bound() {
        for last in 1..=200 {
            for threshold in 0..=last + 1 {
                let (tried, search, answer) = search(last, |rank| rank >= threshold);
                let expected = match threshold {
                    0 => Answer::NearEndHolds,
                    threshold if threshold > last => Answer::FarEndFails { near_end_holds: false },
                    threshold => Answer::Found(threshold),
                };
                assert_eq!(answer, expected, "{threshold} of {last}");
                assert!(tried.len() <= Search::most(last), "{threshold} of {last}: {tried:?}");
                assert_eq!(search.contradictions(), []);
            }
        }
    }

    #[test]
    fn the_bound_is_the_logarithm_of_the_steps_and_two() {
        for (last, most) in [(1, 2), (2, 3), (3, 4), (4, 4), (5, 5), (32, 7), (33, 8), (1024, 12)] {
            assert_eq!(Search::most(last), most, "{last}");
        }
    }

    #[test]
    fn survival_the_other_way_around_is_told_from_none_at_all() {
        assert_eq!(search(9, |rank| rank < 4).2, Answer::FarEndFails { near_end_holds: true });
        assert_eq!(search(9, |_| false).2, Answer::FarEndFails { near_end_holds: false });
    }

    #[test]
    fn a_hole_in_the_middle_is_found_and_named() {
        let (tried, search, answer) = search(16, |rank| !(3..11).contains(&rank));
        assert_eq!(answer, Answer::Found(11));
        assert_eq!(search.contradictions(), [(0, 10)]);
        assert!(tried.len() <= Search::most(16));
    }

    proptest! {
        /// Whatever the truth is, noise included.
        #[test]
        fn nothing_is_claimed_that_was_not_tried(truth in proptest::collection::vec(any::<bool>(), 2..300)) {
            let last = truth.len() - 1;
            let (tried, search, answer) = search(last, |rank| truth[rank]);
            prop_assert!(tried.len() <= Search::most(last));
            match answer {
                Answer::Found(rank) => {
                    prop_assert!(tried.contains(&rank) && truth[rank]);
                    prop_assert!(tried.contains(&(rank - 1)) && !truth[rank - 1]);
                    prop_assert!(tried.iter().filter(|tried| **tried > rank).all(|above| truth[*above]));
                }
                Answer::NearEndHolds => prop_assert!(tried.contains(&0) && tried.iter().all(|tried| truth[*tried])),
                Answer::FarEndFails { near_end_holds } => {
                    prop_assert!(tried.contains(&last) && !truth[last]);
                    prop_assert_eq!(near_end_holds, truth[0]);
                }
            }
            for (holds, fails) in search.contradictions() {
                prop_assert!(holds < fails && truth[holds] && !truth[fails]);
            }
        }
    }
}
