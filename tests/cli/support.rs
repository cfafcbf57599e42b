//! Running exit137 as a person would, and reading what it left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use exit137::clock;
use exit137::evidence::{CgroupMade, Fact, Observation, record};
use exit137::observe::trace;
use serde_json::Value;
use tempfile::TempDir;

/// A busy machine gets so long for what takes a moment.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether this can make cgroups; says so if not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not run: making cgroups needs root here");
    }
    root
}

/// The program, in an environment that says nothing.
pub fn exit137() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
    for name in
        ["CI", "NO_COLOR", "EXIT137_LOG", "EXIT137_RESERVE", "EXIT137_WORKLOAD", "EXIT137_DISPOSABLE_HOST"]
    {
        command.env_remove(name);
    }
    command.env("TERM", "xterm-256color").stdin(Stdio::null());
    command
}

/// A folder with scenarios, and room for a run's.
pub struct Desk {
    folder: TempDir,
}

impl Desk {
    /// An empty one.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("scenarios")).unwrap();
        Self { folder }
    }

    /// One with this scenario.
    pub fn with(name: &str, body: &str) -> Self {
        let desk = Self::new();
        desk.scenario(name, body);
        desk
    }

    /// Writes a scenario: its body is what follows `metadata`.
    pub fn scenario(&self, name: &str, body: &str) -> PathBuf {
        let text = format!(
            "apiVersion: exit137/v1\nkind: Scenario\nmetadata: {{name: {name}}}\n{}\n",
            body.trim_matches('\n')
        );
        let path = self.scenarios().join(format!("{name}.yaml"));
        fs::write(&path, text).unwrap();
        path
    }

    /// Where the scenarios are.
    pub fn scenarios(&self) -> PathBuf {
        self.folder.path().join("scenarios")
    }

    /// A path beside them, where nothing is yet.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `exit137 run` of every scenario here, into `out`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = exit137();
        command.arg("run").arg(self.scenarios()).args(args);
        if !args.contains(&"--out") {
            command.arg("--out").arg(self.path("out"));
        }
        command.current_dir(self.folder.path());
        command
    }

    /// Runs every scenario here.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.ran(self.command(args).output().unwrap())
    }

    /// What has come of a run.
    pub fn ran(&self, output: Output) -> Ran {
        Ran::new(output, self.path("out"))
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub out: PathBuf,
}

impl Ran {
    pub fn new(output: Output, out: PathBuf) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            out,
        }
    }

    /// Holds it to an exit status, and shows everything if it had another.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// report.json.
    pub fn report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out.join("report.json")).unwrap()).unwrap()
    }

    /// The report of a scenario's first trial.
    pub fn trial(&self, scenario: &str) -> Value {
        let report = self.report();
        let all = report["scenarios"].as_array().unwrap();
        let one = all.iter().find(|one| one["name"] == scenario);
        one.unwrap_or_else(|| panic!("no {scenario} in {report:#}"))["trials"][0].clone()
    }

    /// The record of a scenario's first trial.
    pub fn record(&self, scenario: &str) -> Vec<Observation> {
        let bytes = fs::read(self.out.join(scenario).join("trial-1/record.jsonl")).unwrap();
        record::decode(&bytes).unwrap().observations
    }

    /// What a container (`pod-container-instance`) of a scenario's first trial printed.
    pub fn log(&self, scenario: &str, container: &str) -> String {
        let path = self.out.join(scenario).join(format!("trial-1/logs/{container}.log"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}\n{self:#?}", path.display()))
    }
}

/// The limits of cgroups, by the end of their path: `node/web/app-0`.
pub fn limit_of(record: &[Observation], end: &str) -> Option<u64> {
    made(record, end).limit
}

/// The path of a cgroup as the kernel prints it, by its end.
pub fn cgroup_of(record: &[Observation], end: &str) -> String {
    made(record, end).path.clone()
}

fn made<'a>(record: &'a [Observation], end: &str) -> &'a CgroupMade {
    let mut made =
        record.iter().filter_map(|seen| if let Fact::Cgroup(made) = &seen.fact { Some(made) } else { None });
    made.find(|made| made.path.ends_with(end)).unwrap_or_else(|| panic!("no cgroup {end}"))
}

/// Waits until something is so.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = clock::boot_ns();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            clock::boot_ns() - began < u64::try_from(PATIENCE.as_nanos()).unwrap(),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A run that goes on.
pub struct Live {
    pub child: Child,
    /// Its name, as in `exit137-<name>`.
    pub name: String,
    out: PathBuf,
    /// The harness's helpers, by PID.
    helpers: Vec<u32>,
}

impl Live {
    /// Starts a run and waits until a container of this scenario has started.
    pub fn start(desk: &Desk, scenario: &str, args: &[&str]) -> Self {
        let child = desk.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = desk.path("out");
        let record = out.join(scenario).join("trial-1/record.jsonl");
        let name = until("a container runs", || {
            let seen = record::decode(&fs::read(&record).ok()?).ok()?.observations;
            seen.iter().any(|seen| matches!(seen.fact, Fact::Started(_))).then(|| run_of(&seen))
        });
        let helpers = children(child.id());
        assert!(!helpers.is_empty(), "a run has a guardian at least");
        Self { child, name, out, helpers }
    }

    /// Its guardian's PID.
    pub fn guardian(&self) -> u32 {
        let named = |pid: &&u32| comm(**pid).as_deref() == Some("exit137-guard");
        *self.helpers.iter().find(named).unwrap()
    }

    /// Sends the harness a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        kill(self.child.id(), signal);
    }

    /// Waits for its end; answers what came of it, and what was left behind then.
    pub fn end(self) -> (Ran, Left) {
        let left = Left { name: self.name, helpers: self.helpers };
        (Ran::new(self.child.wait_with_output().unwrap(), self.out), left)
    }
}

/// Sends a signal.
pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// What a run may have left behind.
pub struct Left {
    pub name: String,
    helpers: Vec<u32>,
}

impl Left {
    /// All that is still there.
    pub fn now(&self) -> Vec<String> {
        let name = format!("exit137-{}", self.name);
        let mut left = Vec::new();
        find(Path::new("/sys/fs/cgroup"), &name, &mut left);
        let paths = [Path::new("/run/exit137").join(&self.name), Path::new("/var/tmp").join(&name)];
        left.extend(paths.iter().filter(|path| path.exists()).map(|path| path.display().to_string()));
        let instances =
            trace::instances().unwrap_or_default().into_iter().filter(|instance| *instance == name);
        left.extend(instances.map(|instance| format!("trace instance {instance}")));
        let ours = |pid: &&u32| comm(**pid).is_some_and(|comm| comm.starts_with("exit137"));
        left.extend(self.helpers.iter().filter(ours).map(|pid| format!("process {pid} {:?}", comm(*pid))));
        left
    }

    /// Waits until nothing is.
    #[track_caller]
    pub fn until_gone(&self) {
        until("nothing is left behind", || self.now().is_empty().then_some(()));
    }
}

fn find(directory: &Path, name: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name() == *name {
                found.push(entry.path().display().to_string());
            }
            find(&entry.path(), name, found);
        }
    }
}

/// The name of the run that a record is from.
pub fn run_of(record: &[Observation]) -> String {
    let path = record
        .iter()
        .find_map(|seen| if let Fact::Cgroup(made) = &seen.fact { Some(&made.path) } else { None });
    let name = path.unwrap().split('/').find_map(|part| part.strip_prefix("exit137-r")).unwrap();
    format!("r{name}")
}

/// The processes that another one has started.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// The name of a process that lives; one that only waits to be reaped, by whoever adopted it, does not.
fn comm(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    if stat.rsplit_once(") ")?.1.starts_with('Z') {
        return None;
    }
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// A pod `web` whose only container `app` has this behaviour below a limit.
pub fn web(behaviour: &str, limit: &str) -> String {
    format!(
        "pods: [{{name: web, spec: {{restartPolicy: Never, containers: [{{name: app, {behaviour}, resources: {{limits: {{memory: {limit}}}}}}}]}}}}]"
    )
}

/// A scenario that goes on for as long as nobody ends it.
pub fn endless() -> String {
    format!(
        "{}\nobserve: {{for: 60s}}\nexpect: {{nothingDies: true}}",
        web("workload: {hog: {size: 8Mi}}", "32Mi")
    )
}

/// A scenario that passes within a moment.
pub fn brief() -> String {
    format!(
        "{}\nobserve: {{for: 5s, until: {{allEnded: true}}, settle: 0ms}}\nexpect: {{terminations: [{{container: web/app, exitCode: 7}}]}}",
        web("workload: {exit: {code: 7}}", "32Mi")
    )
}
