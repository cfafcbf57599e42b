//! Memory over time in constant room: percentiles, peaks, pressure, and how much it was at a given moment.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::diagnosis::{MemoryAtDeath, Termination};
use crate::evidence::{
    CgroupOwner, ContainerRef, Counters, End, Fact, Observation, Sample, Source, SourceState,
};

/// Percentiles are kept in KiB with two significant digits: 1 % of error in some 50 KiB per container.
const UNIT: u64 = 1024;
/// The largest value that a histogram takes, in its unit: 16 TiB.
const MOST: u64 = 1 << 34;
/// A reading stands for the time until the next, counted in ticks of 10 ms; a longer silence says nothing more.
const TICK: u64 = 10_000_000;
const LONGEST: u64 = 1_000;

/// A container run's memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySummary {
    /// `resources.requests.memory`.
    pub request: Option<u64>,
    /// `resources.limits.memory`.
    pub limit: Option<u64>,
    /// Everything charged.
    pub usage: Option<Distribution>,
    /// Working set: usage less inactive file pages.
    pub working_set: Option<Distribution>,
    /// The most ever charged, by the kernel's own count where it keeps one.
    pub peak: Option<u64>,
    /// PSI `some avg10` at its worst, in percent.
    pub pressure_some: Option<f64>,
    /// PSI `full avg10` at its worst, in percent.
    pub pressure_full: Option<f64>,
    /// Pages that had to be read back.
    pub refaults: Option<u64>,
    /// Times that use met the container's limit or its pod's, whichever was met more often: a pod of one container has the
    /// same limit and the pause process's share, so that it meets the pod's first.
    pub limit_hits: Option<u64>,
    /// How many samples it rests on.
    pub samples: u64,
}

/// How a size was distributed over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Half of the time it was at most this.
    pub p50: u64,
    /// 95 % of the time it was at most this.
    pub p95: u64,
    /// The most that was sampled.
    pub peak: u64,
}

/// Every container run's memory.
#[derive(Clone, Debug, Default)]
pub struct MemorySummaries {
    containers: BTreeMap<ContainerRef, Container>,
    owners: BTreeMap<String, ContainerRef>,
    limits: BTreeMap<String, u64>,
    pods: BTreeMap<String, String>,
    pod_hits: BTreeMap<String, u64>,
    /// By the PIDs of main processes.
    mains: BTreeMap<u32, ContainerRef>,
    full_pods: BTreeSet<String>,
    /// When the readings ended before the run did.
    lost_at: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Container {
    summary: MemorySummary,
    usage: Option<Weighted>,
    working_set: Option<Weighted>,
    /// Where usage changed, so that a moment can be looked up: 16 bytes for each change.
    readings: Vec<(u64, u64)>,
    /// What the kernel says that its main process held when it was OOM-killed: anonymous memory, which is charged to it.
    killed_with: u64,
}

/// A histogram of values, each counting as long as it lasted.
#[derive(Clone, Debug)]
struct Weighted {
    histogram: Histogram<u64>,
    pending: (u64, u64),
    peak: u64,
}

impl MemorySummaries {
    /// Learns whose cgroup is whose, and the kernel's own counts.
    pub fn observe(&mut self, observation: &Observation) {
        match &observation.fact {
            Fact::Cgroup(made) => {
                if let Some(limit) = made.limit {
                    self.limits.insert(made.path.clone(), limit);
                }
                if let CgroupOwner::Pod { pod } = &made.owner {
                    self.pods.insert(made.path.clone(), pod.clone());
                }
                if let CgroupOwner::Container(container) = &made.owner {
                    self.owners.insert(made.path.clone(), container.clone());
                    let summary = &mut self.containers.entry(container.clone()).or_default().summary;
                    summary.limit = summary.limit.or(made.limit);
                }
            }
            Fact::Started(start) => {
                let summary = &mut self.containers.entry(start.container.clone()).or_default().summary;
                summary.request = start.request;
                summary.limit = start.limit.or(summary.limit);
                self.mains.extend(start.pid.map(|pid| (pid, start.container.clone())));
            }
            Fact::KernelKilled(killed) => {
                if let Some(container) = self.mains.get(&killed.pid) {
                    let container = self.containers.entry(container.clone()).or_default();
                    container.killed_with = container.killed_with.max(killed.anon_rss);
                }
            }
            Fact::Counters(counters) => self.count(counters),
            Fact::LimitChanged(change) if change.refused.is_none() => {
                self.limits.insert(change.cgroup.clone(), change.to);
            }
            Fact::Source(SourceState::Lost { of: Source::Memcg, .. }) => {
                let at = observation.moment.earliest();
                self.lost_at = Some(self.lost_at.map_or(at, |known| known.min(at)));
            }
            Fact::LimitChanged(_)
            | Fact::Host(_)
            | Fact::Source(_)
            | Fact::WallClock { .. }
            | Fact::KernelLogClock { .. }
            | Fact::StartFailed(_)
            | Fact::Ended(_)
            | Fact::Process(_)
            | Fact::ProbeFailed(_)
            | Fact::Stopping(_)
            | Fact::RuntimeSignal { .. }
            | Fact::Action(_)
            | Fact::OomInvoked { .. }
            | Fact::OomSummary(_)
            | Fact::OomGroup { .. }
            | Fact::Signal(_)
            | Fact::Victim(_)
            | Fact::TrafficStarted(_)
            | Fact::TrafficWindow(_)
            | Fact::TrafficEnded(_)
            | Fact::Finished(_)
            | Fact::OomNotified { .. }
            | Fact::Cluster(_)
            | Fact::Pod(_)
            | Fact::PodStopping(_)
            | Fact::PodOver(_)
            | Fact::Noted(_) => {}
        }
    }

    fn count(&mut self, counters: &Counters) {
        if let (Some(pod), Some(peak)) = (self.pods.get(&counters.cgroup), counters.peak)
            && self.limits.get(&counters.cgroup).is_some_and(|limit| peak >= *limit)
        {
            self.full_pods.insert(pod.clone());
        }
        if let (Some(pod), Some(hits)) = (self.pods.get(&counters.cgroup), counters.max) {
            let most = self.pod_hits.entry(pod.clone()).or_default();
            *most = hits.max(*most);
        }
        let Some(container) = self.owners.get(&counters.cgroup) else { return };
        let summary = &mut self.containers.entry(container.clone()).or_default().summary;
        summary.peak = summary.peak.max(counters.peak);
        summary.limit_hits = summary.limit_hits.max(counters.max);
    }

    /// Takes in a sample; those of one cgroup come in the order of their times.
    pub fn sample(&mut self, sample: &Sample) {
        let Some(owner) = self.owners.get(&sample.cgroup) else { return };
        let container = self.containers.entry(owner.clone()).or_default();
        let summary = &mut container.summary;
        summary.samples += 1;
        summary.peak = summary.peak.max(Some(sample.usage));
        record(&mut container.usage, sample.at, sample.usage);
        if container.readings.last().is_none_or(|(_, usage)| *usage != sample.usage) {
            container.readings.push((sample.at, sample.usage));
        }
        if let Some(breakdown) = &sample.breakdown {
            record(&mut container.working_set, sample.at, breakdown.working_set);
            summary.pressure_some = worst(summary.pressure_some, breakdown.pressure_some);
            summary.pressure_full = worst(summary.pressure_full, breakdown.pressure_full);
            summary.refaults = summary.refaults.max(breakdown.refaults);
        }
    }

    /// A container run's summary so far.
    pub fn of(&self, container: &ContainerRef) -> Option<MemorySummary> {
        self.containers.get(container).map(|memory| self.summary(container, memory))
    }

    /// Every container run and its summary so far.
    pub fn iter(&self) -> impl Iterator<Item = (&ContainerRef, MemorySummary)> {
        self.containers.iter().map(|(container, memory)| (container, self.summary(container, memory)))
    }

    fn summary(&self, container: &ContainerRef, memory: &Container) -> MemorySummary {
        let mut summary = memory.summary();
        summary.limit_hits = summary.limit_hits.max(self.pod_hits.get(&container.pod).copied());
        // Some kernels count no hits on cgroup v1 (docs/cgroup-v1.md): at the limit and none counted is not known, not none.
        let at_limit = self.full_pods.contains(&container.pod)
            || summary.peak.zip(summary.limit).is_some_and(|(peak, limit)| peak >= limit);
        if at_limit && summary.limit_hits == Some(0) {
            summary.limit_hits = None;
        }
        summary
    }

    /// The last reading at or before a nanosecond of boot time.
    pub fn usage_at(&self, container: &ContainerRef, at: u64) -> Option<u64> {
        if self.lost_at.is_some_and(|lost| lost < at) {
            return None;
        }
        let readings = &self.containers.get(container)?.readings;
        let after = readings.partition_point(|(time, _)| *time <= at);
        readings.get(after.checked_sub(1)?).map(|(_, usage)| *usage)
    }

    /// A container's memory when it died. Where the kernel says that its own limit was reached, that is what it used: the
    /// last reading is always a little before the last page. Where its pod's was, it is the most that it was ever charged. Readings
    /// come late on a busy machine: it is never less than the kernel says of the main process that it killed.
    pub fn at_death(&self, termination: &Termination) -> MemoryAtDeath {
        let container = &termination.container;
        let limit = termination.limit;
        let killed_with = self.containers.get(container).map_or(0, |memory| memory.killed_with);
        let known =
            |usage: Option<u64>| MemoryAtDeath { usage: usage.map(|usage| usage.max(killed_with)), limit };
        let reached = termination.attribution.as_ref().filter(|found| found.cause == Cause::ContainerOom);
        if let Some(found) = reached {
            // Its own cgroup was full: that is exact. Where its pod's was, others may have had a share.
            let own = found.domain.as_ref().filter(|domain| self.owners.get(*domain) == Some(container));
            let domain = own.and_then(|domain| self.limits.get(domain).copied());
            if own.is_some() {
                let counted = limit.or(domain);
                return MemoryAtDeath { usage: counted, limit: counted };
            }
            let killed = termination.killed_at.map_or(u64::MAX, |killed| killed.moment.latest());
            if self.lost_at.is_some_and(|lost| lost <= killed) {
                return known(None);
            }
            let last = self.usage_at(container, killed);
            let peak = self.of(container).and_then(|summary| summary.peak);
            return known(peak.max(last));
        }
        // What a SIGKILL frees is gone before the end is noticed: without the kill's moment nothing is known.
        let by_itself = termination.end.and_then(End::sigkilled) == Some(false);
        let died = termination.killed_at.or(termination.ended_at.filter(|_| by_itself));
        known(died.and_then(|died| self.usage_at(container, died.moment.latest())))
    }
}

impl Container {
    fn summary(&self) -> MemorySummary {
        let distribution = |weighted: &Option<Weighted>| weighted.as_ref().map(Weighted::distribution);
        MemorySummary {
            usage: distribution(&self.usage),
            working_set: distribution(&self.working_set),
            ..self.summary.clone()
        }
    }
}

impl Weighted {
    fn begin(at: u64, value: u64) -> Option<Self> {
        let histogram = Histogram::new_with_bounds(1, MOST, 2).ok()?;
        Some(Self { histogram, pending: (at, value), peak: value })
    }

    fn next(&mut self, at: u64, value: u64) {
        let (since, before) = self.pending;
        let ticks = (at.saturating_sub(since) / TICK).clamp(1, LONGEST);
        self.histogram.saturating_record_n(units(before), ticks);
        self.pending = (at, value);
        self.peak = self.peak.max(value);
    }

    fn distribution(&self) -> Distribution {
        let mut histogram = self.histogram.clone();
        histogram.saturating_record_n(units(self.pending.1), 1);
        // The upper edge of a bucket may lie above anything that was seen.
        let at = |quantile| (histogram.value_at_quantile(quantile) * UNIT).min(self.peak);
        Distribution { p50: at(0.5), p95: at(0.95), peak: self.peak }
    }
}

fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT).clamp(1, MOST)
}

fn record(weighted: &mut Option<Weighted>, at: u64, value: u64) {
    match weighted {
        Some(weighted) => weighted.next(at, value),
        None => *weighted = Weighted::begin(at, value),
    }
}

fn worst(known: Option<f64>, new: Option<f64>) -> Option<f64> {
    match (known, new) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Stamped;
    use crate::evidence::{Breakdown, CgroupMade, ContainerStarted, KernelKilled, Moment};

    const MIB: u64 = 1 << 20;

    fn app() -> ContainerRef {
        ContainerRef { pod: "web".to_owned(), container: "app".to_owned(), instance: 0 }
    }

    fn watched() -> MemorySummaries {
        let owner = CgroupOwner::Container(app());
        let made =
            CgroupMade { path: "/n/web/app-0".to_owned(), owner, limit: Some(64 * MIB), oom_group: None };
        let mut memory = MemorySummaries::default();
        memory.observe(&Observation {
            sequence: 0,
            source: Source::Harness,
            moment: Moment::exactly(0),
            raw: None,
            fact: Fact::Cgroup(made),
        });
        memory
    }

    fn reading(ms: u64, mib: u64) -> Sample {
        let breakdown =
            Breakdown { working_set: mib * MIB / 2, pressure_full: Some(1.5), ..Breakdown::default() };
        Sample {
            at: ms * 1_000_000,
            cgroup: "/n/web/app-0".to_owned(),
            usage: mib * MIB,
            breakdown: Some(breakdown),
        }
    }

    fn ended(end: End, killed_at: Option<Stamped>) -> Termination {
        Termination {
            container: app(),
            end: Some(end),
            unseen: false,
            reason: None,
            started_at: None,
            killed_at,
            ended_at: Some(Stamped { moment: Moment::exactly(20_000_000), source: Source::Runtime }),
            attribution: None,
            asked: None,
            limit: None,
            request: None,
            clients: Vec::new(),
        }
    }

    #[test]
    fn a_reading_counts_for_as_long_as_it_lasted() {
        let mut memory = watched();
        for sample in [reading(0, 10), reading(900, 60), reading(910, 60), reading(920, 60)] {
            memory.sample(&sample);
        }
        let summary = memory.of(&app()).unwrap();
        let usage = summary.usage.unwrap();
        assert!(usage.p50 >= 10 * MIB && usage.p50 < 11 * MIB, "{usage:?}");
        assert_eq!(usage.peak, 60 * MIB);
        assert_eq!(summary.working_set.unwrap().peak, 30 * MIB);
        assert_eq!(summary.pressure_full, Some(1.5));
        assert_eq!(summary.samples, 4);
    }

    #[test]
    fn memory_at_a_moment_is_the_last_reading_before_it() {
        let mut memory = watched();
        for sample in [reading(10, 10), reading(20, 10), reading(30, 12)] {
            memory.sample(&sample);
        }
        assert_eq!(memory.usage_at(&app(), 9_000_000), None);
        assert_eq!(memory.usage_at(&app(), 29_000_000), Some(10 * MIB));
        assert_eq!(memory.usage_at(&app(), 31_000_000), Some(12 * MIB));
    }

    #[test]
    fn a_late_reading_is_no_less_than_what_the_kernel_says_of_whom_it_killed() {
        let mut memory = watched();
        memory.sample(&reading(10, 20));
        let started = ContainerStarted {
            container: app(),
            id: None,
            pid: Some(100),
            runtime_pid: None,
            request: None,
            limit: Some(64 * MIB),
            pod_level_limit: false,
            neighbours: 0,
            oom_score_adj: None,
            oom_score_adj_asked: None,
            rlimit_cpu: None,
            grace_seconds: 30,
        };
        let killed = |pid, mib: u64| {
            Fact::KernelKilled(KernelKilled {
                pid,
                comm: "app".to_owned(),
                memcg: true,
                anon_rss: mib * MIB,
                file_rss: 0,
                shmem_rss: 0,
                oom_score_adj: None,
            })
        };
        let moment = Moment::exactly(15_000_000);
        for fact in [Fact::Started(started), killed(100, 60), killed(7, 63)] {
            memory.observe(&Observation { sequence: 1, source: Source::Kmsg, moment, raw: None, fact });
        }
        let killed_at = Some(Stamped { moment, source: Source::Trace });
        assert_eq!(memory.at_death(&ended(End::Signaled(9), killed_at)).usage, Some(60 * MIB));
    }

    #[test]
    fn without_the_moment_of_a_sigkill_or_readings_until_then_memory_at_death_is_not_known() {
        let mut memory = watched();
        memory.sample(&reading(10, 60));
        let killed_at = Some(Stamped { moment: Moment::exactly(15_000_000), source: Source::Trace });
        assert_eq!(memory.at_death(&ended(End::Signaled(9), killed_at)).usage, Some(60 * MIB));
        assert_eq!(memory.at_death(&ended(End::Signaled(9), None)).usage, None);
        assert_eq!(memory.at_death(&ended(End::Exited(1), None)).usage, Some(60 * MIB));
        memory.observe(&Observation {
            sequence: 1,
            source: Source::Memcg,
            moment: Moment::exactly(12_000_000),
            raw: None,
            fact: Fact::Source(SourceState::Lost { of: Source::Memcg, reason: "died".to_owned() }),
        });
        assert_eq!(memory.at_death(&ended(End::Signaled(9), killed_at)).usage, None);
    }

    #[test]
    fn percentiles_never_exceed_the_peak() {
        let mut memory = watched();
        memory.sample(&reading(0, 63));
        memory.sample(&reading(10, 64));
        let usage = memory.of(&app()).unwrap().usage.unwrap();
        assert!(usage.p95 <= usage.peak);
    }
}
