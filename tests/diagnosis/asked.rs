//! Who asked for a pod's end, as far as anybody says.

use exit137::cause::{Cause, Detail};
use exit137::evidence::{
    ClusterFacts, Controller, End, Fact, PodSeen, PodStopping, Source, StopReason, Stopping,
};

use crate::laws::judge;
use crate::stream::{Plan, Stream};

/// What becomes of a pod on a cluster of this minor version that outlives its grace period after these decisions.
fn outlived(
    minor: u32,
    controller: Option<&str>,
    asked: &[(Source, StopReason, &str)],
) -> (Cause, Option<Detail>, String) {
    let mut stream = Stream::on(1);
    stream.see(Source::Harness, Fact::Cluster(ClusterFacts { minor, ..ClusterFacts::default() }));
    let controller = controller.map(|kind| Controller { kind: kind.to_owned(), name: "web-1".to_owned() });
    let (name, namespace, uid, node) = ("web-1-x".to_owned(), "n".to_owned(), "u".to_owned(), None);
    let pod = "web".to_owned();
    stream.see(
        Source::Kubelet,
        Fact::Pod(PodSeen { pod: pod.clone(), name, namespace, uid, node, controller }),
    );
    let run = stream.start("web", "app", Plan::default());
    for (source, reason, message) in asked {
        let (pod, message) = (pod.clone(), (*message).to_owned());
        stream.see(
            *source,
            Fact::PodStopping(PodStopping { pod, reason: *reason, grace_ms: Some(3_000), message }),
        );
    }
    let stopping =
        Stopping { container: run.container.clone(), reason: StopReason::WithPod, grace_ms: 3_000 };
    stream.see(Source::Kubelet, Fact::Stopping(stopping));
    stream.wait(3_000);
    stream.runtime_kill(&run);
    stream.end(&run, End::Signaled(9));
    let findings = judge(&stream.finish(&[]));
    let found = findings.terminations[0].attribution.as_ref().unwrap();
    assert!(found.also_seen.is_empty(), "{found:#?}");
    (found.cause, found.detail, found.explanation.clone())
}

#[test]
fn who_asked_is_told_where_somebody_said_so() {
    let deleted = (Source::Kubelet, StopReason::Delete, "deletionTimestamp");
    let by_us = (Source::Harness, StopReason::Delete, "exit137 asked for it");
    let of_set = (Source::Kubelet, StopReason::ScaleDown, "Deleted pod: web-1-x");
    let rollout = (Source::Kubelet, StopReason::Rollout, "Deleted pod: web-1-x");
    let drained = (Source::Kubelet, StopReason::Drain, "Eviction API: evicting");
    let set = Some("ReplicaSet");
    for (minor, controller, asked, detail) in [
        (36, None, vec![deleted], Some(Detail::Delete)),
        // Nobody comments on a deletion there, drained or not; and a controller's word may have been lost.
        (20, None, vec![deleted], None),
        (36, set, vec![deleted], None),
        (20, None, vec![deleted, by_us], Some(Detail::Delete)),
        (36, set, vec![deleted, of_set], Some(Detail::ScaleDown)),
        (20, set, vec![rollout, deleted, of_set], Some(Detail::Rollout)),
        (36, set, vec![deleted, drained], Some(Detail::Drain)),
    ] {
        let (cause, found, why) = outlived(minor, controller, &asked);
        assert_eq!((cause, found), (Cause::GracePeriod, detail), "1.{minor} {controller:?} {asked:?}: {why}");
    }
}

#[test]
fn an_eviction_says_for_what_and_that_not_all_is_memory() {
    for (message, words) in [
        (
            "The node was low on resource: memory. Threshold quantity: 1Gi, available: 9Mi. ",
            "low on memory, ",
        ),
        (
            "The node was low on resource: ephemeral-storage. ",
            "ephemeral-storage, which is no want of memory",
        ),
        (
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ",
            "local storage than its limit, which is no want",
        ),
        (
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
            "no want of memory",
        ),
    ] {
        let (cause, _, why) = outlived(36, None, &[(Source::Kubelet, StopReason::Eviction, message)]);
        assert_eq!(cause, Cause::Eviction);
        assert!(why.contains(words), "{message}: {why}");
    }
}
