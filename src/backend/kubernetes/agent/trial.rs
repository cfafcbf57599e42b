//! What the agents tell of one trial: its own pods' facts, in the record's terms, and how far each node has been watched.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::follow::{Followed, Told};
use super::place::{Place, name_paths};
use crate::backend::kubernetes::told;
use crate::clock;
use crate::evidence::stream::{Beat, News};
use crate::evidence::{
    CgroupMade, CgroupOwner, Counters, Fact, Moment, Observation, Sample, Source, SourceState,
};
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    places: BTreeMap<String, Place>,
    /// The trial's pods, by UID, and the nodes that they are on.
    pods: BTreeMap<String, String>,
    /// Cgroups that matter, with what was last said of their counters.
    cgroups: BTreeMap<String, Option<Counters>>,
    /// The sources that all agents have.
    present: Vec<Source>,
    /// Lines of the kernel's log that have been taken: by machine and the log's own number.
    lines: BTreeSet<(u32, String)>,
    /// Where an agent was started anew, since when nobody has watched.
    unwatched: BTreeMap<String, u64>,
    /// Nodes that an agent's source died on.
    lost: BTreeMap<Source, String>,
    samples: SampleFile,
    usage: HashMap<String, u64>,
    waiting: HashMap<String, Vec<(u64, oneshot::Sender<()>)>>,
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
        let state = State {
            places: places(&agents, own_boot_id),
            pods: BTreeMap::new(),
            cgroups: BTreeMap::new(),
            present: Vec::new(),
            lines: BTreeSet::new(),
            unwatched: BTreeMap::new(),
            lost: BTreeMap::new(),
            samples: SampleFile::create(&folder.join("samples.csv"))?,
            usage: HashMap::new(),
            waiting: HashMap::new(),
        };
        let heard = tokio::sync::Mutex::new(heard);
        let trial = Self { namespace, told, recorder, agents, heard, state: Mutex::new(state) };
        trial.state_sources();
        trial.wall_clock();
        Ok(trial)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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
    fn gap(&self, state: &State, at: Moment, lost: u64) {
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

/// What every node is called: where all are one machine whose kernel's paths are seen, as the kernel has it.
fn places(agents: &BTreeMap<String, Arc<Followed>>, own_boot_id: &str) -> BTreeMap<String, Place> {
    let mut boots: Vec<String> = Vec::new();
    let mut places = BTreeMap::new();
    for (node, agent) in agents {
        let beat = agent.beat.borrow().clone().unwrap_or_default();
        let machine = boots.iter().position(|boot| *boot == beat.boot_id).unwrap_or_else(|| {
            boots.push(beat.boot_id.clone());
            boots.len() - 1
        });
        let called = machine > 0 || !beat.kernel_paths;
        let place = Place {
            ahead: agent.ahead(own_boot_id),
            machine: u32::try_from(machine).unwrap_or(u32::MAX),
            called: called.then(|| format!("/{node}")),
            above: beat.kernel_paths.then(String::new),
        };
        places.insert(node.clone(), place);
    }
    places
}

/// What keeps a source from watching.
fn lack(state: Option<&SourceState>) -> Option<String> {
    match state {
        Some(SourceState::Present { .. } | SourceState::Complete { .. } | SourceState::Gap { .. }) => None,
        Some(SourceState::Absent { reason, .. } | SourceState::Lost { reason, .. }) => Some(reason.clone()),
        None => Some("its agent does not know this source".to_owned()),
    }
}

impl State {
    fn ns(&self, node: &str, ns: u64) -> u64 {
        self.places.get(node).map_or(ns, |place| place.ns(ns))
    }

    /// A fact in the record's terms, if it is the trial's.
    fn fact(&mut self, node: &str, observation: Observation, namespace: &str) -> Option<Observation> {
        let mut observation = self.places.get(node)?.translate(observation);
        if observation.source == Source::Kmsg && !self.take_line(node, &mut observation) {
            return None;
        }
        let ours = match &observation.fact {
            Fact::Pod(seen) => {
                if seen.namespace == namespace {
                    self.pods.insert(seen.uid.clone(), node.to_owned());
                }
                false
            }
            Fact::Cgroup(made) => self.take_cgroup(made),
            Fact::Started(started) => self.pods.contains_key(&started.container.pod),
            Fact::Ended(ended) => self.pods.contains_key(&ended.container.pod),
            Fact::Process(seen) => self.pods.contains_key(&seen.container.pod),
            Fact::Counters(counters) => self.take_counters(counters),
            Fact::OomNotified { cgroup } => self.cgroups.contains_key(cgroup),
            Fact::Source(SourceState::Lost { of, reason }) => {
                self.lost.insert(*of, format!("on node {node}: {reason}"));
                false
            }
            Fact::Source(SourceState::Gap { .. })
            | Fact::OomInvoked { .. }
            | Fact::OomSummary(_)
            | Fact::KernelKilled(_)
            | Fact::OomGroup { .. }
            | Fact::Signal(_)
            | Fact::Victim(_) => true,
            Fact::Host(_)
            | Fact::Source(_)
            | Fact::WallClock { .. }
            | Fact::KernelLogClock { .. }
            | Fact::StartFailed(_)
            | Fact::ProbeFailed(_)
            | Fact::Stopping(_)
            | Fact::RuntimeSignal { .. }
            | Fact::Action(_)
            | Fact::LimitChanged(_)
            | Fact::Cluster(_)
            | Fact::PodStopping(_)
            | Fact::Noted(_)
            | Fact::Finished(_) => false,
        };
        ours.then_some(observation)
    }

    /// Takes a line of the kernel's log, unless another node of the same machine has read it before.
    fn take_line(&mut self, node: &str, observation: &mut Observation) -> bool {
        let machine = self.places.get(node).map_or(0, |place| place.machine);
        // `[sequence] text`
        let number = observation.raw.as_deref().and_then(|raw| raw.strip_prefix('[')?.split_once(']'));
        if let Some((number, _)) = number
            && !self.lines.insert((machine, number.to_owned()))
        {
            return false;
        }
        let Self { places, cgroups, .. } = self;
        name_paths(&mut observation.fact, node, places, cgroups.keys());
        true
    }

    /// Whether it is news of a cgroup that matters: one of the trial's pods', or a level above them.
    fn take_cgroup(&mut self, made: &CgroupMade) -> bool {
        let matters = match &made.owner {
            CgroupOwner::Node | CgroupOwner::Qos { .. } => true,
            CgroupOwner::Pod { pod } | CgroupOwner::Pause { pod } => self.pods.contains_key(pod),
            CgroupOwner::Container(container) => self.pods.contains_key(&container.pod),
        };
        let new = matters && !self.cgroups.contains_key(&made.path);
        if new {
            self.cgroups.insert(made.path.clone(), None);
        }
        new
    }

    fn take_counters(&mut self, counters: &Counters) -> bool {
        let Some(known) = self.cgroups.get_mut(&counters.cgroup) else { return false };
        let new = known.as_ref() != Some(counters);
        *known = Some(counters.clone());
        new
    }

    fn take_losses(&mut self, node: &str, beat: &Beat) {
        for state in &beat.sources {
            if let SourceState::Lost { of, reason } = state {
                self.lost.entry(*of).or_insert_with(|| format!("on node {node}: {reason}"));
            }
        }
    }

    fn sample(&mut self, node: &str, sample: Sample) {
        let Some(place) = self.places.get(node) else { return };
        let sample = Sample { at: place.ns(sample.at), cgroup: place.path(&sample.cgroup), ..sample };
        if !self.cgroups.contains_key(&sample.cgroup) {
            return;
        }
        self.usage.insert(sample.cgroup.clone(), sample.usage);
        if let Some(waiting) = self.waiting.get_mut(&sample.cgroup) {
            let (reached, still) =
                std::mem::take(waiting).into_iter().partition(|(bytes, _)| sample.usage >= *bytes);
            *waiting = still;
            for (_, sender) in Vec::<(u64, oneshot::Sender<()>)>::from(reached) {
                // Whoever waited may have gone.
                let _ = sender.send(());
            }
        }
        if let Err(error) = self.samples.write(&sample) {
            tracing::warn!(%error, "a memory sample could not be written");
        }
    }

    /// The agents have stated what the counters were until then; this is the reading after which nobody looks any more.
    fn read_last(&self, mark: u64, told: &told::Told) {
        if self.lost.contains_key(&Source::Memcg) {
            return;
        }
        for counters in self.cgroups.values().flatten().filter(|counters| !counters.last) {
            let fact = Fact::Counters(Counters { last: true, ..counters.clone() });
            let moment = Moment::exactly(mark);
            told.node(Observation { sequence: 0, source: Source::Memcg, moment, raw: None, fact });
        }
    }
}
