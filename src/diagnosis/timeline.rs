//! What is known so far: facts by kind, each kind in the order of its moments, whatever the order they arrived in.

mod merge;

use std::collections::{BTreeMap, BTreeSet};

use super::clients::Clients;
use super::counters::CounterLog;
use super::sources::SourceLog;
use super::{Missing, SourceHealth, Stamped};
use crate::evidence::{
    ActionDone, CgroupMade, CgroupOwner, ClusterFacts, ContainerEnded, ContainerRef, ContainerStarted, Fact,
    HostFacts, KernelKilled, LimitChanged, Moment, Observation, OomSummary, Order, PodOver, PodSeen,
    PodStopping, ProbeFailed, ProcessSeen, SignalSent, Source, StartFailed, StopReason, Stopping,
    VictimMarked,
};

/// Nanoseconds in a millisecond.
pub(super) const MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// A fact of one kind, with where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen<T> {
    pub(super) at: Moment,
    pub(super) sequence: u64,
    pub(super) source: Source,
    pub(super) fact: T,
}

impl<T> Seen<T> {
    pub(super) fn stamped(&self) -> Stamped {
        Stamped { moment: self.at, source: self.source }
    }

    fn place(&self) -> (u64, u64, u64) {
        (self.at.earliest(), self.at.latest(), self.sequence)
    }
}

/// Facts of one kind in the order of their moments; the sequence only makes that order stable.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Log<T>(Vec<Seen<T>>);

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Log<T> {
    fn insert(&mut self, seen: Seen<T>) {
        let place = self.0.partition_point(|known| known.place() <= seen.place());
        self.0.insert(place, seen);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Seen<T>> {
        self.0.iter()
    }

    /// Those that may have happened between two nanoseconds.
    pub(super) fn between(&self, from: u64, to: u64) -> impl DoubleEndedIterator<Item = &Seen<T>> {
        self.0.iter().filter(move |seen| seen.at.latest() >= from && seen.at.earliest() <= to)
    }
}

/// Everything that was observed.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    pub(super) host: Option<HostFacts>,
    pub(super) cluster: Option<ClusterFacts>,
    pub(super) pods: Log<PodSeen>,
    pub(super) pod_stops: Log<PodStopping>,
    pub(super) pods_over: Log<PodOver>,
    pub(super) sources: BTreeMap<Source, SourceLog>,
    pub(super) cgroups: BTreeMap<String, Seen<CgroupMade>>,
    pub(super) starts: BTreeMap<ContainerRef, Seen<ContainerStarted>>,
    /// The runtime's IDs of what is called by one number: there is one, unless the kubelet gave the number twice.
    pub(super) ids: BTreeMap<ContainerRef, BTreeSet<String>>,
    pub(super) failures: BTreeMap<ContainerRef, Seen<StartFailed>>,
    pub(super) ends: BTreeMap<ContainerRef, Seen<ContainerEnded>>,
    /// Ends that the kubelet made up. They are kept apart: an invention never wins over what somebody saw.
    pub(super) inventions: BTreeMap<ContainerRef, Seen<ContainerEnded>>,
    pub(super) processes: Log<ProcessSeen>,
    pub(super) probes: Log<ProbeFailed>,
    pub(super) stops: Log<Stopping>,
    pub(super) runtime_signals: Log<(ContainerRef, i32)>,
    pub(super) actions: Log<ActionDone>,
    pub(super) limits: Log<LimitChanged>,
    pub(super) invoked: Log<String>,
    pub(super) summaries: Log<OomSummary>,
    pub(super) killed: Log<KernelKilled>,
    pub(super) groups: Log<String>,
    pub(super) signals: Log<SignalSent>,
    pub(super) victims: Log<VictimMarked>,
    pub(super) notified: Log<String>,
    pub(super) counters: BTreeMap<String, CounterLog>,
    pub(super) clients: Clients,
}

impl Timeline {
    /// Takes in one observation.
    pub(super) fn observe(&mut self, seen: &Observation) {
        self.sources.entry(seen.source).or_default().stated(seen);
        match &seen.fact {
            Fact::Host(host) => self.host = Some(host.clone()),
            Fact::Source(state) => self.sources.entry(state.of()).or_default().state(seen.moment, state),
            Fact::Cluster(cluster) => self.cluster = Some(cluster.clone()),
            Fact::Pod(pod) => self.pods.insert(with(seen, pod)),
            Fact::PodStopping(stop) => self.pod_stops.insert(with(seen, stop)),
            Fact::PodOver(over) => self.pods_over.insert(with(seen, over)),
            Fact::WallClock { .. } | Fact::KernelLogClock { .. } | Fact::Noted(_) | Fact::Finished(_) => {}
            Fact::Cgroup(made) => keep_first(&mut self.cgroups, made.path.clone(), with(seen, made)),
            Fact::Started(start) => {
                self.ids.entry(start.container.clone()).or_default().extend(start.id.clone());
                merge::start(&mut self.starts, with(seen, start));
            }
            Fact::StartFailed(failed) => {
                keep_first(&mut self.failures, failed.container.clone(), with(seen, failed));
            }
            Fact::Ended(end) if end.invented.is_some() => {
                keep_first(&mut self.inventions, end.container.clone(), with(seen, end));
            }
            Fact::Ended(end) => merge::end(&mut self.ends, with(seen, end)),
            Fact::Process(process) => self.processes.insert(with(seen, process)),
            Fact::ProbeFailed(probe) => self.probes.insert(with(seen, probe)),
            Fact::Stopping(stop) => self.stops.insert(with(seen, stop)),
            Fact::RuntimeSignal { container, signal } => {
                self.runtime_signals.insert(with(seen, &(container.clone(), *signal)));
            }
            Fact::Action(action) => self.actions.insert(with(seen, action)),
            Fact::LimitChanged(limit) => self.limits.insert(with(seen, limit)),
            Fact::OomInvoked { comm, .. } => self.invoked.insert(with(seen, comm)),
            Fact::OomSummary(summary) => self.summaries.insert(with(seen, summary)),
            Fact::KernelKilled(killed) => self.killed.insert(with(seen, killed)),
            Fact::OomGroup { cgroup } => self.groups.insert(with(seen, cgroup)),
            Fact::Signal(signal) => self.signals.insert(with(seen, signal)),
            Fact::Victim(victim) => self.victims.insert(with(seen, victim)),
            Fact::Counters(counters) => {
                let log = self.counters.entry(counters.cgroup.clone()).or_default();
                log.insert(seen.moment, seen.sequence, counters);
            }
            Fact::OomNotified { cgroup } => self.notified.insert(with(seen, cgroup)),
            Fact::TrafficStarted(started) => self.clients.started(started),
            Fact::TrafficWindow(window) => self.clients.window(window),
            Fact::TrafficEnded(ended) => self.clients.ended(ended),
        }
    }

    /// Whether a source has stated everything that it could have seen between two nanoseconds.
    pub(super) fn watched(&self, source: Source, from: u64, to: u64) -> bool {
        self.sources.get(&source).is_some_and(|log| log.watched(from, to))
    }

    /// Those of `sources` that cannot vouch for that time, and what they would have told.
    pub(super) fn missing(&self, sources: &[Source], from: u64, to: u64) -> Vec<Missing> {
        let mut missing: Vec<Missing> = sources
            .iter()
            .filter(|source| !self.watched(**source, from, to))
            .map(|source| {
                let why =
                    self.sources.get(source).map_or("it was absent".to_owned(), |log| log.why(from, to));
                Missing { source: *source, why: format!("{why}; it would have told {}", would_tell(*source)) }
            })
            .collect();
        missing.sort();
        missing
    }

    /// How every source did.
    pub(super) fn health(&self) -> Vec<SourceHealth> {
        let none = SourceLog::default();
        let always = |source: &Source| !matches!(source, Source::Exits | Source::Clients);
        let spoken_of = |source: &&Source| always(source) || self.sources.contains_key(source);
        Source::ALL
            .iter()
            .filter(spoken_of)
            .map(|source| self.sources.get(source).unwrap_or(&none).health(*source))
            .collect()
    }

    /// The path of a container's cgroup.
    pub(super) fn container_path(&self, container: &ContainerRef) -> Option<&Seen<CgroupMade>> {
        self.cgroups
            .values()
            .find(|made| matches!(&made.fact.owner, CgroupOwner::Container(c) if c == container))
    }

    /// The container in whose cgroup, or below it, `path` lies.
    pub(super) fn container_at(&self, path: &str) -> Option<&ContainerRef> {
        self.cgroups.values().find_map(|made| match &made.fact.owner {
            CgroupOwner::Container(container) if lies_in(path, &made.fact.path) => Some(container),
            CgroupOwner::Container(_)
            | CgroupOwner::Node
            | CgroupOwner::Qos { .. }
            | CgroupOwner::Pod { .. }
            | CgroupOwner::Pause { .. } => None,
        })
    }

    /// When the run of this container was torn down, if it was.
    pub(super) fn torn_down(&self, container: &ContainerRef) -> Option<&Seen<Stopping>> {
        self.stops
            .iter()
            .find(|stop| stop.fact.container == *container && stop.fact.reason == StopReason::TearDown)
    }

    /// The stretch within which this run's processes can have lived, generously.
    pub(super) fn lifetime(&self, container: &ContainerRef) -> (u64, u64) {
        let made = self.container_path(container).map(|made| made.at.earliest());
        let started = self.starts.get(container).map(|start| start.at.earliest());
        let failed = self.failure(container).map(|failed| failed.at.earliest());
        let from = made.or(started).or(failed.map(|at| at.saturating_sub(5 * SECOND))).unwrap_or(0);
        let told = self.ends.get(container).or_else(|| self.inventions.get(container));
        let ended = told.map(|end| end.at.latest());
        let to = ended.or(self.failure(container).map(|failed| failed.at.latest()));
        // A start is stamped after the fact; an end when it was reaped.
        (from.saturating_sub(100 * MS), to.map_or(u64::MAX, |to| to.saturating_add(MS)))
    }

    /// Why a run could not be started: none of one that began after all, for a kubelet tries again.
    pub(super) fn failure(&self, container: &ContainerRef) -> Option<&Seen<StartFailed>> {
        let began = self.starts.get(container);
        let failed = self.failures.get(container);
        failed.filter(|failed| began.is_none_or(|start| failed.at.before(start.at) != Order::Yes))
    }

    /// Whether PIDs that the kernel names are those that the runtime names.
    pub(super) fn pids_are_ours(&self) -> bool {
        self.host.as_ref().is_none_or(|host| host.initial_pid_namespace)
    }

    /// The main process's PID, where the kernel's PIDs mean something.
    pub(super) fn main_pid(&self, container: &ContainerRef) -> Option<u32> {
        let pid = match (self.starts.get(container), self.failures.get(container)) {
            (Some(start), _) => start.fact.pid,
            (None, failed) => failed.and_then(|failed| failed.fact.pid),
        };
        pid.filter(|_| self.pids_are_ours())
    }
}

/// Whether `path` is `cgroup` or lies below it.
pub(super) fn lies_in(path: &str, cgroup: &str) -> bool {
    path.strip_prefix(cgroup).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What each source is there to tell.
fn would_tell(source: Source) -> &'static str {
    match source {
        Source::Harness => "whose cgroups they are",
        Source::Runtime => "how the container ended",
        Source::Kubelet => "whether and why it was decided to stop the container",
        Source::Kmsg => "which process the kernel's OOM killer chose, and whose limit was reached",
        Source::Trace => "who sent the SIGKILL",
        Source::Memcg => "how many OOM kills the cgroup counted, and at which level",
        Source::Exits => "whether it was killed or exited by itself",
        Source::Clients => "what clients saw",
    }
}

fn with<T: Clone>(seen: &Observation, fact: &T) -> Seen<T> {
    Seen { at: seen.moment, sequence: seen.sequence, source: seen.source, fact: fact.clone() }
}

fn keep_first<K: Ord, T>(known: &mut BTreeMap<K, Seen<T>>, key: K, new: Seen<T>) {
    match known.get_mut(&key) {
        Some(old) if old.place() <= new.place() => {}
        Some(old) => *old = new,
        None => {
            known.insert(key, new);
        }
    }
}
