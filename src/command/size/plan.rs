//! What was asked, resolved: the field, its values, and the scenario with each of them.

use std::fmt::Write as _;

use crate::cli;
use crate::clock;
use crate::loader::{Loaded, Problem, Template};
use crate::scenario::Scenario;
use crate::scenario::setting::{FieldPath, Setting, Settings};
use crate::sizing::report::Question;
use crate::sizing::{Find, Range, Search, grid};

/// What was asked.
#[derive(Debug)]
pub(super) struct Plan {
    template: Template,
    /// The scenario's own name.
    name: String,
    fixed: Settings,
    path: FieldPath,
    pub(super) range: Range,
    pub(super) find: Find,
    pub(super) repeat: u32,
}

impl Plan {
    /// Of the arguments, or what is wrong with them.
    pub(super) fn of(args: &cli::Size) -> Result<Self, String> {
        let (mut sized, mut list) = (Vec::new(), Vec::new());
        for text in &args.set {
            if text.contains('=') {
                list.push(text.parse::<Setting>()?);
            } else {
                sized.push(text.parse::<FieldPath>()?);
            }
        }
        let path = match (sized.pop(), sized.pop()) {
            (Some(path), None) => path,
            (None, _) => {
                return Err("no field is to be sized; give one --set PATH without a value".to_owned());
            }
            (Some(_), Some(other)) => {
                return Err(format!(
                    "one field is sized at a time, {other} and another are too many; give all but one a =VALUE, or see `exit137 sweep`"
                ));
            }
        };
        let template = Template::read(&args.scenario).map_err(|problem| problem.to_string())?;
        let fixed = Settings { list, requests_ratio: args.requests_ratio };
        let name = template.with(&fixed).map_err(|problems| super::lines(&problems))?.scenario.name;
        let find = match args.find {
            cli::Find::Smallest => Find::Smallest,
            cli::Find::Largest => Find::Largest,
        };
        let range = Range::new(args.from, args.to, args.step)?;
        Ok(Self { template, name, fixed, path, range, find, repeat: args.repeat })
    }

    /// The scenario with one of the values, under a name of its own.
    pub(super) fn load(&self, index: usize) -> Result<Loaded, Vec<Problem>> {
        let value = self.range.at(index).to_string();
        let name = grid::name(&self.name, std::slice::from_ref(&value));
        self.template.with(&self.fixed.and(&[Setting { path: self.path.clone(), value }], &name))
    }

    /// The scenario at both ends.
    pub(super) fn ends(&self) -> Result<[Loaded; 2], Vec<Problem>> {
        match (self.load(0), self.load(self.range.last())) {
            (Ok(first), Ok(last)) => Ok([first, last]),
            (Err(mut problems), Err(more)) => {
                problems.extend(more);
                problems.sort();
                Err(problems)
            }
            (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
        }
    }

    /// In the report's words.
    pub(super) fn question(&self) -> Question {
        let last = self.range.last();
        Question {
            scenario: self.name.clone(),
            path: self.path.to_string(),
            find: self.find,
            from: self.range.at(0).to_string(),
            to: self.range.at(last).to_string(),
            step: self.range.step().to_string(),
            repeat: self.repeat,
            most_candidates: Search::most(last),
            set: self.fixed.list.iter().map(ToString::to_string).collect(),
        }
    }

    /// How long it may take.
    pub(super) fn estimate(&self, ends: &[Loaded], args: &cli::Running) -> String {
        let most = u64::try_from(Search::most(self.range.last())).unwrap_or(u64::MAX);
        let trial = ends.iter().map(|end| trial_ms(&end.scenario)).max().unwrap_or(0);
        let batches = 1 + u64::from(self.repeat - 1).div_ceil(u64::from(args.jobs));
        let all = most.saturating_mul(batches).saturating_mul(trial);
        estimate(&format!("at most {most} values, {} trials of each", self.repeat), trial, all, args)
    }
}

/// An estimate in words, and whether the timeout comes before it.
pub(in crate::command) fn estimate(what: &str, trial_ms: u64, all_ms: u64, args: &cli::Running) -> String {
    let mut text = format!("{what}, up to {} each: up to {}", time(trial_ms), time(all_ms));
    if all_ms > args.timeout.ms {
        let _ = write!(text, ", more than the --timeout of {}", args.timeout);
    }
    text
}

/// How long a trial takes at most, once its pods run.
pub(in crate::command) fn trial_ms(scenario: &Scenario) -> u64 {
    // Pods are made and removed, too.
    scenario.observe.for_ms + scenario.observe.settle_ms + 500
}

/// How long it is to go, in words, when so many of all have been done since that nanosecond.
pub(in crate::command) fn to_go(began_ns: u64, done: usize, all: usize) -> String {
    let took = (clock::boot_ns() - began_ns) / 1_000_000;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    time(took / count(done.max(1)) * count(all.saturating_sub(done)))
}

/// Roughly, for people.
fn time(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
