//! Namespaces, user, environment, volumes, limits.

use exit137::evidence::fact::ProbeKind;
use exit137::evidence::{Fact, SourceState};

use crate::support::{Desk, Ran, is_root, limit_of, web};

/// Until all have ended, all of them with 0.
const ENDS: &str = "observe: {for: 10s, until: {allEnded: true}, settle: 0ms}";

/// Runs a container with this script, and these other keys, until it ends with 0; answers what it printed.
fn says(script: &str, keys: &str) -> String {
    let app = web(&format!("command: [sh, -ec, '{script}']{keys}"), "32Mi");
    let desk = Desk::with(
        "s",
        &format!("{app}\n{ENDS}\nexpect: {{terminations: [{{container: web/app, exitCode: 0}}]}}"),
    );
    desk.run(&[]).exits(0).log("s", "web-app-0")
}

#[test]
fn a_container_is_unprivileged_and_the_first_process_of_its_own_pid_namespace() {
    if !is_root() {
        return;
    }
    let said = says(
        "echo $$$$; id -u; id -g; id -G; grep NoNewPrivs /proc/self/status; ls -d /proc/[0-9]* | wc -l; pwd",
        "",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..5], ["1", "65534", "65534", "65534", "NoNewPrivs:\t1"]);
    assert!(lines[5].parse::<u32>().unwrap() <= 4, "it sees others' processes: {said}");
    assert_eq!(lines[6], "/");
}

#[test]
fn user_environment_arguments_and_working_directory_are_as_the_scenario_says() {
    if !is_root() {
        return;
    }
    let keys = ", args: [first, \"$(GREETING) you\"], workingDir: /usr, \
                env: [{name: GREETING, value: hello}, {name: TWICE, value: $(GREETING)-$(GREETING)}], \
                securityContext: {runAsUser: 1234, allowPrivilegeEscalation: true}";
    let said = says(
        "id -u; pwd; echo $TWICE; echo $0 $1; grep NoNewPrivs /proc/self/status; env | grep -c EXIT137 || true",
        keys,
    );
    assert_eq!(said, "1234\n/usr\nhello-hello\nfirst hello you\nNoNewPrivs:\t0\n0\n");
}

#[test]
fn path_and_hostname_are_the_runtimes() {
    if !is_root() {
        return;
    }
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/exit137";
    assert_eq!(says("echo $PATH $HOSTNAME", ""), format!("{path} web\n"));
    assert_eq!(says("echo $PATH", ", env: [{name: PATH, value: /bin}]"), "/bin\n");
}

#[test]
fn two_replicas_serve_on_the_same_port_and_every_kind_of_probe_reaches_them() {
    if !is_root() {
        return;
    }
    let probes = "startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 5}, \
                  livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 1}";
    let app = format!(
        "{{name: app, workload: {{serve: {{port: 8080, cap: 8Mi}}}}, resources: {{limits: {{memory: 32Mi}}}}, {probes}}}"
    );
    let desk = Desk::with(
        "twins",
        &format!(
            "pods: [{{name: web, replicas: 2, spec: {{containers: [{app}]}}}}]\nobserve: {{for: 2500ms}}\nexpect: {{nothingDies: true}}"
        ),
    );
    let exec = |name: &str, test: &str| {
        format!(
            "{{name: {name}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: app, command: [sleep, '60'], resources: {{limits: {{memory: 32Mi}}}}, \
             livenessProbe: {{exec: {{command: [sh, -c, '{test}']}}, periodSeconds: 1, failureThreshold: 1}}}}]}}}}"
        )
    };
    // An exec probe runs in the container's own PID namespace, whose first process is the container's.
    let well = exec("well", "grep -q sleep /proc/1/comm");
    desk.scenario(
        "exec-well",
        &format!("pods: [{well}]\nobserve: {{for: 1500ms}}\nexpect: {{nothingDies: true}}"),
    );
    let ill = exec("ill", "echo it hurts; exit 3");
    desk.scenario(
        "exec-ill",
        &format!("pods: [{ill}]\nobserve: {{for: 5s, until: {{terminations: 1}}, settle: 0ms}}\nexpect: {{terminations: [{{container: ill/app, cause: liveness-probe}}]}}"),
    );
    let ran = desk.run(&[]).exits(0);
    let failed: Vec<_> = ["twins", "exec-well", "exec-ill"].map(|name| probe_failures(&ran, name)).into();
    assert_eq!((failed[0].len(), failed[1].len()), (0, 0), "{failed:?}");
    assert!(failed[2][0].contains("it hurts"), "{failed:?}");
}

/// What failed liveness probes said; a startup probe may well fail at first.
fn probe_failures(ran: &Ran, scenario: &str) -> Vec<String> {
    let mut said = Vec::new();
    for seen in ran.record(scenario) {
        if let Fact::ProbeFailed(failed) = seen.fact
            && failed.probe == ProbeKind::Liveness
        {
            said.push(failed.message);
        }
    }
    said
}

#[test]
fn containers_of_a_pod_share_its_volumes_and_its_network_and_another_pod_has_neither() {
    if !is_root() {
        return;
    }
    let mounts = "volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]";
    let limit = "resources: {limits: {memory: 32Mi}}";
    let writes = "echo from the first > /disk/note; echo too > /memory/note; stat -f -c %T /memory; sleep 60";
    let reads = "until [ -s /memory/note ]; do sleep 0.05; done; cat /disk/note /memory/note; ls -l /proc/self/ns/net";
    let pod = |name: &str, volumes: &str, containers: String| {
        format!("{{name: {name}, spec: {{restartPolicy: Never, {volumes}containers: [{containers}]}}}}")
    };
    let sharing = pod(
        "sharing",
        "volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 4Mi}}], ",
        format!(
            "{{name: first, command: [sh, -ec, '{writes}'], {limit}, {mounts}}}, {{name: second, command: [sh, -ec, '{reads}'], {limit}, {mounts}}}"
        ),
    );
    let alone = pod(
        "alone",
        "",
        format!(
            "{{name: app, command: [sh, -c, 'ls /disk /memory 2>&1; ls -l /proc/self/ns/net'], {limit}}}"
        ),
    );
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{sharing}, {alone}]\nobserve: {{for: 10s, until: {{terminations: 2}}, settle: 0ms}}\n\
                  expect: {{terminations: [{{container: sharing/second, exitCode: 0}}, {{container: alone/app}}], survive: [sharing/first]}}"
        ),
    );
    let ran = desk.run(&[]).exits(0);
    let (second, alone) = (ran.log("s", "sharing-second-0"), ran.log("s", "alone-app-0"));
    assert!(second.starts_with("from the first\ntoo\n"), "{second}");
    assert_eq!(ran.log("s", "sharing-first-0"), "tmpfs\n");
    assert!(alone.contains("/disk") && alone.contains("No such file"), "{alone}");
    let namespace = |log: &str| log.rsplit_once("net:").unwrap().1.to_owned();
    assert_ne!(namespace(&second), namespace(&alone));
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!own.to_str().unwrap().contains(namespace(&second).trim()), "it has the host's network");
    assert!(!std::path::Path::new("/disk").exists(), "a mount point was left on the host");
}

#[test]
fn limits_and_scores_are_those_that_the_kubelet_would_set() {
    if !is_root() {
        return;
    }
    let container = |name: &str, resources: &str| {
        format!("{{name: {name}, workload: {{idle: {{}}}}, resources: {{{resources}}}}}")
    };
    let pod = |name: &str, containers: &[String]| {
        format!("{{name: {name}, spec: {{containers: [{}]}}}}", containers.join(", "))
    };
    let pods = [
        pod(
            "all",
            &[
                container("a", "limits: {memory: 24Mi}"),
                container("b", "requests: {memory: 16Mi}, limits: {memory: 40Mi}"),
            ],
        ),
        pod("some", &[container("a", "limits: {memory: 24Mi}"), container("b", "requests: {memory: 64Mi}")]),
        pod("guaranteed", &[container("a", "limits: {memory: 24Mi, cpu: 100m}")]),
        pod("besteffort", &[container("a", "")]),
        pod("cpu-only", &[container("a", "requests: {cpu: 100m}")]),
        "{name: whole, spec: {resources: {limits: {memory: 32Mi, cpu: 1}}, containers: [{name: a, workload: {idle: {}}}]}}".into(),
        "{name: shared, spec: {resources: {requests: {memory: 512Mi}}, containers: [{name: a, workload: {idle: {}}}]}}".into(),
    ];
    let desk = Desk::with(
        "s",
        &format!(
            "node: {{memory: 256Mi, capacity: 1Gi}}\npods: [{}]\nobserve: {{for: 100ms, settle: 0ms}}\nexpect: {{nothingDies: true}}",
            pods.join(", ")
        ),
    );
    let ran = desk.run(&[]).exits(0);
    let record = ran.record("s");
    let mebibytes = |end: &str| limit_of(&record, end).map(|limit| limit >> 20);
    assert_eq!(mebibytes("/node"), Some(256));
    assert_eq!(
        [mebibytes("/node/all"), mebibytes("all/a-0"), mebibytes("all/b-0")],
        [Some(64), Some(24), Some(40)]
    );
    // One container without a limit, and the pod has none.
    assert_eq!(
        [mebibytes("/node/some"), mebibytes("some/a-0"), mebibytes("some/b-0")],
        [None, Some(24), None]
    );
    assert_eq!(mebibytes("/node/besteffort"), None);

    let score = |pod: &str, container: &str| {
        let mut started = record
            .iter()
            .filter_map(|seen| if let Fact::Started(started) = &seen.fact { Some(started) } else { None });
        started
            .find(|s| s.container.pod == pod && s.container.container == container)
            .unwrap()
            .oom_score_adj
            .unwrap()
    };
    // 1000 - 1000 * request / capacity; a limit without a request is the request too.
    assert_eq!((score("all", "a"), score("all", "b"), score("some", "b")), (977, 985, 938));
    assert_eq!((score("besteffort", "a"), score("cpu-only", "a"), score("shared", "a")), (1000, 999, 500));
    for pod in ["guaranteed", "whole"] {
        assert!([-997, 0].contains(&score(pod, "a")), "{pod}: {}", score(pod, "a"));
    }
    if score("guaranteed", "a") == 0 {
        let notes = ran.trial("s")["notes"].to_string();
        assert!(notes.contains("oom_score_adj"), "that it could not be set is not said: {notes}");
    }
    let absent = record.iter().any(|seen| matches!(&seen.fact, Fact::Source(SourceState::Lost { .. })));
    assert!(!absent, "a source was lost");
}
