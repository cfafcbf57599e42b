//! `exit137 check`.

use std::fmt::Write as _;

use super::print;
use crate::cli;
use crate::exit_status::ExitStatus;
use crate::loader;
use crate::scenario::NEEDS_CLUSTER;

/// Validates scenarios and prints every problem; starts nothing.
pub fn check(args: &cli::Check) -> ExitStatus {
    // Writing to a string cannot fail.
    let mut text = String::new();
    match loader::load(&args.paths) {
        Ok(scenarios) => {
            for loaded in &scenarios {
                let _ = writeln!(text, "{}: ok", loaded.path.display());
                for note in &loaded.scenario.without_effect {
                    // What needs a cluster has an effect after all: the whole scenario is skipped for it.
                    let label =
                        if note.contains(NEEDS_CLUSTER) { "skipped here" } else { "without effect here" };
                    let _ = writeln!(text, "  {label}: {note}");
                }
            }
            print(&text)
        }
        Err(problems) => {
            for problem in &problems {
                let _ = writeln!(text, "{problem}");
            }
            let s = if problems.len() == 1 { "" } else { "s" };
            let _ = writeln!(text, "{} problem{s}", problems.len());
            let printed = print(&text);
            if printed == ExitStatus::Passed { ExitStatus::Usage } else { printed }
        }
    }
}
