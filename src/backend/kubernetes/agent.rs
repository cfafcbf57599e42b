//! The node agent: what it is to a cluster, what it does on its node, and how the harness hears it.
//!
//! One agent serves every run. It writes facts to its standard output (`evidence/stream.rs`), each run follows its log and takes
//! what is its own.

mod deploy;
mod follow;
mod objects;
mod outbox;
mod place;
pub mod serve;
mod share;
mod trial;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::{lease, told};
use crate::backend::BackendError;
use crate::recorder::Recorder;
use follow::{Followed, Told};
pub(super) use objects::{AGENT, name};
pub(super) use trial::Trial;

/// How long agents may take to be ready: an image may have to be pulled.
const READY: Duration = Duration::from_mins(1);
/// How long a cluster may take to refuse a pod.
const REFUSED: Duration = Duration::from_secs(2);
/// How long one may look as if it never will be: the kubelet tries again.
const IN_VAIN: Duration = Duration::from_secs(15);

/// The agents on a cluster's nodes, as one run uses them.
#[derive(Debug)]
pub(super) struct Agents {
    client: Client,
    name: String,
    nodes: BTreeMap<String, Arc<Followed>>,
    listeners: Arc<Mutex<Vec<mpsc::UnboundedSender<Told>>>>,
    following: JoinSet<()>,
}

impl Agents {
    /// Sees to it that an agent is ready on each node that may run a pod, and begins to follow them.
    pub(super) async fn deploy(client: &Client, image: &str, run: &str) -> Result<Self, BackendError> {
        deploy::apply(client, image, run).await?;
        let mut agents = Self {
            client: client.clone(),
            name: name(image),
            nodes: BTreeMap::new(),
            listeners: Arc::default(),
            following: JoinSet::new(),
        };
        for node in deploy::nodes(client).await? {
            agents.follow(&node);
        }
        if agents.nodes.is_empty() {
            return Err(BackendError("no node of the cluster is ready and without taints".to_owned()));
        }
        agents.wait_until_ready(image, run).await?;
        Ok(agents)
    }

    fn follow(&mut self, node: &str) {
        let followed = Arc::new(Followed::new(node, Arc::clone(&self.listeners)));
        self.nodes.insert(node.to_owned(), Arc::clone(&followed));
        let (client, name) = (self.client.clone(), self.name.clone());
        self.following.spawn(async move { followed.follow(client, name).await });
    }

    async fn wait_until_ready(&self, image: &str, run: &str) -> Result<(), BackendError> {
        let (mut began, mut critical) = (Instant::now(), true);
        let (mut asked, mut refused) = (began, began);
        loop {
            let silent = |(node, agent): (&String, &Arc<Followed>)| {
                agent.beat.borrow().is_none().then(|| node.clone())
            };
            let waited_for: BTreeSet<String> = self.nodes.iter().filter_map(silent).collect();
            if waited_for.is_empty() {
                return Ok(());
            }
            let (now, waited) = (Instant::now(), began.elapsed());
            if critical && now >= refused + REFUSED {
                refused = now;
                if deploy::apply_without_priority(&self.client, image, run).await? {
                    (began, critical) = (now, false);
                    continue;
                }
            }
            if waited >= IN_VAIN && now >= asked + Duration::from_secs(2) {
                asked = now;
                let (why, in_vain) = deploy::why_not(&self.client, &self.name, &waited_for).await;
                if in_vain || waited >= READY {
                    let seconds = waited.as_secs();
                    return Err(BackendError(format!("no agent is ready after {seconds} s: {why}")));
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The cgroups' version, and whether the PIDs that all agents see are the kernel's.
    pub(super) fn see(&self) -> (u8, bool) {
        let beats = || self.nodes.values().filter_map(|agent| agent.beat.borrow().clone());
        let pids = beats().all(|beat| beat.initial_pid_namespace);
        (beats().map(|beat| beat.cgroup_version).next().unwrap_or(0), pids)
    }

    /// Begins to hear them for a trial.
    pub(super) fn begin(
        &self,
        namespace: &str,
        told: Arc<told::Told>,
        recorder: Recorder,
        folder: &Path,
        own_boot_id: &str,
    ) -> std::io::Result<Trial> {
        let (sender, heard) = mpsc::unbounded_channel();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Trial::begin(namespace.to_owned(), told, recorder, folder, self.nodes.clone(), heard, own_boot_id)
    }

    /// The run has given up its lease: follows them no more, and removes them unless they are to stay or somebody else uses them; answers what is left.
    pub(super) async fn give_up(mut self) -> Vec<String> {
        self.following.shutdown().await;
        match deploy::remove_unused(&self.client, &self.name).await {
            Ok(true) => deploy::wait_until_gone(&self.client, &self.name).await,
            Ok(false) => Vec::new(),
            Err(error) => vec![error.to_string()],
        }
    }
}

/// Removes the agents that no live run uses, but those of an image; answers what was removed.
pub(super) async fn collect(client: &Client, but: Option<&str>) -> Result<Vec<String>, BackendError> {
    deploy::collect(client, but.map(name).as_deref()).await
}

/// Puts agents on the cluster of a kube context that stay there, so that a run has only to listen.
pub async fn leave(context: &str, image: &str) -> Result<(), BackendError> {
    let client = Client::of_context(context, None).await?;
    lease::make_namespace(&client).await?;
    deploy::apply(&client, image, "cluster-up").await?;
    deploy::stay(&client, image).await
}
