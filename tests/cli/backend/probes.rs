//! When probes run, and what is left of them.

use exit137::evidence::Fact;

use crate::support::{Desk, is_root};

/// A pod `web` whose container `app` runs this script and has these probes.
fn app(script: &str, probes: &str) -> String {
    format!(
        "pods: [{{name: web, spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{{name: app, \
         command: [sh, -c, '{script}'], resources: {{limits: {{memory: 32Mi}}}}, {probes}}}]}}}}]"
    )
}

#[test]
fn an_exec_probe_that_times_out_leaves_none_of_its_processes_behind() {
    if !is_root() {
        return;
    }
    // Looks for the probe's child, and ends once that is gone.
    let script = "until p=$(pgrep -xo sleep); do :; done; while [ -d /proc/$p ]; do ls /proc/$p >/dev/null; done; true";
    let probe = "livenessProbe: {exec: {command: [sh, -c, 'sleep 77; true']}, periodSeconds: 1, failureThreshold: 100}";
    let desk = Desk::with(
        "s",
        &format!(
            "{}\nobserve: {{for: 10s, until: {{allEnded: true}}, settle: 0ms}}\nexpect: {{terminations: [{{container: web/app, exitCode: 0}}]}}",
            app(script, probe)
        ),
    );
    desk.run(&[]).exits(0);
}

#[test]
fn a_liveness_probes_initial_delay_counts_from_the_containers_start() {
    if !is_root() {
        return;
    }
    let probes = "startupProbe: {exec: {command: [sleep, '3']}, timeoutSeconds: 30}, \
                  livenessProbe: {exec: {command: ['false']}, initialDelaySeconds: 3, failureThreshold: 1}";
    let desk = Desk::with(
        "s",
        &format!(
            "{}\nobserve: {{for: 20s, until: {{allEnded: true}}, settle: 0ms}}\nexpect: {{terminations: [{{container: web/app, cause: liveness-probe}}]}}",
            app("sleep 60", probes)
        ),
    );
    let record = desk.run(&[]).exits(0).record("s");
    let at = |is: fn(&Fact) -> bool| {
        record.iter().find(|seen| is(&seen.fact)).unwrap().moment.middle() / 1_000_000
    };
    let started = at(|fact| matches!(fact, Fact::Started(_)));
    let failed = at(|fact| matches!(fact, Fact::ProbeFailed(_)));
    // After the startup probe's success it would be six seconds.
    assert!((3000..6000).contains(&(failed - started)), "it failed {} ms after the start", failed - started);
}
