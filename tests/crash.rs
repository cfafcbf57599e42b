//! `kill -9` of the harness at moments spread over a run, tear-down included: nothing is left behind, and nothing that
//! was on disk is lost. `make crash ROUNDS=100` sets the number of rounds.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a test may fail, and it prints what it did"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use exit137::clock;
use exit137::evidence::{Fact, StopReason, record};
use exit137::observe::trace;

const SCENARIOS: [&str; 4] = ["limit-fast", "child-hidden", "external-kill", "page-cache"];

/// The guardian cleans up within a second; a busy machine gets more before it counts as a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything on this host that a run makes and must remove.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    cgroups: BTreeSet<PathBuf>,
    mounts: BTreeSet<String>,
    network_namespaces: BTreeSet<String>,
    trace_instances: BTreeSet<String>,
    processes: BTreeSet<String>,
    folders: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
}

impl Host {
    fn look() -> Self {
        let mut cgroups = BTreeSet::new();
        directories(Path::new("/sys/fs/cgroup"), &mut cgroups);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        Self {
            // Only ours: other programs on this host come and go as they like.
            cgroups: cgroups.into_iter().filter(|path| path.to_string_lossy().contains("exit137-")).collect(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            network_namespaces: of_processes(|pid| {
                Some(fs::read_link(pid.join("ns/net")).ok()?.to_str()?.to_owned())
            }),
            trace_instances: trace::instances().unwrap_or_default().into_iter().collect(),
            processes: of_processes(|pid| {
                let comm = fs::read_to_string(pid.join("comm")).ok()?;
                let own = pid.file_name()?.to_str()? == std::process::id().to_string();
                (comm.starts_with("exit137") && !own).then(|| format!("{} {}", pid.display(), comm.trim()))
            }),
            folders: entries("/var/tmp"),
            locks: entries("/run/exit137"),
        }
    }
}

fn directories(of: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(of).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            into.insert(entry.path());
            directories(&entry.path(), into);
        }
    }
}

fn entries(of: &str) -> BTreeSet<PathBuf> {
    let ours = |path: &PathBuf| path.to_string_lossy().contains("exit137");
    fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path()).filter(ours).collect()
}

fn of_processes(what: impl Fn(&Path) -> Option<String>) -> BTreeSet<String> {
    let numeric =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(numeric)
        .filter_map(|pid| what(&pid))
        .collect()
}

fn start(out: &Path) -> Child {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    Command::new(env!("CARGO_BIN_EXE_exit137"))
        .arg("run")
        .args(SCENARIOS.map(|name| scenarios.join(format!("{name}.yaml"))))
        .arg("--out")
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What had been recorded of each scenario when the harness died.
struct Left {
    /// How far the furthest of them had come.
    phase: &'static str,
    /// The ends that were on disk, tear-downs' excepted.
    ends: BTreeMap<String, usize>,
}

const PHASES: [&str; 6] = ["before any record", "starting", "running", "tear-down", "finishing", "over"];

fn left(out: &Path) -> Left {
    let mut furthest = 0;
    let mut least = PHASES.len() - 1;
    let mut ends = BTreeMap::new();
    for name in SCENARIOS {
        let Ok(bytes) = fs::read(out.join(name).join("trial-1/record.jsonl")) else {
            least = 0;
            continue;
        };
        let seen = record::decode(&bytes).unwrap().observations;
        let has = |what: &dyn Fn(&Fact) -> bool| seen.iter().any(|observation| what(&observation.fact));
        let stopping =
            |fact: &Fact| matches!(fact, Fact::Stopping(stop) if stop.reason == StopReason::TearDown);
        let phase = match () {
            () if has(&|fact| matches!(fact, Fact::Finished(_))) => 4,
            () if has(&stopping) => 3,
            () if has(&|fact| matches!(fact, Fact::Started(_))) => 2,
            () => 1,
        };
        let before_tear_down = seen.iter().take_while(|observation| !stopping(&observation.fact));
        let count = before_tear_down.filter(|observation| matches!(observation.fact, Fact::Ended(_))).count();
        ends.insert(name.to_owned(), count);
        furthest = furthest.max(phase);
        least = least.min(phase);
    }
    let over = least == 4 && out.join("report.json").exists();
    Left { phase: if over { PHASES[5] } else { PHASES[furthest] }, ends }
}

/// The terminations that `exit137 report` tells of a run's folder.
fn reported(out: &Path) -> BTreeMap<String, usize> {
    let output = Command::new(env!("CARGO_BIN_EXE_exit137"))
        .args(["report", "--format", "json"])
        .arg(out)
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let count = |scenario: &serde_json::Value| {
        let trials = scenario["trials"].as_array().unwrap().iter();
        trials.map(|trial| trial["terminations"].as_array().unwrap().len()).sum::<usize>()
    };
    let scenarios = report["scenarios"].as_array().unwrap().iter();
    scenarios.map(|scenario| (scenario["name"].as_str().unwrap().to_owned(), count(scenario))).collect()
}

/// Waits until the host is as it was.
fn until_clean(before: &Host) -> Result<Duration, String> {
    let began = clock::boot_ns();
    loop {
        let now = Host::look();
        let waited = Duration::from_nanos(clock::boot_ns() - began);
        if now == *before {
            return Ok(waited);
        }
        if waited > PATIENCE {
            return Err(format!("left behind after {waited:?}:\n{now:#?}\nbefore:\n{before:#?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_left_behind_and_nothing_is_lost_whenever_the_harness_is_killed() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: making cgroups needs root here");
        return;
    }
    let rounds: u32 = std::env::var("ROUNDS").map_or(4, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let before = Host::look();
    let began = clock::boot_ns();
    let status = start(&folder.path().join("whole")).wait().unwrap();
    assert_eq!(status.code(), Some(0), "the scenarios themselves must pass");
    let whole = Duration::from_nanos(clock::boot_ns() - began);
    until_clean(&before).unwrap();

    let mut phases: BTreeMap<&str, u32> = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let out = folder.path().join(format!("round-{round}"));
        let mut harness = start(&out);
        std::thread::sleep(whole * round / rounds);
        harness.kill().unwrap();
        harness.wait().unwrap();
        let clean = until_clean(&before).unwrap_or_else(|why| panic!("round {round}: {why}"));
        slowest = slowest.max(clean);
        let left = left(&out);
        *phases.entry(left.phase).or_default() += 1;
        if left.ends.is_empty() {
            continue;
        }
        let reported = reported(&out);
        for (name, ends) in left.ends {
            assert!(
                reported.get(&name).copied().unwrap_or(0) >= ends,
                "round {round}: {name} lost a termination"
            );
        }
    }
    println!("{rounds} kills over {whole:?}; clean again after {slowest:?} at most; killed while:");
    for phase in PHASES {
        println!("  {phase:<18} {}", phases.get(phase).copied().unwrap_or(0));
    }
}
