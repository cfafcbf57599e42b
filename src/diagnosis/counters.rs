//! A memory cgroup's counters over time, kept as the stretches in which its OOM counters did not change.

use std::collections::BTreeMap;

use crate::evidence::{Counters, Moment};

/// The OOM counters of one reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct OomCounts {
    kills_here: Option<u64>,
    kills_below: Option<u64>,
    ooms_here: Option<u64>,
    group_kills: Option<u64>,
}

/// A stretch with the same OOM counters. However often `max` rises meanwhile, it takes the same room.
#[derive(Clone, Debug, PartialEq)]
struct Plateau {
    first: (Moment, u64),
    last: (Moment, u64),
    max: Option<u64>,
    peak: Option<u64>,
    processes: Option<u64>,
}

/// All readings of one cgroup.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CounterLog {
    plateaus: BTreeMap<OomCounts, Plateau>,
    last: Option<(Moment, u64)>,
}

/// Which counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    /// OOM kills of processes in this very cgroup.
    Kills,
    /// Allocations that failed at this very cgroup's limit.
    Ooms,
    /// Group kills.
    GroupKills,
}

/// A counter that rose.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rise {
    pub(super) by: u64,
    /// Somewhere between the last reading before and the first one after.
    pub(super) at: Moment,
    pub(super) evidence: u64,
}

impl CounterLog {
    pub(super) fn insert(&mut self, at: Moment, sequence: u64, counters: &Counters) {
        let counts = OomCounts {
            kills_here: counters.oom_kill_local,
            kills_below: counters.oom_kill,
            ooms_here: counters.oom_local,
            group_kills: counters.oom_group_kill,
        };
        if counters.last {
            let earlier = self.last.is_none_or(|(known, _)| at.sort_order(known).is_lt());
            if earlier {
                self.last = Some((at, sequence));
            }
        }
        let new = Plateau {
            first: (at, sequence),
            last: (at, sequence),
            max: counters.max,
            peak: counters.peak,
            processes: counters.processes,
        };
        match self.plateaus.get_mut(&counts) {
            Some(known) => known.merge(&new),
            None => {
                self.plateaus.insert(counts, new);
            }
        }
    }

    /// Whether it was read at or after this nanosecond, or a last time after all in it had ended.
    pub(super) fn read_until(&self, to: u64) -> bool {
        self.last.is_some() || self.plateaus.values().any(|plateau| plateau.last.0.latest() >= to)
    }

    /// The reading after which the cgroup may be removed, or was found to have been.
    pub(super) fn last_reading(&self) -> Option<(Moment, u64)> {
        self.last
    }

    /// Every rise of a counter. A cgroup that we made (at `made`) began with zero; of another the first reading is the base.
    pub(super) fn rises(&self, counter: Counter, made: Option<Moment>) -> Vec<Rise> {
        let mut plateaus: Vec<_> = self.plateaus.iter().collect();
        plateaus.sort_by_key(|(_, p)| (p.first.0.earliest(), p.first.0.latest(), p.first.1));
        let mut before = made.map(|made| (0, made));
        let mut rises = Vec::new();
        for (counts, plateau) in plateaus {
            let Some(value) = counts.get(counter) else { continue };
            if let Some((base, read)) = before.filter(|(base, _)| *base < value) {
                // A reading that is stated as an interval says since when it had not looked.
                let now = plateau.first.0;
                let at =
                    if now.uncertainty() == 0 { Moment::between(read.latest(), now.latest()) } else { now };
                rises.push(Rise { by: value - base, at, evidence: plateau.first.1 });
            }
            before = Some((value, plateau.last.0));
        }
        rises
    }

    /// Whether this counter is read at all.
    pub(super) fn has(&self, counter: Counter) -> bool {
        self.plateaus.keys().any(|counts| counts.get(counter).is_some())
    }

    /// How often use met the limit, as far as it was read; the base is zero for a cgroup that we made.
    pub(super) fn limit_hits(&self) -> Option<u64> {
        self.plateaus.values().filter_map(|plateau| plateau.max).max()
    }

    /// The most processes that were ever seen in it at once, where they were counted.
    pub(super) fn processes(&self) -> Option<u64> {
        self.plateaus.values().filter_map(|plateau| plateau.processes).max()
    }

    /// The most memory ever charged.
    pub(super) fn peak(&self) -> Option<u64> {
        self.plateaus.values().filter_map(|plateau| plateau.peak).max()
    }
}

impl Plateau {
    fn merge(&mut self, other: &Self) {
        let order = |a: &(Moment, u64), b: &(Moment, u64)| a.0.sort_order(b.0).then(a.1.cmp(&b.1));
        if order(&other.first, &self.first).is_lt() {
            self.first = other.first;
        }
        if order(&other.last, &self.last).is_gt() {
            self.last = other.last;
        }
        self.peak = self.peak.max(other.peak);
        self.max = self.max.max(other.max);
        self.processes = self.processes.max(other.processes);
    }
}

impl OomCounts {
    fn get(&self, counter: Counter) -> Option<u64> {
        match counter {
            Counter::Kills => self.kills_here,
            Counter::Ooms => self.ooms_here,
            Counter::GroupKills => self.group_kills,
        }
    }
}
