//! What a good scenario means.

use exit137::scenario::{
    Act, Handler, Program, QosClass, Requirement, RestartPolicy, Role, RunEvent, Trigger, Until, VolumeKind,
};

use super::{APP, around, read};

#[test]
fn what_is_not_said_is_what_kubernetes_defaults_it_to() {
    let scenario = read(&around(
        "containers: [{name: app, command: [sleep, '1'], resources: {limits: {memory: 64Mi}}, livenessProbe: {httpGet: {port: 80}}}]",
        "",
    ));
    let pod = &scenario.pods[0];
    assert_eq!((pod.restart_policy, pod.grace_seconds, pod.replicas), (RestartPolicy::Always, 30, 1));
    let app = &pod.containers[0];
    assert_eq!((app.request, app.limit), (Some(64 << 20), Some(64 << 20)), "the request is the limit");
    let probe = app.liveness.as_ref().unwrap();
    assert_eq!((probe.initial_delay_seconds, probe.period_seconds, probe.timeout_seconds), (0, 10, 1));
    assert_eq!((probe.success_threshold, probe.failure_threshold, probe.grace_seconds), (1, 3, None));
    assert_eq!(
        probe.handler,
        Handler::HttpGet { host: None, port: 80, path: "/".into(), headers: Vec::new() }
    );
    assert_eq!((scenario.timeout_ms, scenario.observe.settle_ms), (35_200, 200));
}

#[test]
fn init_containers_and_sidecars_come_before_the_main_ones_in_their_order() {
    let scenario = read(&around(
        "initContainers:\n- {name: one, workload: {exit: {code: 0}}, resources: {limits: {memory: 8Mi}}}\n- {name: side, restartPolicy: Always, workload: {idle: {}}, resources: {limits: {memory: 8Mi}}}\ncontainers:\n- {name: app, workload: {idle: {}}, resources: {limits: {memory: 64Mi}}}",
        "",
    ));
    let roles: Vec<(&str, Role)> = scenario.pods[0]
        .containers
        .iter()
        .map(|container| (container.name.as_str(), container.role))
        .collect();
    assert_eq!(roles, [("one", Role::Init), ("side", Role::Sidecar), ("app", Role::Main)]);
}

#[test]
fn a_cpu_limit_alone_counts_as_an_equal_request() {
    for (resources, guaranteed) in [
        ("limits: {memory: 1Gi, cpu: 1}", true),
        ("limits: {memory: 1Gi, cpu: 1000m}, requests: {cpu: 1}", true),
        ("limits: {memory: 1Gi, cpu: 1}, requests: {cpu: 500m}", false),
        ("limits: {memory: 1Gi}, requests: {cpu: 500m}", false),
        ("limits: {memory: 1Gi}", false),
    ] {
        let spec =
            format!("containers: [{{name: app, workload: {{idle: {{}}}}, resources: {{{resources}}}}}]");
        let scenario = read(&around(&spec, ""));
        assert_eq!(scenario.pods[0].containers[0].cpu_guaranteed, guaranteed, "{resources}");
    }
}

#[test]
fn a_containers_own_user_comes_before_the_pods() {
    let user = |own: &str| {
        let spec = format!(
            "securityContext: {{runAsUser: 1000}}\ncontainers: [{{name: app, workload: {{idle: {{}}}}, resources: {{limits: {{memory: 9Mi}}}}{own}}}]"
        );
        read(&around(&spec, "")).pods[0].containers[0].run_as_user
    };
    assert_eq!(user(""), Some(1000));
    assert_eq!(user(", securityContext: {runAsUser: 2000}"), Some(2000));
}

#[test]
fn a_probe_finds_its_port_by_name() {
    let scenario = read(&around(
        "containers: [{name: app, workload: {idle: {}}, resources: {limits: {memory: 9Mi}}, ports: [{name: http, containerPort: 8080}], startupProbe: {tcpSocket: {port: http}}}]",
        "",
    ));
    let probe = scenario.pods[0].containers[0].startup.as_ref().unwrap();
    assert_eq!(probe.handler, Handler::TcpSocket { host: None, port: 8080 });
}

#[test]
fn what_has_no_effect_here_is_listed_and_what_needs_a_cluster_makes_the_scenario_skip() {
    let listed = read(&around(&format!("nodeSelector: {{a.b/c: d}}\nhostPID: false\n{APP}"), ""));
    assert_eq!(
        listed.without_effect,
        ["pods[0].spec.nodeSelector: there is one node here, and no scheduler"]
    );
    assert_eq!(listed.requires, []);
    for spec in [
        "hostPID: true",
        "shareProcessNamespace: true",
        "hostUsers: false",
        "activeDeadlineSeconds: 5",
        "resourceClaims: [{name: gpu}]",
    ] {
        let scenario = read(&around(&format!("{spec}\n{APP}"), ""));
        assert_eq!(scenario.requires, [Requirement::Cluster], "{spec}");
        assert!(scenario.without_effect[0].contains("needs a cluster"), "{:?}", scenario.without_effect);
    }
    for extra in [
        "envFrom: [{configMapRef: {name: x}}]",
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]",
        "livenessProbe: {grpc: {port: 80}}",
        "lifecycle: {postStart: {exec: {command: [a]}}}",
    ] {
        let spec = format!(
            "containers: [{{name: app, workload: {{idle: {{}}}}, resources: {{limits: {{memory: 9Mi}}}}, {extra}}}]"
        );
        let text = around(&spec, "");
        if extra.contains("grpc") {
            // Accepted as a probe that only a kubelet can make.
            assert_eq!(read(&text).pods[0].containers[0].liveness, None);
        }
        assert_eq!(read(&text).requires, [Requirement::Cluster], "{extra}");
    }
    let deployment = read(&around(APP, "").replace("- name: web", "- name: web\n  kind: Deployment"));
    assert_eq!(deployment.requires, [Requirement::Cluster]);
}

#[test]
fn volumes_other_than_empty_dir_need_a_cluster_only_where_they_are_mounted() {
    let spec = |mounts: &str| {
        format!(
            "volumes: [{{name: c, configMap: {{name: x}}}}, {{name: m, emptyDir: {{medium: Memory, sizeLimit: 8Mi}}}}]\ncontainers: [{{name: app, workload: {{idle: {{}}}}, resources: {{limits: {{memory: 9Mi}}}}, volumeMounts: [{mounts}]}}]"
        )
    };
    let scenario = read(&around(&spec("{name: m, mountPath: /m}"), ""));
    assert_eq!(scenario.requires, []);
    let kind = scenario.pods[0].volumes.iter().find(|volume| volume.name == "m").unwrap().kind;
    assert_eq!(kind, VolumeKind::Memory { size_limit: Some(8 << 20) });
    assert_eq!(read(&around(&spec("{name: c, mountPath: /c}"), "")).requires, [Requirement::Cluster]);
}

#[test]
fn actions_have_one_trigger_and_one_act() {
    let scenario = read(&around(
        APP,
        "actions:\n- {at: 2s, delete: {pod: web, gracePeriodSeconds: 1}}\n- {on: {oomKill: web/app}, delay: 5ms, kill: {container: web/app, process: child}}\n- {on: {memoryReaches: {container: web/app, memory: 40Mi}}, setLimit: {container: web/app, memory: 32Mi}}\nobserve: {for: 5s, until: {ended: {container: web/app, times: 2}}}",
    ));
    assert_eq!(scenario.actions[0].at, Trigger::Time(2000));
    assert_eq!(scenario.actions[0].act, Act::Delete { pod: "web".into(), grace_seconds: Some(1) });
    assert!(matches!(scenario.actions[1].at, Trigger::Event(RunEvent::OomKill(_), 5)));
    assert!(matches!(scenario.actions[1].act, Act::Kill { signal: 9, child: true, .. }));
    assert!(matches!(scenario.actions[2].act, Act::SetLimit { memory: 0x200_0000, pod_too: false, .. }));
    assert!(matches!(scenario.observe.until, Some(Until::Event(RunEvent::Ended(_, 2)))));
}

#[test]
fn the_workload_is_taken_out_of_the_spec_that_kubernetes_types() {
    let scenario = read(&around(APP, ""));
    assert!(matches!(scenario.pods[0].containers[0].program, Program::Workload(_)));
    assert_eq!(scenario.pods[0].spec.containers[0].name, "app");
}

#[test]
fn a_replica_can_be_named_and_the_pods_name_means_each() {
    let text = around(APP, "expect: {survive: [web/app, web-1/app]}")
        .replace("- name: web", "- name: web\n  replicas: 2");
    assert_eq!(read(&text).expect.survive.len(), 2);
}

#[test]
fn the_bound_is_the_nodes_budget_or_what_the_pods_can_take_at_most() {
    let mib = |text: &str| read(text).bound() >> 20;
    assert_eq!(mib(&around(APP, "node: {memory: 256Mi}")), 256);
    let limited = "containers: [{name: app, command: [a], resources: {limits: {memory: 64Mi}}}]";
    let one = mib(&around(limited, ""));
    assert!((64..=70).contains(&one), "{one}");
    let three = mib(&around(limited, "").replace("- name: web", "- name: web\n  replicas: 3"));
    assert_eq!(three, 3 * one);
    let small = mib(&around(
        "containers: [{name: app, workload: {idle: {}}, resources: {limits: {memory: 1Gi}}}]",
        "",
    ));
    assert!(small < 16, "a workload that takes less than its limit counts as what it takes: {small}");
    let raised = mib(&around(
        limited,
        "actions: [{at: 1s, setLimit: {container: web/app, memory: 100Mi, podToo: true}}]",
    ));
    assert!((100..=108).contains(&raised), "{raised}");
}

#[test]
fn an_init_container_adds_to_the_pods_limit_only_what_the_sidecars_before_it_have() {
    let limit = |init: &str| {
        let spec = format!(
            "initContainers: [{init}]\ncontainers: [{{name: app, workload: {{idle: {{}}}}, resources: {{limits: {{memory: 16Mi}}}}}}]"
        );
        let scenario = read(&around(&spec, ""));
        (scenario.pods[0].cgroup_limit().map(|limit| limit >> 20), scenario.bound() >> 20)
    };
    let resources = "resources: {limits: {memory: 64Mi}}";
    let init = format!("{{name: init, command: [sleep, '1'], {resources}}}");
    let side =
        "{name: side, restartPolicy: Always, command: [sleep, '1'], resources: {limits: {memory: 32Mi}}}";
    // Its own overhead, and the pause process's.
    assert_eq!(limit(&format!("{init}, {side}")), (Some(64), 64 + 2 + 2));
    assert_eq!(limit(&format!("{side}, {init}")), (Some(96), 96 + 2 * 2 + 2));
    assert_eq!(limit(side).0, Some(48));
}

#[test]
fn the_quality_of_service_is_that_which_kubernetes_sees() {
    let of = |resources: &str, own: &str| {
        let container =
            format!("containers: [{{name: app, command: [sleep, '1'], resources: {{{resources}}}}}]");
        let scenario = read(&around(&format!("resources: {{{own}}}\n{container}"), "node: {memory: 64Mi}"));
        let pod = &scenario.pods[0];
        (pod.qos_class(), pod.shared_request() >> 20)
    };
    let both = "cpu: 1, memory: 512Mi";
    for (resources, own, expected) in [
        ("", "", (QosClass::BestEffort, 0)),
        ("requests: {cpu: 0}", "", (QosClass::BestEffort, 0)),
        ("requests: {cpu: 100m}", "", (QosClass::Burstable, 0)),
        ("limits: {memory: 64Mi}", "", (QosClass::Burstable, 0)),
        ("limits: {cpu: 1, memory: 64Mi}", "", (QosClass::Guaranteed, 0)),
        ("requests: {cpu: 500m}, limits: {cpu: 1, memory: 64Mi}", "", (QosClass::Burstable, 0)),
        ("", &format!("limits: {{{both}}}"), (QosClass::Guaranteed, 512)),
        ("", "requests: {memory: 512Mi}", (QosClass::Burstable, 512)),
        ("requests: {memory: 128Mi}", "requests: {memory: 512Mi}", (QosClass::Burstable, 384)),
        // What the pod does not request is what its containers do.
        ("requests: {memory: 128Mi}", &format!("limits: {{{both}}}"), (QosClass::Burstable, 0)),
    ] {
        assert_eq!(of(resources, own), expected, "{resources} in a pod of {own}");
    }
}
