//! Drives the search: runs the trials that it asks for, on one backend, and tells it what they came to.

use super::plan::{Plan, to_go};
use crate::backend::Backend;
use crate::clock;
use crate::command::run::{Reported, Stage, Trial, Work, run_trials};
use crate::loader::Loaded;
use crate::report::TrialReport;
use crate::report::model::Outcome;
use crate::report::text::Style;
use crate::scenario::Scenario;
use crate::sizing::digest::Digest;
use crate::sizing::report::{Candidate, Ended, SizeReport, Sized};
use crate::sizing::tally::{Next, Tally};
use crate::sizing::{Search, Step, text};

/// A search, and what it has tried.
#[derive(Debug)]
pub(super) struct Sizing<'a> {
    plan: &'a Plan,
    search: Search,
    tried: Vec<Candidate>,
    ended: Ended,
}

impl<'a> Sizing<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let search = Search::new(plan.range.last());
        Self { plan, search, tried: Vec::new(), ended: Ended::Open(Sized::Errored) }
    }

    /// What is known.
    pub(super) fn report(self) -> SizeReport {
        let last = self.plan.range.last();
        let value = |rank: usize| self.plan.range.at(self.plan.find.rank(rank, last)).to_string();
        let contradictions: Vec<(String, String)> = self
            .search
            .contradictions()
            .into_iter()
            .map(|(holds, fails)| (value(holds), value(fails)))
            .collect();
        SizeReport::new(self.plan.question(), last, self.ended, &contradictions, self.tried)
    }

    /// Runs the trials of a value until they say whether it holds, or are cut short.
    async fn candidate<B: Backend>(&mut self, stage: &Stage<'_, B>, index: usize) -> Result<Next, String> {
        let loaded = self.plan.load(index).map_err(|problems| super::lines(&problems))?;
        let folder = stage.artifacts.scenario(&loaded).map_err(|error| error.to_string())?;
        let mut tally = Tally::new(self.plan.repeat);
        let mut reports: Vec<TrialReport> = Vec::new();
        let next = loop {
            let Next::Begin(wanted) = tally.next() else { break tally.next() };
            if stage.is_over() {
                break Next::Begin(wanted);
            }
            let count = u32::try_from(stage.beside(&loaded)).unwrap_or(u32::MAX).min(wanted);
            let before = u32::try_from(reports.len()).unwrap_or(u32::MAX);
            let trial = |number: u32| Trial { loaded: &loaded, folder: &folder, number: before + number };
            let trials: Vec<Trial<'_>> = (1..=count).map(trial).collect();
            for report in run_trials(&trials, stage, |_| {}).await? {
                tally.count(report.outcome);
                reports.push(report);
            }
        };
        let held = if let Next::Settled(held) = next { Some(held) } else { None };
        let trials = digest(&loaded.scenario, &reports);
        let (value, folder) = (self.plan.range.at(index).to_string(), loaded.scenario.name.clone());
        self.tried.push(Candidate { index, value, held, folder, trials });
        Ok(next)
    }
}

/// What trials say together.
pub(in crate::command) fn digest(scenario: &Scenario, trials: &[TrialReport]) -> Digest {
    let pod = |name: &str| {
        let of = scenario.pods.iter().find(|pod| pod.is_named(name));
        of.map_or_else(|| name.to_owned(), |pod| pod.name.clone())
    };
    Digest::of(trials, pod)
}

impl Work for Sizing<'_> {
    fn repeat(&self) -> u32 {
        self.plan.repeat
    }

    async fn on<B: Backend>(
        &mut self,
        stage: &Stage<'_, B>,
        scenarios: &[&Loaded],
    ) -> Result<Vec<Reported>, String> {
        match scenarios {
            // None can run here, and that has been said.
            [] => return Ok(Vec::new()),
            [only] => {
                return Err(format!(
                    "the two ends of the range do not run on the same backend: only {} can on this one; size what needs no node of its own",
                    only.scenario.name
                ));
            }
            [_, _, ..] => {}
        }
        let (last, find, began) = (self.plan.range.last(), self.plan.find, clock::boot_ns());
        let most = Search::most(last);
        self.ended = loop {
            let rank = match self.search.next() {
                Step::Done(answer) => break Ended::Answered(answer),
                Step::Try(rank) => rank,
            };
            match self.candidate(stage, find.rank(rank, last)).await? {
                Next::Settled(held) => self.search.tell(rank, held),
                Next::Begin(_) => break Ended::Open(Sized::CutShort),
                Next::Open(_) if stage.is_over() => break Ended::Open(Sized::CutShort),
                Next::Open(Outcome::Errored) => break Ended::Open(Sized::Errored),
                Next::Open(_) => break Ended::Open(Sized::Inconclusive),
            }
            if let Some(candidate) = self.tried.last() {
                let (done, line) = (self.tried.len(), text::line(candidate, 0, Style::Plain));
                let left = to_go(began, done, most);
                stage.progress.say(&format!("{line}; {done} of at most {most} values, about {left} to go"));
            }
        };
        Ok(Vec::new())
    }
}
