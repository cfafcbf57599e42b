//! Pods that no node takes: what the scheduler says of them, as soon as waiting is in vain.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, ListParams};
use tokio::time::{Instant, sleep};

use crate::backend::BackendError;
use crate::scenario::memory_quantity;

/// How often to look.
const LOOK: Duration = Duration::from_secs(2);

/// One pod that no node takes is enough; so many at a time bound what a list takes in memory.
const SOME: u32 = 10;

/// Room may be made by a pod that is going (a grace period is 30 s by default), and a node may become ready.
const HOPE: Duration = Duration::from_secs(35);

/// Ends when some pod cannot be scheduled and nothing will change that. `largest` is the most that a node has for pods.
pub(super) async fn in_vain(pods: Api<Pod>, largest: Option<u64>) -> BackendError {
    let mut refused: BTreeMap<String, Instant> = BTreeMap::new();
    let unplaced = ListParams::default().fields("spec.nodeName=").limit(SOME);
    loop {
        sleep(LOOK).await;
        // Where the server does not answer, the scheduler does not get far either.
        let Ok(list) = pods.list(&unplaced).await else { continue };
        let unschedulable: Vec<_> = list.items.iter().filter_map(|pod| Some((pod, refusal(pod)?))).collect();
        refused
            .retain(|name, _| unschedulable.iter().any(|(pod, _)| pod.metadata.name.as_ref() == Some(name)));
        for (pod, why) in unschedulable {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let since = *refused.entry(name.clone()).or_insert_with(Instant::now);
            if since.elapsed() >= HOPE || is_hopeless(pod, why, largest) {
                return BackendError(format!(
                    "no node takes pod {name}: {why} (the scheduler's words); give the cluster a larger node or the scenario smaller requests"
                ));
            }
        }
    }
}

/// The scheduler's words, where it found no node and has none in mind.
fn refusal(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?;
    if status.nominated_node_name.is_some() {
        return None;
    }
    let conditions = status.conditions.iter().flatten();
    let mut refused = conditions.filter(|condition| condition.reason.as_deref() == Some("Unschedulable"));
    refused.next()?.message.as_deref()
}

/// Whether even an empty cluster would not do.
fn is_hopeless(pod: &Pod, why: &str, largest: Option<u64>) -> bool {
    let asks = pod.spec.as_ref().map_or(0, |spec| {
        let each = spec.containers.iter().filter_map(|container| container.resources.as_ref());
        each.filter_map(|resources| memory(resources.requests.as_ref())).sum()
    });
    // `0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.`; before 1.22 it was the one or the other.
    let nowhere = why.split_once(": ").is_some_and(|(_, reasons)| {
        let first = reasons.split(". ").next().unwrap_or_default();
        first
            .split(", ")
            .all(|reason| ["node selector", "node affinity"].iter().any(|of| reason.contains(of)))
    });
    nowhere || largest.is_some_and(|largest| asks > largest)
}

fn memory(quantities: Option<&BTreeMap<String, Quantity>>) -> Option<u64> {
    memory_quantity(&quantities?.get("memory")?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(request: &str) -> Pod {
        let resources = json!({"requests": {"memory": request}});
        let pod = json!({"spec": {"containers": [{"name": "app", "resources": resources}]}});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn only_what_an_empty_cluster_could_not_take_either_is_hopeless() {
        let full = "0/1 nodes are available: 1 Insufficient memory.";
        assert!(!is_hopeless(&pod("64Mi"), full, Some(1 << 30)));
        assert!(is_hopeless(&pod("2Gi"), full, Some(1 << 30)));
        assert!(!is_hopeless(&pod("2Gi"), full, None));
        for nowhere in [
            "0/1 nodes are available: 1 node(s) didn't match node selector.",
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity.",
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ] {
            assert!(is_hopeless(&pod("64Mi"), nowhere, None), "{nowhere}");
        }
        let beside = "0/1 nodes are available: 1 node(s) didn't match pod affinity/anti-affinity rules.";
        assert!(!is_hopeless(&pod("64Mi"), beside, None));
        let not_ready = "0/2 nodes are available: 1 node(s) didn't match node selector, 1 node(s) had taint {node.kubernetes.io/not-ready: }, that the pod didn't tolerate.";
        assert!(!is_hopeless(&pod("64Mi"), not_ready, None));
    }
}
