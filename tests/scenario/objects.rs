//! Controllers, objects that are applied beside pods, and what only a cluster does to them.

use exit137::scenario::{Act, PodKind, Requirement};

use crate::{APP, around, read, refused};

fn of_kind(kind: &str, more: &str, rest: &str) -> String {
    around(APP, rest).replace("- name: web", &format!("- name: web\n  kind: {kind}\n  {more}"))
}

#[test]
fn a_controllers_later_pods_can_be_named() {
    let rest = "observe: {for: 9s, until: {started: {container: web-1/app}}}\nexpect: {survive: [web/app, web-7/app]}";
    assert_eq!(read(&of_kind("Deployment", "", rest)).pods[0].kind, PodKind::Deployment);
    refused(&around(APP, rest.split('\n').next().unwrap()), &["there is no pod \"web-1\""]);
    let two = "expect: {survive: [web-1/app, web-2/app]}";
    read(&of_kind("StatefulSet", "replicas: 2", two));
}

#[test]
fn what_a_controller_does_fits_its_pods() {
    refused(&of_kind("Job", "", ""), &["restartPolicy", "a Job's pods end"]);
    refused(
        &of_kind("Deployment", "controller: {selector: {}}", ""),
        &["controller.selector", "leave it out"],
    );
    refused(
        &around(APP, "").replace("- name: web", "- name: web\n  controller: {backoffLimit: 1}"),
        &["said of a bare pod"],
    );
    let rest = "observe: {for: 5s, until: {allEnded: true}}";
    refused(&of_kind("Deployment", "", rest), &["allEnded", "say ended: {container: web/app}"]);
}

#[test]
fn actions_that_go_through_the_api_need_a_cluster() {
    for act in [
        "drain: {pod: web}",
        "rollout: {pod: web}",
        "resize: {container: web/app, memory: 32Mi}",
        "loseContainer: {container: web/app}",
    ] {
        let scenario = read(&of_kind("Deployment", "", &format!("actions: [{{at: 1s, {act}}}]")));
        assert_eq!(scenario.requires, [Requirement::Cluster], "{act}");
        assert!(scenario.without_effect.iter().any(|note| note.starts_with("actions[0]")), "{act}");
    }
    refused(&around(APP, "actions: [{at: 1s, rollout: {pod: web}}]"), &["not rolled out by anybody"]);
}

#[test]
fn a_created_pod_starts_later_and_once() {
    let two = |actions: &str| {
        let text = around(APP, &format!("actions: [{actions}]"));
        text.replace("- name: web", "- {name: first, spec: {containers: [{name: app, workload: {idle: {}}, resources: {limits: {memory: 9Mi}}}]}}\n- name: web")
    };
    let scenario = read(&two("{at: 1s, create: {pod: web}}"));
    assert_eq!(scenario.requires, []);
    assert_eq!(scenario.actions[0].act, Act::Create { pod: "web".into() });
    assert_eq!(scenario.pods.iter().map(|pod| scenario.starts_later(pod)).collect::<Vec<_>>(), [false, true]);
    let twice = "{at: 1s, create: {pod: web}}, {at: 2s, create: {pod: web}}";
    refused(&two(twice), &["created by an action before this one"]);
    refused(&around(APP, "actions: [{at: 1s, create: {pod: web}}]"), &["all created by actions"]);
}

#[test]
fn objects_are_refused_that_reach_beyond_the_trial() {
    let with = |object: &str| around(APP, &format!("objects: [{object}]"));
    let class = "apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: high}";
    assert_eq!(read(&with(&format!("{{{class}, value: 1}}"))).requires, [Requirement::Cluster]);
    for (object, said) in [
        (format!("{{{class}, globalDefault: true}}"), "everybody's pods"),
        ("{apiVersion: v1, kind: Namespace, metadata: {name: n}}".to_owned(), "made for each trial"),
        (
            "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: s}}".to_owned(),
            "whole cluster",
        ),
        ("{apiVersion: v1, kind: Pod, metadata: {name: p}}".to_owned(), "put it under pods"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {}}".to_owned(), "names no object"),
    ] {
        refused(&with(&object), &["objects[0]", said]);
    }
}

#[test]
fn a_limit_range_bounds_what_states_no_limit() {
    let range = |default: &str| {
        format!(
            "objects: [{{apiVersion: v1, kind: LimitRange, metadata: {{name: d}}, spec: {{limits: [{{type: Container, {default}}}]}}}}]"
        )
    };
    let unbounded = "containers: [{name: app, workload: {idle: {}}}]";
    read(&around(unbounded, &range("default: {memory: 64Mi}")));
    refused(&around(unbounded, &range("default: {cpu: 1}")), &["no memory limit"]);
}
