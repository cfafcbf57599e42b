//! What a built-in workload does, and how much memory it takes at any time: pure data and pure functions.
//!
//! The program `exit137-workload` carries it out; `exit137` reads and checks it in scenarios, and computes with the same
//! schedules.

pub mod schedule;
pub mod settings;
pub mod units;

pub use schedule::{Schedule, Segment};
pub use settings::{Children, Hog, Kind, Leak, OnTerm, PageCache, Serve, Then, Tmpfs, Workload};
pub use units::{Bytes, Rate, Span};
