//! The exit status, each by a real run that earns it.

use std::fs;

use crate::support::{Desk, Ran, brief, endless, exit137, is_root, web};

/// Runs exit137 with these arguments.
fn with(args: &[&str]) -> Ran {
    Ran::new(exit137().args(args).output().unwrap(), "nowhere".into())
}

/// One pod's container ends, the other pod never gets beyond its init container.
fn never_initialised() -> String {
    let init = "{name: init, workload: {idle: {}}, resources: {limits: {memory: 16Mi}}}";
    let app = "{name: app, workload: {exit: {code: 7}}, resources: {limits: {memory: 16Mi}}}";
    format!(
        "timeout: 2s\npods: [{{name: web, spec: {{restartPolicy: Never, containers: [{app}]}}}}, \
         {{name: stuck, spec: {{initContainers: [{init}], containers: [{app}]}}}}]\n\
         observe: {{for: 100ms}}\nexpect: {{terminations: [{{container: web/app, exitCode: 7}}]}}"
    )
}

#[test]
fn it_is_0_when_all_passed() {
    if !is_root() {
        return;
    }
    let ran = Desk::with("brief", &brief()).run(&[]).exits(0);
    assert!(ran.stdout.contains("1 passed, 0 failed"), "{}", ran.stdout);
}

#[test]
fn it_is_1_when_a_scenario_failed_and_a_failure_comes_before_a_scenario_that_was_inconclusive() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("wrong", &brief().replace("exitCode: 7", "exitCode: 8"));
    desk.scenario("slow", &never_initialised());
    let ran = desk.run(&[]).exits(1);
    assert!(ran.stdout.contains("0 passed, 1 failed, 1 inconclusive"), "{}", ran.stdout);
}

#[test]
fn it_is_2_for_bad_usage() {
    for args in [&["frobnicate"][..], &["run", "--repeat", "0"], &["run", "--timeout", "5"], &[]] {
        let ran = with(args).exits(2);
        assert!(ran.stderr.contains("--help") || ran.stderr.contains("Usage"), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn it_is_2_for_an_invalid_scenario_whose_every_problem_is_printed_and_nothing_is_started() {
    let desk = Desk::with("brief", &brief());
    let pods = "pods: [{name: web, spec: {containers: [{name: app, workload: {hog: {size: SIZE}}, resources: {limits: {memory: 400m}}}]}}]";
    desk.scenario(
        "keys",
        &format!("{}\nobserve: {{for: 5s}}\nsurprise: yes\nexpect: {{}}", pods.replace("SIZE", "64")),
    );
    desk.scenario(
        "sense",
        &format!("{}\nobserve: {{for: 5s}}\nexpect: {{survive: [web/other]}}", pods.replace("SIZE", "64Mi")),
    );
    let ran = desk.run(&[]).exits(2);
    assert_eq!(ran.stdout, "");
    let problems = [
        ("keys", "surprise"),
        ("keys", "hog.size"),
        ("sense", "limits.memory"),
        ("sense", "expect.survive[0]"),
    ];
    for (file, place) in problems {
        let told =
            ran.stderr.lines().any(|line| line.contains(&format!("{file}.yaml:")) && line.contains(place));
        assert!(told, "{place} is not told of:\n{}", ran.stderr);
    }
    assert!(ran.stderr.contains("nothing was started"), "{}", ran.stderr);
    assert!(!ran.out.exists(), "a folder was made");
    assert_eq!(with(&["check", desk.scenarios().to_str().unwrap()]).status, Some(2));
}

#[test]
fn it_is_3_when_the_workload_program_is_missing() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("brief", &brief());
    let output = desk.command(&[]).env("EXIT137_WORKLOAD", "/nonexistent").output().unwrap();
    let ran = desk.ran(output).exits(3);
    assert!(ran.stderr.contains("EXIT137_WORKLOAD names /nonexistent"), "{}", ran.stderr);
    // Nothing came into the folder that is named by the time: neither it nor the one around it stays.
    let mut command = exit137();
    command.args(["run", "scenarios"]).current_dir(desk.path("")).env("EXIT137_WORKLOAD", "/nonexistent");
    desk.ran(command.output().unwrap()).exits(3);
    assert!(!desk.path("exit137-runs").exists());
}

#[test]
fn it_is_2_when_the_kind_config_is_not_there() {
    let refused = with(&["run", "--on", "kind", "--kind-config", "/nowhere.yaml", "limit-fast"]).exits(2);
    assert!(
        refused.stderr.contains("'/nowhere.yaml'") && refused.stderr.contains("No such file"),
        "{}",
        refused.stderr
    );
}

#[test]
fn it_is_3_when_the_folder_is_there_already_and_the_folder_is_not_touched() {
    let desk = Desk::with("brief", &brief());
    fs::create_dir(desk.path("out")).unwrap();
    fs::write(desk.path("out").join("precious"), "do not touch").unwrap();
    let ran = desk.run(&[]).exits(3);
    assert!(ran.stderr.contains("exists already"), "{}", ran.stderr);
    let entries: Vec<_> = fs::read_dir(&ran.out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["precious"]);
}

#[test]
fn it_is_3_when_the_folder_cannot_be_made() {
    let desk = Desk::with("brief", &brief());
    let ran = desk.run(&["--out", "/proc/exit137"]).exits(3);
    assert!(ran.stderr.contains("/proc/exit137"), "{}", ran.stderr);
}

#[test]
fn it_is_3_with_the_path_when_a_folder_on_the_way_is_none() {
    let desk = Desk::with("brief", &brief());
    let ran = desk.run(&["--out", "/proc/version/out"]).exits(3);
    assert!(ran.stderr.contains("cannot make /proc/version: "), "{}", ran.stderr);
    let ran = desk.run(&["--json", "/nowhere/report.json"]).exits(3);
    assert!(ran.stderr.contains("its folder /nowhere: No such file"), "{}", ran.stderr);
}

#[test]
fn what_runs_keep_is_no_scenario_and_a_slip_in_a_shipped_name_is_seen() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("brief", &brief());
    let folder = desk.scenarios();
    for _ in 0..2 {
        let run = exit137().current_dir(&folder).args(["run", "."]).output().unwrap();
        assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    }
    let ran = with(&["run", "limit-fats"]).exits(2);
    assert!(ran.stderr.contains("did you mean limit-fast"), "{}", ran.stderr);
}

#[test]
fn it_is_3_when_a_report_could_not_be_written_and_that_is_known_before_anything_runs() {
    let ran = Desk::with("brief", &brief()).run(&["--junit", "/proc/exit137.xml"]).exits(3);
    assert!(ran.stderr.contains("cannot write /proc/exit137.xml"), "{}", ran.stderr);
    assert!(!ran.out.exists(), "it ran all the same");
}

#[test]
fn it_is_4_when_nothing_was_selected() {
    let ran = Desk::with("brief", &brief()).run(&["--filter", "other"]).exits(4);
    assert!(ran.stderr.contains("no scenario was selected"), "{}", ran.stderr);
    assert!(!ran.out.exists(), "a folder was made");
}

#[test]
fn it_is_4_when_all_were_skipped_and_1_when_none_may_be() {
    let desk = Desk::with("elsewhere", &format!("requires: [cluster]\n{}", brief()));
    let ran = desk.run(&[]).exits(4);
    assert!(ran.stdout.contains("needs a cluster") && ran.stdout.contains("1 skipped"), "{}", ran.stdout);
    let ran = desk.run(&["--no-skips", "--out", desk.path("strict").to_str().unwrap()]).exits(1);
    assert!(ran.stdout.contains("needs a cluster") && ran.stdout.contains("1 failed"), "{}", ran.stdout);
}

#[test]
fn it_is_5_when_a_scenario_met_its_timeout_and_what_was_seen_until_then_is_told() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("slow", &never_initialised());
    let ran = desk.run(&[]).exits(5);
    assert!(ran.stdout.contains("inconclusive slow") && ran.stdout.contains("exit 7"), "{}", ran.stdout);
    let trial = ran.trial("slow");
    assert_eq!(trial["terminations"][0]["exitCode"], 7, "{trial:#}");
    assert!(trial["reasons"].to_string().contains("timeout"), "{trial:#}");
}

#[test]
fn it_is_5_when_the_whole_run_met_its_timeout_even_for_what_had_not_begun() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("first", &endless());
    desk.scenario("second", &endless());
    let ran = desk.run(&["--timeout", "1s", "--jobs", "1"]).exits(5);
    assert!(ran.stderr.contains("timeout of 1s"), "{}", ran.stderr);
    assert!(ran.stdout.contains("2 inconclusive"), "{}", ran.stdout);
    let again = with(&["report", ran.out.to_str().unwrap()]).exits(5);
    assert!(ran.stdout.starts_with(&again.stdout), "{}\n{}", ran.stdout, again.stdout);
}

#[test]
fn it_is_not_137_when_a_container_is() {
    if !is_root() {
        return;
    }
    let oom = "observe: {for: 5s, until: {allEnded: true}}\n\
               expect: {terminations: [{container: web/app, cause: container-oom, exitCode: 137}]}";
    let desk = Desk::with("oom", &format!("{}\n{oom}", web("workload: {hog: {size: 64Mi}}", "24Mi")));
    desk.run(&[]).exits(0);
}
