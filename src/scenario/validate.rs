//! From a well-formed document to a [`Scenario`]: everything that is wrong with its meaning, all at once.

mod actions;
mod containers;
mod expect;
mod objects;
mod pods;
mod possible;
mod probes;
mod selectors;
mod support;
mod thresholds;
mod traffic;

use exit137_workload::Span;

use super::document::Document;
use super::manifest::Manifests;
use super::problem::KeyPath;
use super::{Bound, Measure, NEEDS_CLUSTER, Node, Observe, Requirement, Scenario};
use selectors::Selectors;

/// The smallest size that is a mistake: no machine has a pebibyte, and sums of what is smaller cannot overflow.
const MOST_MEMORY: u64 = 1 << 50;

/// The longest time that is not one.
const LONGEST_MS: u64 = 24 * 3_600_000;

/// Time for starting and tidying up, when the scenario states no timeout.
const SPARE_MS: u64 = 30_000;

/// What is noted on the way.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) findings: Vec<Finding>,
    without_effect: Vec<String>,
    needs_cluster: bool,
}

/// Something whose meaning is wrong.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) path: KeyPath,
    pub(super) what: String,
    pub(super) hint: String,
}

impl Notes {
    fn problem(&mut self, path: &KeyPath, what: impl Into<String>, hint: impl Into<String>) {
        self.findings.push(Finding { path: path.clone(), what: what.into(), hint: hint.into() });
    }

    /// What the workload and the units say: `what is wrong; what to do`.
    fn problem_with_hint(&mut self, path: &KeyPath, text: &str) {
        let (what, hint) = text.split_once("; ").or_else(|| text.split_once(": ")).unwrap_or((text, ""));
        self.problem(path, what, hint);
    }

    fn without_effect(&mut self, path: &KeyPath, why: &str) {
        self.without_effect.push(format!("{path}: {why}"));
    }

    fn needs_cluster(&mut self, path: &KeyPath, why: &str) {
        self.needs_cluster = true;
        self.without_effect.push(format!("{path}: {NEEDS_CLUSTER}: {why}"));
    }

    /// A time in milliseconds.
    fn time(&mut self, path: &KeyPath, span: Span) -> u64 {
        if span.ms > LONGEST_MS {
            self.problem(path, format!("{span} is longer than a day"), "say at most 24h");
        }
        span.ms.min(LONGEST_MS)
    }

    fn size(&mut self, path: &KeyPath, bytes: u64) -> u64 {
        if bytes >= MOST_MEMORY {
            self.problem(path, "is more memory than any machine has", "say less than 1024Ti");
        }
        bytes.min(MOST_MEMORY)
    }
}

/// Makes a scenario of a document. It is good only if `notes` have no findings afterwards.
pub(super) fn scenario(document: Document, manifests: &Manifests, notes: &mut Notes) -> Scenario {
    let root = KeyPath::default();
    let node = node(document.node.as_ref(), notes);
    let mut requires: Vec<Requirement> =
        document.requires.iter().filter_map(|text| requirement(text)).collect();
    let mut objects = objects::objects(document.objects, notes);
    objects.extend(manifests.objects());
    let around = pods::Around { node: &node, objects: &objects, manifests };
    let pods = pods::pods(document.pods, &around, notes);
    let selectors = Selectors::new(&pods);
    let until = document.observe.until.as_ref();
    let observe = Observe {
        for_ms: notes.time(&root.keys("observe.for"), document.observe.at_most),
        until: until.and_then(|until| actions::until(until, &selectors, &root.keys("observe.until"), notes)),
        settle_ms: document
            .observe
            .settle
            .map_or(200, |settle| notes.time(&root.keys("observe.settle"), settle)),
    };
    if observe.for_ms == 0 {
        notes.problem(&root.keys("observe.for"), "is no time at all", "say how long to watch: 5s");
    }
    let actions = actions::actions(&document.actions, &selectors, observe.for_ms, notes);
    let traffic = traffic::traffic(&document.traffic, &selectors, observe.for_ms, notes);
    let cluster = requires.contains(&Requirement::Cluster);
    let seen = expect::Seen {
        selectors: &selectors,
        traffic: &document.traffic,
        observe: &observe,
        node: &node,
        actions: &document.actions,
        cluster,
    };
    let expect = expect::expect(&document.expect, &seen, notes);
    if notes.needs_cluster && !cluster {
        requires.push(Requirement::Cluster);
    }
    // A container's own PSI is cgroup v2's (Documentation/accounting/psi.rst).
    let pressure = |bound: &Bound| matches!(bound.measure, Measure::PressureFull | Measure::PressureSome);
    if expect.bounds.iter().any(pressure) && !requires.contains(&Requirement::Cgroup(2)) {
        requires.push(Requirement::Cgroup(2));
    }
    let watched = observe.for_ms + observe.settle_ms;
    let timeout_ms = document.timeout.map_or(watched + SPARE_MS, |timeout| {
        let path = root.key("timeout");
        let ms = notes.time(&path, timeout);
        if ms < watched {
            let what =
                format!("{timeout} ends before observe.for and observe.settle, {}", Span { ms: watched });
            notes.problem(&path, what, format!("say at least {}", Span { ms: watched + 1000 }));
        }
        ms
    });
    Scenario {
        name: document.metadata.name,
        description: document.metadata.description,
        hash: String::new(),
        requires,
        node,
        objects,
        pods,
        traffic,
        actions,
        observe,
        expect,
        timeout_ms,
        back_off_scale: document.back_off.map_or(1.0, |back_off| back_off.scale),
        without_effect: std::mem::take(&mut notes.without_effect),
    }
}

fn node(document: Option<&super::document::Node>, notes: &mut Notes) -> Node {
    let path = KeyPath::default().key("node");
    let Some(document) = document else { return Node::default() };
    let node = Node {
        memory: document.memory.map(|memory| notes.size(&path.key("memory"), memory.0)),
        capacity: document.capacity.map(|capacity| notes.size(&path.key("capacity"), capacity.0)),
        single_process_oom_kill: document.single_process_oom_kill,
        evict_at: document.evict_at.map(|bytes| notes.size(&path.key("evictAt"), bytes.0)),
        allocatable: document.allocatable.map(|bytes| notes.size(&path.key("allocatable"), bytes.0)),
        max_pods: document.max_pods,
        workers: document.workers,
        guard: document.guard.map(|bytes| notes.size(&path.key("guard"), bytes.0)),
    };
    of_a_kubelet(&node, &path, notes);
    if node.memory.is_some_and(|memory| memory < 1 << 20) {
        notes.problem(&path.key("memory"), "is too little for any pod", "say at least 1Mi");
    }
    if node.capacity == Some(0) {
        notes.problem(
            &path.key("capacity"),
            "is 0",
            "say what the node has, for example 4Gi, or leave it out",
        );
    }
    if let (Some(memory), Some(capacity)) = (node.memory, node.capacity)
        && memory > capacity
    {
        notes.problem(
            &path.key("memory"),
            "is more than the node's capacity",
            "raise capacity, or lower memory",
        );
    }
    node
}

/// The least that a node's own settings may be: less is what a node that does nothing varies by.
const LEAST_ROOM: u64 = 64 << 20;

/// What only a node with a kubelet has.
fn of_a_kubelet(node: &Node, path: &KeyPath, notes: &mut Notes) {
    let sizes = [("evictAt", node.evict_at), ("allocatable", node.allocatable), ("guard", node.guard)];
    let why = ["the kubelet evicts", "the kubelet limits its pods", "a node is a container there"];
    for ((key, size), why) in sizes.into_iter().zip(why) {
        let Some(size) = size else { continue };
        notes.needs_cluster(&path.key(key), why);
        if size < LEAST_ROOM {
            let what = "is less than what an idle node's use varies by";
            notes.problem(&path.key(key), what, "say at least 64Mi");
        }
    }
    if node.max_pods.is_some() {
        notes.needs_cluster(&path.key("maxPods"), "the kubelet counts its pods");
    }
    if node.workers.is_some() {
        notes.needs_cluster(&path.key("workers"), "there is one node here");
    }
    // The kubelet takes the threshold off what is allocatable (`cm/node_container_manager_linux.go`).
    if node.evict_at.is_some() && node.allocatable.is_some() {
        let hint = "leave one of the two out: evictAt sets what is allocatable, too";
        notes.problem(&path.key("allocatable"), "goes against evictAt", hint);
    }
    if let (Some(memory), Some(allocatable)) = (node.memory, node.allocatable)
        && memory > allocatable
    {
        let hint = "raise allocatable, or lower memory";
        notes.problem(&path.key("memory"), "is more than what is allocatable", hint);
    }
}

fn requirement(text: &str) -> Option<Requirement> {
    Some(match text {
        "cgroup-v1" => Requirement::Cgroup(1),
        "cgroup-v2" => Requirement::Cgroup(2),
        "cluster" => Requirement::Cluster,
        "root" => Requirement::Root,
        "disposable-host" => Requirement::DisposableHost,
        other => Requirement::Program(other.strip_prefix("program:")?.to_owned()),
    })
}
