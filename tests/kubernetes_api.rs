//! What a current Kubernetes (1.36) really said for induced causes, read by the evidence's readers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper may fail it")]
#![expect(clippy::wildcard_enum_match_arm, reason = "two kinds of facts are asked for among many")]

use std::fs;
use std::path::Path;

use exit137::evidence::kubernetes::{Controllers, PodReader, WallOffset, container_ids};
use exit137::evidence::{Fact, Moment, StopReason};
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::Value;

/// All facts of a sample, in the order of the files: objects first, then events; everything is fed twice.
fn facts(sample: &str) -> Vec<Fact> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/kubernetes-1.36").join(sample);
    let lines = |file: &str| -> Vec<Value> {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (wall, received) = (WallOffset { unix_minus_boot_ns: 0 }, Moment::exactly(u64::MAX / 2));
    let mut reader = PodReader::new("web");
    let mut facts = Vec::new();
    for pass in 0..2 {
        let before = facts.len();
        for line in lines("pods.watch.jsonl") {
            let pod: Pod = serde_json::from_value(line["object"].clone()).unwrap();
            facts.extend(reader.object(&pod, received, &wall).into_iter().map(|said| said.fact));
            let ids = container_ids("web", &pod);
            for (id, run) in &ids {
                let others = ids.iter().filter(|(other, of)| other == id && of != run);
                assert_eq!(others.count(), 0, "{sample}: {id} is two runs");
            }
        }
        for line in lines("events.jsonl") {
            let event: Event = serde_json::from_value(line).unwrap();
            facts.extend(reader.event(&event, received, &wall).into_iter().map(|said| said.fact));
        }
        assert!(pass == 0 || facts.len() == before, "{sample}: said twice: {:?}", &facts[before..]);
    }
    facts
}

fn ends(facts: &[Fact]) -> Vec<String> {
    let mut ends: Vec<String> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Ended(ended) => {
                let (run, reason) = (&ended.container, ended.reason.clone().unwrap_or_default());
                Some(format!("{}#{} {} {reason}", run.container, run.instance, ended.end.exit_code()))
            }
            Fact::StartFailed(failed) => {
                Some(format!("{}#{} never started", failed.container.container, failed.container.instance))
            }
            _ => None,
        })
        .collect();
    ends.sort();
    ends
}

fn decisions(facts: &[Fact]) -> Vec<StopReason> {
    let mut reasons = Vec::new();
    for fact in facts {
        let reason = match fact {
            Fact::Stopping(stop) => stop.reason,
            Fact::PodStopping(stop) => stop.reason,
            _ => continue,
        };
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons
}

#[test]
fn ends_are_those_that_were_induced_each_of_its_own_run() {
    for (sample, first) in [
        ("container-oom", "137 OOMKilled"),
        ("child-oom-propagated", "137 OOMKilled"),
        ("deadline", "137 Error"),
        ("eviction", "137 Error"),
        ("exit-137", "137 Error"),
        ("external-kill", "137 Error"),
        ("liveness", "137 Error"),
        ("startup", "137 Error"),
        ("sticky-reason", "143 OOMKilled"),
        ("tmpfs", "137 OOMKilled"),
    ] {
        let ends = ends(&facts(sample));
        let of_first: Vec<&String> = ends.iter().filter(|end| end.contains("#0 ")).collect();
        assert_eq!(of_first.len(), 1, "{sample}: {ends:?}");
        assert!(of_first[0].ends_with(first), "{sample}: {ends:?}");
    }
    for sample in ["child-oom-hidden", "resize"] {
        assert_eq!(ends(&facts(sample)), Vec::<String>::new(), "{sample}");
    }
}

#[test]
fn a_start_that_failed_is_the_next_runs_and_not_that_of_the_run_that_was_oom_killed() {
    let ends = ends(&facts("tmpfs"));
    assert!(ends.iter().any(|end| end.ends_with("#1 never started")), "{ends:?}");
}

#[test]
fn who_decided_is_told() {
    for (sample, reason) in [
        ("deadline", StopReason::Deadline),
        ("delete-grace", StopReason::Delete),
        ("eviction", StopReason::Eviction),
        ("liveness", StopReason::LivenessProbe),
        ("startup", StopReason::StartupProbe),
    ] {
        let reasons = decisions(&facts(sample));
        assert!(reasons.contains(&reason), "{sample}: {reasons:?}");
    }
    for sample in ["container-oom", "exit-137", "external-kill", "child-oom-propagated"] {
        assert_eq!(decisions(&facts(sample)), Vec::<StopReason>::new(), "{sample}");
    }
}

/// What a pod's object says of its one container.
fn pod(status: &Value) -> Pod {
    let spec = serde_json::json!({"containers": [{"name": "app"}], "nodeName": "node"});
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web", "uid": "u"}, "spec": spec, "status": {"containerStatuses": [status]}
    }))
    .unwrap()
}

#[test]
fn an_end_that_the_kubelet_makes_up_is_that_of_the_run_that_was_lost() {
    let status = |restarts: u32, state: Value, last: Value| {
        pod(
            &serde_json::json!({"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state, "lastState": last}),
        )
    };
    let none = || serde_json::json!({});
    let running = status(0, serde_json::json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), none());
    let waiting = || serde_json::json!({"waiting": {"reason": "ContainerCreating"}});
    let unknown = || serde_json::json!({"terminated": {"reason": "ContainerStatusUnknown", "exitCode": 137, "startedAt": null, "finishedAt": null}});
    // The restart is counted before it happens, or where the pod is deleted it is not.
    for lost in [
        status(1, waiting(), unknown()),
        status(0, waiting(), unknown()),
        status(1, unknown(), none()),
        status(0, unknown(), none()),
    ] {
        let (wall, received) = (WallOffset { unix_minus_boot_ns: 0 }, Moment::exactly(u64::MAX / 2));
        let mut reader = PodReader::new("web");
        let _ = reader.object(&running, received, &wall);
        let said = reader.object(&lost, received, &wall);
        let ended = said.iter().find_map(|said| match &said.fact {
            Fact::Ended(ended) => Some((ended.container.instance, ended.invented.is_some(), said.moment)),
            _ => None,
        });
        let (instance, invented, moment) = ended.unwrap();
        assert!(invented && instance == 0, "run {instance}: {lost:?}");
        assert_eq!(moment, Moment::between(0, u64::MAX / 2), "when it ended is not known");
    }
}

/// What a ReplicaSet's or a Deployment's events say of why a pod of the revision `old` is deleted.
fn why(words: &[(&str, &str, &str)]) -> Vec<StopReason> {
    let (wall, received) = (WallOffset { unix_minus_boot_ns: 0 }, Moment::exactly(u64::MAX / 2));
    let mut controllers = Controllers::default();
    for revision in ["old", "new"] {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {
            "name": format!("web-{revision}-x"), "labels": {"pod-template-hash": revision},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("web-{revision}"), "uid": "u", "controller": true}],
        }}))
        .unwrap();
        controllers.pod(revision, &pod, &wall);
    }
    let mut reasons = Vec::new();
    for (second, (kind, reason, message)) in words.iter().enumerate() {
        let name = if *kind == "Deployment" { "web" } else { "web-old" };
        let event: Event = serde_json::from_value(serde_json::json!({
            "metadata": {"name": format!("web.{:016x}", (second + 1) * 2_000_000_000)},
            "involvedObject": {"kind": kind, "name": name}, "reason": reason, "message": message,
        }))
        .unwrap();
        for said in controllers.event(&event, received, &wall) {
            let Fact::PodStopping(stop) = said.fact else { panic!("{:?}", said.fact) };
            assert_eq!(stop.pod, "old");
            reasons.push(stop.reason);
        }
    }
    reasons
}

#[test]
fn a_rollout_and_a_scale_down_are_told_apart_by_whether_another_revision_grew() {
    let scaled = |words| ("Deployment", "ScalingReplicaSet", words);
    let deleted = ("ReplicaSet", "SuccessfulDelete", "Deleted pod: web-old-x");
    let begun = scaled("Scaled up replica set web-old to 2");
    let grew = scaled("Scaled up replica set web-new to 1 from 0");
    let less = scaled("Scaled down replica set web-old to 1");
    let all_gone = scaled("(combined from similar events): Scaled down replica set web-old from 1 to 0");

    assert_eq!(why(&[begun, grew, less, deleted]), [StopReason::Rollout]);
    assert_eq!(why(&[begun, less, deleted]), [StopReason::ScaleDown]);
    // Rolled back, and then made smaller.
    let back = scaled("Scaled up replica set web-old to 2 from 0");
    assert_eq!(why(&[begun, grew, back, less, deleted]), [StopReason::ScaleDown]);
    // `strategy: Recreate` deletes first; only what follows says that it was a rollout.
    assert_eq!(why(&[begun, all_gone, deleted, grew]), [StopReason::Rollout]);
    assert_eq!(why(&[begun, all_gone, deleted]), []);
    // The Deployment's events were lost, or nobody but the garbage collector deleted it.
    assert_eq!(why(&[deleted]), []);
    assert_eq!(why(&[begun, grew]), []);
    let combined =
        ("ReplicaSet", "SuccessfulDelete", "(combined from similar events): Deleted pod: web-old-x");
    assert_eq!(why(&[begun, grew, combined, combined]), [StopReason::Rollout]);
}

fn event(name: &str, reason: &str, message: &str) -> Event {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name}, "reason": reason, "message": message, "count": 1,
        "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{app}"},
    }))
    .unwrap()
}

/// What is decided by two failures of a probe and the stop that follows, heard of in this order.
fn decided(restart_policy: &str, events: &[(u64, &str, &str)]) -> Vec<StopReason> {
    let (wall, received) = (WallOffset { unix_minus_boot_ns: 0 }, Moment::exactly(u64::MAX / 2));
    let mut reader = PodReader::new("web");
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web", "uid": "u"},
        "spec": {"restartPolicy": restart_policy, "containers": [
            {"name": "app", "livenessProbe": {"failureThreshold": 2, "exec": {"command": ["x"]}}}]},
    }))
    .unwrap();
    let _ = reader.object(&pod, received, &wall);
    let mut facts = Vec::new();
    for (ns, reason, message) in events {
        let event = event(&format!("web.{ns:016x}"), reason, message);
        facts.extend(reader.event(&event, received, &wall).into_iter().map(|said| said.fact));
    }
    decisions(&facts)
}

#[test]
fn failures_of_a_probe_whose_words_differ_each_time_add_up_in_whatever_order_events_come() {
    let one = (1_000_000_000_u64, "Unhealthy", "Liveness probe failed: one");
    let another = (2_000_000_000, "Unhealthy", "Liveness probe failed: another");
    let stop = (2_500_000_000, "Killing", "Stopping container app");
    assert_eq!(decided("Never", &[one, another, stop]), [StopReason::LivenessProbe]);
    for order in [[one, stop, another], [stop, one, another]] {
        let told = decided("Never", &order);
        assert!(told.contains(&StopReason::LivenessProbe), "{order:?}: {told:?}");
    }
    // A stop before the last failure was not for it, and one of a container that would be restarted says so itself.
    let before = (1_500_000_000, "Killing", "Stopping container app");
    assert_eq!(decided("Never", &[one, before, another]), [StopReason::WithPod]);
    assert_eq!(decided("Always", &[one, stop, another]), [StopReason::WithPod]);
}

#[test]
fn an_event_that_is_heard_of_late_is_of_the_run_that_it_happened_to() {
    let (wall, received) = (WallOffset { unix_minus_boot_ns: 0 }, Moment::exactly(u64::MAX / 2));
    let mut reader = PodReader::new("web");
    let began = |restarts: u32, at: &str| {
        pod(
            &serde_json::json!({"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": {"running": {"startedAt": at}}}),
        )
    };
    let _ = reader.object(&began(0, "1970-01-01T00:00:10Z"), received, &wall);
    let _ = reader.object(&began(1, "1970-01-01T00:00:20Z"), received, &wall);
    for (ns, run) in [(15_000_000_000_u64, 0), (25_000_000_000, 1), (1_000_000_000, 0)] {
        let said = reader.event(
            &event(
                &format!("web.{ns:016x}"),
                "Killing",
                "Container app failed liveness probe, will be restarted",
            ),
            received,
            &wall,
        );
        let Fact::Stopping(stop) = &said[0].fact else { panic!("{said:?}") };
        assert_eq!(stop.container.instance, run, "at {ns}");
    }
}

#[test]
fn a_run_that_got_the_number_of_a_lost_one_is_told_of_with_its_own_id() {
    let (wall, received) = (WallOffset { unix_minus_boot_ns: 0 }, Moment::exactly(u64::MAX / 2));
    let mut reader = PodReader::new("web");
    let mut ids = Vec::new();
    for id in ["a1", "a1", "b2"] {
        let object = pod(
            &serde_json::json!({"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "containerID": format!("containerd://{id}"), "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}),
        );
        for said in reader.object(&object, received, &wall) {
            if let Fact::Started(start) = said.fact {
                ids.extend(start.id);
            }
        }
    }
    assert_eq!(ids, ["a1", "b2"]);
}

/// What is decided about a pod with a sidecar whose main container ends with this code.
fn decided_of_sidecar(restart_policy: &str, exit_code: i32) -> Vec<StopReason> {
    let (wall, received) = (WallOffset { unix_minus_boot_ns: 0 }, Moment::exactly(u64::MAX / 2));
    let status = |name: &str, state: Value| serde_json::json!({"name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state});
    let running = serde_json::json!({"running": {"startedAt": "1970-01-01T00:00:10Z"}});
    let ended = serde_json::json!({"terminated": {"exitCode": exit_code, "reason": "Error",
        "startedAt": "1970-01-01T00:00:10Z", "finishedAt": "1970-01-01T00:00:20Z"}});
    let mut reader = PodReader::new("web");
    let mut facts = Vec::new();
    for main in [running.clone(), ended] {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "uid": "u"},
            "spec": {"restartPolicy": restart_policy, "terminationGracePeriodSeconds": 5,
                "initContainers": [{"name": "proxy", "restartPolicy": "Always"}], "containers": [{"name": "app"}]},
            "status": {"initContainerStatuses": [status("proxy", running.clone())],
                "containerStatuses": [status("app", main)]},
        }))
        .unwrap();
        facts.extend(reader.object(&pod, received, &wall).into_iter().map(|said| said.fact));
    }
    decisions(&facts)
}

#[test]
fn a_sidecar_is_stopped_when_every_other_container_has_ended_for_good() {
    assert_eq!(decided_of_sidecar("Never", 1), [StopReason::PodCompleted]);
    assert_eq!(decided_of_sidecar("OnFailure", 0), [StopReason::PodCompleted]);
    assert_eq!(decided_of_sidecar("OnFailure", 1), []);
    assert_eq!(decided_of_sidecar("Always", 0), []);
}
