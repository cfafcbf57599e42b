//! `make accuracy`: the shipped scenarios, run for real, against a committed table of what each brings about.
//!
//! `REPEATS` trials of each (default 1). `EXIT137_RUN` names the folder of a run that was made elsewhere (in the VM), to be
//! compared instead of running anything.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and it prints what it found")]

mod baseline;
mod compare;
mod table;
mod truth;

use std::path::{Path, PathBuf};
use std::process::Command;

use exit137::report::Report;
use exit137::report::model::Outcome;

use compare::Compared;
use table::Table;

/// Issue 2, section 6: so many kills, in a full measurement, must be explained without the kernel's summary line.
const WITHOUT_SUMMARY: u32 = 100;
/// A full measurement.
const FULL: u32 = 20;

fn repeats() -> u32 {
    std::env::var("REPEATS").map_or(1, |text| text.parse().unwrap())
}

/// The folder of a run of everything that ships.
fn run(into: &Path, repeats: u32) -> PathBuf {
    let out = into.join("run");
    let status = Command::new(env!("CARGO_BIN_EXE_exit137"))
        .args(["run", "--repeat", &repeats.to_string(), "--out"])
        .arg(&out)
        .status()
        .unwrap();
    println!("exit137 run: {status}");
    out
}

#[test]
fn every_induced_end_is_explained_by_what_induced_it() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: making cgroups needs root here");
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let repeats = repeats();
    let folder =
        std::env::var_os("EXIT137_RUN").map_or_else(|| run(temporary.path(), repeats), PathBuf::from);
    let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
    let report: Report = serde_json::from_str(&text).unwrap();

    let truth = truth::read();
    let mut compared = Compared::default();
    for scenario in &report.scenarios {
        let Some(induced) = truth.get(&scenario.name) else {
            compared.wrong.push(format!("{}: the truth table does not know it", scenario.name));
            continue;
        };
        if scenario.outcome == Outcome::Skipped {
            println!("not run: {}: {}", scenario.name, scenario.skipped.as_deref().unwrap_or_default());
        }
        for trial in &scenario.trials {
            let kept = folder.join(&scenario.name).join(format!("trial-{}", trial.number));
            compared.trial(&scenario.name, induced, trial, &kept);
        }
    }
    for name in truth.keys() {
        if !report.scenarios.iter().any(|scenario| scenario.name == *name) {
            compared.wrong.push(format!("{name}: in the truth table, and not run"));
        }
    }
    println!("{}", Table(&compared));
    assert!(compared.wrong.is_empty(), "{}", compared.wrong.join("\n"));
    assert!(compared.unsummarised > 0, "no kill was without a summary: this measured too little");
    if repeats >= FULL {
        let unsummarised = compared.unsummarised;
        assert!(unsummarised >= WITHOUT_SUMMARY, "only {unsummarised} kills were without a summary");
    }
}
