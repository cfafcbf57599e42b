//! The diagnosis over streams of observations like those that a run records: each rule, each confusable twin, the laws.
#![expect(
    clippy::unnecessary_wraps,
    clippy::similar_names,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tables of streams read best as tables, and a helper of a test may fail it"
)]

mod ablation;
mod asked;
mod busy;
mod canary;
mod canned;
mod clients;
mod clusters;
mod laws;
mod merged;
mod pidless;
mod recorded;
mod rules;
mod stream;
mod synthetic;
mod unseen;
mod verdicts;
