//! Colours, or none.

use owo_colors::OwoColorize as _;

use crate::report::model::Outcome;

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bare text.
    Plain,
    /// For a terminal.
    Colored,
}

impl Style {
    pub(crate) fn outcome(self, outcome: Outcome, text: &str) -> String {
        match (self, outcome) {
            (Self::Plain, _) => text.to_owned(),
            (Self::Colored, Outcome::Passed) => text.green().bold().to_string(),
            (Self::Colored, Outcome::Failed | Outcome::Errored) => text.red().bold().to_string(),
            (Self::Colored, Outcome::Inconclusive) => text.yellow().bold().to_string(),
            (Self::Colored, Outcome::Skipped) => text.dimmed().to_string(),
        }
    }

    pub(crate) fn dim(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colored => text.dimmed().to_string(),
        }
    }

    /// A line of what differs: what was expected is green, what happened is red.
    pub(super) fn detail(self, line: &str) -> String {
        match self {
            Self::Plain => line.to_owned(),
            Self::Colored if line.starts_with("  expected:") => line.green().to_string(),
            Self::Colored if line.starts_with("  actual:") => line.red().to_string(),
            Self::Colored => line.to_owned(),
        }
    }
}
