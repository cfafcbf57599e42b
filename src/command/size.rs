//! `exit137 size`.

pub(super) mod plan;
pub(super) mod search;

use std::path::Path;

use super::{complain, fail, print, run, style};
use crate::artifacts::{self, Artifacts, write_whole};
use crate::cli::{self, Color};
use crate::exit_status::ExitStatus;
use crate::loader::Problem;
use crate::report::Report;
use crate::sizing::report::{SizeReport, Sized};
use crate::sizing::text;
use plan::Plan;
use search::Sizing;

/// Finds the smallest or largest value at which a scenario's expectations hold.
pub fn size(args: &cli::Size, color: Color) -> ExitStatus {
    let plan = match Plan::of(args) {
        Ok(plan) => plan,
        Err(why) => return refuse(&why),
    };
    // What is wrong with a value is wrong with one of the ends: found out before anything runs.
    let ends = match plan.ends() {
        Ok(ends) => ends,
        Err(problems) => return refuse(&lines(&problems)),
    };
    if let Err(status) = run::allowed(&args.running, &ends) {
        return status;
    }
    if let Some(why) = args.json.iter().find_map(|path| artifacts::unwritable(path)) {
        return fail(&why);
    }
    let artifacts = match Artifacts::create(args.running.out.as_deref()) {
        Ok(artifacts) => artifacts,
        Err(error) => return fail(&error.to_string()),
    };
    complain(&plan.estimate(&ends, &args.running));
    let mut sizing = Sizing::new(&plan);
    let mut statuses = Vec::new();
    match run::carry_out(&args.running, &ends, &artifacts, &mut sizing) {
        Ok((skipped, asked)) => {
            statuses.extend(asked);
            if !skipped.is_empty() {
                return not_run(skipped);
            }
        }
        // What was learned before it is told all the same.
        Err(why) => statuses.push(fail(&why)),
    }
    let report = sizing.report();
    statuses.push(tell(args, color, &report, artifacts.folder()));
    statuses.push(exit_status(report.outcome));
    ExitStatus::choose(statuses)
}

/// Says that nothing was started, and why.
pub(super) fn refuse(why: &str) -> ExitStatus {
    complain(why);
    complain("nothing was started");
    ExitStatus::Usage
}

/// Problems, each once.
pub(super) fn lines(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.dedup();
    lines.join("\n")
}

/// Says why a scenario cannot be run here.
pub(super) fn not_run(reported: Vec<run::Reported>) -> ExitStatus {
    let report = Report::new(None, reported.into_iter().map(|(report, _)| report).collect());
    for scenario in &report.scenarios {
        complain(&format!(
            "{} was not run: {}",
            scenario.name,
            scenario.skipped.as_deref().unwrap_or("it failed")
        ));
    }
    report.exit_status()
}

fn exit_status(outcome: Sized) -> ExitStatus {
    match outcome {
        Sized::Found | Sized::NearEndHolds => ExitStatus::Passed,
        Sized::FarEndFails => ExitStatus::Failed,
        // What cut it short asks for a status that comes before this one.
        Sized::Inconclusive | Sized::CutShort => ExitStatus::Inconclusive,
        Sized::Errored => ExitStatus::Environment,
    }
}

/// Writes and prints the answer.
fn tell(args: &cli::Size, color: Color, report: &SizeReport, folder: &Path) -> ExitStatus {
    let json = match serde_json::to_string_pretty(report) {
        Ok(json) => json + "\n",
        Err(error) => return fail(&format!("cannot render JSON: {error}")),
    };
    let own = folder.join("size.json");
    for path in [&own].into_iter().chain(&args.json) {
        if let Err(error) = write_whole(path, &json) {
            return fail(&format!("cannot write {}: {error}", path.display()));
        }
    }
    let folder = folder.display().to_string();
    told(print(&format!("{}kept in {folder}\n", text::render(report, &folder, style(color)))))
}

/// That something was told says nothing about what it is; that it could not be is a failure.
pub(super) fn told(printed: ExitStatus) -> ExitStatus {
    if printed == ExitStatus::Environment { printed } else { ExitStatus::NothingRan }
}
