//! Expectations that nothing can fulfil are refused, and what only looks like one is not.

use super::{APP, around, read, refused};

/// An expectation of a container that runs once.
fn once(expect: &str) -> String {
    around(&format!("restartPolicy: Never\n{APP}"), &format!("expect: {{{expect}}}"))
}

#[test]
fn what_is_killed_ends_with_137() {
    for cause in ["container-oom", "external-kill", "exit-137"] {
        let text = once(&format!("terminations: [{{container: web/app, cause: {cause}, exitCode: 0}}]"));
        refused(&text, &["terminations[0].exitCode", cause, "say exitCode: 137"]);
    }
    refused(
        &once("terminations: [{container: web/app, cause: child-oom, detail: propagated, exitCode: 1}]"),
        &["say exitCode: 137"],
    );
    read(&once("terminations: [{container: web/app, cause: child-oom, exitCode: 1}]"));
    read(&once("terminations: [{container: web/app, cause: start-oom, exitCode: 128}]"));
}

#[test]
fn what_is_never_restarted_ends_once() {
    refused(
        &once("terminations: [{container: web/app, times: 3}]"),
        &["terminations[0]", "cannot end 3 times"],
    );
    refused(&once("terminations: [{container: web/app, instance: 7}]"), &["has no run 7", "Never"]);
    read(&once("terminations: [{container: web/app, times: 3}]").replace("Never", "Always"));
    let three = once("terminations: [{container: web/app, times: 3}]");
    read(&three.replace("- name: web", "- name: web\n  replicas: 3"));
    let init = "restartPolicy: Never\ninitContainers: [{name: one, workload: {idle: {}}, resources: {limits: {memory: 8Mi}}}]\n";
    let init = around(&format!("{init}{APP}"), "expect: {terminations: [{container: web/one, minTimes: 2}]}");
    refused(&init, &["web/one cannot end 2 times"]);
}

#[test]
fn one_run_ends_in_one_way() {
    let two = "terminations: [{container: web/app, instance: 0, cause: container-oom}, {container: web/app, instance: 0, cause: external-kill}]";
    refused(&once(two), &["terminations[1]", "in another way", "keep one"]);
    refused(&once(two).replace("Never", "Always"), &["in another way"]);
    refused(&once(&two.replace(" instance: 0,", "")), &["in another way"]);
    read(&once(&two.replace(" instance: 0,", "")).replace("Never", "Always"));
}

#[test]
fn ends_need_restarts() {
    let text = |max: u32| {
        around(
            APP,
            &format!(
                "expect: {{restarts: [{{container: web/app, max: {max}}}], terminations: [{{container: web/app, minTimes: 2}}]}}"
            ),
        )
    };
    refused(&text(0), &["restarts[0].max", "too few for the 2 ends", "say at least 1"]);
    read(&text(1));
}

#[test]
fn a_range_has_something_in_it() {
    let both = |one: &str, two: &str| {
        around(
            APP,
            &format!(
                "expect: {{bounds: [{{container: web/app, is: {one}}}, {{container: web/app, is: {two}}}]}}"
            ),
        )
    };
    refused(&both("peak < 20% of limit", "peak > 60% of limit"), &["bounds[1].is", "cannot both be"]);
    refused(&both("peak > 40Mi", "peak < 50% of limit"), &["cannot both be"]);
    refused(&both("peak >= 32Mi", "peak < 50% of limit"), &["cannot both be"]);
    read(&both("peak >= 32Mi", "peak <= 50% of limit"));
    read(&both("peak > 60% of limit", "p95 < 20% of limit"));
}

#[test]
fn nothing_is_below_zero_or_above_the_limit() {
    let bound = |is: &str| around(APP, &format!("expect: {{bounds: [{{container: web/app, is: {is}}}]}}"));
    for less in ["peak < 0% of limit", "limit hits < 0", "pressure full < 0%"] {
        refused(&bound(less), &["nothing is less than 0"]);
    }
    read(&bound("limit hits <= 0"));
    for more in ["peak > 150% of limit", "peak >= 65Mi"] {
        refused(&bound(more), &["never more than the limit"]);
    }
    refused(
        &once("terminations: [{container: web/app, memoryAtDeath: '> 150% of limit'}]"),
        &["memoryAtDeath", "never more than the limit"],
    );
    read(&bound("peak < 150% of limit"));
}

#[test]
fn what_brings_a_cause_about_is_in_the_scenario() {
    let text = |cause: &str| once(&format!("terminations: [{{container: web/app, cause: {cause}}}]"));
    refused(&text("liveness-probe"), &["has no liveness probe", "livenessProbe"]);
    refused(&text("startup-probe"), &["has no startup probe", "startupProbe"]);
    refused(&text("grace-period"), &["nothing asks web to stop", "delete: {pod: web}"]);
    refused(&text("resize-oom"), &["nothing lowers the limit of web/app", "setLimit"]);
    refused(&text("node-oom, detail: budget"), &["has no budget", "node: {memory"]);
    let with = |cause: &str, more: &str| format!("{}{more}\n", text(cause));
    read(&with("grace-period", "actions: [{at: 1s, delete: {pod: web}}]"));
    read(&with("resize-oom", "actions: [{at: 1s, setLimit: {container: web/app, memory: 1Mi}}]"));
    read(&with("node-oom, detail: budget", "node: {memory: 64Mi}"));
    let probed = "workload: {idle: {}}, livenessProbe: {grpc: {port: 80}}";
    read(&text("liveness-probe").replace("workload: {idle: {}}", probed));
}

#[test]
fn an_action_comes_while_it_is_observed() {
    for delay in ["5s", "20s"] {
        let text = around(
            APP,
            &format!(
                "actions: [{{on: {{started: {{container: web/app}}}}, delay: {delay}, delete: {{pod: web}}}}]"
            ),
        );
        refused(&text, &["actions[0].delay", "observation is over", "less than observe.for, 5s"]);
    }
    refused(&around(APP, "actions: [{at: 9s, delete: {pod: web}}]"), &["actions[0].at", "over already"]);
}
