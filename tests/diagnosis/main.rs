//! The diagnosis over streams of observations like those that a run records: each rule, each confusable twin, the laws.

mod canned;
mod laws;
mod rules;
mod stream;
mod verdicts;
