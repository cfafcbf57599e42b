//! Admission, the guardian, gc, doctor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use exit137::backend::local::admission::meminfo;
use exit137::evidence::record;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Desk, Live, Ran, brief, cgroup_of, endless, exit137, is_root, kill, until, web};

const MIB: u64 = 1 << 20;

/// A scenario that may take so much and takes next to nothing.
fn promises(bound: u64) -> String {
    format!(
        "{}\nobserve: {{for: 60s}}\nexpect: {{nothingDies: true}}",
        web("command: [sleep, '60']", &bound.to_string())
    )
}

#[test]
fn a_scenario_that_may_take_more_than_is_free_is_refused_with_the_numbers() {
    if !is_root() {
        return;
    }
    let bound = meminfo("MemAvailable").unwrap();
    let desk = Desk::with("huge", &promises(bound));
    let ran = desk.run(&[]).exits(3);
    let asked = ran.stderr.split_once("may take up to ").unwrap().1.split_once(" MiB").unwrap().0;
    assert!(asked.parse::<u64>().unwrap() >= bound / MIB, "{}", ran.stderr);
    assert!(ran.stderr.contains("MiB are free beyond the reserve of"), "{}", ran.stderr);
}

#[test]
fn a_run_is_admitted_beside_what_another_one_was_promised() {
    if !is_root() {
        return;
    }
    let reserve = (MIB * 1024).max(meminfo("MemTotal").unwrap() / 10);
    let two_thirds = (meminfo("MemAvailable").unwrap() - reserve) / 3 * 2;
    let desk = Desk::with("first", &promises(two_thirds));
    let live = Live::start(&desk, "first", &[]);
    let second = Desk::with("second", &promises(two_thirds));
    let ran = second.run(&[]).exits(3);
    let promised = ran.stderr.split_once('(').unwrap().1.split_once(" MiB are promised").unwrap().0;
    assert!(promised.parse::<u64>().unwrap() >= two_thirds / MIB, "{}", ran.stderr);
    live.signal(Signal::INT);
    let (ran, left) = live.end();
    ran.exits(130);
    left.until_gone();
}

#[test]
fn the_guardian_stops_everything_when_the_reserve_is_touched() {
    if !is_root() {
        return;
    }
    // Nothing runs short here: the reserve is set just below what is available, and a container of another run, within its
    // own limit, takes what lies between.
    let desk = Desk::with("endless", &endless());
    let between = 256 * MIB;
    // What other runs on this host were promised counts as well: while there is too much of that, it is refused.
    let child = until("the run is admitted", || {
        let _ = fs::remove_dir_all(desk.path("out"));
        let reserve = meminfo("MemAvailable")? - between;
        let mut command = desk.command(&[]);
        command.env("EXIT137_RESERVE", reserve.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let record = desk.path("out/endless/trial-1/record.jsonl");
        until("it has begun or ended", || {
            (record.exists() || child.try_wait().unwrap().is_some()).then_some(())
        });
        record.exists().then_some(child)
    });
    let other = Desk::with(
        "other",
        &format!(
            "{}\nobserve: {{for: 3s}}\nexpect: {{nothingDies: true}}",
            web("workload: {hog: {size: 640Mi}}", "768Mi")
        ),
    );
    let other = other.run(&[]);
    let ran = desk.ran(child.wait_with_output().unwrap()).exits(3);
    assert!(ran.stderr.contains("less than the reserve of"), "{}", ran.stderr);
    other.exits(0);
}

#[test]
fn gc_removes_what_a_run_left_whose_guardian_was_killed_too_and_leaves_a_live_one_alone() {
    if !is_root() {
        return;
    }
    let (dead_desk, live_desk) = (Desk::with("endless", &endless()), Desk::with("endless", &endless()));
    let dead = Live::start(&dead_desk, "endless", &[]);
    let live = Live::start(&live_desk, "endless", &[]);
    kill(dead.guardian(), Signal::KILL);
    dead.signal(Signal::KILL);
    let (_, left) = dead.end();
    let output = exit137().arg("gc").output().unwrap();
    Ran::new(output, "nowhere".into()).exits(0);
    left.until_gone();

    live.signal(Signal::INT);
    let (ran, left) = live.end();
    let ran = ran.exits(130);
    assert_eq!(ran.trial("endless")["terminations"], Value::Array(Vec::new()), "gc touched a live run");
    left.until_gone();
}

#[test]
fn the_next_run_cleans_up_too_and_what_was_recorded_can_still_be_told() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("endless", &endless());
    let dead = Live::start(&desk, "endless", &[]);
    kill(dead.guardian(), Signal::KILL);
    dead.signal(Signal::KILL);
    let (ran, left) = dead.end();
    Desk::with("brief", &brief()).run(&[]).exits(0);
    left.until_gone();
    let output = exit137().arg("report").arg(&ran.out).output().unwrap();
    let told = Ran::new(output, ran.out).exits(5);
    assert!(told.stdout.contains("the harness died"), "{}", told.stdout);
}

#[test]
fn the_guardian_cleans_up_after_a_harness_that_was_killed() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("endless", &endless());
    let live = Live::start(&desk, "endless", &[]);
    live.signal(Signal::KILL);
    live.end().1.until_gone();
}

#[test]
fn a_run_that_cannot_remove_everything_says_what_and_is_an_error() {
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    if !is_root() || !freezer.join("cgroup.procs").exists() {
        println!(
            "not run: needs root and the freezer of cgroup v1, in which not even SIGKILL ends a process"
        );
        return;
    }
    let desk = Desk::with(
        "frozen",
        &format!(
            "{}\nobserve: {{for: 5s}}\nexpect: {{nothingDies: true}}",
            web("workload: {idle: {}}", "32Mi")
        ),
    );
    let live = Live::start(&desk, "frozen", &[]);
    let record = fs::read(desk.path("out/frozen/trial-1/record.jsonl")).unwrap();
    let cgroup = cgroup_of(&record::decode(&record).unwrap().observations, "/web/app-0");
    let ice = Ice::in_cgroup(&cgroup);
    let (ran, left) = live.end();
    let ran = ran.exits(3);
    assert!(
        ran.stdout.contains("left behind: cgroup ") && ran.stdout.contains("do not die"),
        "{}",
        ran.stdout
    );
    drop(ice);
    exit137().arg("gc").output().unwrap();
    left.until_gone();
}

/// A process of nobody's in a container's cgroup, frozen until this is dropped.
struct Ice {
    process: Child,
    freezer: PathBuf,
}

impl Ice {
    fn in_cgroup(memory: &str) -> Self {
        let process = Command::new("sleep").arg("60").spawn().unwrap();
        let freezer = PathBuf::from(format!("/sys/fs/cgroup/freezer/exit137-test-{}", process.id()));
        fs::create_dir(&freezer).unwrap();
        for cgroup in [Path::new(&format!("/sys/fs/cgroup/memory{memory}")), &freezer] {
            fs::write(cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
        }
        fs::write(freezer.join("freezer.state"), "FROZEN").unwrap();
        Self { process, freezer }
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        fs::write(self.freezer.join("freezer.state"), "THAWED").unwrap();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        until("it has gone", || fs::remove_dir(&self.freezer).ok());
    }
}

#[test]
fn the_doctor_says_how_each_thing_stands_for_people_and_for_programs() {
    let doctor =
        |args: &[&str]| Ran::new(exit137().arg("doctor").args(args).output().unwrap(), "nowhere".into());
    let (text, json) = (doctor(&[]), doctor(&["--json"]));
    assert_eq!(text.status, json.status);
    assert_eq!(
        text.status,
        Some(if rustix::process::geteuid().is_root() { 0 } else { 3 }),
        "{}",
        text.stdout
    );
    let checks: Vec<Value> = serde_json::from_str(&json.stdout).unwrap();
    assert!(checks.len() >= 8, "{checks:#?}");
    for check in &checks {
        let name = check["name"].as_str().unwrap();
        assert!(text.stdout.lines().any(|line| line.contains(name)), "{name} is not in\n{}", text.stdout);
        let lacks = check["standing"] != "ok";
        assert_eq!((check["costs"].is_string(), check["mend"].is_string()), (lacks, lacks), "{check:#}");
    }
    let names = checks.iter().map(|check| check["name"].to_string()).collect::<String>();
    for name in ["cgroup", "kernel log", "tracefs", "swap", "memory"] {
        assert!(names.contains(name), "{name} is not among {names}");
    }
}
