//! On a cluster a container's start and end are told twice: by its node (to the nanosecond, by PID and wait status) and by the
//! API (whole seconds, the exit code, the reason, the spec). What one of them does not know the other may.

use std::collections::BTreeMap;

use super::{Seen, keep_first};
use crate::evidence::{ContainerEnded, ContainerRef, ContainerStarted, End, Order, Source};

/// Takes in a statement of a start.
pub(super) fn start(known: &mut BTreeMap<ContainerRef, Seen<ContainerStarted>>, new: Seen<ContainerStarted>) {
    let key = new.fact.container.clone();
    let Some(old) = known.remove(&key) else {
        known.insert(key, new);
        return;
    };
    if old.fact.id.is_none() && new.fact.id.is_none() {
        // Where nobody names a runtime's ID, the same source has said it twice: that is no cluster.
        known.insert(key, old.clone());
        keep_first(known, old.fact.container.clone(), new);
        return;
    }
    let (mut better, other) = better_first(old, new);
    let (mine, theirs) = (&mut better.fact, other.fact);
    mine.id = mine.id.take().or(theirs.id);
    mine.pid = mine.pid.or(theirs.pid);
    mine.runtime_pid = mine.runtime_pid.or(theirs.runtime_pid);
    mine.request = mine.request.or(theirs.request);
    mine.limit = mine.limit.or(theirs.limit);
    mine.pod_level_limit |= theirs.pod_level_limit;
    mine.neighbours = mine.neighbours.max(theirs.neighbours);
    mine.oom_score_adj = mine.oom_score_adj.or(theirs.oom_score_adj);
    mine.oom_score_adj_asked = mine.oom_score_adj_asked.or(theirs.oom_score_adj_asked);
    mine.rlimit_cpu = mine.rlimit_cpu.or(theirs.rlimit_cpu);
    mine.grace_seconds = mine.grace_seconds.max(theirs.grace_seconds);
    known.insert(key, better);
}

/// Takes in a statement of an end.
pub(super) fn end(known: &mut BTreeMap<ContainerRef, Seen<ContainerEnded>>, new: Seen<ContainerEnded>) {
    let key = new.fact.container.clone();
    let Some(old) = known.remove(&key) else {
        known.insert(key, new);
        return;
    };
    if old.source == new.source {
        known.insert(key.clone(), old);
        keep_first(known, key, new);
        return;
    }
    let (mut better, other) = better_first(old, new);
    if of_another_process(&better, &other) {
        known.insert(key, other);
        return;
    }
    let (mine, theirs) = (&mut better.fact, other.fact);
    if !definite(mine.end) && definite(theirs.end) {
        mine.end = theirs.end;
    }
    mine.reason = mine.reason.take().or(theirs.reason);
    mine.cpu_ms = mine.cpu_ms.or(theirs.cpu_ms);
    known.insert(key, better);
}

/// Whether the node's statement is about a later process of the same PID: the runtime, which reaped the container's own, tells
/// of another end at another time.
fn of_another_process(node: &Seen<ContainerEnded>, runtime: &Seen<ContainerEnded>) -> bool {
    let apart = node.at.before(runtime.at) == Order::Yes || runtime.at.before(node.at) == Order::Yes;
    node.source == Source::Exits && apart && node.fact.end.exit_code() != runtime.fact.end.exit_code()
}

/// Whether it says if it exited or was killed, where Kubernetes has one number for both.
fn definite(end: End) -> bool {
    match end {
        End::Exited(_) | End::Signaled(_) => true,
        End::Code(_) => false,
    }
}

/// The statement with the narrower moment first.
fn better_first<T>(a: Seen<T>, b: Seen<T>) -> (Seen<T>, Seen<T>) {
    let place = |seen: &Seen<T>| (seen.at.uncertainty(), seen.place());
    if place(&a) <= place(&b) { (a, b) } else { (b, a) }
}
