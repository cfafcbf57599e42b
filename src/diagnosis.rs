//! Why each container ended, settled from what was observed.
//!
//! A diagnosis is a fold: [`Diagnosis::observe`] changes what is known so far, [`Diagnosis::finish`] settles it. Live
//! progress, the final verdict and `exit137 report` all use this one.

pub mod canary;
mod case;
mod classify;
mod clients;
mod counters;
mod domain;
pub mod findings;
mod hidden;
mod kills;
mod limits;
mod rules;
mod settle;
mod sources;
mod timeline;
mod unseen;
pub mod verdict;

pub use clients::Tally;
pub use findings::{
    Attribution, ClientImpact, Findings, HiddenKill, MemoryAtDeath, Missing, Sender, SourceHealth, Stamped,
    Termination, TrafficFindings,
};
pub use verdict::{Judged, Mismatch, Verdict, judge};

use crate::evidence::Observation;

/// What is known so far. The order in which observations arrive does not matter: their moments do.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    timeline: timeline::Timeline,
}

impl Diagnosis {
    /// Takes in one observation.
    pub fn observe(&mut self, observation: &Observation) {
        self.timeline.observe(observation);
    }

    /// Settles what is known so far. It may be asked at any time and changes nothing; what a source has not yet said
    /// counts as missing until then.
    pub fn finish(&self) -> Findings {
        settle::settle(&self.timeline)
    }
}
