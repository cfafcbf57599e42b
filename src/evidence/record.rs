//! The record's format: one observation a line, in JSON.

use super::Observation;

/// One line of the record, without its newline.
pub fn encode(observation: &Observation) -> String {
    serde_json::to_string(observation).unwrap_or_default()
}
