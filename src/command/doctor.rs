//! `exit137 doctor`: what this host can and cannot do, what each lack costs, and how to mend it.

mod checks;

use serde::Serialize;

use super::{fail, print};
use crate::cli;
use crate::exit_status::ExitStatus;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// All is well.
    Ok,
    /// It runs without; something is lost.
    Lacking,
    /// Nothing runs without.
    Blocking,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    standing: Standing,
    /// What was found.
    found: String,
    /// What its lack costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    costs: Option<&'static str>,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<&'static str>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, standing: Standing::Ok, found: found.into(), costs: None, mend: None }
    }

    fn lacking(
        name: &'static str,
        found: impl Into<String>,
        costs: &'static str,
        mend: &'static str,
    ) -> Self {
        Self { name, standing: Standing::Lacking, found: found.into(), costs: Some(costs), mend: Some(mend) }
    }

    fn blocking(
        name: &'static str,
        found: impl Into<String>,
        costs: &'static str,
        mend: &'static str,
    ) -> Self {
        Self { standing: Standing::Blocking, ..Self::lacking(name, found, costs, mend) }
    }
}

/// Looks at this host. Status 3 when nothing can run on it.
pub fn doctor(args: &cli::Doctor) -> ExitStatus {
    let mut checks = checks::all();
    checks.extend(checks::clusters());
    let printed = if args.json {
        match serde_json::to_string_pretty(&checks) {
            Ok(text) => print(&(text + "\n")),
            Err(error) => return fail(&format!("cannot write JSON: {error}")),
        }
    } else {
        print(&text(&checks))
    };
    let blocked = checks.iter().any(|check| check.standing == Standing::Blocking);
    if blocked { ExitStatus::Environment } else { printed }
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = match check.standing {
            Standing::Ok => "ok",
            Standing::Lacking => "lacking",
            Standing::Blocking => "blocking",
        };
        text.push_str(&format!("{mark:<9} {:<20} {}\n", check.name, check.found));
        for (label, line) in [("costs", check.costs), ("mend", check.mend)] {
            if let Some(line) = line {
                text.push_str(&format!("{:<9} {label}: {line}\n", ""));
            }
        }
    }
    let lacking = checks.iter().filter(|check| check.standing == Standing::Lacking).count();
    let blocking = checks.iter().filter(|check| check.standing == Standing::Blocking).count();
    text.push_str(&match (blocking, lacking) {
        (0, 0) => "\nThis host has everything.\n".to_owned(),
        (0, _) => format!("\nScenarios run here; lacking: {lacking}.\n"),
        _ => format!("\nNothing can run here; blocking: {blocking}, lacking: {lacking}.\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_lacks_says_what_it_costs_and_how_to_mend_it() {
        for check in checks::all() {
            let lacks = check.standing != Standing::Ok;
            assert_eq!((check.costs.is_some(), check.mend.is_some()), (lacks, lacks), "{}", check.name);
            assert!(!check.found.is_empty(), "{}", check.name);
        }
    }

    #[test]
    fn a_lack_is_told_with_its_cost_and_its_remedy() {
        let checks =
            [Check::ok("kmsg", "readable"), Check::lacking("tracefs", "absent", "senders", "run as root")];
        assert_eq!(
            text(&checks),
            "ok        kmsg                 readable\n\
             lacking   tracefs              absent\n          costs: senders\n          mend: run as root\n\
             \nScenarios run here; lacking: 1.\n"
        );
    }
}
