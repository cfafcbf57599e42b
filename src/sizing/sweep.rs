//! What a sweep came to: a row for each cell of its grid.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::exit_status::ExitStatus;
use crate::report::model::Outcome;

/// The version of this model.
pub const VERSION: &str = "exit137/sweep/v1";

/// A sweep: `sweep.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// `exit137/sweep/v1`.
    pub version: String,
    /// The scenario's name.
    pub scenario: String,
    /// The fields that were varied.
    pub paths: Vec<String>,
    /// So many trials of each cell were asked for.
    pub repeat: u32,
    /// Each cell of the grid, in its order.
    pub cells: Vec<Cell>,
}

/// A cell of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// The value of each path.
    pub values: Vec<String>,
    /// Its folder, in the sweep's: an ordinary scenario with its trials.
    pub folder: String,
    /// Why it was not run.
    pub skipped: Option<String>,
    /// Whether the scenario says that it is one that errored.
    #[serde(skip)]
    pub errored: bool,
    /// What its trials say together: `passed` of `runs` survived.
    pub trials: Digest,
}

impl SweepReport {
    /// Of these cells.
    pub fn new(scenario: String, paths: Vec<String>, repeat: u32, cells: Vec<Cell>) -> Self {
        Self { version: VERSION.to_owned(), scenario, paths, repeat, cells }
    }

    /// A sweep asks what survives: that a cell does not is an answer, no failure.
    pub fn exit_status(&self) -> ExitStatus {
        ExitStatus::choose(self.cells.iter().map(|cell| match (&cell.skipped, cell.errored) {
            (Some(_), _) => ExitStatus::NothingRan,
            (None, true) => ExitStatus::Environment,
            (None, false) if cell.trials.open > 0 || cell.trials.runs < self.repeat => {
                ExitStatus::Inconclusive
            }
            (None, false) => ExitStatus::Passed,
        }))
    }
}

/// Whether a trial of a sweep is over, or must be run again.
pub fn is_over(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Passed | Outcome::Failed => true,
        Outcome::Inconclusive | Outcome::Errored | Outcome::Skipped => false,
    }
}

/// The JSON Schema of sweep.json.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(SweepReport).to_value()
}
