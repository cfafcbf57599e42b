//! How soon a kill is known, and how exactly its moment: 200 OOM kills, one after the other.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use exit137::backend::Backend;
use exit137::backend::local::{LocalBackend, gc};
use exit137::cause::Cause;
use exit137::clock;
use exit137::diagnosis::Diagnosis;
use exit137::evidence::{ContainerRef, Fact, Observation, Source};
use exit137::runner::{self, Shared};
use exit137::scenario::{self, Scenario};
use tokio::sync::watch;

use crate::table::{Row, percentile};
use crate::{Measured, peers};

const PODS: u64 = 25;
const TRIALS: u32 = 8;

/// What was seen of the kills, each by the number of its record in the kernel log, in nanoseconds of boot time.
#[derive(Default)]
pub struct Seen {
    stamped: HashMap<u64, u64>,
    folded: HashMap<u64, u64>,
    attributed: HashMap<u64, u64>,
    /// The end of the victim itself, which frees its memory first.
    ended: HashMap<u64, u64>,
    errors: Vec<f64>,
}

/// What the driver is heard to observe, in one trial.
#[derive(Default)]
struct Listener {
    diagnosis: Diagnosis,
    logged: BTreeMap<u32, (u64, u64)>,
    marked: BTreeMap<u32, u64>,
    pids: BTreeMap<u32, ContainerRef>,
    ended: BTreeMap<ContainerRef, u64>,
    seen: Seen,
}

pub fn measure() -> Measured<Vec<Row>> {
    let peer = peers::ours("kmsg-reader").map(|path| Reader::start(&path)).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    let seen = runtime.block_on(on_this_host())?;
    let read = peer.map(Reader::finish).transpose()?;
    let mut rows = after("stamp to fold", &seen, &seen.folded, read.as_ref());
    rows.extend(read.as_ref().map(|read| added(&seen, read)));
    rows.extend(after("stamp to attribution", &seen, &seen.attributed, read.as_ref()));
    let (p50, p99) = (percentile(&seen.errors, 0.5), percentile(&seen.errors, 0.99));
    let value = format!("p50 {p50:.0} µs, p99 {p99:.0} µs");
    rows.push(
        Row::new(format!("error of killedAt from the kernel log, {} kills", seen.errors.len()), value)
            .aim("p99 < 100 µs", p99 < 100.0 && seen.errors.len() >= 200),
    );
    Ok(rows)
}

/// One pod after the other meets its limit, 40 ms apart, the first of them after so many milliseconds.
pub fn scenario(pods: u64, first_ms: u64) -> Measured<Scenario> {
    let mut text =
        "apiVersion: exit137/v1\nkind: Scenario\nmetadata: {name: bench-kills}\npods:\n".to_owned();
    for pod in 0..pods {
        let wait = first_ms + 40 * pod;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "- name: p{pod}\n  spec:\n    restartPolicy: Never\n    containers:\n    - name: app\n      workload: {{hog: {{stages: [{{to: 1Mi, over: 0s}}, {{to: 1Mi, over: {wait}ms}}, {{to: 24Mi, over: 0s}}, {{to: 24Mi, over: 5s}}]}}}}\n      resources: {{limits: {{memory: 8Mi}}}}\n",
        );
    }
    text += "observe: {for: 20s, settle: 0s, until: {allEnded: true}}\nexpect: {nothingDies: true}\n";
    scenario::read("bench-kills.yaml", &text).map_err(|problems| format!("{problems:?}").into())
}

async fn on_this_host() -> Measured<Seen> {
    let scenario = scenario(PODS, 500)?;
    let backend = LocalBackend::prepare(&gc::new_run_name(), scenario.bound()).await?;
    trials(backend, &scenario, TRIALS).await
}

/// So many trials of a scenario, as they are heard.
pub async fn trials<B: Backend>(backend: B, scenario: &Scenario, trials: u32) -> Measured<Seen> {
    let backend = Arc::new(backend);
    let (_keep, interrupted) = watch::channel(false);
    let shared = Shared { backend: Arc::clone(&backend), interrupted };
    let mut all = Seen::default();
    let folder = tempfile::tempdir()?;
    for trial in 1..=trials {
        let own = folder.path().join(trial.to_string());
        std::fs::create_dir(&own)?;
        let listener = Mutex::new(Listener::default());
        runner::run(scenario, &format!("bench-{trial}"), &shared, &own, |observation, _| {
            listener.lock().unwrap_or_else(PoisonError::into_inner).hear(observation);
        })
        .await;
        let seen = listener.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
        all.stamped.extend(seen.stamped);
        all.folded.extend(seen.folded);
        all.attributed.extend(seen.attributed);
        all.ended.extend(seen.ended);
        all.errors.extend(seen.errors);
    }
    drop(shared);
    if let Some(backend) = Arc::into_inner(backend) {
        for problem in backend.tear_down().await {
            crate::say(&format!("left behind: {problem}"));
        }
    }
    Ok(all)
}

impl Seen {
    /// From the kernel's stamp on each kill until it was attributed, in milliseconds.
    pub fn until_attributed(&self) -> Vec<f64> {
        self.attributed_since(&self.stamped)
    }

    /// From the end of each victim, as the kernel stamped it, until its kill was attributed, in milliseconds.
    pub fn after_the_end(&self) -> Vec<f64> {
        self.attributed_since(&self.ended)
    }

    fn attributed_since(&self, began: &HashMap<u64, u64>) -> Vec<f64> {
        let since = |(number, at): (&u64, &u64)| Some(microseconds(*began.get(number)?, *at) / 1000.0);
        self.attributed.iter().filter_map(since).collect()
    }
}

impl Listener {
    /// What the driver does with an observation, and when it was done.
    fn hear(&mut self, observation: &Observation) {
        self.diagnosis.observe(observation);
        let now = clock::boot_ns();
        let at = observation.moment.middle();
        match (&observation.fact, observation.source) {
            (Fact::Started(started), _) => {
                self.pids.extend(started.pid.map(|pid| (pid, started.container.clone())));
            }
            (Fact::KernelKilled(killed), _) => {
                let number =
                    observation.raw.as_deref().and_then(|raw| raw.strip_prefix('[')?.split_once(']'));
                let number = number.and_then(|(number, _)| number.parse().ok());
                if let (Some(number), Some(container)) = (number, self.pids.get(&killed.pid).cloned()) {
                    self.logged.insert(killed.pid, (number, at));
                    self.seen.stamped.insert(number, at);
                    self.seen.folded.insert(number, now);
                    self.settle(&container);
                }
            }
            (Fact::Victim(victim), Source::Trace) => {
                self.marked.insert(victim.pid, at);
            }
            (Fact::Ended(ended), _) => {
                self.ended.entry(ended.container.clone()).or_insert(at);
                self.settle(&ended.container);
            }
            _ => {}
        }
    }

    /// Asks for the cause, which is final when both the kernel log's word and the end have been folded.
    fn settle(&mut self, container: &ContainerRef) {
        let findings = self.diagnosis.finish();
        let now = clock::boot_ns();
        let found = findings.terminations.iter().find(|ended| ended.container == *container);
        let cause = found.and_then(|ended| ended.attribution.as_ref()).map(|found| found.cause);
        let pid = self.pids.iter().find(|(_, own)| *own == container).map(|(pid, _)| pid);
        let logged = pid.and_then(|pid| self.logged.get(pid));
        if let (Some(Cause::ContainerOom), Some((number, _))) = (cause, logged) {
            self.seen.attributed.entry(*number).or_insert(now);
        }
    }

    fn finish(mut self) -> Seen {
        for (pid, (number, logged)) in &self.logged {
            let ended = self.pids.get(pid).and_then(|container| self.ended.get(container));
            self.seen.ended.extend(ended.map(|at| (*number, *at)));
            if let Some(marked) = self.marked.get(pid) {
                self.seen.errors.push(microseconds((*marked).min(*logged), (*marked).max(*logged)));
            }
        }
        self.seen
    }
}

/// How long after the stamps something was, for the kills that all have seen; beside the bare reader.
fn after(what: &str, seen: &Seen, at: &HashMap<u64, u64>, read: Option<&HashMap<u64, u64>>) -> Vec<Row> {
    let after = |number: &u64, at: Option<&u64>| Some(microseconds(*seen.stamped.get(number)?, *at?));
    let numbers: Vec<&u64> =
        at.keys().filter(|number| read.is_none_or(|read| read.contains_key(*number))).collect();
    let of = |at: &HashMap<u64, u64>| -> Vec<f64> {
        numbers.iter().filter_map(|number| after(number, at.get(*number))).collect()
    };
    let (ours, theirs) = (of(at), read.map(of));
    let row = |(name, share)| {
        let value = percentile(&ours, share);
        let row = Row::new(format!("{what}, {} kills, {name}", ours.len()), format!("{value:.0} µs"));
        let Some(theirs) = &theirs else { return row.no_peer(peers::NO_COMPILER) };
        let theirs = percentile(theirs, share);
        let row = row.peer(format!("bare C reader {theirs:.0} µs"), value / theirs);
        if share > 0.9 { row.aim("ratio <= 1.5", value / theirs <= 1.5) } else { row }
    };
    [("p50", 0.5), ("p99", 0.99)].map(row).into()
}

/// What the harness adds to the bare reader, kill by kill: most of the time both wait for the kernel to wake them.
fn added(seen: &Seen, read: &HashMap<u64, u64>) -> Row {
    let added: Vec<f64> = seen
        .folded
        .iter()
        .filter_map(|(number, folded)| Some(microseconds(*read.get(number)?, *folded)))
        .collect();
    let (p50, p99) = (percentile(&added, 0.5), percentile(&added, 0.99));
    Row::new("  of that after the bare reader had it", format!("p50 {p50:.0} µs, p99 {p99:.0} µs"))
}

/// From one nanosecond to a later one; a little less than nothing is possible within the error of the clocks.
#[expect(clippy::cast_precision_loss, reason = "differences of far less than 2^52 ns")]
fn microseconds(from: u64, to: u64) -> f64 {
    if to >= from { (to - from) as f64 / 1000.0 } else { -((from - to) as f64) / 1000.0 }
}

/// The bare reader of the kernel log.
struct Reader {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Reader {
    fn start(program: &Path) -> Measured<Self> {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("the reader has no standard output")?;
        let mut stdout = BufReader::new(stdout);
        // It listens once it says so.
        stdout.read_line(&mut String::new())?;
        Ok(Self { child, stdout })
    }

    /// When each record was read, by its number.
    fn finish(mut self) -> Measured<HashMap<u64, u64>> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        self.child.wait()?;
        let read = text.lines().filter_map(|line| {
            let mut numbers = line.split(' ').map(str::parse);
            Some((numbers.next()?.ok()?, numbers.nth(1)?.ok()?))
        });
        Ok(read.collect())
    }
}
