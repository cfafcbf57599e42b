//! What is said of a scenario that is wrong.

use exit137::scenario::Requirement;

use super::{APP, around, problems, read, refused};

fn container(rest: &str) -> String {
    around(&format!("containers: [{{name: app, {rest}}}]"), "")
}

#[test]
fn a_problem_names_file_line_column_and_key_and_hints_at_what_to_do() {
    let text = container("workload: {idle: {}}, resources: {limits: {memory: 64}}");
    assert_eq!(
        problems(&text),
        [
            "s.yaml:7:81: pods[0].spec.containers[0].resources.limits.memory: \"64\" is 64 bytes\n  hint: did you mean 64Mi?"
        ]
    );
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let text = around(
        APP,
        "actions: [{at: 2s}, {kill: {container: web/ap}}]\nexpect: {survive: [wed/app]}\ntimeout: 1s",
    );
    let problems = problems(&text);
    assert_eq!(problems.len(), 5, "{problems:#?}");
    for (problem, said) in problems.iter().zip([
        "does not say what to do",
        "does not say when",
        "did you mean app?",
        "did you mean web?",
        "ends before observe.for",
    ]) {
        assert!(problem.contains(said), "{problem}");
    }
}

#[test]
fn a_limit_in_bytes_or_in_thousandths_is_a_slip() {
    refused(
        &container("workload: {idle: {}}, resources: {limits: {memory: 400m}}"),
        &["thousandths", "400Mi"],
    );
    refused(&container("workload: {idle: {}}, resources: {limits: {memory: 64MB}}"), &["did you mean 64M?"]);
    refused(
        &container("workload: {idle: {}}, resources: {limits: {memory: 1Mi}, requests: {memory: 2Mi}}"),
        &["less than what is requested"],
    );
}

#[test]
fn a_limit_too_small_to_start_with_is_a_scenario_of_its_own() {
    read(&container("workload: {idle: {}}, resources: {limits: {memory: 256Ki}}"));
}

#[test]
fn a_container_runs_one_thing() {
    let limit = "resources: {limits: {memory: 64Mi}}";
    refused(&container(limit), &["nothing to run", "workload: {idle: {}}"]);
    refused(&container(&format!("args: [a], {limit}")), &["args and no command", "image"]);
    let own_image = read(&container(&format!("image: nginx, {limit}")));
    assert_eq!(own_image.requires, [Requirement::Cluster], "only a cluster runs an image's own program");
    refused(
        &container(&format!("workload: {{idle: {{}}}}, command: [a], {limit}")),
        &["a workload and a command"],
    );
    let with_image = read(&container(&format!("image: nginx, command: [a], {limit}")));
    assert_eq!(with_image.without_effect, ["pods[0].spec.containers[0].image: no image is run here"]);
}

#[test]
fn a_container_without_a_limit_needs_a_budget() {
    let unbounded = "containers: [{name: app, workload: {idle: {}}}]";
    refused(&around(unbounded, ""), &["no memory limit", "node: {memory: 256Mi}"]);
    read(&around(unbounded, "node: {memory: 256Mi}"));
}

#[test]
fn what_is_wrong_with_a_workload_is_said_at_the_workload() {
    let text = container("workload: {hog: {}}, resources: {limits: {memory: 64Mi}}");
    refused(&text, &["containers[0].workload: hog says no size", "hint: say size: 64Mi"]);
}

#[test]
fn names_are_unique_among_pods_replicas_and_containers() {
    refused(
        &around(
            "containers:\n- {name: a, workload: {idle: {}}, resources: {limits: {memory: 9Mi}}}\n- {name: a, workload: {idle: {}}, resources: {limits: {memory: 9Mi}}}",
            "",
        ),
        &["containers[1].name", "another container"],
    );
    let spec = format!("spec: {{{APP}}}");
    let two = around(APP, "")
        .replace("- name: web\n", &format!("- {{name: web-1, {spec}}}\n- name: web\n  replicas: 2\n"));
    refused(&two, &["pods[1].name", "another pod"]);
}

#[test]
fn a_mount_needs_its_volume_and_a_tmpfs_workload_needs_a_tmpfs() {
    let limit = "resources: {limits: {memory: 64Mi}}";
    refused(
        &container(&format!("workload: {{idle: {{}}}}, {limit}, volumeMounts: [{{name: x, mountPath: /x}}]")),
        &["there is no volume \"x\""],
    );
    refused(
        &container(&format!("workload: {{tmpfs: {{path: /x, size: 1Mi}}}}, {limit}")),
        &["workload.tmpfs.path", "not on an emptyDir with medium: Memory"],
    );
}

#[test]
fn a_cause_that_only_a_kubelet_brings_about_needs_a_cluster() {
    let expect = "expect: {terminations: [{container: web/app, cause: eviction}]}";
    refused(&around(APP, expect), &["only a kubelet brings eviction about", "requires: [cluster]"]);
    read(&around(APP, &format!("{expect}\nrequires: [cluster]")));
}

#[test]
fn a_detail_belongs_to_its_cause() {
    let expect =
        |more: &str| around(APP, &format!("expect: {{terminations: [{{container: web/app, {more}}}]}}"));
    refused(
        &expect("cause: container-oom, detail: budget"),
        &["budget is no form of container-oom", "one form only"],
    );
    refused(
        &expect("cause: child-oom, detail: budget"),
        &["say one of hidden, propagated, container-stopped"],
    );
    refused(&expect("detail: budget"), &["say the cause too"]);
    read(&format!("{}node: {{memory: 64Mi}}\n", expect("cause: node-oom, detail: budget")));
}

#[test]
fn a_window_lies_within_the_observed_time() {
    let within = |window: &str| {
        around(APP, &format!("expect: {{terminations: [{{container: web/app, within: {window}}}]}}"))
    };
    refused(&within("{to: 9s}"), &["after the observed time, 5200ms"]);
    refused(&within("{from: 3s, to: 2s}"), &["ends before it begins"]);
    read(&within("{from: 1s, to: 2s}"));
}

#[test]
fn expectations_that_contradict_each_other_are_refused() {
    let dies = "terminations: [{container: web/app}]";
    refused(
        &around(APP, &format!("expect: {{nothingDies: true, {dies}}}")),
        &["terminations: contradicts nothingDies"],
    );
    refused(
        &around(APP, "expect: {nothingDies: true, hiddenKills: [{container: web/app}]}"),
        &["hiddenKills: contradicts nothingDies"],
    );
    refused(
        &around(APP, &format!("expect: {{survive: [web/app], {dies}}}")),
        &["web/app is expected to end, too"],
    );
    refused(
        &around(
            &format!("restartPolicy: Never\n{APP}"),
            "expect: {restarts: [{container: web/app, min: 1}]}",
        ),
        &["never restarted"],
    );
    refused(&around(APP, "expect: {}"), &["says nothing", "nothingDies: true"]);
}

#[test]
fn a_bound_compares_what_can_be_compared() {
    let bound = |is: &str| around(APP, &format!("expect: {{bounds: [{{container: web/app, is: {is:?}}}]}}"));
    for good in [
        "peak < 80% of limit",
        "p95 <= 64Mi",
        "working set >= 5% of request",
        "pressure full < 5%",
        "pressure some > 0.5%",
        "refaults < 100",
        "limit hits >= 1",
    ] {
        read(&bound(good));
    }
    for (bad, said) in [
        ("peek < 80% of limit", "did you mean peak?"),
        ("peak 80%", "measures nothing"),
        ("peak < lots", "nothing to compare with"),
        ("peak < 80", "bare number"),
        ("pressure full < 64Mi", "no percentage"),
        ("pressure full < 5", "no percentage"),
        ("refaults < 5%", "no number"),
        ("peak < inf", "nothing to compare with"),
    ] {
        refused(&bound(bad), &[said]);
    }
    let unlimited = "containers: [{name: app, workload: {idle: {}}}]";
    let rest = "node: {memory: 1Gi}\nexpect: {bounds: [{container: web/app, is: peak < 80% of limit}]}";
    refused(&around(unlimited, rest), &["web/app has no memory limit"]);
}

#[test]
fn unknown_duplicate_and_empty_keys_are_refused() {
    refused(&around(APP, "timeot: 3s"), &["timeot: unknown key", "did you mean timeout?"]);
    refused(&around(&format!("contaners: []\n{APP}"), ""), &["did you mean containers?"]);
    refused(&around(APP, "timeout: 9s\ntimeout: 9s"), &["timeout: is given twice", "on line 8"]);
    refused(&around(APP, "timeout:"), &["timeout: is empty, and must be a text"]);
}

#[test]
fn an_empty_file_is_told_how_to_begin() {
    for text in ["", "# nothing\n", "---\n"] {
        refused(text, &["apiVersion: exit137/v1"]);
    }
}

#[test]
fn our_own_sizes_and_times_need_a_unit() {
    refused(&around(APP, "node: {memory: 64}"), &["node.memory", "say 64Mi, or 64B for bytes"]);
    refused(&around(APP, "observe: {for: 5}"), &["observe.for", "say 5s or 5ms"]);
    refused(&around(APP, "observe: {for: 5y}"), &["observe.for", "write for example 250ms, 2s or 1m30s"]);
}

#[test]
fn exactly_one_event_is_waited_for() {
    refused(
        &around(APP, "observe: {for: 5s, until: {}}"),
        &["observe.until: says nothing", "exactly one of allEnded"],
    );
    refused(
        &around(APP, "observe: {for: 5s, until: {allEnded: true, terminations: 2}}"),
        &["says more than one thing"],
    );
    refused(&around(APP, "observe: {for: 5s, until: {allEnded: false}}"), &["say true, or leave it out"]);
}
