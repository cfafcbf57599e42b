//! What a run keeps, and that it can be told again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Desk, Ran, brief, exit137, is_root, web};

/// Grows, and dies of it.
fn grows() -> String {
    let pods = "pods: [{name: web, spec: {restartPolicy: Never, containers: [{name: app, workload: {hog: {size: 64Mi, rate: 100Mi/s}}, \
                resources: {requests: {memory: 16Mi}, limits: {memory: 32Mi}}}]}}]";
    format!(
        "{pods}\nobserve: {{for: 10s, until: {{allEnded: true}}}}\nexpect: {{terminations: [{{container: web/app, cause: container-oom}}]}}"
    )
}

/// `exit137 report` of a run's folder.
fn told_again(out: &Path, format: &str) -> String {
    let output = exit137().args(["report", "--format", format]).arg(out).output().unwrap();
    Ran::new(output, out.to_path_buf()).stdout
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_runs_folder_is_the_owners_alone_and_holds_what_was_seen_and_what_came_of_it() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("grows", &grows());
    let ran = desk.run(&["--repeat", "2"]).exits(0);
    for folder in ["", "grows", "grows/trial-1", "grows/trial-2"] {
        let mode = fs::metadata(ran.out.join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder:?}");
    }
    for file in [
        "report.json",
        "junit.xml",
        "grows/scenario.yaml",
        "grows/trial-2/record.jsonl",
        "grows/trial-1/logs/web-app-0.log",
    ] {
        assert!(ran.out.join(file).is_file(), "{file}");
    }
    let samples = read(&ran.out.join("grows/trial-1/samples.csv"));
    assert!(samples.starts_with("at_ns,cgroup,usage,"), "{samples}");
    assert!(samples.lines().filter(|line| line.contains("/web/app-0,")).count() > 10, "{samples}");
}

#[test]
fn without_out_the_folder_is_named_by_the_time() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("brief", &brief());
    let output = exit137().arg("run").arg(desk.scenarios()).current_dir(desk.path("")).output().unwrap();
    let ran = desk.ran(output).exits(0);
    let runs: Vec<_> =
        fs::read_dir(desk.path("exit137-runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(runs.len(), 1);
    let name = runs[0].file_name().unwrap().to_str().unwrap();
    assert!(ran.stdout.contains(&format!("kept in exit137-runs/{name}\n")), "{}", ran.stdout);
    assert_eq!(fs::metadata(&runs[0]).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_report_is_valid_against_its_schema_and_says_where_it_comes_from() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("grows", &grows());
    let json = desk.path("copy.json");
    let ran = desk.run(&["--json", json.to_str().unwrap()]).exits(0);
    let report = ran.report();
    assert_eq!(read(&json), read(&ran.out.join("report.json")));

    let schema = exit137().args(["schema", "report"]).output().unwrap().stdout;
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<String> = validator.iter_errors(&report).map(|problem| problem.to_string()).collect();
    assert_eq!(problems, [""; 0]);
    assert!(!validator.is_valid(&serde_json::json!({"version": 1})), "the schema holds anything for valid");

    let host = &report["host"];
    assert_eq!(host["exit137"], env!("CARGO_PKG_VERSION"));
    assert_eq!(host["kernel"], read(Path::new("/proc/sys/kernel/osrelease")).trim());
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let version = host["cgroupVersion"].as_u64().unwrap();
    assert!(version == 1 || v2, "{host:#}");
    assert!(host["swapTotal"].is_u64() && host["memoryTotal"].as_u64() > Some(0), "{host:#}");
    let sum = Command::new("sha256sum").arg(desk.scenarios().join("grows.yaml")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let hash = report["scenarios"][0]["hash"].as_str().unwrap();
    assert!(sum.starts_with(hash.trim_start_matches("sha256:")), "{hash} {sum}");

    let trial = ran.trial("grows");
    assert_eq!(trial["oomGroup"].is_boolean(), version == 2, "memory.oom.group as read: {trial:#}");
    let sources = trial["sources"].to_string();
    for source in ["kmsg", "memcg", "runtime"] {
        assert!(sources.contains(source), "{source} is not in {sources}");
    }
    let memory = &trial["memory"][0];
    assert_eq!((&memory["request"], &memory["limit"]), (&(16 << 20).into(), &(32 << 20).into()));
    let size = |of: &str, which: &str| {
        memory[of][which].as_u64().unwrap_or_else(|| panic!("{of}.{which}: {memory:#}"))
    };
    for of in ["memory", "workingSet"] {
        assert!(size(of, "p50") <= size(of, "p95") && size(of, "p95") <= size(of, "peak"), "{memory:#}");
    }
    assert!(size("memory", "peak") > 20 << 20 && size("memory", "peak") <= 32 << 20, "{memory:#}");
}

#[test]
fn junit_has_a_case_per_trial_and_skipped_ones_too() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("brief", &brief());
    desk.scenario("wrong", &brief().replace("exitCode: 7", "exitCode: 8"));
    desk.scenario("elsewhere", &format!("requires: [cluster]\n{}", brief()));
    let junit = desk.path("copy.xml");
    let ran = desk.run(&["--repeat", "2", "--junit", junit.to_str().unwrap()]).exits(1);
    let xml = read(&ran.out.join("junit.xml"));
    assert_eq!(read(&junit), xml);
    let parsed = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let suite = |name: &str| parsed.test_suites.iter().find(|suite| suite.name.as_str() == name).unwrap();
    let cases = |name| suite(name).test_cases.iter().map(|case| case.name.to_string()).collect::<Vec<_>>();
    assert_eq!(cases("brief"), ["brief (trial 1 of 2)", "brief (trial 2 of 2)"]);
    assert_eq!(cases("elsewhere"), ["elsewhere"]);
    assert_eq!((suite("brief").failures, suite("wrong").failures, suite("elsewhere").disabled), (0, 2, None));
    assert!(xml.contains("expected:") && xml.contains("needs a cluster"), "{xml}");
}

#[test]
fn a_kept_run_is_told_again_exactly_as_it_was() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("grows", &grows());
    desk.scenario("brief", &brief());
    desk.scenario("wrong", &brief().replace("exitCode: 7", "exitCode: 8"));
    desk.scenario("elsewhere", &format!("requires: [cluster]\n{}", brief()));
    for args in
        [&["--out", "once"][..], &["--out", "thrice", "--repeat", "3"], &["--out", "strict", "--no-skips"]]
    {
        let ran = desk.run(args).exits(1);
        let out = desk.path(args[1]);
        assert_eq!(told_again(&out, "json"), read(&out.join("report.json")), "{args:?}");
        assert_eq!(told_again(&out, "junit"), read(&out.join("junit.xml")), "{args:?}");
        let text = told_again(&out, "text");
        assert_eq!(ran.stdout, format!("{text}kept in {}\n", args[1]), "{args:?}");
    }
}

#[test]
fn of_so_many_trials_it_is_told_how_many_passed_and_the_worst_counts() {
    if !is_root() {
        return;
    }
    // The counter is the test's own: every second start of the container exits otherwise.
    let desk = Desk::new();
    let counter = desk.path("counter");
    fs::write(&counter, "").unwrap();
    let script = format!("echo >> {0}; exit $(($(wc -l < {0}) % 2))", counter.display());
    let app = web(&format!("command: [sh, -c, \"{script}\"], securityContext: {{runAsUser: 0}}"), "32Mi");
    desk.scenario("wavers", &format!("{app}\nobserve: {{for: 5s, until: {{allEnded: true}}}}\nexpect: {{terminations: [{{container: web/app, exitCode: 1}}]}}"));
    let ran = desk.run(&["--repeat", "3", "--jobs", "1"]).exits(1);
    assert!(ran.stdout.contains("failed       wavers  2 of 3 trials passed"), "{}", ran.stdout);
    let report = ran.report();
    let scenario = &report["scenarios"][0];
    assert_eq!((&scenario["outcome"], &scenario["passed"]), (&"failed".into(), &2.into()));
    let outcomes: Vec<_> =
        scenario["trials"].as_array().unwrap().iter().map(|trial| trial["outcome"].clone()).collect();
    assert_eq!(outcomes, ["passed", "failed", "passed"]);
}
