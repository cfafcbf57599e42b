//! `exit137 report`: judges a kept record again and renders it again.

use std::fs;
use std::path::{Path, PathBuf};

use super::{complain, fail, print, style};
use crate::artifacts;
use crate::cli::{self, Color, Format};
use crate::evidence::{Fact, HostFacts};
use crate::exit_status::ExitStatus;
use crate::loader;
use crate::report::{self, Report, ScenarioReport, trial};

/// Renders the run in a folder; answers what its outcomes ask for.
pub fn report(args: &cli::Report, color: Color) -> ExitStatus {
    match read(&args.run_dir).and_then(|report| Ok((render(&report, args.format, color)?, report))) {
        Ok((text, report)) => ExitStatus::choose([print(&text), report.exit_status()]),
        Err(why) => fail(&why),
    }
}

/// The report in one of its forms.
pub fn render(report: &Report, format: Format, color: Color) -> Result<String, String> {
    match format {
        Format::Text => Ok(report::text::render(report, style(color))),
        Format::Json => report::json::render(report).map_err(|error| format!("cannot render JSON: {error}")),
        Format::Junit => {
            report::junit::render(report).map_err(|error| format!("cannot render JUnit: {error}"))
        }
    }
}

fn read(folder: &Path) -> Result<Report, String> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot read the run's folder {}: {error}", folder.display()))?;
    let mut scenarios: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("scenario.yaml").is_file())
        .collect();
    scenarios.sort();
    if scenarios.is_empty() {
        return Err(format!(
            "{} is no run's folder: it holds no scenario; name a folder that `exit137 run` made",
            folder.display()
        ));
    }
    let mut host = None;
    let reports = scenarios.iter().map(|path| scenario(path, &mut host)).collect::<Result<_, _>>()?;
    Ok(Report::new(host, reports).on(artifacts::read_clusters(folder)?))
}

/// A scenario of a run, as far as it was recorded.
pub fn scenario(folder: &Path, host: &mut Option<HostFacts>) -> Result<ScenarioReport, String> {
    let file = folder.join("scenario.yaml");
    let scenario = loader::load_kept(&file)?;
    if let Some(skip) = artifacts::read_skip(folder)? {
        return Ok(trial::skipped(&scenario, skip.why, skip.fails));
    }
    let mut trials = Vec::new();
    for trial in
        artifacts::trials(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?
    {
        let kept = artifacts::read_trial(&trial.path)?;
        let recorded = kept
            .observations
            .iter()
            .find_map(|seen| if let Fact::Host(facts) = &seen.fact { Some(facts) } else { None });
        if recorded.is_some_and(|facts| facts.scenario_hash != scenario.hash) {
            complain(&format!("{} was changed after the run; it is judged as it is now", file.display()));
        }
        if host.is_none() {
            *host = recorded.cloned();
        }
        trials.push(trial::report(&scenario, trial.number, &kept));
    }
    Ok(trial::scenario_report(&scenario, trials))
}
