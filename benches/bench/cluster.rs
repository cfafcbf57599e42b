//! What it costs on a kind cluster that is there already: `EXIT137_BENCH_KIND` names it, and this runs as root on its host.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use exit137::backend::kubernetes::kind::Kind;
use exit137::backend::kubernetes::{Access, Keep, KubernetesBackend};
use exit137::clock;
use exit137::evidence::{Fact, Observation};
use exit137::scenario::{self, Program};
use serde_json::json;

use crate::runs::{Run, when};
use crate::table::{Row, percentile};
use crate::{Measured, kills};

const TRIALS: u32 = 11;

/// It takes a second to meet its limit, so that whoever looks for it finds it.
const VICTIM: &str = "apiVersion: exit137/v1
kind: Scenario
metadata: {name: bench-victim}
pods:
- name: web
  spec:
    restartPolicy: Never
    containers:
    - name: app
      workload: {hog: {size: 96Mi, rate: 32Mi/s}}
      resources: {limits: {memory: 32Mi}}
observe: {for: 20s, settle: 0s, until: {allEnded: true}}
expect:
  terminations:
  - {container: web/app, cause: container-oom}
";

/// Kills on kind: so many pods, so many times.
const PODS: u64 = 5;
const KILL_TRIALS: u32 = 20;
/// They live for so long. Until the API has named a container, which on a busy node takes seconds, no kill is that container's.
const LIFE_MS: u64 = 8_000;

/// Pods that no node takes are objects like others to whoever watches them.
const OBJECTS: &str = include_str!("../../tests/e2e/scenarios/five-hundred.yaml");

pub fn measure() -> Measured<Vec<Row>> {
    let Ok(cluster) = std::env::var("EXIT137_BENCH_KIND") else {
        return Ok(vec![Row::new("on kind", "not measured: EXIT137_BENCH_KIND names no kind cluster")]);
    };
    let mut rows = vec![to_the_victims_start(&cluster)?];
    rows.extend(to_attribution(&cluster)?);
    rows.push(memory(&cluster)?);
    Ok(rows)
}

fn to_the_victims_start(cluster: &str) -> Measured<Row> {
    let what = "on kind: first apply to the victim's start";
    let run = Run::new()?;
    let trials = TRIALS.to_string();
    let args = ["--on", "kind", "--cluster", cluster, "--jobs", "1", "--repeat", &trials];
    Run::passed(&mut run.start(VICTIM, &args)?)?;
    let ours: Vec<f64> = run.records("bench-victim")?.iter().filter_map(|record| begun(record)).collect();
    let image = image(cluster)?;
    let theirs = (0..TRIALS).map(|trial| by_hand(cluster, &image, trial)).collect::<Measured<Vec<f64>>>()?;
    let (mine, peer) = (percentile(&ours, 0.5), percentile(&theirs, 0.5));
    let row = Row::new(format!("{what}, {} trials, p50", ours.len()), format!("{mine:.0} ms"))
        .peer(format!("kubectl {peer:.0} ms"), mine / peer)
        .aim("ratio < 1.1", mine / peer < 1.1 && ours.len() == theirs.len());
    Ok(row)
}

fn to_attribution(cluster: &str) -> Measured<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    let scenario = kills::scenario(PODS, LIFE_MS)?;
    let seen = runtime.block_on(async {
        let kind = Kind::find().await?;
        let backend = KubernetesBackend::prepare(Access {
            context: format!("kind-{cluster}"),
            kubeconfig: None,
            image: image(cluster)?,
            nodes: kind.nodes_on_this_host(cluster).await?,
            kind: None,
            keep: Keep::Nothing,
        });
        kills::trials(backend.await?, &scenario, KILL_TRIALS).await
    })?;
    let until = seen.until_attributed();
    let (p50, p99) = (percentile(&until, 0.5), percentile(&until, 0.99));
    let all = usize::try_from(PODS)? * usize::try_from(KILL_TRIALS)?;
    let what = format!("on kind: kill to attribution, {} of {all} kills", until.len());
    let whole = Row::new(what, format!("p50 {p50:.1} ms, p99 {p99:.1} ms"))
        .aim("p99 < 50 ms", p99 < 50.0 && until.len() == all);
    // Before that the kernel frees what the victim holds, on the little CPU time that a pod without a request is given.
    let after = seen.after_the_end();
    let (p50, p99) = (percentile(&after, 0.5), percentile(&after, 0.99));
    let ours = format!("p50 {p50:.1} ms, p99 {p99:.1} ms");
    Ok(vec![whole, Row::new("  of that after the end of the victim, by the kernel's clock", ours)])
}

/// The most that the harness held while it made and watched 500 pods, and what it held at the median.
fn memory(cluster: &str) -> Measured<Row> {
    let run = Run::new()?;
    let mut harness = run.start(OBJECTS, &["--on", "kind", "--cluster", cluster])?;
    let (mut held, mut most) = (Vec::new(), 0.0);
    while harness.try_wait()?.is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", harness.id())).unwrap_or_default();
        held.extend(mib(&status, "VmRSS:"));
        most = mib(&status, "VmHWM:").unwrap_or(most);
        std::thread::sleep(Duration::from_millis(100));
    }
    let median = percentile(&held, 0.5);
    let value = format!("{median:.0} MiB resident at the median, {most:.0} at most");
    Ok(Row::new("on kind: memory of the harness with 500 pods", value).aim("< 30 MiB", most < 30.0))
}

fn mib(status: &str, key: &str) -> Option<f64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The record says which cluster it is just before the first apply, and when the node saw the victim's own program run.
fn begun(record: &[Observation]) -> Option<f64> {
    let applied = when(record, |fact| matches!(fact, Fact::Cluster(_)))?;
    let started = when(record, |fact| matches!(fact, Fact::Started(start) if start.pid.is_some()))?;
    Some(milliseconds(applied, started))
}

/// The same by hand: a namespace, the pod in it, and then the wait for its process.
fn by_hand(cluster: &str, image: &str, trial: u32) -> Measured<f64> {
    let namespace = format!("bench-{}-{trial}", std::process::id());
    let pod = pod(image)?.to_string();
    let by_hand = ByHand { context: format!("kind-{cluster}"), namespace };
    let before = hogs();
    let began = clock::boot_ns();
    by_hand.kubectl(&["create", "namespace", &by_hand.namespace], "")?;
    // The namespace's service account comes a moment after it.
    while by_hand.kubectl(&["apply", "--namespace", &by_hand.namespace, "-f", "-"], &pod).is_err() {
        in_time(began)?;
    }
    while hogs().is_subset(&before) {
        in_time(began)?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(milliseconds(began, clock::boot_ns()))
}

fn in_time(began: u64) -> Measured<()> {
    if clock::boot_ns() - began < 60_000_000_000 { Ok(()) } else { Err("no victim within 60 s".into()) }
}

/// The pod that the scenario makes, but for labels.
fn pod(image: &str) -> Measured<serde_json::Value> {
    let scenario = scenario::read("victim.yaml", VICTIM).map_err(|problems| format!("{problems:?}"))?;
    let container = scenario.pods.first().and_then(|pod| pod.containers.first()).ok_or("no container")?;
    let Program::Workload(workload) = &container.program else { return Err("no workload".into()) };
    let args = json!(["--spec", serde_json::to_string(workload)?]);
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "app", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": ["/exit137/exit137-workload"], "args": args,
            "resources": {"limits": {"memory": "32Mi"}},
        }]},
    }))
}

/// The image that the run before has loaded.
fn image(cluster: &str) -> Measured<String> {
    let program = env!("CARGO_BIN_EXE_exit137");
    let output = Command::new(program).args(["cluster", "load", "--cluster", cluster]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The processes that call themselves a hog, as the workload does once it begins.
fn hogs() -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_hog = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "exit137-hog"
    };
    pids.filter(is_hog).collect()
}

#[expect(clippy::cast_precision_loss, reason = "seconds in nanoseconds")]
fn milliseconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

/// What one does by hand; the namespace goes with it, and takes its pod along.
struct ByHand {
    context: String,
    namespace: String,
}

impl ByHand {
    fn kubectl(&self, args: &[&str], input: &str) -> Measured<()> {
        let mut child = Command::new("kubectl")
            .args(["--context", &self.context])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let status = child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("kubectl {}: {status}", args.join(" ")).into()) }
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        // What stays is seen by whoever looks: the benchmark has its figure.
        let _ = self.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], "");
    }
}
