//! JUnit's words: a suite per scenario, a case per trial.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::model::{Outcome, Report, ScenarioReport, TrialReport};
use super::text;

/// The report as JUnit XML.
pub fn render(report: &Report) -> Result<String, SerializeError> {
    let mut junit = Junit::new("exit137");
    for scenario in &report.scenarios {
        let mut suite = TestSuite::new(scenario.name.as_str());
        if scenario.trials.is_empty() {
            suite.add_test_case(not_run(scenario));
        }
        for trial in &scenario.trials {
            suite.add_test_case(case(scenario, trial));
        }
        junit.add_test_suite(suite);
    }
    junit.to_string()
}

fn not_run(scenario: &ScenarioReport) -> TestCase {
    let mut status = match scenario.outcome {
        Outcome::Skipped => TestCaseStatus::skipped(),
        Outcome::Inconclusive | Outcome::Errored => TestCaseStatus::non_success(NonSuccessKind::Error),
        Outcome::Passed | Outcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
    };
    status.set_message(scenario.skipped.as_deref().unwrap_or("it was not run"));
    let mut case = TestCase::new(scenario.name.as_str(), status);
    case.set_classname("exit137");
    case
}

fn case(scenario: &ScenarioReport, trial: &TrialReport) -> TestCase {
    let bad = |kind, name: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        let details = text::details(trial);
        status.set_type(name);
        status.set_message(details.lines().next().unwrap_or(name));
        status.set_description(details);
        status
    };
    // Inconclusive is JUnit's error, not its failure: the program under test was not shown to be wrong.
    let status = match trial.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Skipped => TestCaseStatus::skipped(),
        Outcome::Failed => bad(NonSuccessKind::Failure, "mismatch"),
        Outcome::Inconclusive => bad(NonSuccessKind::Error, "inconclusive"),
        Outcome::Errored => bad(NonSuccessKind::Error, "error"),
    };
    let name = if scenario.trials.len() == 1 {
        scenario.name.clone()
    } else {
        format!("{} (trial {} of {})", scenario.name, trial.number, scenario.trials.len())
    };
    let mut case = TestCase::new(name, status);
    case.set_classname("exit137").set_time(Duration::from_millis(trial.duration_ms));
    case.set_system_out(text::terminations(trial));
    case
}
