//! exit137 reproduces out-of-memory conditions and explains every exit 137.
//!
//! Record first, explain afterwards. One half of this crate *acts*: it runs a scenario and writes down facts
//! ([`evidence::Observation`]). The other half *thinks*: it reads the facts back and settles why each container ended
//! ([`diagnosis`]). The thinking half does no I/O and reads no clock; `tests/architecture.rs` holds it to that.

pub mod artifacts;
pub mod backend;
pub mod cause;
pub mod cli;
pub mod clock;
pub mod command;
pub mod diagnosis;
pub mod evidence;
pub mod exit_status;
pub mod loader;
pub mod observe;
pub mod progress;
pub mod recorder;
pub mod report;
pub mod runner;
pub mod scenario;
pub mod sizing;
pub mod statistics;
