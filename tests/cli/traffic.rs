//! Real requests to real pods.

use exit137::evidence::{Fact, Observation};
use rustix::process::Signal;

use crate::support::{Desk, Live, Ran, children, is_root, kill, until, web};

const MS: u64 = 1_000_000;

/// A pod that serves on 8080, with what else its spec and its container say.
fn server(name: &str, serve: &str, limit: &str, more: &str) -> String {
    format!(
        "{{name: {name}, spec: {{containers: [{{name: app, workload: {{serve: {{port: 8080, {serve}}}}}, \
         resources: {{limits: {{memory: {limit}}}}}{more}}}]}}}}"
    )
}

/// So many users for so long, 300 ms after the start.
fn users(name: &str, to: &str, vus: u32, duration: &str, more: &str) -> String {
    format!(
        "{{name: {name}, to: {to}, port: 8080, startTime: 300ms, executor: constant-vus, vus: {vus}, duration: {duration}{more}}}"
    )
}

/// The windows of a traffic.
fn windows<'a>(
    record: &'a [Observation],
    traffic: &'a str,
) -> impl Iterator<Item = &'a exit137_workload::traffic::Window> {
    record.iter().filter_map(move |seen| {
        let Fact::TrafficWindow(window) = &seen.fact else { return None };
        (window.of.traffic == traffic).then_some(&*window.window)
    })
}

/// Servers that hold so many MiB are killed while each of eight requests waits for its answer.
fn kill_servers_that_hold(sizes: [u64; 4]) -> (Desk, Ran) {
    let serve = |size: u64| format!("holdPerRequest: {}Ki, holdFor: 5s, cap: {}Mi", size * 128, size + 8);
    let name = |size: u64| format!("holds-{size}");
    let each = |make: &dyn Fn(u64) -> String| sizes.map(make).join(", ");
    let pods = each(&|size| server(&name(size), &serve(size), &format!("{}Mi", size + 32), ""));
    let traffic =
        each(&|size| users(&name(size), &format!("{}/app", name(size)), 8, "2s", ", gracefulStop: 0s"));
    let actions = each(&|size| {
        format!(
            "{{on: {{started: {{container: {0}/app}}}}, delay: {1}ms, kill: {{container: {0}/app}}}}",
            name(size),
            1_500 + size
        )
    });
    let ends = each(&|size| format!("{{container: {}/app, cause: external-kill}}", name(size)));
    let desk = Desk::with(
        "kills",
        &format!(
            "backOff: {{scale: 0.01}}\npods: [{pods}]\ntraffic: [{traffic}]\nactions: [{actions}]\n\
             observe: {{for: 2500ms}}\nexpect: {{terminations: [{ends}]}}"
        ),
    );
    let ran = desk.run(&[]).exits(0);
    (desk, ran)
}

/// `EXIT137_KILLS=50` measures more than the few that a test has time for.
#[test]
fn a_client_sees_the_first_reset_between_the_kill_and_the_end_of_what_held_the_memory() {
    if !is_root() {
        return;
    }
    let wanted = std::env::var("EXIT137_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4);
    let mut kills = 0;
    while kills < wanted {
        let (_desk, ran) = kill_servers_that_hold([16, 64, 128, 256]);
        let record = ran.record("kills");
        let ends = ran.trial("kills")["terminations"].as_array().unwrap().clone();
        assert_eq!(ends.len(), 4);
        for end in &ends {
            let name = end["container"]["pod"].as_str().unwrap();
            let at = |key: &str| {
                let time = &end[key];
                let (middle, error) =
                    (time["bootNs"].as_u64().unwrap(), time["uncertaintyNs"].as_u64().unwrap());
                (middle - error, middle + error)
            };
            let (killed, ended) = (at("killedAt").0, at("endedAt").1);
            // Of all that was ever reset, whether or not the diagnosis gives it to this kill.
            let reset = windows(&record, name).filter_map(|window| window.first_reset_ns).min();
            let reset = reset.unwrap_or_else(|| panic!("{name}: nothing was reset: {end:#}"));
            assert!(reset >= killed, "{name}: reset {} us before the kill", (killed - reset) / 1_000);
            assert!(reset <= ended + 5 * MS, "{name}: reset {} us after the end", (reset - ended) / 1_000);
            let (after, of) = ((reset - killed) / 1_000, (ended - killed) / 1_000);
            println!("{name}: reset {after} us after the kill, reaped {of} us after it");
            kills += 1;
        }
    }
}

fn is_generator(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"traffic")
}

#[test]
fn a_generator_that_is_killed_leaves_what_is_expected_of_its_traffic_open() {
    if !is_root() {
        return;
    }
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{}]\ntraffic: [{}]\nobserve: {{for: 5s}}\n\
             expect: {{nothingDies: true, traffic: [{{of: main, http_req_failed: rate<=1}}]}}",
            server("web", "cap: 8Mi", "32Mi", ""),
            users("main", "web/app", 2, "4s", "")
        ),
    );
    let live = Live::start(&desk, "s", &[]);
    let harness = live.child.id();
    let generator =
        until("a generator runs", || children(harness).into_iter().find(|pid| is_generator(*pid)));
    kill(generator, Signal::KILL);
    let (ran, left) = live.end();
    let ran = ran.exits(5);
    left.until_gone();
    let reasons = ran.trial("s")["reasons"].to_string();
    assert!(reasons.contains("generator 0 ended before it was done, killed by signal 9"), "{reasons}");
}

/// A run that goes on, with a generator among the harness's helpers.
fn endless_traffic(desk: &Desk) -> Live {
    let live = Live::start(desk, "s", &[]);
    assert!(children(live.child.id()).into_iter().any(is_generator));
    live
}

fn desk_with_endless_traffic() -> Desk {
    Desk::with(
        "s",
        &format!(
            "pods: [{}]\ntraffic: [{}]\nobserve: {{for: 60s}}\nexpect: {{nothingDies: true}}",
            server("web", "cap: 8Mi", "32Mi", ""),
            users("main", "web/app", 2, "50s", "")
        ),
    )
}

#[test]
fn a_harness_that_is_killed_takes_its_generators_with_it() {
    if !is_root() {
        return;
    }
    let desk = desk_with_endless_traffic();
    let live = endless_traffic(&desk);
    live.signal(Signal::KILL);
    live.end().1.until_gone();
}

#[test]
fn an_interrupt_ends_traffic_too_and_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let desk = desk_with_endless_traffic();
    let live = endless_traffic(&desk);
    live.signal(Signal::INT);
    let began = exit137::clock::boot_ns();
    let (ran, left) = live.end();
    assert!(exit137::clock::boot_ns() - began < 5_000 * MS);
    ran.exits(130);
    assert_eq!(left.now(), [""; 0]);
}

#[test]
fn requests_where_nobody_listens_are_refused_and_a_threshold_says_so() {
    if !is_root() {
        return;
    }
    let desk = Desk::with(
        "s",
        &format!(
            "{}\ntraffic: [{{name: main, to: web/app, port: 8080, generators: 3, executor: constant-arrival-rate, rate: 50, duration: 1s, maxVUs: 10}}]\n\
             observe: {{for: 1s}}\nexpect: {{nothingDies: true, traffic: [{{of: main, http_req_failed: rate<0.01}}]}}",
            web("workload: {idle: {}}", "16Mi")
        ),
    );
    let trial = desk.run(&[]).exits(1).trial("s");
    let traffic = &trial["traffic"][0]["whole"];
    // Three generators together send exactly the load.
    assert_eq!((&traffic["due"], &traffic["requests"]), (&50.into(), &50.into()), "{traffic:#}");
    assert_eq!(traffic["outcomes"]["refused"], 50, "{traffic:#}");
    assert_eq!(trial["mismatches"][0]["expected"], "rate<0.01");
    assert_eq!(trial["mismatches"][0]["actual"], "1.0000");
}

#[test]
fn a_pod_that_is_deleted_is_sent_nothing_new_and_the_other_replica_answers() {
    if !is_root() {
        return;
    }
    let pod = server("web", "holdFor: 5ms, cap: 8Mi", "32Mi", "").replace("spec:", "replicas: 2, spec:");
    // It goes on to answer until its grace period is over; nothing is in flight to it by then.
    let pod = pod
        .replace("serve:", "onTerm: ignore, serve:")
        .replace("containers:", "terminationGracePeriodSeconds: 2, containers:");
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{pod}]\ntraffic: [{}]\nactions: [{{at: 1s, delete: {{pod: web-0}}}}]\nobserve: {{for: 4s}}\n\
             expect: {{terminations: [{{container: web-0/app, cause: grace-period}}], survive: [web-1/app], \
             traffic: [{{of: main, http_req_failed: count<1, http_reqs: count>=100}}, {{of: main, over: {{around: web-0/app}}, recovery: <100ms}}]}}",
            users("main", "web/app", 2, "3500ms", "")
        ),
    );
    desk.run(&[]).exits(0);
}

#[test]
fn a_container_whose_readiness_probe_fails_is_sent_nothing_and_lives() {
    if !is_root() {
        return;
    }
    let probe =
        ", readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 1}";
    let desk = Desk::with(
        "s",
        &format!(
            "pods: [{}]\ntraffic: [{}]\nobserve: {{for: 5s}}\n\
             expect: {{nothingDies: true, traffic: [{{of: main, over: {{stage: 0}}, http_req_failed: rate<0.3}}, {{of: main, http_reqs: count>1}}]}}",
            server("web", "cap: 8Mi, unhealthyAfter: 2s", "32Mi", probe),
            "{name: main, to: web/app, port: 8080, startTime: 500ms, executor: ramping-arrival-rate, startRate: 50, maxVUs: 10, \
             stages: [{target: 50, duration: 1s}, {target: 50, duration: 2s}, {target: 50, duration: 1s}]}"
        ),
    );
    let ran = desk.run(&[]).exits(0);
    let record = ran.record("s");
    let last: Vec<_> = windows(&record, "main").filter(|window| window.stage == 2).collect();
    let outcomes = |of: fn(&exit137_workload::traffic::Outcomes) -> u64| {
        last.iter().map(|window| of(&window.outcomes)).sum::<u64>()
    };
    assert!(outcomes(|o| o.refused) > 0 && outcomes(|o| o.success) == 0, "{last:#?}");
}
