//! One memory cgroup that is watched.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use super::super::WatchedCgroup;
use super::super::hub::Subscriber;
use super::files::Files;
use crate::evidence::{CgroupOwner, Counters, Fact, Moment, ProcessSeen, Sample, Source};

/// A cgroup whose size has not changed for so long is quiet: what costs more than its size and its kills is read once in
/// [`QUIET_EVERY_NS`] only. A fork, a growth, a limit that is met show in the size or are notified, which wakes it.
const QUIET_AFTER_NS: u64 = 300_000_000;
const QUIET_EVERY_NS: u64 = 1_000_000_000;

/// What a round reads beside sizes and kill counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) processes: bool,
    pub(super) breakdown: bool,
}

impl Round {
    pub(super) const EVERYTHING: Self = Self { processes: true, breakdown: true };
    const NOTHING: Self = Self { processes: false, breakdown: false };
}

/// A cgroup, its open files, and what was read last.
#[derive(Debug)]
pub(super) struct Watched {
    cgroup: WatchedCgroup,
    subscriber: Arc<Subscriber>,
    files: Files,
    /// v1: the OOM eventfd.
    notifier: Option<OwnedFd>,
    counters: Counters,
    read_at: u64,
    usage: u64,
    /// What this source has said of its processes: it says it whether or not the tracepoints have said it before.
    processes: HashSet<u32>,
    changed_at: u64,
    read_all_at: u64,
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    pids_mean_something: bool,
}

impl Watched {
    pub(super) fn open(cgroup: WatchedCgroup, subscriber: Arc<Subscriber>) -> io::Result<Self> {
        let files = Files::open(&cgroup.directory)?;
        let notifier = match &files {
            Files::V1(v1) => {
                let notifier = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                let arm = format!("{} {}", notifier.as_raw_fd(), v1.oom_control.as_raw_fd());
                fs::write(cgroup.directory.join("cgroup.event_control"), arm)?;
                Some(notifier)
            }
            Files::V2(_) => None,
        };
        let counters = Counters { cgroup: cgroup.path.clone(), ..Counters::default() };
        let read_at = crate::clock::boot_ns();
        let pids_mean_something = crate::backend::local::in_initial_pid_namespace();
        let waiting = Vec::new();
        Ok(Self {
            cgroup,
            subscriber,
            files,
            notifier,
            counters,
            read_at,
            usage: 0,
            processes: HashSet::new(),
            changed_at: read_at,
            read_all_at: 0,
            waiting,
            pids_mean_something,
        })
    }

    pub(super) fn path(&self) -> &str {
        &self.cgroup.path
    }

    pub(super) fn usage(&self) -> u64 {
        self.usage
    }

    /// What tells that something happened here.
    pub(super) fn notification(&self) -> Option<(BorrowedFd<'_>, EventFlags)> {
        match (&self.files, &self.notifier) {
            (Files::V1(_), Some(notifier)) => Some((notifier.as_fd(), EventFlags::IN)),
            (Files::V1(_), None) => None,
            (Files::V2(v2), _) => Some((v2.events.as_fd(), EventFlags::PRI)),
        }
    }

    /// Whether something happened; asking takes note of it.
    pub(super) fn notified(&self) -> bool {
        match &self.notifier {
            Some(notifier) => rustix::io::read(notifier, &mut [0; 8]).is_ok(),
            // v2 has no count of its own: reading the file is what takes note.
            None => true,
        }
    }

    /// Whether the cgroup has not been removed.
    pub(super) fn is_there(&self) -> bool {
        self.cgroup.directory.exists()
    }

    /// Says that the v1 eventfd has fired.
    pub(super) fn tell_notified(&mut self, now: u64) {
        if self.notifier.is_some() {
            let fact = Fact::OomNotified { cgroup: self.cgroup.path.clone() };
            self.subscriber.recorder.record(Source::Memcg, Moment::between(self.read_at, now), None, fact);
        }
    }

    pub(super) fn wait_for(&mut self, bytes: u64, sender: oneshot::Sender<()>) {
        self.waiting.push((bytes, sender));
    }

    /// Takes note that something was notified, and reads everything.
    pub(super) fn wake(&mut self, now: u64) {
        self.changed_at = now;
        self.read(now, Round::EVERYTHING);
    }

    /// Reads what this round reads, and records what has changed.
    pub(super) fn read(&mut self, now: u64, round: Round) {
        // A pause process does nothing.
        if matches!(self.cgroup.owner, CgroupOwner::Pause { .. }) && !round.breakdown {
            return;
        }
        let Some(usage) = self.files.usage() else { return };
        let changed = usage != self.usage;
        if changed {
            self.changed_at = now;
        }
        self.usage = usage;
        let due = now >= self.read_all_at + QUIET_EVERY_NS;
        let round = if due || now < self.changed_at + QUIET_AFTER_NS { round } else { Round::NOTHING };
        let (reached, waiting): (Vec<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(bytes, _)| usage >= *bytes);
        self.waiting = waiting;
        for (_, sender) in reached {
            // Whoever waited may have gone.
            let _ = sender.send(());
        }
        if matches!(self.cgroup.owner, CgroupOwner::Container(_)) || round.breakdown {
            self.read_counters(now, round.breakdown, false);
        }
        let breakdown = if round.breakdown { self.files.breakdown(usage) } else { None };
        if round.breakdown {
            self.read_all_at = now;
        }
        // The same size again says nothing new.
        if changed || breakdown.is_some() {
            let sample = Sample { at: now, cgroup: self.cgroup.path.clone(), usage, breakdown };
            self.report(|samples| samples.push(sample));
        }
        if round.processes {
            self.read_processes(now);
        }
        self.read_at = now;
    }

    /// The reading after everything in it has ended.
    pub(super) fn read_last(&mut self, now: u64) {
        self.read_counters(now, true, true);
        let path = self.cgroup.path.clone();
        self.report(|samples| samples.end(&path, now));
        if let CgroupOwner::Container(container) = &self.cgroup.owner {
            self.subscriber.forget(container);
        }
    }

    /// Says again how the counters stand, for somebody who has not heard it.
    pub(super) fn retell(&self) {
        let moment = Moment::exactly(self.read_at);
        self.subscriber.recorder.record(Source::Memcg, moment, None, Fact::Counters(self.counters.clone()));
    }

    fn read_counters(&mut self, now: u64, full: bool, last: bool) {
        let mut counters = self.counters.clone();
        counters.last = last;
        self.files.counters(&mut counters, full);
        if counters == self.counters {
            return;
        }
        if counters.oom_kill_local > self.counters.oom_kill_local {
            let path = self.cgroup.path.clone();
            self.report(|samples| samples.kill(&path, now));
        }
        let moment = Moment::between(self.read_at, now);
        self.subscriber.recorder.record(Source::Memcg, moment, None, Fact::Counters(counters.clone()));
        self.counters = counters;
    }

    fn read_processes(&mut self, now: u64) {
        let CgroupOwner::Container(container) = &self.cgroup.owner else { return };
        let Ok(text) = fs::read_to_string(self.cgroup.directory.join("cgroup.procs")) else { return };
        if !self.pids_mean_something {
            self.count_processes(now, &text);
            return;
        }
        for pid in text.lines().filter_map(|line| line.parse().ok()) {
            self.subscriber.learn(pid, container);
            if self.processes.insert(pid) {
                let seen = ProcessSeen { pid, container: container.clone(), parent: None };
                let moment = Moment::between(self.read_at, now);
                self.subscriber.recorder.record(Source::Memcg, moment, None, Fact::Process(seen));
            }
        }
    }

    /// Those of another PID namespace are listed as 0 (`cgroup-v1.c:cgroup_pidlist_show`, v2 likewise): a number they are still.
    /// While a runtime still makes the container, its own processes are in it.
    fn count_processes(&mut self, now: u64, procs: &str) {
        let of_runtime = |pid: &str| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("runc"))
        };
        let count = u64::try_from(procs.lines().count()).unwrap_or(u64::MAX);
        if Some(count) <= self.counters.processes || procs.lines().any(of_runtime) {
            return;
        }
        self.counters.processes = Some(count);
        let (moment, counters) = (Moment::between(self.read_at, now), self.counters.clone());
        self.subscriber.recorder.record(Source::Memcg, moment, None, Fact::Counters(counters));
    }

    fn report(&self, write: impl FnOnce(&mut super::super::samples::Samples) -> io::Result<()>) {
        if let Err(error) = write(&mut self.subscriber.samples()) {
            tracing::warn!(%error, "a memory sample could not be written");
        }
    }
}
