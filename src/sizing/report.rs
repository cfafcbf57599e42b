//! What a sizing came to: the answer, how sure it is, and what it rests on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digest::{Digest, Memory};
use super::search::{Answer, Find, Held};
use super::thrashing;

/// The version of this model.
pub const VERSION: &str = "exit137/size/v1";

/// A sizing: `size.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SizeReport {
    /// `exit137/size/v1`.
    pub version: String,
    /// What was asked.
    pub question: Question,
    /// How it ended.
    pub outcome: Sized,
    /// The value that was found; without one, see `outcome` and `notes`.
    pub answer: Option<String>,
    /// The value one step beside it, which fails.
    pub fails: Option<String>,
    /// How far the answer is above what was used there.
    pub margin: Option<Margin>,
    /// How sure it is that the answer holds.
    pub confidence: Option<Confidence>,
    /// Signs that the answer is survived by thrashing: what the easiest value does not show.
    pub thrashing: Vec<String>,
    /// Where there are such signs, the value nearest to the answer that was tried and shows none.
    pub knee: Option<String>,
    /// Values that hold although an easier one fails: survival is not monotonic.
    pub not_monotonic: Vec<Contradiction>,
    /// Other things worth a line.
    pub notes: Vec<String>,
    /// Every value that was tried, in the order of their values.
    pub candidates: Vec<Candidate>,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The scenario's name.
    pub scenario: String,
    /// Which of its fields.
    pub path: String,
    /// Which of the values that hold.
    pub find: Find,
    /// The smallest value.
    pub from: String,
    /// The largest value.
    pub to: String,
    /// From one value to the next.
    pub step: String,
    /// So many trials of each value must pass.
    pub repeat: u32,
    /// At most so many values are tried.
    pub most_candidates: usize,
    /// What else was set: `PATH=VALUE`.
    pub set: Vec<String>,
}

/// How a sizing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sized {
    /// The answer holds and the value beside it fails.
    Found,
    /// The near end of the range holds already: the true answer may lie beyond it.
    NearEndHolds,
    /// Even the far end of the range fails.
    FarEndFails,
    /// A value's trials were inconclusive, twice.
    Inconclusive,
    /// exit137 or the environment failed, twice.
    Errored,
    /// It was ended early, by a signal or its timeout.
    CutShort,
}

/// How far a limit is above what was used below it, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Margin {
    /// Of the container that came nearest to its limit.
    pub container: String,
    /// Its limit at the answer.
    pub limit: u64,
    /// The most that it used there.
    pub peak: u64,
    /// What was left.
    pub left: u64,
}

/// How sure it is that a value holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confidence {
    /// So many trials passed, and none failed.
    pub passed: u32,
    /// At 95 % confidence the true share of failing runs is below this: `1 - 0.05^(1/n)`.
    pub failure_rate_below: f64,
    /// Did one run in twenty fail, so many trials would all the same have passed with this probability: `0.95^n`.
    pub one_in_twenty_unseen: f64,
}

/// A value that holds although an easier one fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contradiction {
    /// The value that holds.
    pub holds: String,
    /// The easier one that fails.
    pub fails: String,
}

/// A value that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its place among the values, 0 is the smallest.
    pub index: usize,
    /// The value.
    pub value: String,
    /// What it came to; nothing where its trials did not say, or were cut short.
    pub held: Option<Held>,
    /// Its folder, in the sizing's: an ordinary scenario with its trials.
    pub folder: String,
    /// What its trials say together.
    pub trials: Digest,
}

/// How the driving of a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer.
    Answered(Answer),
    /// With a value whose trials did not say.
    Open(Sized),
}

impl Confidence {
    /// Of so many passed trials.
    pub fn of(passed: u32) -> Self {
        let n = f64::from(passed);
        Self {
            passed,
            failure_rate_below: 1.0 - 0.05_f64.powf(1.0 / n),
            one_in_twenty_unseen: 0.95_f64.powf(n),
        }
    }
}

impl SizeReport {
    /// Of what was asked and tried. Each of `contradictions` is a value that holds and an easier one that fails.
    pub fn new(
        question: Question,
        last: usize,
        ended: Ended,
        contradictions: &[(String, String)],
        mut candidates: Vec<Candidate>,
    ) -> Self {
        candidates.sort_by_key(|candidate| candidate.index);
        let find = question.find;
        let at = |rank: usize| candidates.iter().find(|candidate| find.rank(candidate.index, last) == rank);
        let (outcome, rank) = match ended {
            Ended::Answered(Answer::Found(rank)) => (Sized::Found, Some(rank)),
            Ended::Answered(Answer::NearEndHolds) => (Sized::NearEndHolds, Some(0)),
            Ended::Answered(Answer::FarEndFails { .. }) => (Sized::FarEndFails, None),
            Ended::Open(why) => (why, None),
        };
        let answer = rank.and_then(at);
        let signs =
            |digest: &Digest| at(last).map_or_else(Vec::new, |far| thrashing::signs(digest, &far.trials));
        let thrashing = answer.map_or_else(Vec::new, |answer| signs(&answer.trials));
        let mut beyond: Vec<&Candidate> =
            candidates.iter().filter(|one| one.held == Some(Held::Holds)).collect();
        beyond.sort_by_key(|one| find.rank(one.index, last));
        let above = |one: &&Candidate| rank.is_some_and(|rank| find.rank(one.index, last) > rank);
        let knee = beyond.into_iter().filter(above).find(|one| signs(&one.trials).is_empty());
        let knee = knee.filter(|_| !thrashing.is_empty()).map(|one| one.value.clone());
        let fails = rank.and_then(|rank| at(rank.checked_sub(1)?)).map(|one| one.value.clone());
        Self {
            version: VERSION.to_owned(),
            outcome,
            answer: answer.map(|one| one.value.clone()),
            fails,
            margin: answer.and_then(|one| margin(&one.trials, &question.path)),
            confidence: answer.map(|one| Confidence::of(one.trials.passed)),
            thrashing,
            knee,
            not_monotonic: contradictions
                .iter()
                .map(|(holds, fails)| Contradiction { holds: holds.clone(), fails: fails.clone() })
                .collect(),
            notes: notes(&question, ended, last, &candidates)
                .into_iter()
                .chain(answer.and_then(|one| unknown_hits(&one.trials)))
                .collect(),
            candidates,
            question,
        }
    }
}

/// Of the container whose limit was sized, or of the one that came nearest to its own.
fn margin(trials: &Digest, path: &str) -> Option<Margin> {
    let margins = trials.memory.iter().filter_map(|memory| {
        let (limit, peak) = memory.limit.zip(memory.peak)?;
        Some(Margin { container: memory.container.clone(), limit, peak, left: limit.saturating_sub(peak) })
    });
    let sized = |margin: &Margin| {
        let named = margin.container.split_once('/').is_some_and(|(pod, container)| {
            path.split('.').any(|step| step == pod) && path.split('.').any(|step| step == container)
        });
        !named
    };
    margins.min_by_key(|margin| (sized(margin), margin.left))
}

fn notes(question: &Question, ended: Ended, last: usize, candidates: &[Candidate]) -> Vec<String> {
    let Question { path, from, to, find, .. } = question;
    let (near, far) = match find {
        Find::Smallest => (from, to),
        Find::Largest => (to, from),
    };
    let mut notes = Vec::new();
    match ended {
        Ended::Answered(Answer::NearEndHolds) => notes.push(match find {
            Find::Smallest => {
                format!("{near} holds already: a still smaller one may hold too; lower --from to know")
            }
            Find::Largest => {
                format!("{near} holds already: a still larger one may hold too; raise --to to know")
            }
        }),
        Ended::Answered(Answer::FarEndFails { near_end_holds: true }) => {
            let other = match find {
                Find::Smallest => "largest",
                Find::Largest => "smallest",
            };
            notes.push(format!(
                "{far} fails and {near} holds: survival goes the other way around; did you mean --find {other}?"
            ));
        }
        Ended::Answered(Answer::FarEndFails { near_end_holds: false }) => {
            notes.push(format!("even {path}={far} fails; widen the range, or look at why it fails"));
        }
        Ended::Answered(Answer::Found(_)) => {}
        Ended::Open(_) => notes.extend(bracket(*find, last, candidates)),
    }
    for candidate in candidates.iter().filter(|one| one.held == Some(Held::Fails) && one.trials.passed > 0) {
        let Digest { passed, failed, .. } = candidate.trials;
        notes.push(format!(
            "{} passed {passed} times and failed {failed}: survival there is a matter of luck",
            candidate.value
        ));
    }
    notes
}

/// cgroup v1 counts no hits of a limit that is met just so: then nothing tells whether it is survived at ease.
fn unknown_hits(trials: &Digest) -> Option<String> {
    let full = |memory: &&Memory| {
        let met = memory.limit.zip(memory.peak).is_some_and(|(limit, peak)| peak >= limit / 100 * 98);
        met && memory.limit_hits.is_none()
    };
    let container = &trials.memory.iter().find(full)?.container;
    Some(format!(
        "{container} uses all of its limit, and whether it had to reclaim for that is not known here"
    ))
}

/// What is known of where the answer lies.
fn bracket(find: Find, last: usize, candidates: &[Candidate]) -> Option<String> {
    let of = |held: Held| candidates.iter().filter(move |one| one.held == Some(held));
    let rank = |one: &&Candidate| find.rank(one.index, last);
    let fails = of(Held::Fails).max_by_key(rank);
    let above = |one: &&Candidate| fails.is_none_or(|fails| rank(one) > rank(&fails));
    let holds = of(Held::Holds).filter(above).min_by_key(rank);
    match (fails, holds) {
        (Some(fails), Some(holds)) => Some(format!(
            "so far: {} fails and {} holds, the answer lies between them",
            fails.value, holds.value
        )),
        (None, Some(holds)) => Some(format!("so far: {} holds", holds.value)),
        (Some(fails), None) => Some(format!("so far: {} fails", fails.value)),
        (None, None) => None,
    }
}

/// The JSON Schema of size.json.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(SizeReport).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: usize, held: Held, hits: u64) -> Candidate {
        let memory = Memory {
            container: "web/app".into(),
            limit: Some(100 + index as u64),
            peak: Some(90),
            limit_hits: Some(hits),
            ..Memory::default()
        };
        let passed = if held == Held::Holds { 5 } else { 0 };
        let trials =
            Digest { runs: 5, passed, failed: 5 - passed, memory: vec![memory], ..Digest::default() };
        Candidate {
            index,
            value: format!("{index}Mi"),
            held: Some(held),
            folder: format!("x-{index}mi"),
            trials,
        }
    }

    fn question(find: Find) -> Question {
        Question {
            scenario: "x".into(),
            path: "pods.web.containers.app.resources.limits.memory".into(),
            find,
            from: "0Mi".into(),
            to: "8Mi".into(),
            step: "1Mi".into(),
            repeat: 5,
            most_candidates: 5,
            set: Vec::new(),
        }
    }

    #[test]
    fn the_answer_has_its_margin_its_confidence_and_the_value_beside_it() {
        let tried = vec![
            candidate(8, Held::Holds, 0),
            candidate(0, Held::Fails, 9),
            candidate(3, Held::Fails, 9),
            candidate(4, Held::Holds, 0),
        ];
        let report =
            SizeReport::new(question(Find::Smallest), 8, Ended::Answered(Answer::Found(4)), &[], tried);
        assert_eq!((report.answer.as_deref(), report.fails.as_deref()), (Some("4Mi"), Some("3Mi")));
        assert_eq!(report.margin.map(|margin| margin.left), Some(14));
        let sure = report.confidence.unwrap();
        assert!((sure.failure_rate_below - 0.4507).abs() < 0.001, "{sure:?}");
        assert!((sure.one_in_twenty_unseen - 0.7738).abs() < 0.001, "{sure:?}");
        assert!(report.thrashing.is_empty() && report.knee.is_none() && report.notes.is_empty());
    }

    #[test]
    fn a_value_that_survives_by_reclaim_is_named_and_the_knee_beside_it() {
        let tried = vec![
            candidate(8, Held::Holds, 0),
            candidate(6, Held::Holds, 0),
            candidate(5, Held::Holds, 40),
            candidate(4, Held::Holds, 70),
            candidate(3, Held::Fails, 9),
        ];
        let report =
            SizeReport::new(question(Find::Smallest), 8, Ended::Answered(Answer::Found(4)), &[], tried);
        assert_eq!(report.thrashing.len(), 1);
        assert_eq!(report.knee.as_deref(), Some("6Mi"));
    }

    #[test]
    fn of_rates_the_largest_is_found_and_its_neighbour_above_fails() {
        // Rank 0 is 8: rank 3 is 5.
        let tried =
            vec![candidate(0, Held::Holds, 0), candidate(5, Held::Holds, 0), candidate(6, Held::Fails, 0)];
        let report =
            SizeReport::new(question(Find::Largest), 8, Ended::Answered(Answer::Found(3)), &[], tried);
        assert_eq!((report.answer.as_deref(), report.fails.as_deref()), (Some("5Mi"), Some("6Mi")));
    }

    #[test]
    fn what_was_cut_short_says_between_what_the_answer_lies() {
        let tried = vec![candidate(8, Held::Holds, 0), candidate(0, Held::Fails, 9)];
        let report = SizeReport::new(question(Find::Smallest), 8, Ended::Open(Sized::CutShort), &[], tried);
        assert_eq!(report.answer, None);
        assert_eq!(report.notes, ["so far: 0Mi fails and 8Mi holds, the answer lies between them"]);
    }
}
