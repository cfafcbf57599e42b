//! What a resize leaves in the cgroups.

use exit137::evidence::{Fact, LimitChanged, Observation};

use crate::support::{Desk, is_root, limit_of};

const MIB: u64 = 1 << 20;

/// A container with this behaviour below a limit.
fn container(name: &str, behaviour: &str, limit: &str) -> String {
    format!("{{name: {name}, {behaviour}, resources: {{limits: {{memory: {limit}}}}}}}")
}

fn changes(record: &[Observation]) -> Vec<&LimitChanged> {
    record
        .iter()
        .filter_map(|seen| if let Fact::LimitChanged(change) = &seen.fact { Some(change) } else { None })
        .collect()
}

/// The cgroups that were changed, by the end of their path, and the size that each got.
fn sizes(record: &[Observation]) -> Vec<(String, u64)> {
    let name = |path: &str| path.rsplit_once('/').unwrap().1.to_owned();
    changes(record).iter().map(|change| (name(&change.cgroup), change.to / MIB)).collect()
}

/// Resizes `web/app` from 64Mi beside another container of 64Mi that takes 56Mi.
fn resize_beside_another(memory: &str) -> Vec<(String, u64)> {
    let pod = [
        container("app", "workload: {idle: {}}", "64Mi"),
        container("other", "workload: {hog: {size: 56Mi}}", "64Mi"),
    ];
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{{name: web, spec: {{restartPolicy: Never, containers: [{}]}}}}]\n\
             actions: [{{at: 100ms, setLimit: {{container: web/app, memory: {memory}, podToo: true}}}}]\n\
             observe: {{for: 1s}}\nexpect: {{nothingDies: true}}",
            pod.join(", ")
        ),
    );
    sizes(&desk.run(&[]).exits(0).record("s"))
}

#[test]
fn a_pod_that_is_resized_with_its_container_gets_the_sum_of_its_containers() {
    if !is_root() {
        return;
    }
    assert_eq!(resize_beside_another("48Mi"), [("app-0".into(), 48), ("web".into(), 112)]);
    assert_eq!(resize_beside_another("96Mi"), [("web".into(), 160), ("app-0".into(), 96)]);
}

#[test]
fn a_limit_can_be_raised() {
    if !is_root() {
        return;
    }
    let pod = [
        container("app", "workload: {hog: {size: 40Mi, rate: 40Mi/s}}", "32Mi"),
        container("other", "workload: {idle: {}}", "64Mi"),
    ];
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{{name: web, spec: {{restartPolicy: Never, containers: [{}]}}}}]\n\
             actions: [{{at: 100ms, setLimit: {{container: web/app, memory: 64Mi}}}}]\n\
             observe: {{for: 2s}}\nexpect: {{nothingDies: true}}",
            pod.join(", ")
        ),
    );
    let record = desk.run(&[]).exits(0).record("s");
    assert_eq!(changes(&record).iter().map(|change| &change.refused).collect::<Vec<_>>(), [&None]);
}

#[test]
fn a_resized_limit_is_that_of_the_next_run_too() {
    if !is_root() {
        return;
    }
    let desk = Desk::with(
        "s",
        &format!(
            "backOff: {{scale: 0.01}}\npods: [{{name: web, spec: {{containers: [{}]}}}}]\n\
             actions: [{{at: 100ms, setLimit: {{container: web/app, memory: 48Mi, podToo: true}}}}, {{at: 600ms, kill: {{container: web/app}}}}]\n\
             observe: {{for: 8s, until: {{started: {{container: web/app, instance: 1}}}}, settle: 200ms}}\n\
             expect: {{terminations: [{{container: web/app, cause: external-kill}}], restarts: [{{container: web/app, min: 1, max: 1}}]}}",
            container("app", "workload: {idle: {}}", "32Mi")
        ),
    );
    let record = desk.run(&[]).exits(0).record("s");
    assert_eq!(limit_of(&record, "node/web/app-0"), Some(32 * MIB));
    assert_eq!(limit_of(&record, "node/web/app-1"), Some(48 * MIB));
    let told = record
        .iter()
        .filter_map(|seen| if let Fact::Started(started) = &seen.fact { started.limit } else { None });
    assert_eq!(told.collect::<Vec<_>>(), [32 * MIB, 48 * MIB]);
}

#[test]
fn a_lowering_that_cgroup_v1_refuses_leaves_the_limit_as_it_was_and_is_told_as_one() {
    if !is_root() || !std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        println!("not run: needs root and cgroup v1");
        return;
    }
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{{name: web, spec: {{restartPolicy: Never, containers: [{}]}}}}]\n\
             actions: [{{on: {{memoryReaches: {{container: web/app, memory: 40Mi}}}}, setLimit: {{container: web/app, memory: 24Mi}}}}, {{at: 2s, setLimit: {{container: web/app, memory: 48Mi}}}}]\n\
             observe: {{for: 3s}}\nexpect: {{nothingDies: true}}",
            container("app", "workload: {hog: {size: 40Mi}}", "64Mi")
        ),
    );
    let ran = desk.run(&[]).exits(0);
    let record = ran.record("s");
    let changes = changes(&record);
    let refused = changes[0].refused.as_ref().unwrap();
    assert!(refused.contains("os error 16"), "{refused}");
    assert_eq!((changes[1].from, &changes[1].refused), (Some(64 * MIB), &None));
    let trial = ran.trial("s").to_string();
    assert!(trial.contains("the kernel refused to lower the limit"), "{trial}");
}
