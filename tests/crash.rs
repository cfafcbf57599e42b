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

use exit137::backend::local::lock;
use exit137::clock;
use exit137::evidence::{Fact, Observation, StopReason, record};
use exit137::observe::trace;

const SCENARIOS: [&str; 4] = ["limit-fast", "child-hidden", "external-kill", "page-cache"];

/// The guardian cleans up within a second; a busy machine gets more before it counts as a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything on this host that a run makes and must remove, without what belongs to somebody else's live run.
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

/// In the environment of the harness and of its helpers: which processes are of this test.
const MARK: &str = "EXIT137_CRASH_TEST";

impl Host {
    fn look() -> Self {
        let mut cgroups = BTreeSet::new();
        directories(Path::new("/sys/fs/cgroup"), &mut cgroups);
        let live: Vec<String> = lock::live_runs().into_iter().map(|run| run.name).collect();
        let foreign = |text: &str| live.iter().any(|run| text.contains(run.as_str()));
        let ours =
            |path: &PathBuf| path.to_string_lossy().contains("exit137-") && !foreign(&path.to_string_lossy());
        let processes = processes(&foreign);
        let named = |path: &PathBuf| {
            Some(format!("{} {}", path.display(), fs::read_to_string(path.join("comm")).ok()?.trim()))
        };
        let network = |path: &PathBuf| Some(fs::read_link(path.join("ns/net")).ok()?.to_str()?.to_owned());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let locks =
            || fs::read_dir(lock::directory()).into_iter().flatten().flatten().map(|entry| entry.path());
        let folders = || fs::read_dir("/var/tmp").into_iter().flatten().flatten().map(|entry| entry.path());
        Self {
            cgroups: cgroups.into_iter().filter(ours).collect(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            network_namespaces: processes.iter().filter_map(network).collect(),
            trace_instances: trace::instances()
                .unwrap_or_default()
                .into_iter()
                .filter(|name| !foreign(name))
                .collect(),
            processes: processes.iter().filter_map(named).collect(),
            folders: folders().filter(ours).collect(),
            locks: locks().filter(|path| !foreign(&path.to_string_lossy())).collect(),
        }
    }
}

/// The processes that carry our mark, and those in cgroups of a run that is not alive.
fn processes(foreign: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mark = format!("{MARK}={}", std::process::id());
    let numeric =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    let ours = |path: &PathBuf| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        let marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
        let cgroup = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        marked || (cgroup.contains("exit137-r") && !foreign(&cgroup))
    };
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(numeric).filter(ours).collect()
}

fn directories(of: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(of).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            into.insert(entry.path());
            directories(&entry.path(), into);
        }
    }
}

fn start(out: &Path) -> Child {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    Command::new(env!("CARGO_BIN_EXE_exit137"))
        .arg("run")
        .args(SCENARIOS.map(|name| scenarios.join(format!("{name}.yaml"))))
        .arg("--out")
        .arg(out)
        .env(MARK, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What had been recorded of a scenario when the harness died.
struct Left {
    /// How far it had come.
    phase: &'static str,
    /// The ends that were on disk, tear-downs' excepted.
    ends: usize,
}

const PHASES: [&str; 5] = ["before its record", "starting", "running", "tear-down", "over"];

fn tears_down(fact: &Fact) -> bool {
    matches!(fact, Fact::Stopping(stop) if stop.reason == StopReason::TearDown)
}

fn observations(out: &Path, scenario: &str) -> Option<Vec<Observation>> {
    let bytes = fs::read(out.join(scenario).join("trial-1/record.jsonl")).ok()?;
    Some(record::decode(&bytes).unwrap().observations)
}

fn left(out: &Path, scenario: &str) -> Left {
    let Some(seen) = observations(out, scenario) else { return Left { phase: PHASES[0], ends: 0 } };
    let has = |what: &dyn Fn(&Fact) -> bool| seen.iter().any(|observation| what(&observation.fact));
    let phase = match () {
        () if has(&|fact| matches!(fact, Fact::Finished(_))) => PHASES[4],
        () if has(&tears_down) => PHASES[3],
        () if has(&|fact| matches!(fact, Fact::Started(_))) => PHASES[2],
        () => PHASES[1],
    };
    let before_tear_down = seen.iter().take_while(|observation| !tears_down(&observation.fact));
    let ends = before_tear_down.filter(|observation| matches!(observation.fact, Fact::Ended(_))).count();
    Left { phase, ends }
}

/// When the harness is killed.
enum Moment {
    /// So long after its start.
    After(Duration),
    /// So long after this scenario's tear-down began.
    InTearDown(&'static str, Duration),
}

/// Whether a scenario has begun to be torn down. Where everything ended by itself, nothing is stopped, and the tear-down
/// follows the last end.
fn begins_tear_down(scenario: &str, fact: &Fact) -> bool {
    let stopped = ["child-hidden", "page-cache"].contains(&scenario);
    if stopped { tears_down(fact) } else { matches!(fact, Fact::Ended(_)) }
}

/// Half of the moments are spread over the whole run, half over the tear-downs, which are short.
fn moments(rounds: u32, whole: Duration, out: &Path) -> Vec<Moment> {
    let lasts = |scenario: &str| {
        let seen = observations(out, scenario).unwrap();
        let began = seen.iter().find(|observation| begins_tear_down(scenario, &observation.fact)).unwrap();
        Duration::from_nanos(seen.last().unwrap().moment.latest() - began.moment.earliest())
    };
    let in_tear_down = |round: u32| {
        let scenario = SCENARIOS[round as usize / 2 % SCENARIOS.len()];
        Moment::InTearDown(scenario, lasts(scenario) * round / rounds)
    };
    (0..rounds)
        .map(|round| if round % 2 == 0 { Moment::After(whole * round / rounds) } else { in_tear_down(round) })
        .collect()
}

fn wait_for(moment: &Moment, out: &Path) {
    match moment {
        Moment::After(time) => std::thread::sleep(*time),
        Moment::InTearDown(scenario, time) => {
            let began = clock::boot_ns();
            let seen = || observations(out, scenario).unwrap_or_default();
            while !seen().iter().any(|observation| begins_tear_down(scenario, &observation.fact)) {
                assert!(clock::boot_ns() - began < 20_000_000_000, "{scenario} never came to its tear-down");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(*time);
        }
    }
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
    let moments = moments(rounds, whole, &folder.path().join("whole"));
    for (round, moment) in moments.into_iter().enumerate() {
        let out = folder.path().join(format!("round-{round}"));
        let mut harness = start(&out);
        wait_for(&moment, &out);
        harness.kill().unwrap();
        harness.wait().unwrap();
        let clean = until_clean(&before).unwrap_or_else(|why| panic!("round {round}: {why}"));
        slowest = slowest.max(clean);
        let reported = if out.join(SCENARIOS[0]).exists() { reported(&out) } else { BTreeMap::new() };
        for scenario in SCENARIOS {
            let left = left(&out, scenario);
            *phases.entry(left.phase).or_default() += 1;
            let told = reported.get(scenario).copied().unwrap_or(0);
            assert!(told >= left.ends, "round {round}: {scenario} lost a termination");
        }
    }
    println!(
        "{rounds} kills of a run of {whole:?}; clean again after {slowest:?} at most; its scenarios were:"
    );
    for phase in PHASES {
        println!("  {phase:<18} {}", phases.get(phase).copied().unwrap_or(0));
    }
}
