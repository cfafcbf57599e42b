//! What on a cluster that others use may touch more than a trial's own pods.

use crate::cause::{Cause, Detail};
use crate::loader::Loaded;
use crate::scenario::{Act, Scenario};

/// The scenarios that may, and why: what is refused on a cluster without `--allow-disruption`.
pub(super) fn refused(selected: &[Loaded]) -> Vec<String> {
    let each = |loaded: &Loaded| {
        let why = disrupts(&loaded.scenario)?;
        Some(format!("{}: {} {why}", loaded.path.display(), loaded.scenario.name))
    };
    selected.iter().filter_map(each).collect()
}

fn disrupts(scenario: &Scenario) -> Option<&'static str> {
    let acts = || scenario.actions.iter().map(|action| &action.act);
    let expects = |cause: Cause| scenario.expect.terminations.iter().any(|end| end.cause == Some(cause));
    let detail = |detail: Detail| scenario.expect.terminations.iter().any(|end| end.detail == Some(detail));
    if acts().any(|act| matches!(act, Act::Drain { .. })) {
        Some("evicts pods through the API, which a PodDisruptionBudget counts")
    } else if acts().any(|act| matches!(act, Act::Kill { .. })) {
        Some("kills a process on its node")
    } else if acts().any(|act| matches!(act, Act::SetLimit { .. })) {
        Some("writes a limit on its node")
    } else if scenario.objects.iter().any(|object| object.kind == "PriorityClass") {
        Some("makes a PriorityClass, and its pods may take the place of others'")
    } else if expects(Cause::Preemption) {
        Some("has pods preempted, and the scheduler chooses which")
    } else if expects(Cause::Eviction) {
        Some("puts a node under pressure, and the kubelet chooses whom to evict")
    } else if expects(Cause::NodeOom) || scenario.node.is_used_up() || detail(Detail::Allocatable) {
        Some("uses up a node's memory")
    } else if scenario.node.max_pods.is_some() {
        Some("needs a setting of the kubelet")
    } else if expects(Cause::NodeShutdown) || detail(Detail::Taint) {
        Some("takes a node away from its pods")
    } else {
        None
    }
}
