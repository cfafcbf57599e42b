//! What a person asks for when a trial did not pass, below `cluster/` in its folder: pods, events and nodes as the API has them,
//! what kubelet and runtime logged, and the kernel's log. An error in gathering it is a line in the log and no failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{Api, ListParams};
use rustix::fs::{Mode, OFlags, open};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::client::{Client, persist};
use crate::clock;
use crate::evidence::kmsg;

/// Where in a trial's folder.
const FOLDER: &str = "cluster";

/// How long to try for one answer of the API, and to wait for one node's journal.
const PATIENT: Duration = Duration::from_secs(5);

/// So many of a journal's last lines are kept, and so much of the kernel's log.
const JOURNAL_LINES: &str = "20000";
const KERNEL_BYTES: usize = 4 << 20;

/// What stands for a value that is nobody's business.
const MASKED: &str = "(masked)";

/// Gathers what a trial's namespace holds.
#[derive(Debug)]
pub(super) struct Artifacts {
    folder: PathBuf,
    /// What the tear-down does to the pods is of no interest.
    closed: AtomicBool,
}

impl Artifacts {
    /// Below this trial's folder.
    pub(super) fn new(trial: &Path) -> std::io::Result<Self> {
        let folder = trial.join(FOLDER);
        fs::create_dir(&folder)?;
        Ok(Self { folder, closed: AtomicBool::new(false) })
    }

    /// Keeps a pod as it is now; its last form before the tear-down stays.
    pub(super) fn pod(&self, pod: &Pod) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        self.write(&format!("pod-{name}.yaml"), &yaml(&decent(pod)));
    }

    /// Keeps a namespace's events, in their order and a line each.
    pub(super) async fn events(&self, events: &Api<Event>) {
        let all = ListParams::default();
        match persist(PATIENT, || events.list(&all)).await {
            Ok(list) => self.write("events.txt", &event_lines(list.items)),
            Err(error) => tracing::info!(%error, "the events are not kept"),
        }
    }

    /// All has been kept that is to be.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn write(&self, file: &str, text: &str) {
        write(&self.folder.join(file), text);
    }
}

/// The trial passed: nobody will ask.
pub(super) fn drop_all(trial: &Path) {
    if let Err(error) = fs::remove_dir_all(trial.join(FOLDER)) {
        tracing::info!(%error, "what was gathered of a trial that passed could not be removed");
    }
}

/// Adds what does not go with the namespace: the nodes' state, and what was logged on them since this Unix time.
pub(super) async fn gather_nodes(trial: &Path, client: &Client, kind: Option<&str>, since_unix_ns: u64) {
    let folder = trial.join(FOLDER);
    let nodes: Api<Node> = client.all();
    let all = ListParams::default();
    let nodes = match persist(PATIENT, || nodes.list(&all)).await {
        Ok(nodes) => nodes.items,
        Err(error) => return tracing::info!(%error, "the nodes are not kept"),
    };
    for node in &nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        write(&folder.join(format!("node-{name}.yaml")), &yaml(&node_state(node)));
        let Some(engine) = kind else { continue };
        match journal(engine, name, since_unix_ns).await {
            Ok(text) => write(&folder.join(format!("node-{name}.journal.txt")), &text),
            Err(why) => tracing::info!("the journal of {name} is not kept: {why}"),
        }
    }
    if kind.is_some() {
        match kernel_log(since_unix_ns) {
            Ok(text) => write(&folder.join("kernel.txt"), &text),
            Err(error) => tracing::info!(%error, "the kernel's log is not kept"),
        }
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = fs::write(path, text) {
        tracing::info!(%error, "cannot write {}", path.display());
    }
}

/// A node's kind container has journald, which keeps what its kubelet and runtime say.
async fn journal(engine: &str, node: &str, since_unix_ns: u64) -> Result<String, String> {
    let since = format!("@{}", since_unix_ns / 1_000_000_000);
    let mut command = Command::new(engine);
    command
        .args(["exec", node, "journalctl", "--no-pager", "--output", "short-iso-precise"])
        .args(["--lines", JOURNAL_LINES, "--since", &since, "--unit", "kubelet", "--unit", "containerd"])
        .args(["--unit", "crio"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENT, command.output()).await.map_err(|_| "it does not answer".to_owned())?;
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// What the kernel has logged since then, each line with its own stamp in seconds since the boot.
fn kernel_log(since_unix_ns: u64) -> std::io::Result<String> {
    // The kernel's stamps lag behind boot time by the time that the machine was asleep; a little more does no harm.
    let since_us = clock::boot_ns().saturating_sub(clock::unix_ns().saturating_sub(since_unix_ns)) / 1000;
    let log = open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let (mut text, mut buffer) = (String::new(), [0; 8192]);
    while text.len() < KERNEL_BYTES {
        match rustix::io::read(&log, &mut buffer) {
            Ok(read) => {
                let record = buffer.get(..read).and_then(kmsg::parse_record);
                let Some(record) = record.filter(|record| record.stamp_us >= since_us) else { continue };
                let (seconds, micros) = (record.stamp_us / 1_000_000, record.stamp_us % 1_000_000);
                text.push_str(&format!("[{seconds:>6}.{micros:06}] {}\n", record.text));
            }
            Err(rustix::io::Errno::AGAIN) => break,
            // Overwritten while it was read.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(text)
}

/// An object without what nobody reads and with the values of its environment masked. A Secret's own values never are in a pod.
fn decent(pod: &Pod) -> Value {
    let mut pod = serde_json::to_value(pod).unwrap_or_default();
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let variables = container.get_mut("env").and_then(Value::as_array_mut);
            for variable in variables.into_iter().flatten() {
                if let Some(value) = variable.get_mut("value") {
                    *value = json!(MASKED);
                }
            }
        }
    }
    pod
}

/// What of a node bears on memory: not its images, labels and addresses.
fn node_state(node: &Node) -> Value {
    let status = serde_json::to_value(&node.status).unwrap_or_default();
    let kept = ["conditions", "capacity", "allocatable", "nodeInfo"];
    let status: serde_json::Map<String, Value> =
        kept.iter().filter_map(|key| Some(((*key).to_owned(), status.get(key)?.clone()))).collect();
    json!({"metadata": {"name": node.metadata.name}, "spec": {"taints": node.spec.as_ref().and_then(|s| s.taints.clone())}, "status": status})
}

fn event_lines(mut events: Vec<Event>) -> String {
    let time = |event: &Event| {
        let first = event.first_timestamp.as_ref().map(|time| time.0);
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or(event.event_time.as_ref().map(|time| time.0)).or(first)
    };
    events.sort_by_key(|event| time(event));
    let mut text = String::new();
    for event in &events {
        let object = &event.involved_object;
        let kind = object.kind.as_deref().unwrap_or_default().to_lowercase();
        let name = object.name.as_deref().unwrap_or_default();
        text.push_str(&format!(
            "{} {:7} {kind}/{name} {}: {}",
            time(event).map(|time| time.to_string()).unwrap_or_default(),
            event.type_.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            event.message.as_deref().unwrap_or_default().trim().replace('\n', " "),
        ));
        if let Some(count) = event.count.filter(|count| *count > 1) {
            text.push_str(&format!(" (x{count})"));
        }
        text.push('\n');
    }
    text
}

fn yaml(what: &impl Serialize) -> String {
    serde_saphyr::to_string(what).unwrap_or_else(|error| format!("# {error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_pod_gives_no_value_of_its_environment_away() {
        let pod = json!({
            "metadata": {"name": "web", "managedFields": [{"manager": "exit137"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hush-1", "a": "b"}},
            "spec": {
                "initContainers": [{"name": "migrate", "env": [{"name": "TOKEN", "value": "hush-2"}]}],
                "containers": [{"name": "app", "env": [
                    {"name": "PASSWORD", "value": "hush-3"},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}},
                ]}],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let text = yaml(&decent(&pod));
        assert!(!text.contains("hush"), "{text}");
        assert!(!text.contains("managedFields"), "{text}");
        for kept in ["PASSWORD", "TOKEN", "secretKeyRef", "keys", "a: b", MASKED] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
