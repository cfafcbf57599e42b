//! docs/verified.md says which scenario has run where. It is written from reports, never by hand:
//! `EXIT137_VERIFIED='label=report.json;label=report.json,another.json' cargo test --test verified` (see `make verified`).
#![expect(clippy::unwrap_used, reason = "a test's helper may fail it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use exit137::loader;
use exit137::report::Report;

const INTRODUCTION: &str = "\
# What has run where

Written by `make verified` from the reports of real runs; what has not run is not claimed. `-`: not part of that run.
A skip is what `requires` of that scenario says.
";

/// What begins the line with those that need what no machine here has.
const NOWHERE: &str = "Has passed nowhere yet, and is not claimed: ";

fn page() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verified.md")
}

fn shipped() -> Vec<String> {
    let mut names: Vec<String> =
        loader::load(&[]).unwrap().into_iter().map(|loaded| loaded.scenario.name).collect();
    names.sort();
    names
}

/// The page, from labelled reports.
fn written(reports: &[(String, Report)]) -> String {
    let mut text = format!("{INTRODUCTION}\n| scenario |");
    for (label, _) in reports {
        write!(text, " {label} |").unwrap();
    }
    text.push_str("\n| --- |");
    text.push_str(&" --- |".repeat(reports.len()));
    text.push('\n');
    for name in shipped() {
        write!(text, "| {name} |").unwrap();
        for (_, report) in reports {
            let found = report.scenarios.iter().find(|scenario| scenario.name == name);
            let cell = found.map_or("-", |scenario| scenario.outcome.as_str());
            write!(text, " {cell} |").unwrap();
        }
        text.push('\n');
    }
    let passed = |name: &String| {
        let mut found = reports.iter().flat_map(|(_, report)| &report.scenarios);
        found.any(|scenario| scenario.name == *name && scenario.outcome.as_str() == "passed")
    };
    let unclaimed: Vec<String> =
        shipped().iter().filter(|name| !passed(name)).map(|name| format!("`{name}`")).collect();
    writeln!(text, "\n{NOWHERE}{}.", unclaimed.join(", ")).unwrap();
    text.push_str("\nThe hosts:\n\n");
    for (label, report) in reports {
        let host = report.host.as_ref().unwrap();
        let (kernel, version, memory) = (&host.kernel, host.cgroup_version, host.memory_total >> 20);
        writeln!(
            text,
            "- {label}: Linux {kernel}, memory on cgroup v{version}, {memory} MiB, exit137 {}.",
            host.exit137
        )
        .unwrap();
    }
    text
}

#[test]
fn every_shipped_scenario_has_passed_somewhere_or_is_named_as_not_claimed() {
    if let Ok(reports) = std::env::var("EXIT137_VERIFIED") {
        let read = |part: &str| {
            let (label, paths) = part.split_once('=').unwrap();
            let report = |path| serde_json::from_str::<Report>(&fs::read_to_string(path).unwrap()).unwrap();
            let together = |mut all: Report, more: Report| {
                all.scenarios.extend(more.scenarios);
                all
            };
            (label.to_owned(), paths.split(',').map(report).reduce(together).unwrap())
        };
        let reports: Vec<(String, Report)> = reports.split(';').map(read).collect();
        fs::write(page(), written(&reports)).unwrap();
    }
    let text = fs::read_to_string(page()).unwrap();
    let rows: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(name, _)| !["scenario", "---"].contains(name))
        .collect();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), shipped());
    let unclaimed = text.lines().find_map(|line| line.strip_prefix(NOWHERE)).unwrap_or_default();
    for (name, cells) in rows {
        let named = unclaimed.contains(&format!("`{name}`"));
        assert_ne!(
            cells.contains("passed"),
            named,
            "{name} has passed nowhere, or is named as if it had not"
        );
        assert!(!cells.contains("failed") && !cells.contains("inconclusive"), "{name}: {cells}");
    }
}
