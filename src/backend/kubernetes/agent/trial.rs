//! What the agents tell of one trial: its own pods' facts, in the record's terms, and how far each node has been watched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::follow::{Followed, Told};
use super::share::{Share, places};
use crate::backend::kubernetes::told;
use crate::clock;
use crate::evidence::stream::{Beat, News};
use crate::evidence::{Fact, Moment, Source, SourceState};
use crate::observe::SampleFile;
use crate::recorder::Recorder;

/// What an agent watches with.
pub(super) const SOURCES: [Source; 4] = [Source::Kmsg, Source::Trace, Source::Memcg, Source::Exits];

/// How long an agent may take to have read everything. A beat comes every half second.
const PATIENCE: Duration = Duration::from_secs(6);

/// A trial's share in the agents.
#[derive(Debug)]
pub(in crate::backend::kubernetes) struct Trial {
    namespace: String,
    told: Arc<told::Told>,
    recorder: Recorder,
    agents: BTreeMap<String, Arc<Followed>>,
    heard: tokio::sync::Mutex<mpsc::UnboundedReceiver<Told>>,
    state: Mutex<Share>,
}

impl Trial {
    pub(super) fn begin(
        namespace: String,
        told: Arc<told::Told>,
        recorder: Recorder,
        folder: &Path,
        agents: BTreeMap<String, Arc<Followed>>,
        heard: mpsc::UnboundedReceiver<Told>,
        own_boot_id: &str,
    ) -> std::io::Result<Self> {
        let samples = SampleFile::create(&folder.join("samples.csv"))?;
        let state = Share::new(places(&agents, own_boot_id), samples);
        let heard = tokio::sync::Mutex::new(heard);
        let trial = Self { namespace, told, recorder, agents, heard, state: Mutex::new(state) };
        trial.state_sources();
        trial.wall_clock();
        Ok(trial)
    }

    fn lock(&self) -> MutexGuard<'_, Share> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source watches a trial if it watches every node that a pod of it may be on.
    fn state_sources(&self) {
        let beats: Vec<(&String, Option<Beat>)> =
            self.agents.iter().map(|(node, agent)| (node, agent.beat.borrow().clone())).collect();
        for of in SOURCES {
            let lack = beats.iter().find_map(|(node, beat)| {
                let state = beat.as_ref().and_then(|beat| beat.sources.iter().find(|state| state.of() == of));
                lack(state).map(|why| format!("on node {node}: {why}"))
            });
            let state = match lack {
                None => SourceState::Present { of },
                Some(reason) => SourceState::Absent { of, reason },
            };
            if matches!(state, SourceState::Present { .. }) {
                self.lock().present.push(of);
            }
            self.recorder.now(of, Fact::Source(state));
        }
    }

    fn wall_clock(&self) {
        let before = clock::boot_ns();
        let unix_ns = clock::unix_ns();
        let at = Moment::between(before, clock::boot_ns());
        self.recorder.record(Source::Harness, at, None, Fact::WallClock { unix_ns });
    }

    /// Hears what the agents tell, for as long as it is let.
    pub(in crate::backend::kubernetes) async fn hear(&self) {
        let mut heard = self.heard.lock().await;
        while let Some(told) = heard.recv().await {
            self.take(told);
        }
    }

    fn take(&self, Told { node, news }: Told) {
        let mut state = self.lock();
        match news {
            News::Fact(observation) => {
                if let Some(observation) = state.fact(&node, *observation, &self.namespace) {
                    drop(state);
                    self.told.node(observation);
                }
            }
            News::Sample(sample) => state.sample(&node, sample),
            News::Lost { facts, since } => {
                let at = Moment::between(state.ns(&node, since), clock::boot_ns());
                self.gap(&state, at, facts);
            }
            News::Restarted { since } => {
                state.unwatched.entry(node.to_string()).or_insert(since);
            }
            News::Beat(beat) => {
                if let Some(since) = state.unwatched.remove(&*node) {
                    let at = Moment::between(state.ns(&node, since), state.ns(&node, beat.until));
                    self.gap(&state, at, 1);
                }
                state.take_losses(&node, &beat);
            }
        }
    }

    /// Facts were lost, and nobody knows which source's.
    fn gap(&self, state: &Share, at: Moment, lost: u64) {
        for of in state.present.clone() {
            self.recorder.record(of, at, None, Fact::Source(SourceState::Gap { of, lost }));
        }
    }

    /// A pod of the trial is on this node.
    pub(in crate::backend::kubernetes) fn pod_is_on(&self, uid: &str, node: &str) {
        let mut state = self.lock();
        let new = state.pods.insert(uid.to_owned(), node.to_owned()).is_none();
        if new && !self.agents.contains_key(node) {
            // A gap, too: another node's facts do not vouch for this one.
            self.gap(&state, Moment::between(clock::boot_ns(), u64::MAX), 1);
            for of in SOURCES {
                let reason = format!("no agent runs on node {node}");
                self.recorder.now(of, Fact::Source(SourceState::Absent { of, reason }));
            }
        }
    }

    /// Waits until every agent on a node of the trial has stated what happened until now, and says which sources watched to
    /// the end.
    pub(in crate::backend::kubernetes) async fn finish(&self) {
        let mark = clock::boot_ns();
        let nodes: BTreeSet<String> = self.lock().pods.values().cloned().collect();
        for (node, agent) in self.agents.iter().filter(|(node, _)| nodes.is_empty() || nodes.contains(*node))
        {
            let place = self.lock().places.get(node).cloned();
            let Some(place) = place else { continue };
            let mut beat = agent.beat.subscribe();
            let read = |beat: &Option<Beat>| beat.as_ref().is_some_and(|beat| place.ns(beat.until) >= mark);
            let read = timeout(PATIENCE, beat.wait_for(read)).await.is_ok();
            self.take_rest().await;
            if !read {
                self.lose(node, agent);
            }
        }
        self.take_rest().await;
        let mut state = self.lock();
        state.read_last(mark, &self.told);
        for of in state.present.clone() {
            let state = match state.lost.get(&of) {
                None => SourceState::Complete { of },
                Some(reason) => SourceState::Lost { of, reason: reason.clone() },
            };
            self.recorder.now(of, Fact::Source(state));
        }
        if let Err(error) = state.samples.finish() {
            tracing::warn!(%error, "the memory samples could not be written");
        }
        drop(state);
        self.wall_clock();
    }

    async fn take_rest(&self) {
        let mut heard = self.heard.lock().await;
        while let Ok(told) = heard.try_recv() {
            self.take(told);
        }
    }

    /// An agent does not answer: nothing is known of its node since its last beat.
    fn lose(&self, node: &str, agent: &Followed) {
        let mut state = self.lock();
        let since = agent.beat.borrow().as_ref().map_or(0, |beat| state.ns(node, beat.until));
        self.gap(&state, Moment::between(since, clock::boot_ns()), 1);
        for of in SOURCES {
            let reason =
                format!("the agent on node {node} does not answer; see `kubectl -n exit137 get pods`");
            state.lost.insert(of, reason);
        }
    }

    /// What this cgroup held when it was last told.
    pub(in crate::backend::kubernetes) fn latest_usage(&self, cgroup: &str) -> Option<u64> {
        self.lock().usage.get(cgroup).copied()
    }

    /// Told when this cgroup holds so many bytes.
    pub(in crate::backend::kubernetes) fn on_usage(&self, cgroup: &str, bytes: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.usage.get(cgroup).is_some_and(|usage| *usage >= bytes) {
            // Whoever waited may have gone.
            let _ = sender.send(());
        } else {
            state.waiting.entry(cgroup.to_owned()).or_default().push((bytes, sender));
        }
        receiver
    }
}

/// What keeps a source from watching.
fn lack(state: Option<&SourceState>) -> Option<String> {
    match state {
        Some(SourceState::Present { .. } | SourceState::Complete { .. } | SourceState::Gap { .. }) => None,
        Some(SourceState::Absent { reason, .. } | SourceState::Lost { reason, .. }) => Some(reason.clone()),
        None => Some("its agent does not know this source".to_owned()),
    }
}
