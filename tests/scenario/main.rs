//! The scenario language: what it means, and what it says of what is wrong.

mod manifests;
mod meaning;
mod objects;
mod possible;
mod problems;
mod schema;
mod settings;
mod slips;
mod traffic;

use exit137::scenario::{self, Scenario};

/// A whole scenario around a pod's spec and what follows the pods.
fn around(spec: &str, rest: &str) -> String {
    let spec = format!("    {}\n", spec.trim_matches('\n').replace('\n', "\n    "));
    let rest = if rest.contains("expect:") {
        rest.to_owned()
    } else {
        format!("{rest}\nexpect: {{nothingDies: true}}")
    };
    let rest = if rest.contains("observe:") { rest } else { format!("{rest}\nobserve: {{for: 5s}}") };
    format!(
        "apiVersion: exit137/v1\nkind: Scenario\nmetadata: {{name: s}}\npods:\n- name: web\n  spec:\n{spec}{}\n",
        rest.trim_matches('\n')
    )
}

/// A container that needs nothing more.
const APP: &str = "containers: [{name: app, workload: {idle: {}}, resources: {limits: {memory: 64Mi}}}]";

#[expect(clippy::panic, reason = "a test's helper may fail it")]
fn read(text: &str) -> Scenario {
    scenario::read("s.yaml", text).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

/// The problems of a scenario, as they are printed.
fn problems(text: &str) -> Vec<String> {
    match scenario::read("s.yaml", text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// That a scenario is refused for one reason only, which says all of `parts`.
#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
    for part in parts {
        assert!(problems[0].contains(part), "{part:?} is not in: {}", problems[0]);
    }
}
