//! What is written nearly right is answered with what is right.

use exit137::scenario::Requirement;

use super::{APP, around, read, refused};

#[test]
fn a_signal_is_known_by_its_short_name_and_its_number() {
    for signal in ["KILL", "kill", "sigkill", "9", "'9'"] {
        let text =
            around(APP, &format!("actions: [{{at: 1s, kill: {{container: web/app, signal: {signal}}}}}]"));
        refused(&text, &["actions[0].kill.signal", "did you mean SIGKILL?"]);
    }
}

#[test]
fn a_comparison_written_nearly_right_is_recognised() {
    for (is, meant) in [
        ("peak =< 90% of limit", "did you mean <=?"),
        ("peak => 90% of limit", "did you mean >=?"),
        ("peak < 60MB", "did you mean 60M?"),
        ("peak < 60 Mi", "did you mean 60Mi?"),
        ("peak < 0.9 of limit", "did you mean 90% of limit?"),
        ("peak < 90 of limit", "did you mean 90% of limit?"),
        ("peak < 90% of the limit", "did you mean 90% of limit?"),
    ] {
        refused(&around(APP, &format!("expect: {{bounds: [{{container: web/app, is: {is}}}]}}")), &[meant]);
        let at_death = is.trim_start_matches("peak ");
        let text = around(
            APP,
            &format!("expect: {{terminations: [{{container: web/app, memoryAtDeath: '{at_death}'}}]}}"),
        );
        refused(&text, &[meant]);
    }
}

#[test]
fn a_unit_written_nearly_right_is_recognised() {
    let grow = |size: &str, rate: &str| {
        around(&APP.replace("idle: {}", &format!("leak: {{rate: {rate}, cap: {size}}}")), "")
    };
    read(&grow("80M", "64Mi/s"));
    refused(&grow("80MB", "64Mi/s"), &["did you mean 80M?"]);
    refused(&grow("80M", "64Mi"), &["did you mean 64Mi/s?"]);
    refused(&around(APP, "observe: {for: 3sec}"), &["observe.for", "did you mean 3s?"]);
}

#[test]
fn a_manifest_of_kubernetes_is_no_scenario() {
    let manifest = |version: &str, kind: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: web, labels: {{a: b}}}}\nspec: {{containers: [{{name: app, image: nginx}}]}}\n"
        )
    };
    refused(&manifest("v1", "Pod"), &["s.yaml:2:7: kind: this is a Pod", "manifest: FILE"]);
    refused(&manifest("apps/v1", "Deployment"), &["this is a Deployment", "manifest: FILE"]);
}

#[test]
fn a_probe_of_a_named_host_needs_a_cluster() {
    for probe in ["httpGet: {host: HOST, port: 80}", "tcpSocket: {host: HOST, port: 80}"] {
        let requires = |host: &str| {
            let probe =
                format!("workload: {{idle: {{}}}}, livenessProbe: {{{}}}", probe.replace("HOST", host));
            let scenario = read(&around(&APP.replace("workload: {idle: {}}", &probe), ""));
            (scenario.requires, scenario.without_effect)
        };
        let (required, noted) = requires("localhost");
        assert_eq!(required, [Requirement::Cluster], "{probe}");
        assert!(noted[0].contains(".host: needs a cluster: names are not resolved here"), "{noted:?}");
        assert_eq!(requires("127.0.0.1").0, []);
        assert_eq!(requires("'::1'").0, []);
    }
}
