//! `exit137 check`.

use super::print;
use crate::cli;
use crate::exit_status::ExitStatus;
use crate::loader;

/// Validates scenarios and prints every problem; starts nothing.
pub fn check(args: &cli::Check) -> ExitStatus {
    match loader::load(&args.paths) {
        Ok(scenarios) => {
            let mut text = String::new();
            for loaded in &scenarios {
                text.push_str(&format!("{}: ok\n", loaded.path.display()));
                for note in &loaded.scenario.without_effect {
                    text.push_str(&format!("  without effect here: {note}\n"));
                }
            }
            print(&text)
        }
        Err(problems) => {
            let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
            let counted = if problems.len() == 1 {
                "1 problem".to_owned()
            } else {
                format!("{} problems", problems.len())
            };
            print(&format!("{text}{counted}\n"));
            ExitStatus::Usage
        }
    }
}
