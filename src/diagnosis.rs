//! Why each container ended, settled from what was observed.
//!
//! A diagnosis is a fold: [`Diagnosis::observe`] changes what is known so far, [`Diagnosis::finish`] settles it. Live
//! progress, the final verdict and `exit137 report` all use this one.

pub mod findings;

pub use findings::{
    Attribution, Findings, HiddenKill, MemoryAtDeath, Missing, Sender, SourceHealth, Stamped, Termination,
};
