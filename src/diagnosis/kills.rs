//! The kernel's OOM kills: one [`Kill`] per victim, put together from the tracepoint and the kernel log.

use std::collections::BTreeMap;

use super::Stamped;
use super::counters::Counter;
use super::timeline::{MS, SECOND, Seen, Timeline, lies_in};
use crate::evidence::{CgroupOwner, ContainerRef, Moment, OomDomain, Source, machine_of};

/// Statements about one PID that lie no further apart are about one death. A group kill prints its first victim twice, a
/// few milliseconds apart (seen on Linux 6.1), more with a slow console; a PID cannot come round again so soon.
const SAME_DEATH: u64 = 500 * MS;

/// A process that the OOM killer chose, or that died in a group kill.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kill {
    pub(super) pid: u32,
    pub(super) comm: Option<String>,
    /// The best statement of when.
    pub(super) at: Stamped,
    /// What ran out, where the kernel's summary says so.
    pub(super) domain: Option<OomDomain>,
    /// `Memory cgroup out of memory` (true) or `Out of memory` (false).
    pub(super) memcg: Option<bool>,
    /// In whose context the killer ran.
    pub(super) context: Option<String>,
    /// The cgroup that was killed as a whole.
    pub(super) group: Option<String>,
    /// What it held that is surely charged to it, in bytes: mapped files may be others'.
    pub(super) rss: Option<u64>,
    /// Whose process it was.
    pub(super) owner: Owner,
    pub(super) evidence: Vec<u64>,
}

/// Whose process a victim was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A container's run.
    Container(ContainerRef),
    /// In the scenario's cgroups, but no container's: a pause process.
    Ours(String),
    /// Outside of the scenario.
    Foreign,
    /// The evidence does not say.
    Unknown,
}

#[derive(Default)]
struct Draft {
    moments: Vec<(Rank, Moment, Source)>,
    comm: Option<String>,
    domain: Option<OomDomain>,
    task_memcg: Option<String>,
    memcg: Option<bool>,
    rss: Option<u64>,
    evidence: Vec<u64>,
}

/// Which statement of the moment is the best: the signal itself, then the tracepoint, then the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Signal,
    Marked,
    Killed,
    Summary,
}

/// All OOM kills, in the order of their moments.
pub(super) fn kills(timeline: &Timeline) -> Vec<Kill> {
    let mut kills: Vec<Kill> =
        drafts(timeline).into_iter().filter_map(|(pid, draft)| settle(timeline, pid, draft)).collect();
    kills.sort_by(|a, b| a.at.moment.sort_order(b.at.moment).then(a.pid.cmp(&b.pid)));
    kills
}

fn drafts(timeline: &Timeline) -> Vec<(u32, Draft)> {
    let mut statements: Vec<(u32, Rank, &Moment, Draft)> = Vec::new();
    for seen in timeline.victims.iter() {
        let draft = Draft { comm: seen.fact.comm.clone(), ..begun(seen, Rank::Marked) };
        statements.push((seen.fact.pid, Rank::Marked, &seen.at, draft));
    }
    for seen in timeline.killed.iter() {
        let fact = &seen.fact;
        let draft = Draft {
            comm: Some(fact.comm.clone()),
            memcg: Some(fact.memcg),
            rss: Some(fact.anon_rss + fact.shmem_rss),
            ..begun(seen, Rank::Killed)
        };
        statements.push((fact.pid, Rank::Killed, &seen.at, draft));
    }
    for seen in timeline.summaries.iter() {
        let fact = &seen.fact;
        let draft = Draft {
            comm: Some(fact.comm.clone()),
            domain: Some(fact.domain.clone()),
            task_memcg: Some(fact.task_memcg.clone()),
            ..begun(seen, Rank::Summary)
        };
        statements.push((fact.pid, Rank::Summary, &seen.at, draft));
    }
    statements.sort_by_key(|(pid, rank, at, draft)| {
        (*pid, at.middle(), at.earliest(), *rank, draft.evidence.first().copied())
    });

    let mut deaths: Vec<(u32, u64, Draft)> = Vec::new();
    for (pid, _, at, draft) in statements {
        match deaths.last_mut() {
            Some((known, last, death)) if *known == pid && at.middle() - *last <= SAME_DEATH => {
                *last = at.middle();
                death.merge(draft);
            }
            Some(_) | None => deaths.push((pid, at.middle(), draft)),
        }
    }
    deaths.into_iter().map(|(pid, _, draft)| (pid, draft)).collect()
}

fn begun<T>(seen: &Seen<T>, rank: Rank) -> Draft {
    Draft { moments: vec![(rank, seen.at, seen.source)], evidence: vec![seen.sequence], ..Draft::default() }
}

impl Draft {
    fn merge(&mut self, other: Self) {
        self.moments.extend(other.moments);
        self.comm = self.comm.take().or(other.comm);
        self.domain = self.domain.take().or(other.domain);
        self.task_memcg = self.task_memcg.take().or(other.task_memcg);
        self.memcg = self.memcg.or(other.memcg);
        self.rss = self.rss.max(other.rss);
        self.evidence.extend(other.evidence);
    }
}

fn settle(timeline: &Timeline, pid: u32, mut draft: Draft) -> Option<Kill> {
    let about = draft.moments.first()?.1;
    let (from, to) = (about.earliest().saturating_sub(SAME_DEATH), about.latest() + SAME_DEATH);
    // The kernel's own SIGKILL: it names who was running, which is in whose context the killer ran.
    let signal = timeline.signals.between(from, to).find(|signal| {
        let fact = &signal.fact;
        fact.target_pid == pid && fact.signal == 9 && fact.code > 0 && fact.result == 0
    });
    if let Some(signal) = signal {
        draft.moments.push((Rank::Signal, signal.at, signal.source));
        draft.evidence.push(signal.sequence);
    } else if was_dying(timeline, &draft, (from, to)) {
        return None;
    }
    let (_, moment, source) = *draft.moments.iter().min_by(|a, b| a.0.cmp(&b.0).then(a.1.sort_order(b.1)))?;
    let at = Stamped { moment, source };
    let chosen_in = chosen_in(timeline, pid, (from, to));
    let context =
        signal.map(|signal| signal.fact.sender_comm.clone()).or_else(|| header(timeline, pid, (from, to)));
    let owner = owner(timeline, pid, at.moment, draft.task_memcg.as_deref().or(chosen_in.as_deref()));
    let group = chosen_in.or_else(|| member_of(timeline, pid, &owner, (from, to)));
    draft.evidence.sort_unstable();
    draft.evidence.dedup();
    Some(Kill {
        pid,
        comm: draft.comm,
        at,
        domain: draft.domain,
        memcg: draft.memcg,
        context,
        group,
        rss: draft.rss,
        owner,
        evidence: draft.evidence,
    })
}

/// Whether it was dying before it was marked. A task that allocates while it dies marks itself (`oom_kill.c:out_of_memory`, by
/// `task_will_free_mem`), each thread of a victim under its own number; whom the killer chooses gets a SIGKILL and a line in the log first
/// (`oom_kill.c:__oom_kill_process`).
fn was_dying(timeline: &Timeline, draft: &Draft, near: (u64, u64)) -> bool {
    let only_marked = draft.moments.iter().all(|(rank, ..)| *rank == Rank::Marked);
    let lost = timeline.sources.get(&Source::Trace).is_some_and(|log| log.lost_around(near.0, near.1));
    only_marked && !lost
}

/// Who `invoked oom-killer`: the header shares its rate limit with the summary (`oom_kill.c:oom_kill_process`), so only a
/// kill with a summary has one of its own.
fn header(timeline: &Timeline, pid: u32, near: (u64, u64)) -> Option<String> {
    if !on_one_machine(timeline, pid, near) {
        return None;
    }
    let summary = timeline.summaries.between(near.0, near.1).find(|summary| summary.fact.pid == pid)?;
    let at = summary.at.middle();
    timeline
        .invoked
        .between(at.saturating_sub(SECOND), at)
        .rfind(|header| header.at.middle() <= at)
        .map(|header| header.fact.clone())
}

/// The group that this victim was chosen in: `Tasks in CGROUP are going to be killed` follows the chosen victim's
/// `Killed process` directly, since one lock serialises all OOM kills (`oom_kill.c:oom_kill_process` under `oom_lock`).
fn chosen_in(timeline: &Timeline, pid: u32, near: (u64, u64)) -> Option<String> {
    if !on_one_machine(timeline, pid, near) {
        return None;
    }
    let chosen = |group: &&Seen<String>| {
        let begin = group.at.middle();
        let before = timeline.killed.iter().rfind(|killed| order(killed) < order(group));
        before.is_some_and(|killed| killed.fact.pid == pid && begin - killed.at.middle() <= SECOND)
    };
    timeline.groups.between(near.0, near.1 + SECOND).find(chosen).map(|group| group.fact.clone())
}

/// Whether no other machine's kernel killed around then. What its log says in lines without a PID is known to be about a victim by
/// its place in the log alone, and in one record the logs of several machines mingle.
fn on_one_machine(timeline: &Timeline, pid: u32, near: (u64, u64)) -> bool {
    let mut about = timeline.killed.between(near.0.saturating_sub(SECOND), near.1 + SECOND);
    about.all(|killed| machine_of(killed.fact.pid) == machine_of(pid))
}

/// The group that this victim died in without having been chosen. The others' `Killed process` follow the group's line, and
/// the next OOM kill's may follow those without any line between, so the order alone says nothing of whose they are: the
/// victim must be known to be in that cgroup.
fn member_of(timeline: &Timeline, pid: u32, owner: &Owner, near: (u64, u64)) -> Option<String> {
    let Owner::Container(container) = owner else { return None };
    let own = &timeline.container_path(container)?.fact.path;
    let followed = |group: &&Seen<String>| {
        let begin = group.at.middle();
        timeline.killed.between(near.0, near.1).any(|killed| {
            killed.fact.pid == pid && order(killed) > order(group) && killed.at.middle() - begin <= SECOND
        })
    };
    let groups = timeline.groups.between(near.0.saturating_sub(SECOND), near.1);
    groups.filter(|group| lies_in(own, &group.fact)).find(followed).map(|group| group.fact.clone())
}

/// The kernel log's own order; its stamps are whole microseconds.
fn order<T>(seen: &Seen<T>) -> (u64, u64) {
    (seen.at.middle(), seen.sequence)
}

/// A path says for certain. A PID says it only where it was that container's when the kill happened.
fn owner(timeline: &Timeline, pid: u32, at: Moment, path: Option<&str>) -> Owner {
    if let Some(path) = path {
        if let Some(container) = timeline.container_at(path) {
            return Owner::Container(container.clone());
        }
        // On a cluster, what all pods of a node share is others' too.
        let shared = |made: &Seen<crate::evidence::CgroupMade>| {
            timeline.cluster.is_some()
                && matches!(made.fact.owner, CgroupOwner::Node | CgroupOwner::Qos { .. })
        };
        let ours = timeline.cgroups.values().any(|made| !shared(made) && lies_in(path, &made.fact.path));
        return if ours { Owner::Ours(path.to_owned()) } else { Owner::Foreign };
    }
    let alive = |container: &ContainerRef| {
        let (from, to) = timeline.lifetime(container);
        at.latest() >= from && at.earliest() <= to
    };
    let main = timeline
        .starts
        .keys()
        .chain(timeline.failures.keys())
        .find(|container| timeline.main_pid(container) == Some(pid) && alive(container));
    if let Some(container) = main {
        return Owner::Container(container.clone());
    }
    if !timeline.pids_are_ours() {
        return Owner::Unknown;
    }
    // Of a PID that was seen in several containers the latest sight before the kill counts; a poll may come a little late.
    let seen = timeline
        .processes
        .between(0, at.latest().saturating_add(50 * MS))
        .rfind(|process| process.fact.pid == pid && alive(&process.fact.container));
    match seen {
        Some(process) if counted(timeline, &process.fact.container, at) => {
            Owner::Container(process.fact.container.clone())
        }
        // Its own cgroup counted no kill at all: the PID had passed to somebody else.
        Some(_) => Owner::Foreign,
        None => Owner::Unknown,
    }
}

/// Whether the container's cgroup may have counted a kill: only a complete and unchanged counter says no.
fn counted(timeline: &Timeline, container: &ContainerRef, at: Moment) -> bool {
    let Some(made) = timeline.container_path(container) else { return true };
    let Some(log) = timeline.counters.get(&made.fact.path) else { return true };
    let watched = timeline.watched(Source::Memcg, made.at.latest(), at.latest())
        && log.has(Counter::Kills)
        && log.read_until(at.latest() + 100 * MS);
    !watched || !log.rises(Counter::Kills, Some(made.at)).is_empty()
}

/// How a cgroup stands to a container: the levels at which an OOM can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Container,
    Pod,
    Qos,
    Node,
    /// Outside of the node: another limit, or the machine.
    Outer,
    Global,
    Numa,
}

/// The paths of a container and of what it lies in.
pub(super) fn levels(timeline: &Timeline, container: &ContainerRef) -> BTreeMap<Level, String> {
    let own = timeline.container_path(container).map(|made| made.fact.path.clone());
    let mut levels = BTreeMap::new();
    for made in timeline.cgroups.values() {
        let above = own.as_deref().is_none_or(|own| lies_in(own, &made.fact.path));
        let level = match &made.fact.owner {
            CgroupOwner::Container(c) if c == container => Level::Container,
            CgroupOwner::Pod { pod } if *pod == container.pod => Level::Pod,
            CgroupOwner::Qos { .. } if above => Level::Qos,
            CgroupOwner::Node if above => Level::Node,
            CgroupOwner::Container(_)
            | CgroupOwner::Pod { .. }
            | CgroupOwner::Qos { .. }
            | CgroupOwner::Node
            | CgroupOwner::Pause { .. } => continue,
        };
        levels.insert(level, made.fact.path.clone());
    }
    levels
}
