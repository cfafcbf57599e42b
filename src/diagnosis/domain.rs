//! Where the memory ran out, and which cause that makes it.

use super::case::Case;
use super::counters::Counter;
use super::kills::{Kill, Level};
use super::limits;
use super::timeline::{MS, SECOND, lies_in};
use crate::cause::{Cause, Detail};
use crate::evidence::{Moment, OomDomain, Source};

/// A level whose limit was reached.
#[derive(Clone, Debug, PartialEq)]
struct Domain {
    level: Level,
    path: Option<String>,
}

/// The cause that follows from where the memory ran out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scope {
    pub(super) cause: Cause,
    pub(super) detail: Option<Detail>,
    pub(super) domain: Option<String>,
    /// The kernel itself named the domain; otherwise counters or notifications did.
    pub(super) stated: bool,
    pub(super) evidence: Vec<u64>,
}

/// Where the memory ran out that this OOM kill was for; an error says why that cannot be told.
pub(super) fn scope(case: &Case<'_>, kill: Option<&Kill>, at: Moment) -> Result<Scope, String> {
    let (domains, stated, evidence) = domains(case, kill, at);
    let mut scopes = Vec::new();
    for domain in &domains {
        let scope = one_scope(case, kill, at, domain)?;
        let scope = Scope { stated, evidence: [scope.evidence, evidence.clone()].concat(), ..scope };
        if !scopes.iter().any(|known: &Scope| (known.cause, known.detail) == (scope.cause, scope.detail)) {
            scopes.push(scope);
        }
    }
    let mut scopes = scopes.into_iter();
    match (scopes.next(), scopes.next()) {
        (Some(only), None) => Ok(only),
        (Some(one), Some(other)) if one.cause == other.cause => {
            Ok(Scope { detail: None, domain: None, ..one })
        }
        (Some(one), Some(other)) => Err(format!("it may have been {} or {}", one.cause, other.cause)),
        (None, _) => Err("nothing says whose limit was reached".to_owned()),
    }
}

/// The levels that may have run out, whether the kernel named one, and by which observations.
fn domains(case: &Case<'_>, kill: Option<&Kill>, at: Moment) -> (Vec<Domain>, bool, Vec<u64>) {
    let only = |level, path| (vec![Domain { level, path }], true, Vec::new());
    match kill.and_then(|kill| kill.domain.as_ref()) {
        Some(OomDomain::Memcg { cgroup }) if cgroup == "/" => only(Level::Global, None),
        Some(OomDomain::Memcg { cgroup }) => only(level_of(case, cgroup), Some(cgroup.clone())),
        Some(OomDomain::Global) => only(Level::Global, None),
        Some(OomDomain::Numa) => only(Level::Numa, None),
        None => {
            let memcg = kill.and_then(|kill| kill.memcg);
            if memcg == Some(false) {
                let both = [Level::Global, Level::Numa].map(|level| Domain { level, path: None });
                return (both.to_vec(), true, Vec::new());
            }
            let (domains, evidence) = if case.reads_local_ooms() {
                by_counters(case, at, memcg)
            } else {
                by_notifications(case, at)
            };
            (domains, false, evidence)
        }
    }
}

fn level_of(case: &Case<'_>, path: &str) -> Level {
    let exact = case.levels.iter().find(|(_, known)| known.as_str() == path).map(|(level, _)| *level);
    // A cgroup that a container made below its own still is the container's affair.
    let inside = || case.levels.get(&Level::Container).is_some_and(|own| lies_in(path, own));
    exact.unwrap_or_else(|| if inside() { Level::Container } else { Level::Outer })
}

/// cgroup v2: `oom` in `memory.events.local` is counted at the domain only (`memcontrol.c:memcg_memory_event`).
fn by_counters(case: &Case<'_>, at: Moment, memcg: Option<bool>) -> (Vec<Domain>, Vec<u64>) {
    let mut domains = Vec::new();
    let mut evidence = Vec::new();
    let mut all_read = !case.levels.is_empty();
    for (level, path) in &case.levels {
        let near = case.rises(path, Counter::Ooms).into_iter().find(|rise| touches(rise.at, at, 200 * MS));
        all_read &= case.counter_watched(path, Counter::Ooms);
        if let Some(rise) = near {
            domains.push(Domain { level: *level, path: Some(path.clone()) });
            evidence.push(rise.evidence);
        }
    }
    if domains.is_empty() && all_read {
        domains.push(Domain { level: Level::Outer, path: None });
        if memcg.is_none() {
            domains.push(Domain { level: Level::Global, path: None });
        }
    }
    (domains, evidence)
}

/// cgroup v1: the eventfd fires for the domain and for everything below it (`memcontrol-v1.c:mem_cgroup_oom_notify`), so
/// the topmost that fired is the domain. It also fires when the cgroup is removed; that comes after the last reading.
fn by_notifications(case: &Case<'_>, at: Moment) -> (Vec<Domain>, Vec<u64>) {
    // Whoever is out of memory is notified first and then waits for the one `oom_lock`, while others before it print their
    // reports (memcontrol.c:mem_cgroup_out_of_memory): with forty at once the kill came 350 ms later, with two hundred seconds.
    let within = |lookback| Some(notified_since(case, at, lookback)).filter(|near| !near.0.is_empty());
    let near = within(100 * MS).or_else(|| within(2 * SECOND));
    // Longer ago, a level above the pod may have notified of somebody else's kill.
    let own = |level: &Level| matches!(level, Level::Container | Level::Pod);
    let long_ago =
        || within(held_for(case, at) + 2 * SECOND).filter(|(all, _)| all.iter().all(|one| own(&one.level)));
    near.or_else(long_ago).unwrap_or_default()
}

/// How long kills had followed upon each other when this one came.
fn held_for(case: &Case<'_>, at: Moment) -> u64 {
    let mut times: Vec<u64> = case.kills.iter().map(|kill| kill.at.moment.earliest()).collect();
    times.sort_unstable();
    let mut first = at.earliest();
    for time in times.into_iter().rev().filter(|time| *time <= at.earliest()) {
        if first - time > SECOND {
            break;
        }
        first = time;
    }
    at.earliest() - first
}

/// The domains by the notifications that came at most so long before the kill.
fn notified_since(case: &Case<'_>, at: Moment, lookback: u64) -> (Vec<Domain>, Vec<u64>) {
    let mut domains: Vec<Domain> = Vec::new();
    let mut evidence = Vec::new();
    let mut fired_below = 0;
    for (level, path) in &case.levels {
        let removed = case.timeline.counters.get(path).and_then(super::counters::CounterLog::last_reading);
        let fired: Vec<u64> = case
            .timeline
            .notified
            .between(at.earliest().saturating_sub(lookback), at.latest() + 100 * MS)
            .filter(|seen| seen.fact == *path)
            .filter(|seen| removed.is_none_or(|removed| seen.at.earliest() < removed.0.earliest()))
            .map(|seen| seen.sequence)
            .collect();
        if fired.is_empty() {
            continue;
        }
        // More often below than here: one of those was the lower level's own.
        if fired_below <= fired.len() {
            domains.clear();
        }
        fired_below = fired.len();
        domains.push(Domain { level: *level, path: Some(path.clone()) });
        evidence.extend(fired);
    }
    (domains, evidence)
}

fn one_scope(case: &Case<'_>, kill: Option<&Kill>, at: Moment, domain: &Domain) -> Result<Scope, String> {
    let made = |cause, detail| Scope {
        cause,
        detail,
        domain: domain.path.clone(),
        stated: false,
        evidence: Vec::new(),
    };
    // A scenario's actions set limits of containers and pods; a node's limit is its budget, set before any pod was there.
    let is_resizable = matches!(domain.level, Level::Container | Level::Pod);
    if let Some(path) = domain.path.as_ref().filter(|_| is_resizable) {
        let resized = limits::lowered(case, kill, at, path)?;
        if !resized.is_empty() {
            return Ok(Scope { evidence: resized, ..made(Cause::ResizeOom, None) });
        }
    }
    Ok(match domain.level {
        Level::Container => made(Cause::ContainerOom, None),
        Level::Pod => made(pod_or_container(case, kill, at)?, None),
        Level::Qos => made(Cause::NodeOom, Some(Detail::Qos)),
        Level::Node => made(Cause::NodeOom, node_detail(case, kill, at)),
        Level::Outer => made(Cause::NodeOom, Some(Detail::Outer)),
        Level::Global => made(Cause::NodeOom, Some(Detail::Global)),
        Level::Numa => made(Cause::NodeOom, Some(Detail::Numa)),
    })
}

/// A single container's pod has the container's limit and the pause process beside it, so the pod's cgroup is full first
/// (containerd#6323; seen on v1 and v2). That is the container's OOM all the same: causes.md R4.4.
fn pod_or_container(case: &Case<'_>, kill: Option<&Kill>, at: Moment) -> Result<Cause, String> {
    let Some(start) = case.start else {
        return Ok(Cause::ContainerOom);
    };
    if start.fact.pod_level_limit {
        return Ok(Cause::PodOom);
    }
    let alone = start.fact.neighbours == 0 && !joined(case, at);
    if alone && !after_another(case, start.at) {
        return Ok(Cause::ContainerOom);
    }
    // An only container's limit is its pod's.
    let of_pod = || {
        let pod = case.levels.get(&Level::Pod).filter(|_| alone)?;
        case.timeline.cgroups.get(pod)?.fact.limit
    };
    let Some(limit) = limits::in_force(case, at).or_else(of_pod) else {
        let unknown = "the pod's limit was reached, and the container's own is not known";
        return if alone { Err(unknown.to_owned()) } else { Ok(Cause::PodOom) };
    };
    let path = case.levels.get(&Level::Container);
    let log = path.and_then(|path| case.timeline.counters.get(path));
    let peak = log.and_then(super::counters::CounterLog::peak);
    let share = |used: u64, percent: u128| u128::from(used) * 100 >= u128::from(limit) * percent;
    // Beside an only container there is just the pause process, which takes more than a twentieth of a small limit.
    let near = |used: u64| share(used, if alone { 50 } else { 95 });
    // Page tables, kernel memory and files of a memory volume are charged beside what a process holds itself.
    let held = |rss: u64| alone || share(rss, 75);
    let rss = kill.and_then(|kill| kill.rss);
    if rss.is_some_and(near) || (rss.is_none_or(held) && peak.is_some_and(near)) {
        return Ok(Cause::ContainerOom);
    }
    let read = path.is_some_and(|path| case.counter_watched(path, Counter::Kills));
    // A peak near the limit may have been page cache, long ago: it does not say how much was held when the kill came.
    if read && peak.is_some_and(|peak| !near(peak)) {
        return Ok(Cause::PodOom);
    }
    Err("the pod's limit was reached, and nothing says how near to its own limit the container was"
        .to_owned())
}

/// Whether another run of its pod had ended before it began: what that left in a memory volume stays the pod's (causes.md C11).
fn after_another(case: &Case<'_>, began: Moment) -> bool {
    let mut ends = case.timeline.ends.iter();
    ends.any(|(other, end)| other.pod == case.container.pod && end.at.earliest() <= began.latest())
}

/// Whether another container ran in its pod then that was not there from the start: an ephemeral one has no limit of its own,
/// and what it uses is the pod's.
fn joined(case: &Case<'_>, at: Moment) -> bool {
    case.timeline.starts.iter().any(|(other, start)| {
        let beside = other.pod == case.container.pod && other.container != case.container.container;
        let ended = case.timeline.ends.get(other).map_or(u64::MAX, |end| end.at.earliest());
        beside && start.at.latest() <= at.earliest() && at.latest() <= ended
    })
}

/// On v1 a limit above the node's fires the node's eventfd too; only the node's own counters tell them apart.
fn node_detail(case: &Case<'_>, kill: Option<&Kill>, at: Moment) -> Option<Detail> {
    let path = case.levels.get(&Level::Node)?;
    let stated = kill.is_some_and(|kill| kill.domain.is_some()) || case.reads_local_ooms();
    if case.on_cluster() {
        // The kubelet limits the pods, unless the harness gave them a budget. The counters of a node that lived before the
        // scenario say nothing of it, so unless the domain is stated, it may have been the limit around the node.
        let mut before = case.timeline.limits.between(0, at.latest());
        let budget = before.any(|change| change.fact.cgroup == *path && change.fact.refused.is_none());
        return stated.then_some(if budget { Detail::Budget } else { Detail::Allocatable });
    }
    if stated {
        return Some(Detail::Budget);
    }
    let Some(limit) = case.timeline.cgroups.get(path).and_then(|made| made.fact.limit) else {
        return Some(Detail::Outer);
    };
    let counters = case.timeline.counters.get(path)?;
    // Some kernels count no hits on v1 (docs/cgroup-v1.md); then only the peak says that the limit was met.
    let met = counters.limit_hits()? > 0 || counters.peak()? >= limit;
    Some(if met { Detail::Budget } else { Detail::Outer })
}

/// Whether two moments lie no further apart than `slack`.
pub(super) fn touches(a: Moment, b: Moment, slack: u64) -> bool {
    a.earliest() <= b.latest().saturating_add(slack) && b.earliest() <= a.latest().saturating_add(slack)
}

/// Every source that tells where the memory ran out.
pub(super) const TELL_DOMAIN: [Source; 2] = [Source::Kmsg, Source::Memcg];
