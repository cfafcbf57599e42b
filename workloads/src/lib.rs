//! What a built-in workload does, and how much memory it takes at any time: pure data and pure functions.
//!
//! The program `exit137-workload` carries it out; `exit137` reads and checks it in scenarios, and computes with the same
//! schedules.
//!
//! Units: whatever is written has one, and is kept without: [`Bytes`] in bytes, [`Rate`] in bytes per second, [`Span`] in
//! milliseconds; a [`Schedule`] is asked in nanoseconds after its start. `Ki`, `Mi`, `Gi`, `Ti` are powers of 1024, `k`,
//! `M`, `G`, `T` of 1000.
//!
//! Errors: reading one of them tells what was written and what could be written instead. Settings that can each be read
//! and make no sense together are told by [`Workload::problems`], all at once; nothing else is to be done with a
//! [`Workload`] that has any.

pub mod schedule;
pub mod settings;
pub mod traffic;
pub mod units;

pub use schedule::{Schedule, Segment};
pub use settings::{
    CacheEvict, CacheKey, Children, Hog, Kind, Leak, OnTerm, PageCache, Serve, Then, Tmpfs, Workload,
};
pub use units::{Bytes, Rate, Span};
