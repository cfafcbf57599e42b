//! The real program on the real kernel. Tests that make cgroups need root, and say so where they do not run.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a test may fail, and it says what it skips"
)]

mod artifacts;
mod backend;
mod cluster;
mod interrupts;
mod output;
mod safety;
mod sizing;
mod status;
mod support;
mod traffic;
