//! `exit137 size` and `exit137 sweep`, on the real kernel.

mod truth;

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Desk, Ran, exit137, is_root, kill, until, web};

const LIMIT: &str = "pods.web.containers.app.resources.limits.memory";

/// Lives with a little more than 20 MiB.
fn hog() -> String {
    let web = web("workload: {hog: {size: 20Mi}}", "64Mi");
    format!("{web}\nobserve: {{for: 400ms, settle: 50ms}}\nexpect: {{nothingDies: true}}")
}

fn command(desk: &Desk, act: &str, args: &[&str]) -> Command {
    let mut command = exit137();
    command.arg(act).arg(desk.scenarios().join("hog.yaml")).args(args).current_dir(desk.path(""));
    if !args.contains(&"--resume") {
        command.arg("--out").arg(desk.path("out"));
    }
    command
}

fn ran(desk: &Desk, act: &str, args: &[&str]) -> Ran {
    desk.ran(command(desk, act, args).output().unwrap())
}

fn size(desk: &Desk, path: &str, [from, to, step]: [&str; 3], more: &[&str]) -> Ran {
    let args = [&["--set", path, "--from", from, "--to", to, "--step", step, "--repeat", "2"], more].concat();
    ran(desk, "size", &args)
}

fn json(ran: &Ran, file: &str) -> Value {
    serde_json::from_slice(&fs::read(ran.out.join(file)).unwrap()).unwrap()
}

#[test]
fn the_smallest_limit_is_found_within_the_bound_and_its_scenario_can_be_run_again() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("hog", &hog());
    let ran = size(&desk, LIMIT, ["8Mi", "40Mi", "2Mi"], &["--requests-ratio", "0.5"]).exits(0);
    let report = json(&ran, "size.json");
    let (answer, fails) = (report["answer"].as_str().unwrap(), report["fails"].as_str().unwrap());
    assert!(matches!((fails, answer), ("20Mi", "22Mi") | ("22Mi", "24Mi")), "{report:#}");
    assert_eq!(report["outcome"], "found");
    let tried = report["candidates"].as_array().unwrap();
    assert!(tried.len() <= 6, "16 steps are 4 halvings and both ends: {report:#}");
    for part in [
        &format!("{answer} is the smallest that holds"),
        "margin: web/app",
        "2 of 2 runs passed",
        "confirmed from both sides",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} is not in\n{}", ran.stdout);
    }
    let own = desk.path("out").join(format!("hog-{}", answer.to_lowercase()));
    let text = fs::read_to_string(own.join("scenario.yaml")).unwrap();
    let half = answer.trim_end_matches("Mi").parse::<u32>().unwrap() / 2;
    assert!(text.contains(&format!("memory: {half}Mi")), "the request follows the limit:\n{text}");
    let again =
        exit137().arg("run").arg(own.join("scenario.yaml")).arg("--out").arg(desk.path("again")).output();
    desk.ran(again.unwrap()).exits(0);
    // Every value's folder is a scenario's of a run, and can be judged again.
    let judged = exit137().arg("report").arg(desk.path("out")).output().unwrap();
    desk.ran(judged).exits(1);
}

#[test]
fn the_largest_load_is_found_from_above() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("hog", &hog());
    let path = "pods.web.containers.app.workload.hog.size";
    let ran =
        size(&desk, path, ["16Mi", "32Mi", "4Mi"], &["--find", "largest", "--set", &format!("{LIMIT}=26Mi")])
            .exits(0);
    let report = json(&ran, "size.json");
    assert_eq!((&report["answer"], &report["fails"]), (&"24Mi".into(), &"28Mi".into()), "{report:#}");
    assert_eq!(report["question"]["set"][0], format!("{LIMIT}=26Mi"));
}

#[test]
fn the_largest_rate_that_a_limit_carries_is_found_and_its_latency_told() {
    if !is_root() {
        return;
    }
    // In flight are rate x 500 ms, each with 1 MiB: 64 MiB carry less than 128 a second, and 32 are easy.
    let server =
        web("workload: {serve: {port: 8080, holdPerRequest: 1Mi, holdFor: 500ms, cap: 512Mi}}", "64Mi");
    let traffic = "traffic: [{name: main, to: web/app, port: 8080, executor: constant-arrival-rate, startTime: 300ms, rate: 50, \
                   duration: 2s, maxVUs: 400, requests: [{path: /}]}]";
    let desk = Desk::with(
        "hog",
        &format!("{server}\n{traffic}\nobserve: {{for: 3500ms}}\nexpect: {{nothingDies: true}}"),
    );
    let ran = size(&desk, "traffic.main.rate", ["32", "256", "32"], &["--find", "largest"]).exits(0);
    let report = json(&ran, "size.json");
    assert!(matches!(report["answer"].as_str(), Some("64" | "96")), "{report:#}");
    let answer = report["candidates"].as_array().unwrap().iter().find(|one| one["value"] == report["answer"]);
    let p99 = answer.unwrap()["trials"]["p99Ms"].as_f64().unwrap();
    assert!((500.0..5000.0).contains(&p99), "each request takes half a second: {p99}");
    let wrong = size(&desk, "traffic.mian.rate", ["32", "256", "32"], &[]).exits(2);
    assert!(wrong.stderr.contains("no traffic mian; there is main"), "{}", wrong.stderr);
}

#[test]
fn an_end_that_holds_already_is_0_with_a_note_and_a_far_end_that_fails_is_1() {
    if !is_root() {
        return;
    }
    let holds = size(&Desk::with("hog", &hog()), LIMIT, ["40Mi", "48Mi", "4Mi"], &[]).exits(0);
    assert!(
        holds.stdout.contains("40Mi holds already: a still smaller one may hold too"),
        "{}",
        holds.stdout
    );
    let fails = size(&Desk::with("hog", &hog()), LIMIT, ["8Mi", "12Mi", "2Mi"], &[]).exits(1);
    assert!(fails.stdout.contains("even") && fails.stdout.contains("container-oom"), "{}", fails.stdout);
    let path = "pods.web.containers.app.workload.hog.size";
    let around = size(&Desk::with("hog", &hog()), path, ["16Mi", "96Mi", "40Mi"], &[]).exits(1);
    assert!(around.stdout.contains("did you mean --find largest?"), "{}", around.stdout);
}

#[test]
fn an_interrupted_sizing_tells_what_it_has_learned_and_is_130() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("hog", &hog().replace("for: 400ms", "for: 2s"));
    let args = ["--set", LIMIT, "--from", "8Mi", "--to", "40Mi", "--step", "2Mi", "--repeat", "2"];
    let child = command(&desk, "size", &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the third value is tried", || {
        desk.path("out/hog-24mi/trial-1/record.jsonl").exists().then_some(())
    });
    kill(child.id(), Signal::INT);
    let ran = desk.ran(child.wait_with_output().unwrap()).exits(130);
    assert!(
        ran.stdout.contains("so far: 8Mi fails and 40Mi holds, the answer lies between them"),
        "{}",
        ran.stdout
    );
    assert_eq!(json(&ran, "size.json")["outcome"], "cut-short");
}

#[test]
fn a_sweep_that_was_interrupted_goes_on_where_it_was_and_runs_nothing_twice() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("hog", &hog());
    let limits = format!("{LIMIT}=12Mi,32Mi");
    let set = ["--set", &limits, "--set", "pods.web.replicas=1,2", "--repeat", "2", "--jobs", "1"];
    let child = command(&desk, "sweep", &set).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the third cell is tried", || {
        desk.path("out/hog-32mi-1/trial-1/record.jsonl").exists().then_some(())
    });
    kill(child.id(), Signal::INT);
    let cut = desk.ran(child.wait_with_output().unwrap()).exits(130);
    assert!(cut.stdout.contains("container-oom") && cut.stdout.contains("not run"), "{}", cut.stdout);
    let finished = desk.path("out/hog-12mi-1/trial-1/record.jsonl");
    let before = fs::read(&finished).unwrap();

    let out = desk.path("out");
    let resumed = ran(&desk, "sweep", &[&set[..], &["--resume", out.to_str().unwrap()]].concat()).exits(0);
    assert_eq!(fs::read(&finished).unwrap(), before, "what was finished is not run again");
    assert!(!resumed.stderr.contains("start  hog-12mi-1\n"), "{}", resumed.stderr);
    let report = json(&resumed, "sweep.json");
    let cells: Vec<(&Value, &Value, &Value)> = report["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| (&cell["values"], &cell["trials"]["runs"], &cell["trials"]["passed"]))
        .collect();
    let expected = [("12Mi", "1", 0), ("12Mi", "2", 0), ("32Mi", "1", 2), ("32Mi", "2", 2)];
    for ((values, runs, passed), (limit, replicas, survived)) in cells.into_iter().zip(expected) {
        assert_eq!(
            (values, runs, passed),
            (&serde_json::json!([limit, replicas]), &2.into(), &survived.into())
        );
    }
    let csv = fs::read_to_string(out.join("sweep.csv")).unwrap();
    assert!(csv.contains("12Mi,2,2,0,2,0,4 container-oom,"), "{csv}");

    let resume = ["--repeat", "2", "--resume", out.to_str().unwrap()];
    let limits = format!("{LIMIT}=12Mi,32Mi,40Mi");
    let wider = ["--set", &limits, "--set", "pods.web.replicas=1,2"];
    let more = ran(&desk, "sweep", &[&wider[..], &resume].concat()).exits(0);
    assert_eq!(json(&more, "sweep.json")["cells"].as_array().unwrap().len(), 6);
    assert!(!more.stderr.contains("start  hog-32mi-1\n"), "{}", more.stderr);
    for other in [&set[..2], &["--set", "pods.web.replicas=1,2"]] {
        let refused = ran(&desk, "sweep", &[other, &resume].concat()).exits(2);
        assert!(refused.stderr.contains("holds another grid, of 6 cells"), "{}", refused.stderr);
    }
    desk.scenario("hog", &hog().replace("20Mi", "21Mi"));
    let changed = ran(&desk, "sweep", &[&wider[..], &resume].concat()).exits(2);
    assert!(changed.stderr.contains("was run with another scenario"), "{}", changed.stderr);
}

#[test]
fn what_cannot_be_sized_is_refused_before_anything_is_made() {
    let desk = Desk::with("hog", &hog());
    let ends = ["8Mi", "40Mi", "2Mi"];
    for (path, ends, more, said) in [
        (
            "pods.web.containers.ap.resources.limits.memory",
            ends,
            vec![],
            "no container ap in pod web; there is app",
        ),
        ("pods.wed.replicas", ["1", "4", "1"], vec![], "no pod wed; there is web"),
        ("pods.web.replica", ["1", "4", "1"], vec![], "did you mean replicas?"),
        ("pods.web.replicas", ["1", "400", "1"], vec![], "more than 100"),
        ("pods.web.replicas", ends, vec![], "replicas"),
        (LIMIT, ["40Mi", "8Mi", "2Mi"], vec![], "is empty"),
        (LIMIT, ["8Mi", "40Mi", "2"], vec![], "different things"),
        (LIMIT, ["8Mi", "40Mi", "64Mi"], vec![], "does not fit"),
        (LIMIT, ["8Mi", "lots", "1Mi"], vec![], "is no amount"),
        (LIMIT, ends, vec!["--set", "pods.web.replicas"], "one field is sized at a time"),
        (LIMIT, ends, vec!["--requests-ratio", "2"], "no part of a limit"),
        ("observe.for=1s", ends, vec![], "no field is to be sized"),
    ] {
        let refused = size(&desk, path, ends, &more).exits(2);
        assert!(refused.stderr.contains(said), "{path} {ends:?}: {said:?} is not in\n{}", refused.stderr);
        assert!(!desk.path("out").exists());
    }
    for (set, said) in [
        ("pods.web.replicas", "no value"),
        ("pods.web.replicas=1,1", "twice"),
        ("pods.web.replicas=1,x", "--set pods.web.replicas=x: is \"x\""),
    ] {
        let refused = ran(&desk, "sweep", &["--set", set]).exits(2);
        assert!(refused.stderr.contains(said), "{set}: {said:?} is not in\n{}", refused.stderr);
    }
}
