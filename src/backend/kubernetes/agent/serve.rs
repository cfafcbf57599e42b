//! The agent itself: one on each node, in a pod of its own. It watches the pods of every run on its node and writes what the
//! observers see to standard output.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};

use super::outbox::Outbox;
use super::view;
use crate::backend::BackendError;
use crate::backend::kubernetes::client::Client;
use crate::backend::kubernetes::manifest::{POD, RUN};
use crate::backend::kubernetes::node::Finder;
use crate::backend::kubernetes::watch::{Steady, TURN};
use crate::backend::local;
use crate::clock;
use crate::evidence::record::Emitter;
use crate::evidence::stream::Beat;
use crate::evidence::{Fact, PodSeen, Source};
use crate::observe::{Observers, Watch};
use crate::recorder::Recorder;

/// How often an agent says how far it has read: a harness that ends waits for the next one.
const BEATS: Duration = Duration::from_millis(500);
/// The same where no pod of any run is on the node.
const BEATS_IDLE: Duration = Duration::from_secs(1);

/// What an agent is told by its pod.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The node's name.
    pub node: String,
    /// The agent's own name, which no other agent on the node has.
    pub name: String,
}

/// What is known of the node's pods.
struct Node {
    finder: Finder,
    recorder: Recorder,
    pods: Mutex<Pods>,
}

#[derive(Default)]
struct Pods {
    /// By namespace and name.
    known: BTreeMap<(String, String), String>,
    namespaces: BTreeSet<String>,
    /// Those that the list has not named yet that the watch begins anew with.
    unlisted: BTreeSet<(String, String)>,
    listed: bool,
}

/// Observes the node until it is told to stop, or until nobody can be told any more.
pub async fn serve(agent: &Agent) -> Result<(), BackendError> {
    let host = local::host(0);
    let epoch = format!("{}", clock::unix_ns());
    let outbox = Arc::new(Outbox::new(Emitter { epoch, boot_id: host.boot_id }));
    let writer = Arc::clone(&outbox);
    let mut written = tokio::task::spawn_blocking(move || writer.write(io::stdout()));
    let view = view::find(&agent.node)?;
    let about = Beat {
        initial_pid_namespace: host.initial_pid_namespace,
        cgroup_version: view.node.version.number(),
        kernel_paths: view.above.is_some(),
        ..Beat::default()
    };
    let observing = |error| BackendError::doing(format!("observe node {}", agent.node), error);
    // One that was killed has left its trace instance.
    if crate::observe::trace::remove_instance(&format!("exit137-{}", agent.name)).is_ok() {
        tracing::info!("removed the trace instance of an agent that was killed");
    }
    let observers = Observers::start_on_node(&agent.name).map_err(observing)?;
    let (facts, samples) = (Arc::clone(&outbox), Arc::clone(&outbox));
    let recorder = Recorder::relay(move |observation| {
        facts.fact(observation);
        true
    });
    let watch = observers.relay(recorder.clone(), Box::new(move |sample| samples.sample(sample.clone())));
    let above = view.above.unwrap_or_default();
    let finder = Finder::start_below(above, vec![view.node], recorder.clone(), watch.clone());
    let finder = finder.map_err(observing)?;
    if !finder.has_pods() {
        return Err(BackendError(format!(
            "node {} has no cgroup kubepods below {}; is it mounted from the node?",
            agent.node,
            view::MOUNT
        )));
    }
    let node = Arc::new(Node { finder, recorder, pods: Mutex::default() });
    let client = Client::in_cluster()?;
    let watched = tokio::spawn(watch_pods(client, agent.node.clone(), Arc::clone(&node)));
    let beating = tokio::spawn(beat(Arc::clone(&node), watch, Arc::clone(&outbox), about));
    let ended = tokio::select! {
        written = &mut written => written.map_err(io::Error::other).and_then(|written| written),
        asked = asked_to_stop() => asked,
    };
    watched.abort();
    beating.abort();
    outbox.close();
    // The runtime is shut down without waiting for the writer, which may wait for a reader who never comes.
    ended.map_err(|error| BackendError::doing("go on", error))
}

async fn asked_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// Says how far everything has been read, from when the pods are known.
async fn beat(node: Arc<Node>, watch: Watch, outbox: Arc<Outbox>, about: Beat) {
    loop {
        let (listed, idle) = {
            let pods = node.lock();
            (pods.listed, pods.known.is_empty())
        };
        if listed {
            let (watch, outbox, about) = (watch.clone(), Arc::clone(&outbox), about.clone());
            // The observers answer within a second each, or not at all.
            let beaten = tokio::task::spawn_blocking(move || {
                let until = clock::boot_ns();
                let silent = watch.catch_up();
                outbox.beat(&Beat { until, ..about }, &silent);
            });
            if beaten.await.is_err() {
                return;
            }
        }
        tokio::time::sleep(if idle { BEATS_IDLE } else { BEATS }).await;
    }
}

/// Follows the pods of all runs on this node, for as long as the agent lives.
async fn watch_pods(client: Client, name: String, node: Arc<Node>) {
    let config =
        watcher::Config::default().labels(RUN).fields(&format!("spec.nodeName={name}")).timeout(TURN);
    let stream = watcher(client.watch_all::<Pod>(), config).backoff(Steady);
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => node.add(&name, &pod),
            Ok(watcher::Event::Delete(pod)) => node.remove(&key(&pod)),
            Ok(watcher::Event::Init) => node.list_begins(),
            Ok(watcher::Event::InitDone) => node.list_ends(),
            Err(error) => tracing::warn!(%error, "the watch on pods broke and begins anew"),
        }
    }
}

fn key(pod: &Pod) -> (String, String) {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

impl Node {
    fn lock(&self) -> std::sync::MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, node: &str, pod: &Pod) {
        let key = key(pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let (new, before, begins) = {
            let mut pods = self.lock();
            pods.unlisted.remove(&key);
            let before = pods.known.insert(key.clone(), uid.clone());
            (before.as_ref() != Some(&uid), before, pods.namespaces.insert(key.0.clone()))
        };
        if !new {
            return;
        }
        if let Some(before) = before {
            self.finder.remove_pod(&before);
        }
        // A trial begins, whose harness has not heard what was said before.
        if begins {
            self.finder.retell();
        }
        let labels = pod.metadata.labels.as_ref();
        let seen = PodSeen {
            pod: labels.and_then(|labels| labels.get(POD)).unwrap_or(&key.1).clone(),
            name: key.1,
            namespace: key.0,
            uid: uid.clone(),
            node: Some(node.to_owned()),
            controller: None,
        };
        self.recorder.now(Source::Harness, Fact::Pod(seen));
        self.finder.add_pod(&uid);
    }

    fn remove(&self, key: &(String, String)) {
        let mut pods = self.lock();
        if let Some(uid) = pods.known.remove(key) {
            self.finder.remove_pod(&uid);
        }
        if !pods.known.keys().any(|(namespace, _)| *namespace == key.0) {
            pods.namespaces.remove(&key.0);
        }
    }

    fn list_begins(&self) {
        let mut pods = self.lock();
        pods.unlisted = pods.known.keys().cloned().collect();
    }

    /// What the list did not name was removed while nobody watched.
    fn list_ends(&self) {
        let gone = {
            let mut pods = self.lock();
            pods.listed = true;
            std::mem::take(&mut pods.unlisted)
        };
        for key in &gone {
            self.remove(key);
        }
    }
}
