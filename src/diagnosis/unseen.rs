//! Ends that nobody saw: all that is known is that the container is no more.
//!
//! A kubelet that stops a whole pod may never update its containers' statuses (`deadline` on Kubernetes 1.20), and not every
//! node lets its processes' exits be watched. What was gone before the tear-down has not survived, and how it ended is open.

use super::case::Case;
use super::timeline::Timeline;
use super::{Attribution, Missing};
use crate::evidence::{ContainerRef, Moment, PodSign, Source};

/// What says that a container is no more.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// A cgroup in which a process lives cannot be removed (`kernel/cgroup/cgroup.c:cgroup_destroy_locked`).
    Cgroup,
    /// A container has one run at a time.
    NextRun,
    /// What its pod's object says.
    Pod(PodSign),
}

/// A container that is no more, and whose end nobody told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    /// When it may have ended.
    pub(super) at: Moment,
    pub(super) evidence: u64,
    sign: Sign,
}

/// What says that this run is over, if something said so before the tear-down. The node knows better than the API.
pub(super) fn sign(timeline: &Timeline, container: &ContainerRef) -> Option<Gone> {
    let torn_down = timeline.torn_down(container).map(|stop| stop.at.middle());
    let in_time = |at: Moment| torn_down.is_none_or(|torn_down| at.earliest() < torn_down);
    let path = timeline.container_path(container).map(|made| &made.fact.path);
    let last = path.and_then(|path| timeline.counters.get(path)?.last_reading());
    let cgroup = last.filter(|(at, _)| in_time(*at));
    let cgroup = cgroup.map(|(at, evidence)| Gone { at, evidence, sign: Sign::Cgroup });
    let next_run = || {
        let next = ContainerRef { instance: container.instance + 1, ..container.clone() };
        let start = timeline.starts.get(&next).filter(|start| in_time(start.at))?;
        let at = Moment::between(0, start.at.latest());
        Some(Gone { at, evidence: start.sequence, sign: Sign::NextRun })
    };
    let pod = || {
        let of_it = timeline.pods_over.iter().find(|over| over.fact.pod == container.pod);
        let over = of_it.filter(|over| in_time(over.at))?;
        // The phase may be told before the end, and the object may go before it, too.
        let at = Moment::between(0, torn_down.unwrap_or(over.at.latest()));
        Some(Gone { at, evidence: over.sequence, sign: Sign::Pod(over.fact.sign) })
    };
    cgroup.or_else(next_run).or_else(pod)
}

/// No rule explains an end of which nothing is known.
pub(super) fn rule(case: &Case<'_>) -> Option<Attribution> {
    let gone = case.gone?;
    let sign = match gone.sign {
        Sign::Cgroup => "Its cgroup was gone",
        Sign::NextRun => "Its next run began",
        Sign::Pod(PodSign::Succeeded) => "Its pod's phase was Succeeded",
        Sign::Pod(PodSign::Failed) => "Its pod's phase was Failed",
        Sign::Pod(PodSign::Removed) => "Its pod's object was gone",
    };
    let mut found = case.undetermined(format!(
        "{sign} before the tear-down, and nobody told how or why the container ended."
    ));
    let (from, to) = case.window();
    let runtime = case.timeline.missing(&[Source::Runtime], from, to).into_iter().next();
    let silent = || Missing {
        source: Source::Runtime,
        why: "it had not told of this end when the run was over; it would have told how the container ended"
            .to_owned(),
    };
    found.missing.push(runtime.unwrap_or_else(silent));
    found.missing.sort();
    Some(found)
}
