//! What of the agents' words is one trial's, in the record's terms.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::follow::Followed;
use super::place::{Place, name_paths};
use crate::backend::kubernetes::told;
use crate::evidence::stream::Beat;
use crate::evidence::{
    CgroupMade, CgroupOwner, Counters, Fact, LimitChanged, Moment, Observation, Sample, Source, SourceState,
};
use crate::observe::SampleFile;

/// A trial's pods and cgroups, and what has been said of them.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) places: BTreeMap<String, Place>,
    /// The trial's pods, by UID, and the nodes that they are on.
    pub(super) pods: BTreeMap<String, String>,
    /// Cgroups that matter, with what was last said of their counters.
    cgroups: BTreeMap<String, Option<Counters>>,
    /// The sources that all agents have.
    pub(super) present: Vec<Source>,
    /// Lines of the kernel's log that have been taken: by machine and the log's own number.
    lines: BTreeSet<(u32, String)>,
    /// Where an agent was started anew, since when nobody has watched.
    pub(super) unwatched: BTreeMap<String, u64>,
    /// Nodes that an agent's source died on.
    pub(super) lost: BTreeMap<Source, String>,
    pub(super) samples: SampleFile,
    pub(super) usage: HashMap<String, u64>,
    pub(super) waiting: HashMap<String, Vec<(u64, oneshot::Sender<()>)>>,
}

impl Share {
    pub(super) fn new(places: BTreeMap<String, Place>, samples: SampleFile) -> Self {
        Self {
            places,
            pods: BTreeMap::new(),
            cgroups: BTreeMap::new(),
            present: Vec::new(),
            lines: BTreeSet::new(),
            unwatched: BTreeMap::new(),
            lost: BTreeMap::new(),
            samples,
            usage: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    pub(super) fn ns(&self, node: &str, ns: u64) -> u64 {
        self.places.get(node).map_or(ns, |place| place.ns(ns))
    }

    /// A fact in the record's terms, if it is the trial's.
    pub(super) fn fact(
        &mut self,
        node: &str,
        observation: Observation,
        namespace: &str,
    ) -> Option<Observation> {
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
            Fact::OomNotified { cgroup } | Fact::LimitChanged(LimitChanged { cgroup, .. }) => {
                self.cgroups.contains_key(cgroup)
            }
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
            | Fact::Cluster(_)
            | Fact::PodStopping(_)
            | Fact::PodOver(_)
            | Fact::Noted(_)
            | Fact::TrafficStarted(_)
            | Fact::TrafficWindow(_)
            | Fact::TrafficEnded(_)
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

    pub(super) fn take_losses(&mut self, node: &str, beat: &Beat) {
        for state in &beat.sources {
            if let SourceState::Lost { of, reason } = state {
                self.lost.entry(*of).or_insert_with(|| format!("on node {node}: {reason}"));
            }
        }
    }

    pub(super) fn sample(&mut self, node: &str, sample: Sample) {
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
            for (_, sender) in reached {
                // Whoever waited may have gone.
                let _ = sender.send(());
            }
        }
        if let Err(error) = self.samples.write(&sample) {
            tracing::warn!(%error, "a memory sample could not be written");
        }
    }

    /// The agents have stated what the counters were until then; this is the reading after which nobody looks any more.
    pub(super) fn read_last(&self, mark: u64, told: &told::Told) {
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

/// What every node is called: where all are one machine whose kernel's paths are seen, as the kernel has it.
pub(super) fn places(agents: &BTreeMap<String, Arc<Followed>>, own_boot_id: &str) -> BTreeMap<String, Place> {
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
