//! The order in which containers start, stop and start again.

use exit137::evidence::{Fact, Observation, StopReason};

use crate::support::{Desk, is_root, web};

const LIMIT: &str = "resources: {limits: {memory: 32Mi}}";

/// A container that runs a script.
fn container(name: &str, script: &str, keys: &str) -> String {
    format!("{{name: {name}, command: [sh, -ec, '{script}'], {LIMIT}{keys}}}")
}

/// Milliseconds of boot time at which runs of a container started and ended.
fn lives(record: &[Observation], container: &str) -> Vec<(&'static str, u64)> {
    let at = |seen: &Observation| seen.moment.middle() / 1_000_000;
    let told = record.iter().filter_map(|seen| {
        if let Fact::Started(started) = &seen.fact
            && started.container.container == container
        {
            Some(("start", at(seen)))
        } else if let Fact::Ended(ended) = &seen.fact
            && ended.container.container == container
        {
            Some(("end", at(seen)))
        } else {
            None
        }
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(_, at)| *at);
    told
}

#[test]
fn init_containers_run_in_their_order_and_sidecars_outlive_the_main_containers() {
    if !is_root() {
        return;
    }
    let init = [
        container("one", "sleep 0.1", ""),
        container(
            "side",
            "trap \"sleep 0.1; exit 0\" TERM; while :; do sleep 0.02; done",
            ", restartPolicy: Always",
        ),
        container("two", "sleep 0.1", ""),
    ];
    let pod = format!(
        "{{name: web, spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 5, initContainers: [{}], containers: [{}]}}}}",
        init.join(", "),
        container("app", "sleep 0.1", "")
    );
    let ends = ["one", "two", "app", "side"]
        .map(|name| format!("{{container: web/{name}, exitCode: 0}}"))
        .join(", ");
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{pod}]\nobserve: {{for: 10s, until: {{allEnded: true}}, settle: 0ms}}\nexpect: {{terminations: [{ends}]}}"
        ),
    );
    let record = desk.run(&[]).exits(0).record("s");
    let one = |container: &str| {
        let lives = lives(&record, container);
        assert_eq!(lives.len(), 2, "{container}: {lives:?}");
        (lives[0].1, lives[1].1)
    };
    let (first, second, app, side) = (one("one"), one("two"), one("app"), one("side"));
    assert!(
        first.1 <= side.0 && side.0 <= second.0 && second.1 <= app.0 && app.1 <= side.1,
        "{first:?} {side:?} {second:?} {app:?}"
    );
}

#[test]
fn a_deleted_pod_runs_its_pre_stop_hook_before_it_gets_sigterm() {
    if !is_root() {
        return;
    }
    let script = "trap \"echo SIGTERM; exit 0\" TERM; echo started; while :; do sleep 0.02; done";
    let hook =
        ", lifecycle: {preStop: {exec: {command: [sh, -c, \"sleep 0.2; echo preStop > /proc/1/fd/1\"]}}}";
    let pod = format!(
        "{{name: web, spec: {{terminationGracePeriodSeconds: 5, containers: [{}]}}}}",
        container("app", script, hook)
    );
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{pod}]\nactions: [{{at: 300ms, delete: {{pod: web}}}}]\nobserve: {{for: 8s, until: {{allEnded: true}}, settle: 0ms}}\n\
                  expect: {{terminations: [{{container: web/app, exitCode: 0}}]}}"
        ),
    );
    assert_eq!(desk.run(&[]).exits(0).log("s", "web-app-0"), "started\npreStop\nSIGTERM\n");
}

#[test]
fn the_first_restart_is_at_once_and_each_further_one_waits_twice_as_long() {
    if !is_root() {
        return;
    }
    let pod = format!(
        "{{name: web, spec: {{restartPolicy: Always, containers: [{}]}}}}",
        container("app", "exit 0", "")
    );
    let desk = Desk::with(
        "s",
        &format!(
            "backOff: {{scale: 0.01}}\npods: [{pod}]\nobserve: {{for: 8s, until: {{ended: {{container: web/app, times: 4}}}}, settle: 0ms}}\n\
                  expect: {{terminations: [{{container: web/app, exitCode: 0, times: 4}}], restarts: [{{container: web/app, min: 3, max: 3}}]}}"
        ),
    );
    let record = desk.run(&[]).exits(0).record("s");
    let lives = lives(&record, "app");
    // The kubelet's 0 s, 10 s, 20 s, at a hundredth.
    let waits: Vec<u64> = lives[1..].chunks_exact(2).map(|pair| pair[1].1 - pair[0].1).collect();
    assert_eq!(waits.len(), 3, "{lives:?}");
    for (wait, least) in waits.iter().zip([0, 100, 200]) {
        assert!((least..least + 150).contains(wait), "{waits:?}");
    }
}

#[test]
fn on_failure_restarts_what_failed_until_it_succeeds() {
    if !is_root() {
        return;
    }
    let mount = ", volumeMounts: [{name: v, mountPath: /v}]";
    let script = "if [ -e /v/been ]; then exit 0; fi; touch /v/been; exit 5";
    let pod = format!(
        "{{name: web, spec: {{restartPolicy: OnFailure, volumes: [{{name: v, emptyDir: {{}}}}], containers: [{}]}}}}",
        container("app", script, mount)
    );
    let desk = Desk::with(
        "s",
        &format!(
            "backOff: {{scale: 0.01}}\npods: [{pod}]\nobserve: {{for: 8s, until: {{allEnded: true}}, settle: 500ms}}\n\
                  expect: {{terminations: [{{container: web/app, exitCode: 5, instance: 0}}, {{container: web/app, exitCode: 0, instance: 1}}], restarts: [{{container: web/app, min: 1, max: 1}}]}}"
        ),
    );
    desk.run(&[]).exits(0);
}

#[test]
fn a_program_or_a_working_directory_that_is_not_there_is_a_container_that_never_started_and_says_which() {
    if !is_root() {
        return;
    }
    for (behaviour, why) in [
        ("command: [/no/such/program]", "cannot run \"/no/such/program\" in the container"),
        (
            "command: [sleep, '1'], workingDir: /no/such/folder",
            "workingDir \"/no/such/folder\" is no folder in the container",
        ),
    ] {
        let app = web(behaviour, "32Mi");
        let desk = Desk::with(
            "s",
            &format!("{app}\nobserve: {{for: 500ms, settle: 0ms}}\nexpect: {{nothingDies: true}}"),
        );
        let ran = desk.run(&[]);
        assert_ne!(ran.status, Some(0), "{ran:#?}");
        let record = ran.record("s");
        let told = record
            .iter()
            .any(|seen| matches!(&seen.fact, Fact::StartFailed(failed) if failed.message.contains(why)));
        assert!(told, "{why}: {record:#?}");
    }
}

#[test]
fn a_pod_whose_name_only_looks_like_a_replicas_is_another_pod() {
    if !is_root() {
        return;
    }
    let pod = |name: &str| {
        let app = container("app", "sleep 60", "");
        format!("{{name: {name}, spec: {{restartPolicy: Never, containers: [{app}]}}}}")
    };
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{}, {}]\nactions: [{{at: 100ms, kill: {{container: web/app}}}}]\nobserve: {{for: 1s}}\n\
             expect: {{terminations: [{{container: web/app, cause: external-kill}}], survive: [web-1/app]}}",
            pod("web"),
            pod("web-1")
        ),
    );
    desk.run(&[]).exits(0);
}

/// Milliseconds from the first request to stop a container to the signals that the runtime sent it.
fn signals(record: &[Observation], container: &str) -> (Vec<StopReason>, Vec<(i32, u64)>) {
    let at = |seen: &Observation| seen.moment.middle() / 1_000_000;
    let (mut asked, mut sent) = (Vec::new(), Vec::new());
    for seen in record {
        if let Fact::Stopping(stopping) = &seen.fact
            && stopping.container.container == container
        {
            asked.push((at(seen), stopping.reason));
        } else if let Fact::RuntimeSignal { container: which, signal } = &seen.fact
            && which.container == container
        {
            sent.push((*signal, at(seen)));
        }
    }
    let first = asked[0].0;
    (
        asked.iter().map(|(_, reason)| *reason).collect(),
        sent.into_iter().map(|(signal, at)| (signal, at.saturating_sub(first))).collect(),
    )
}

/// A pod whose only container `app` has these keys beside its program.
fn pod(keys: &str, app: &str) -> String {
    format!("pods: [{{name: web, spec: {{restartPolicy: Never, {keys}, containers: [{app}]}}}}]")
}

const ALL_ENDED: &str = "observe: {for: 15s, until: {allEnded: true}, settle: 0ms}";
const HEEDS: &str = "trap \"exit 0\" TERM; while :; do sleep 0.02; done";
const IGNORES: &str = "trap \"\" TERM; while :; do sleep 0.02; done";

#[test]
fn a_second_deletion_shortens_the_grace_period_of_the_first() {
    if !is_root() {
        return;
    }
    let pod = pod("terminationGracePeriodSeconds: 12", &container("app", IGNORES, ""));
    let desk = Desk::with(
        "s",
        &format!(
            "{pod}\nactions: [{{at: 300ms, delete: {{pod: web}}}}, {{at: 800ms, delete: {{pod: web, gracePeriodSeconds: 3}}}}]\n{ALL_ENDED}\n\
             expect: {{terminations: [{{container: web/app, cause: grace-period}}]}}"
        ),
    );
    let (asked, sent) = signals(&desk.run(&[]).exits(0).record("s"), "app");
    assert_eq!(asked, [StopReason::Delete, StopReason::Delete]);
    assert!(matches!(sent[..], [(15, _), (9, 3_400..=6_000)]), "{sent:?}");
}

#[test]
fn a_deletion_shortens_what_a_failed_liveness_probe_has_begun() {
    if !is_root() {
        return;
    }
    let probe =
        ", livenessProbe: {exec: {command: [\"false\"]}, initialDelaySeconds: 1, failureThreshold: 1}";
    let pod = pod("terminationGracePeriodSeconds: 12", &container("app", IGNORES, probe));
    let desk = Desk::with(
        "s",
        &format!(
            "{pod}\nactions: [{{on: {{stopping: web/app}}, delay: 500ms, delete: {{pod: web, gracePeriodSeconds: 3}}}}]\n{ALL_ENDED}\n\
             expect: {{terminations: [{{container: web/app, cause: grace-period}}]}}"
        ),
    );
    let (asked, sent) = signals(&desk.run(&[]).exits(0).record("s"), "app");
    assert_eq!(asked, [StopReason::LivenessProbe, StopReason::Delete]);
    assert!(matches!(sent[..], [(15, _), (9, 3_400..=6_000)]), "{sent:?}");
}

#[test]
fn sigterm_comes_even_where_pre_stop_has_used_up_the_grace_period_or_there_is_none() {
    if !is_root() {
        return;
    }
    let hook = ", lifecycle: {preStop: {sleep: {seconds: 60}}}";
    for (grace, hook) in [(1, hook), (0, hook), (0, "")] {
        let pod = pod("terminationGracePeriodSeconds: 30", &container("app", HEEDS, hook));
        let desk = Desk::with(
            "s",
            &format!(
                "{pod}\nactions: [{{at: 300ms, delete: {{pod: web, gracePeriodSeconds: {grace}}}}}]\n{ALL_ENDED}\n\
                 expect: {{terminations: [{{container: web/app, exitCode: 0}}]}}"
            ),
        );
        let (_, sent) = signals(&desk.run(&[]).exits(0).record("s"), "app");
        let least = grace * 1000 - grace.min(1) * 100;
        assert!(matches!(sent[..], [(15, at)] if (least..least + 1_500).contains(&at)), "{grace}: {sent:?}");
    }
}

#[test]
fn the_least_time_between_sigterm_and_sigkill_is_two_seconds() {
    if !is_root() {
        return;
    }
    let pod = pod("terminationGracePeriodSeconds: 30", &container("app", IGNORES, ""));
    let desk = Desk::with(
        "s",
        &format!(
            "{pod}\nactions: [{{at: 300ms, delete: {{pod: web, gracePeriodSeconds: 0}}}}]\n{ALL_ENDED}\n\
             expect: {{terminations: [{{container: web/app, cause: grace-period}}]}}"
        ),
    );
    let (_, sent) = signals(&desk.run(&[]).exits(0).record("s"), "app");
    assert!(matches!(sent[..], [(15, _), (9, 1_900..=4_000)]), "{sent:?}");
}

#[test]
fn sidecars_are_stopped_last_to_first_in_what_is_left_of_the_pods_grace_period() {
    if !is_root() {
        return;
    }
    let sidecar = |name: &str| container(name, IGNORES, ", restartPolicy: Always");
    let keys = format!(
        "terminationGracePeriodSeconds: 30, initContainers: [{}, {}]",
        sidecar("first"),
        sidecar("second")
    );
    let pod = pod(&keys, &container("app", IGNORES, ""));
    let ends =
        ["app", "first", "second"].map(|name| format!("{{container: web/{name}, cause: grace-period}}"));
    let desk = Desk::with(
        "s",
        &format!(
            "{pod}\nactions: [{{at: 300ms, delete: {{pod: web, gracePeriodSeconds: 3}}}}]\n{ALL_ENDED}\nexpect: {{terminations: [{}]}}",
            ends.join(", ")
        ),
    );
    let record = desk.run(&[]).exits(0).record("s");
    let [app, second, first] = ["app", "second", "first"].map(|name| lives(&record, name)[1].1);
    // The main container takes all of the grace period; the kubelet leaves everyone after it 2 s.
    for wait in [second - app, first - second] {
        assert!((1_900..3_500).contains(&wait), "{app} {second} {first}");
    }
}

#[test]
fn a_pod_that_an_action_creates_starts_when_it_is_created() {
    if !is_root() {
        return;
    }
    let pod = |name: &str, script: &str| {
        let container = container(&format!("of-{name}"), script, "");
        format!("{{name: {name}, spec: {{restartPolicy: Never, containers: [{container}]}}}}")
    };
    let pods = [pod("first", "sleep 0.4"), pod("later", "true")].join(", ");
    let ends = "{container: first/of-first, exitCode: 0}, {container: later/of-later, exitCode: 0}";
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{pods}]\nactions: [{{on: {{ended: {{container: first/of-first}}}}, create: {{pod: later}}}}]\nobserve: {{for: 10s, until: {{allEnded: true}}}}\nexpect: {{terminations: [{ends}]}}"
        ),
    );
    let ran = desk.run(&[]).exits(0);
    let record = ran.record("s");
    let (first, later) = (lives(&record, "of-first"), lives(&record, "of-later"));
    assert!(later[0].1 >= first[1].1, "{first:?} {later:?}");
}
