//! The limit in force, and the write that brings it below what is in use.

use super::case::Case;
use super::domain::touches;
use super::kills::Kill;
use super::timeline::{MS, SECOND, Seen};
use crate::evidence::{LimitChanged, Moment};

/// What sets limits for others, as the kernel calls it.
const SET_LIMITS: [&str; 4] = ["systemd", "runc", "crun", "kubelet"];

/// A container's limit at this moment: what it started with, or what was written over it since.
pub(super) fn in_force(case: &Case<'_>, at: Moment) -> Option<u64> {
    let made = case.cgroup.map(|made| &made.fact);
    let written = case.timeline.limits.iter().rfind(|change| {
        made.is_some_and(|made| made.path == change.fact.cgroup)
            && change.fact.refused.is_none()
            && change.at.earliest() <= at.latest()
    });
    let stated =
        || case.start.and_then(|start| start.fact.limit).or_else(|| made.and_then(|made| made.limit));
    written.map(|change| change.fact.to).or_else(stated)
}

/// The write that lowered this very domain's limit and so brought the kill about. On cgroup v2 the write itself kills, in
/// the writer's context (`memcontrol.c:memory_max_write`); on v1 it is refused.
pub(super) fn lowered(
    case: &Case<'_>,
    kill: Option<&Kill>,
    at: Moment,
    path: &str,
) -> Result<Vec<u64>, String> {
    // v1 refuses a limit below what is in use (`memcontrol-v1.c`, EBUSY): no write there ever killed.
    if !case.reads_local_ooms() {
        return Ok(Vec::new());
    }
    let context = kill.and_then(|kill| kill.context.as_deref());
    for change in writes_about(case, at, path) {
        let fact = &change.fact;
        let by_writer = context.is_some_and(|context| wrote(context, fact.writer.as_deref()));
        // Whoever charges while the write reclaims may run the killer too; that is still the write's doing. What is killed
        // when the write is long over had been below the new limit and grew.
        let begun = change.at.earliest() <= at.latest();
        let with_it = at.earliest() <= change.at.latest().saturating_add(100 * MS);
        // It held more than the new limit allows, so it had not grown up to it.
        let above = kill.and_then(|kill| kill.rss).is_some_and(|rss| rss > fact.to);
        // A write that was only found was made at some time between two looks: that says of no kill that it came after.
        let made_by_us = fact.writer.is_some();
        if (by_writer && (made_by_us || begun)) || (made_by_us && begun && (with_it || above)) {
            return Ok(vec![change.sequence]);
        }
        // The write returns only when the victim's memory is gone: stamped then, it comes after the kill it caused.
        let about_then = !made_by_us && touches(change.at, at, 100 * MS);
        if context.is_none() || about_then {
            return Err(
                "its limit was lowered about then, and nothing says whether before or after".to_owned()
            );
        }
    }
    may_be_lowered_by_others(case, kill).map_or(Ok(Vec::new()), Err)
}

/// The writes about then that lowered this limit; of one that was also found, what the writer says.
fn writes_about<'a>(case: &Case<'a>, at: Moment, path: &str) -> Vec<&'a Seen<LimitChanged>> {
    let from = at.earliest().saturating_sub(10 * SECOND);
    let about = case.timeline.limits.between(from, at.latest() + SECOND);
    let lowered: Vec<_> = about
        .filter(|change| {
            let fact = &change.fact;
            fact.cgroup == path && fact.refused.is_none() && fact.from.is_none_or(|from| from > fact.to)
        })
        .collect();
    let is_told = |found: &Seen<LimitChanged>| {
        let told = lowered.iter().filter(|change| change.fact.writer.is_some());
        told.into_iter().any(|told| told.fact.to == found.fact.to && touches(told.at, found.at, MS))
    };
    lowered.iter().filter(|change| change.fact.writer.is_some() || !is_told(change)).copied().collect()
}

/// On a cluster others lower limits too, and where nobody looks nobody tells of the write: the killer then runs in the context of who
/// wrote. A container may have such a program of its own.
fn may_be_lowered_by_others(case: &Case<'_>, kill: Option<&Kill>) -> Option<String> {
    // KEP-1287: alpha since 1.27.
    let resizes = case.timeline.cluster.as_ref().is_some_and(|cluster| cluster.minor >= 27);
    let context = kill?.context.as_deref()?;
    (resizes && SET_LIMITS.contains(&context))
        .then(|| format!("{context} met its limit, in lowering it or as a process of its own"))
}

/// Whether the killer ran in the context of who wrote: the one that is known, or any that sets limits. The kernel keeps 15 bytes
/// of a name.
fn wrote(context: &str, writer: Option<&str>) -> bool {
    let Some(writer) = writer else { return SET_LIMITS.contains(&context) };
    context == writer || (context.len() == 15 && writer.starts_with(context))
}
