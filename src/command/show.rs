//! `exit137 show`.

use std::fmt::Write as _;

use super::{complain, print};
use crate::cli;
use crate::exit_status::ExitStatus;
use crate::loader;

/// Prints a scenario that ships, or the names of all.
pub fn show(args: &cli::Show) -> ExitStatus {
    match loader::load(args.name.as_slice()) {
        Ok(scenarios) if args.name.is_some() => {
            print(&scenarios.iter().map(|loaded| loaded.text.as_str()).collect::<String>())
        }
        Ok(scenarios) => {
            // Writing to a string cannot fail.
            let mut text = String::new();
            for loaded in &scenarios {
                let what = loaded.scenario.description.as_deref().unwrap_or_default();
                let _ = writeln!(text, "{:<32} {what}", loaded.scenario.name);
            }
            print(&text)
        }
        Err(problems) => {
            for problem in &problems {
                complain(&problem.to_string());
            }
            ExitStatus::Usage
        }
    }
}
