//! One versioned model of what a run came to, and its renderings.

pub mod clients;
pub mod json;
pub mod junit;
pub mod model;
pub mod text;
pub mod trial;

pub use model::{Report, ScenarioReport, TrialReport};
