//! One container run that ended, and everything known that bears on why.

mod decisions;

use std::collections::{BTreeMap, BTreeSet};

use super::counters::{Counter, Rise};
use super::domain::touches;
use super::kills::{Kill, Level, Owner, levels};
use super::timeline::{MS, SECOND, Seen, Timeline};
use super::unseen::{self, Gone};
use super::{Attribution, Sender, Stamped};
use crate::cause::{Cause, Confidence, Detail};
use crate::evidence::{
    CgroupMade, ContainerEnded, ContainerRef, ContainerStarted, End, Moment, SignalSent, Source, StartFailed,
    StopReason, Stopping,
};

/// An exit may follow a kill by this much and still be its consequence (causes.md section 7, R3).
pub(super) const CONSEQUENCE: u64 = 5 * SECOND;

/// What the rules look at.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) timeline: &'a Timeline,
    pub(super) kills: &'a [Kill],
    pub(super) container: &'a ContainerRef,
    pub(super) start: Option<&'a Seen<ContainerStarted>>,
    pub(super) failed: Option<&'a Seen<StartFailed>>,
    /// How it really ended, as far as anybody saw it.
    pub(super) end: Option<End>,
    /// The reason that Kubernetes gives for it.
    pub(super) reason: Option<String>,
    /// The end that the kubelet made up for it.
    pub(super) invention: Option<&'a Seen<ContainerEnded>>,
    /// It is no more, and nobody told of its end.
    pub(super) gone: Option<Gone>,
    pub(super) cpu_ms: Option<u64>,
    pub(super) ended_at: Moment,
    pub(super) end_evidence: u64,
    pub(super) cgroup: Option<&'a Seen<CgroupMade>>,
    pub(super) levels: BTreeMap<Level, String>,
    pub(super) main_pid: Option<u32>,
    /// The first SIGKILL that was delivered to the main process. Later ones are no kills.
    pub(super) sigkill: Option<&'a Seen<SignalSent>>,
    /// The OOM killer's kill of the main process.
    pub(super) main_kill: Option<&'a Kill>,
    /// OOM kills of the container's other processes, before it ended.
    pub(super) child_kills: Vec<&'a Kill>,
    /// OOM kills in it, shortly before it ended, of which it is not known whether one was the main process's: nobody told
    /// its PID.
    pub(super) nameless_kills: Vec<&'a Kill>,
}

/// What a cluster's runtimes call the programs that signal containers, by the 15 bytes that the kernel keeps.
/// The kubelet itself kills what is left in the cgroup of a pod that is over, without waiting for its grace period
/// (pod_container_manager_linux.go:tryKillingCgroupProcesses; seen on 1.20).
const RUNTIMES: [&str; 6] = ["runc", "crun", "youki", "containerd-shim", "conmon", KUBELET];
const KUBELET: &str = "kubelet";

/// Whether it was the runtime that sent the SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// It was, by the trace.
    Runtime,
    /// It says so itself; nobody else confirms it.
    RuntimeSays,
    /// It was not.
    Other,
    /// Nothing tells.
    Unknown,
}

impl<'a> Case<'a> {
    /// Gathers what bears on the end of a container's run; `None` if it has not ended.
    pub(super) fn gather(
        timeline: &'a Timeline,
        kills: &'a [Kill],
        container: &'a ContainerRef,
    ) -> Option<Self> {
        let start = timeline.starts.get(container);
        let failed = timeline.failure(container);
        let ended = timeline.ends.get(container);
        let invention = timeline.inventions.get(container);
        let told = ended.is_some() || failed.is_some() || invention.is_some();
        let gone = if told { None } else { unseen::sign(timeline, container) };
        let (mut end, mut ended_at, end_evidence) = match (ended, failed, invention) {
            (Some(ended), _, _) => (Some(ended.fact.end), ended.at, ended.sequence),
            (None, Some(failed), _) => (failed.fact.end, failed.at, failed.sequence),
            (None, None, Some(made_up)) => (None, since_start(start, made_up.at), made_up.sequence),
            (None, None, None) => {
                let gone = gone.as_ref()?;
                (None, since_start(start, gone.at), gone.evidence)
            }
        };
        let main_pid = timeline.main_pid(container);
        let (from, to) = timeline.lifetime(container);
        let to = gone.map_or(to, |gone| to.min(gone.at.latest().saturating_add(MS)));
        let sigkill = timeline.signals.between(from, to).find(|seen| {
            Some(seen.fact.target_pid) == main_pid && seen.fact.signal == 9 && seen.fact.result == 0
        });
        let own: Vec<&Kill> = kills
            .iter()
            .filter(|kill| kill.owner == Owner::Container(container.clone()))
            .filter(|kill| kill.at.moment.earliest() <= to)
            .collect();
        let is_main = |kill: &Kill| Some(kill.pid) == main_pid;
        // A process that is dying already may still be marked as a victim; what killed it is the first SIGKILL.
        let by_kernel = sigkill.is_none_or(|seen| seen.fact.code > 0);
        let main_kill = own.iter().copied().find(|kill| is_main(kill)).filter(|_| by_kernel);
        let cannot_be_main = |kill: &Kill| {
            let exited = end.and_then(End::sigkilled) == Some(false);
            main_pid.is_some() || exited || kill.at.moment.latest() + CONSEQUENCE < ended_at.earliest()
        };
        let (child_kills, nameless_kills) =
            own.into_iter().filter(|kill| !is_main(kill)).partition(|kill| cannot_be_main(kill));
        let killed = sigkill.map(|seen| seen.at).or(main_kill.map(|kill| kill.at.moment));
        // Of an end that nobody told, what else would have been told is not known either.
        if let Some(killed) = killed.filter(|_| ended.is_none() && failed.is_none() && gone.is_none()) {
            // Nobody saw it end, and its main process got a SIGKILL: that is an end.
            (end, ended_at) = (Some(End::Signaled(9)), since(killed, ended_at));
        }
        Some(
            Self {
                timeline,
                kills,
                container,
                start,
                failed: failed.filter(|_| ended.is_none()),
                end,
                reason: [ended, invention].into_iter().flatten().find_map(|said| said.fact.reason.clone()),
                invention,
                gone,
                cpu_ms: ended.and_then(|ended| ended.fact.cpu_ms),
                ended_at,
                end_evidence,
                cgroup: timeline.container_path(container),
                levels: levels(timeline, container),
                main_pid,
                sigkill,
                main_kill,
                child_kills,
                nameless_kills,
            }
            .with_the_only_process(),
        )
    }

    /// A victim whose PID nobody knows was the main process if there never was another, and if the end followed at once.
    fn with_the_only_process(mut self) -> Self {
        let at_once = |kill: &&Kill| touches(kill.at.moment, self.ended_at, SECOND);
        let in_time = self.nameless_kills.iter().copied().filter(at_once).collect::<Vec<_>>();
        if self.single_process() && in_time.len() == 1 && self.nameless_kills.len() == 1 {
            self.main_kill = in_time.first().copied();
            self.nameless_kills.clear();
        }
        self
    }

    /// Whether that it ended is known from the kubelet's invention alone.
    pub(super) fn only_invented(&self) -> bool {
        self.invention.is_some() && self.end.is_none() && self.failed.is_none()
    }

    /// Whether all that is known of its end is that there was one.
    pub(super) fn unseen(&self) -> bool {
        self.gone.is_some()
    }

    /// Whether nobody but the API, in whole seconds, says when it ended.
    pub(super) fn end_is_rough(&self) -> bool {
        self.sigkill.is_none() && self.main_kill.is_none() && self.ended_at.uncertainty() >= SECOND / 2
    }

    /// Whether a SIGKILL ended it, as far as is known.
    pub(super) fn sigkilled(&self) -> Option<bool> {
        self.end.map_or(Some(false), End::sigkilled)
    }

    /// The time in which something can have led to the end.
    pub(super) fn window(&self) -> (u64, u64) {
        // The second in which the API says that it began says little.
        let began = self.start.map_or(0, |start| {
            if start.at.uncertainty() >= SECOND / 2 { start.at.earliest() } else { start.at.latest() }
        });
        (self.ended_at.earliest().saturating_sub(CONSEQUENCE).max(began), self.ended_at.latest())
    }

    /// Whether a source has stated all that it saw around the end.
    pub(super) fn watched(&self, source: Source) -> bool {
        let (from, to) = self.window();
        self.timeline.watched(source, from, to)
    }

    /// Whether a moment lies in the window before the end.
    pub(super) fn shortly_before(&self, at: Moment) -> bool {
        let (from, to) = self.window();
        at.latest() >= from && at.earliest() <= to
    }

    /// Whether the kernel's OOM counters of this host tell at which level the memory ran out: v2 does.
    pub(super) fn reads_local_ooms(&self) -> bool {
        let stated = self.timeline.host.as_ref().map(|host| host.cgroup_version);
        stated.map_or_else(
            || self.timeline.counters.values().any(|log| log.has(Counter::Ooms)),
            |version| version == 2,
        )
    }

    /// The rises of a cgroup's counter.
    pub(super) fn rises(&self, path: &str, counter: Counter) -> Vec<Rise> {
        let made = self.timeline.cgroups.get(path).map(|made| made.at);
        self.timeline.counters.get(path).map(|log| log.rises(counter, made)).unwrap_or_default()
    }

    /// Whether this counter was read until after the end.
    pub(super) fn counter_watched(&self, path: &str, counter: Counter) -> bool {
        let (_, to) = self.window();
        let read = |log: &super::counters::CounterLog| log.has(counter) && log.read_until(to);
        self.watched(Source::Memcg) && self.timeline.counters.get(path).is_some_and(read)
    }

    /// Whether the container's own count of OOM kills is known until after the end.
    pub(super) fn kills_counted(&self) -> bool {
        self.levels.get(&Level::Container).is_some_and(|path| self.counter_watched(path, Counter::Kills))
    }

    /// Rises of the container's own count of OOM kills shortly before the end. A reading may come a little after it, but
    /// in a cgroup of its own nothing else can have been killed.
    pub(super) fn late_rises(&self) -> Vec<Rise> {
        let Some(path) = self.levels.get(&Level::Container) else { return Vec::new() };
        let rises = self.rises(path, Counter::Kills);
        let (from, _) = self.window();
        rises.into_iter().filter(|rise| rise.at.latest() >= from).collect()
    }

    /// OOM kills shortly before the end that the container's cgroup counted and nobody named.
    pub(super) fn unnamed_kills(&self) -> u64 {
        let counted: u64 = self.late_rises().iter().map(|rise| rise.by).sum();
        let late = self.child_kills.iter().filter(|kill| self.shortly_before(kill.at.moment)).count();
        let named = late + self.nameless_kills.len() + usize::from(self.main_kill.is_some());
        // A group kill counts its first victim twice (seen on Linux 6.1): what is named explains it all.
        let group = self.killed_as_group() && named > 0;
        if group { 0 } else { counted.saturating_sub(u64::try_from(named).unwrap_or(u64::MAX)) }
    }

    /// OOM kills shortly before the end of processes that may have been this container's.
    pub(super) fn strangers(&self) -> usize {
        self.kills
            .iter()
            .filter(|kill| kill.owner == Owner::Unknown && self.shortly_before(kill.at.moment))
            .count()
    }

    /// Whether an OOM kill in it takes all of it.
    pub(super) fn killed_as_group(&self) -> bool {
        let flagged = self.cgroup.is_some_and(|made| made.fact.oom_group == Some(true));
        let said = self
            .main_kill
            .into_iter()
            .chain(self.child_kills.iter().chain(&self.nameless_kills).copied())
            .any(|kill| kill.group.is_some());
        let own = self.levels.get(&Level::Container);
        flagged || said || own.is_some_and(|path| !self.rises(path, Counter::GroupKills).is_empty())
    }

    /// Whether its cgroup counted the death of one process in a single group kill. The main process is always a member: so it was
    /// that one. The chosen victim counts a second time, and gets a second SIGKILL, if it has not let its memory go when its group's
    /// turn comes (oom_kill.c:oom_kill_process, docs/cgroup-v2.md): two are one only where the kernel log names just one, the
    /// main process got two signals, or nobody ever saw another process.
    pub(super) fn alone_in_group_kill(&self) -> bool {
        let Some(path) = self.levels.get(&Level::Container) else { return false };
        let groups: u64 = self.rises(path, Counter::GroupKills).iter().map(|rise| rise.by).sum();
        let kills: u64 = self.late_rises().iter().map(|rise| rise.by).sum();
        let of_group = |kill: &&Kill| kill.group.as_deref() == Some(path.as_str());
        let pids: BTreeSet<u32> = self.kills.iter().filter(of_group).map(|kill| kill.pid).collect();
        let is_one = || pids.len() == 1 || self.kernel_sigkills() == 2 || self.single_process();
        groups == 1 && (kills == 1 || (kills == 2 && is_one())) && self.kills_counted()
    }

    /// How many SIGKILLs the kernel itself sent to the main process.
    fn kernel_sigkills(&self) -> usize {
        let (from, to) = self.timeline.lifetime(self.container);
        let to_main = self.timeline.signals.between(from, to).filter(|seen| {
            let signal = &seen.fact;
            signal.signal == 9
                && signal.code > 0
                && Some(signal.target_pid) == self.timeline.main_pid(self.container)
        });
        to_main.count()
    }

    /// Whether no process but the main one was ever seen in it, by somebody who looked.
    pub(super) fn single_process(&self) -> bool {
        if self.main_pid.is_none() {
            let path = self.levels.get(&Level::Container);
            let counted = path.and_then(|path| self.timeline.counters.get(path)?.processes());
            return counted.is_some_and(|most| most <= 1);
        }
        let seen = self.timeline.processes.iter().filter(|process| process.fact.container == *self.container);
        let mut pids: BTreeSet<u32> = seen.map(|process| process.fact.pid).collect();
        pids.extend(self.main_pid);
        pids.len() <= 1
    }

    /// Sources that would have shown an OOM kill of the main process and showed none.
    pub(super) fn no_oom_by(&self) -> Vec<Source> {
        if self.main_kill.is_some() {
            return Vec::new();
        }
        let mut sources = Vec::new();
        // Without its PID, only that nobody's process was killed says that it was not.
        let nobody = || self.nameless_kills.is_empty() && self.strangers() == 0;
        let told = |source: &Source| self.watched(*source) && (self.main_pid.is_some() || nobody());
        sources.extend([Source::Kmsg, Source::Trace].into_iter().filter(told));
        let named_all = self.unnamed_kills() == 0 && self.nameless_kills.is_empty();
        if self.kills_counted() && named_all && (self.main_pid.is_some() || nobody()) {
            sources.push(Source::Memcg);
        }
        sources
    }

    /// Whether it ran on a cluster, where nobody tells everything.
    pub(super) fn on_cluster(&self) -> bool {
        self.timeline.cluster.is_some()
    }

    /// Whether it was the kubelet that sent the SIGKILL, by its own hand.
    pub(super) fn by_kubelet(&self) -> bool {
        self.sigkill.is_some_and(|seen| seen.fact.sender_comm == KUBELET)
    }

    /// Whether a deletion that nobody comments on is a plain one.
    pub(super) fn deletions_are_told_apart(&self) -> bool {
        decisions::who_asked_is_said(self.timeline, &self.container.pod)
    }

    /// Decisions to stop it that came before it ended, the tear-down aside.
    fn stops(&self) -> impl Iterator<Item = Seen<Stopping>> {
        let (container, to) = (self.container, self.ended_at.latest());
        let own = self.timeline.stops.iter().filter(move |stop| {
            stop.fact.container == *container
                && !matches!(stop.fact.reason, StopReason::TearDown | StopReason::WithPod)
                && stop.at.earliest() <= to
        });
        own.cloned().chain(decisions::of_pod(self.timeline, container, to))
    }

    /// Whether the kubelet stopped it for its pod's sake, as far as it says.
    pub(super) fn stopped_with_pod(&self) -> bool {
        let mut stops = self.timeline.stops.iter();
        stops.any(|stop| stop.fact.container == *self.container && stop.fact.reason == StopReason::WithPod)
    }

    /// The decision whose grace period ended first.
    pub(super) fn decision(&self) -> Option<Seen<Stopping>> {
        self.stops().min_by_key(|stop| (stop.at.middle() + stop.fact.grace_ms * MS, stop.at.middle()))
    }

    /// The runtime's own word that it sent this signal before the end.
    pub(super) fn runtime_sent(&self, signal: i32) -> Option<Stamped> {
        let said = self.timeline.runtime_signals.iter().find(|seen| {
            seen.fact.0 == *self.container
                && seen.fact.1 == signal
                && seen.at.earliest() <= self.ended_at.latest()
        });
        said.map(Seen::stamped).or_else(|| {
            let runtime = self.start?.fact.runtime_pid?;
            let (from, to) = self.timeline.lifetime(self.container);
            let traced = self.timeline.signals.between(from, to).find(|seen| {
                let fact = &seen.fact;
                fact.signal == signal
                    && fact.sender_pid == runtime
                    && Some(fact.target_pid) == self.main_pid
                    && fact.result == 0
            });
            traced.map(Seen::stamped)
        })
    }

    /// Whether the runtime sent the SIGKILL that ended it.
    pub(super) fn hand(&self) -> Hand {
        let said = self.runtime_sent(9);
        if let Some(sigkill) = self.sigkill {
            let runtime = self.start.and_then(|start| start.fact.runtime_pid);
            return match runtime {
                _ if sigkill.fact.code > 0 => Hand::Other,
                Some(pid) if pid == sigkill.fact.sender_pid => Hand::Runtime,
                None if RUNTIMES.contains(&sigkill.fact.sender_comm.as_str()) && self.on_cluster() => {
                    Hand::Runtime
                }
                // Events get lost, so that none was seen is no evidence: but who sent it is known, and no runtime does so.
                None if self.on_cluster() => Hand::Other,
                None if said.is_some_and(|said| touches(said.moment, sigkill.at, 50 * MS)) => Hand::Runtime,
                None if self.decision().is_some() || !self.watched(Source::Kubelet) => Hand::Unknown,
                Some(_) | None => Hand::Other,
            };
        }
        let speaks = self.timeline.runtime_signals.iter().any(|seen| seen.fact.0 == *self.container);
        if said.is_some() {
            Hand::RuntimeSays
        } else if speaks || (self.watched(Source::Trace) && self.main_pid.is_some()) {
            Hand::Other
        } else {
            Hand::Unknown
        }
    }

    /// The sender of the SIGKILL, where a process sent it.
    pub(super) fn sender(&self) -> Option<Sender> {
        let fact = &self.sigkill.filter(|seen| seen.fact.code <= 0)?.fact;
        Some(Sender { pid: fact.sender_pid, comm: fact.sender_comm.clone() })
    }

    /// An attribution that rests on the container's end and on `evidence`; what is not certain names who is missing.
    pub(super) fn attribute(
        &self,
        cause: Cause,
        detail: Option<Detail>,
        confidence: Confidence,
        explanation: String,
    ) -> Attribution {
        let (from, to) = self.window();
        let mut sources = vec![Source::Kubelet, Source::Kmsg, Source::Trace, Source::Memcg];
        // Elsewhere the runtime itself says how it ended.
        sources.extend(self.on_cluster().then_some(Source::Exits));
        let missing = match confidence {
            Confidence::Certain => Vec::new(),
            Confidence::High | Confidence::Medium | Confidence::Low => {
                self.timeline.missing(&sources, from, to)
            }
        };
        Attribution {
            cause,
            detail,
            confidence,
            sender: None,
            domain: None,
            explanation,
            evidence: vec![self.end_evidence],
            missing,
            also_seen: Vec::new(),
        }
    }

    /// The honest answer where the evidence does not reach.
    pub(super) fn undetermined(&self, explanation: String) -> Attribution {
        self.attribute(Cause::Undetermined, None, Confidence::Low, explanation)
    }
}

/// When a run ended whose end was only told later: not before it began.
fn since_start(start: Option<&Seen<ContainerStarted>>, told: Moment) -> Moment {
    start.map_or(told, |start| since(start.at, told))
}

fn since(from: Moment, told: Moment) -> Moment {
    let earliest = told.earliest().max(from.earliest());
    Moment::between(earliest, told.latest().max(earliest))
}
