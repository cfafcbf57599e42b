//! What clients saw: windows by traffic, and what they tell of each end of a container.

mod around;
mod tally;

use std::collections::BTreeMap;

use exit137_workload::traffic::{Histogram, Window};

use super::Termination;
use super::findings::{ClientImpact, TrafficFindings};
use crate::evidence::{End, GeneratorEnd, TrafficEnded, TrafficStarted, TrafficWindow};
pub use tally::Tally;

/// What generators have stated so far, by traffic and by generator.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients(BTreeMap<String, BTreeMap<u32, Stated>>);

/// What one generator has stated.
#[derive(Clone, Debug, Default)]
struct Stated {
    started: Option<TrafficStarted>,
    /// By their numbers: one that is told twice counts once.
    windows: BTreeMap<u64, Window>,
    end: Option<GeneratorEnd>,
}

impl Clients {
    pub(super) fn started(&mut self, started: &TrafficStarted) {
        self.of(&started.of.traffic, started.of.generator).started = Some(started.clone());
    }

    pub(super) fn window(&mut self, window: &TrafficWindow) {
        let stated = self.of(&window.of.traffic, window.of.generator);
        stated.windows.entry(window.window.sequence).or_insert_with(|| Window::clone(&window.window));
    }

    pub(super) fn ended(&mut self, ended: &TrafficEnded) {
        self.of(&ended.of.traffic, ended.of.generator).end = Some(ended.end.clone());
    }

    fn of(&mut self, traffic: &str, generator: u32) -> &mut Stated {
        self.0.entry(traffic.to_owned()).or_default().entry(generator).or_default()
    }

    /// What each traffic's clients saw; ends get what clients saw of them.
    pub(super) fn settle(&self, terminations: &mut [Termination]) -> Vec<TrafficFindings> {
        let mut findings = Vec::new();
        for (name, generators) in &self.0 {
            let Some(started) = generators.values().find_map(|stated| stated.started.as_ref()) else {
                continue;
            };
            let mut windows: Vec<Window> =
                generators.values().flat_map(|stated| stated.windows.values().cloned()).collect();
            windows.sort_by_key(|window| (window.to_ns, window.from_ns));
            let (kills, hit): (Vec<u64>, Vec<&mut Termination>) = terminations
                .iter_mut()
                .filter(|end| started.goes_to(&end.container.pod, &end.container.container))
                .filter_map(|end| Some((decisive(end)?, end)))
                .unzip();
            for (end, impact) in hit.into_iter().zip(around::impacts(&windows, &kills)) {
                end.clients.push(ClientImpact { traffic: name.clone(), ..impact });
            }
            let mut lateness = Histogram::default();
            for stated in generators.values() {
                if let Some(GeneratorEnd::Done(done)) = &stated.end {
                    lateness.merge(&done.lateness);
                }
            }
            findings.push(TrafficFindings {
                name: name.clone(),
                to: format!("{}:{}", started.container, started.port),
                doubts: doubts(started.generators, generators),
                late_p99_ms: tally::percentile(&lateness, 99.0),
                whole: Tally::of(&windows),
                windows,
            });
        }
        findings
    }
}

/// When an end began: with the SIGKILL, or with its end where there was none.
pub(super) fn decisive(end: &Termination) -> Option<u64> {
    end.killed_at.or(end.ended_at).map(|stamp| stamp.moment.earliest())
}

/// Of a window list, how long after this nanosecond answers were good again; `None` where they never were, or nobody asked.
pub(super) fn recovery_ns(windows: &[Window], kill: u64, until: u64) -> Option<u64> {
    around::good_again(windows, kill, until).map(|at| at.saturating_sub(kill))
}

/// Why what is known of a traffic is not all of it.
fn doubts(expected: u32, generators: &BTreeMap<u32, Stated>) -> Vec<String> {
    let mut doubts = Vec::new();
    for index in 0..expected {
        let name = format!("generator {index}");
        let Some(stated) = generators.get(&index) else {
            doubts.push(format!("{name} never began"));
            continue;
        };
        if stated.started.is_none() {
            doubts.push(format!("when {name} began is not known"));
        }
        let seen = u64::try_from(stated.windows.len()).unwrap_or(u64::MAX);
        let last = stated.windows.keys().next_back().map_or(0, |last| last + 1);
        let told = match &stated.end {
            Some(GeneratorEnd::Done(done)) => done.windows,
            Some(GeneratorEnd::Died { end, why }) => {
                let how = end.map(|end| match end {
                    End::Signaled(signal) => format!(", killed by signal {signal}"),
                    End::Exited(code) | End::Code(code) => format!(", with exit code {code}"),
                });
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                doubts.push(format!("{name} ended before it was done{}{why}", how.unwrap_or_default()));
                last
            }
            None => {
                doubts.push(format!("the record ends before {name} was done"));
                last
            }
        };
        let missing = told.max(last).saturating_sub(seen);
        if missing > 0 {
            doubts.push(format!("{missing} windows of {name} are missing"));
        }
    }
    doubts
}
