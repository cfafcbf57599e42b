//! What only a cluster does: it tries starts again, and lowers limits without saying so.

use exit137::cause::Cause;
use exit137::diagnosis::Attribution;
use exit137::evidence::{ClusterFacts, End, Fact, LimitChanged, Moment, Source};

use crate::ablation::without;
use crate::laws::judge;
use crate::stream::{At, Log, Plan, Stream};

fn on_cluster(version: u8, minor: u32) -> Stream {
    let mut stream = Stream::on(version);
    stream.see(Source::Harness, Fact::Cluster(ClusterFacts { minor, ..ClusterFacts::default() }));
    stream
}

#[test]
fn a_start_that_succeeded_in_the_end_did_not_fail() {
    let mut stream = on_cluster(2, 33);
    let run = stream.make("web", "app", 0, Plan::default());
    stream.start_failed(&run, "container init was OOM-killed (memory limit too low?)", None);
    stream.wait(12_000);
    let run = stream.start("web", "app", Plan::default());
    let child = stream.child(&run);
    stream.wait(60_000);
    stream.oom(&run, child, At::Container, Log::Whole, &[]);
    let findings = judge(&stream.finish(&[&run]));
    assert_eq!(findings.terminations.len(), 0, "{findings:#?}");
    assert_eq!((findings.survivors.len(), findings.hidden_kills.len()), (1, 1), "{findings:#?}");
}

/// `web/app` is OOM-killed at its own limit, while this program runs.
fn killed_while_runs(context: &str, version: u8, minor: u32) -> Attribution {
    let mut stream = on_cluster(version, minor);
    let run = stream.start("web", "app", Plan::default());
    stream.context = Some(context.to_owned());
    stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
    stream.end(&run, End::Signaled(9));
    judge(&stream.finish(&[])).terminations[0].attribution.clone().unwrap()
}

#[test]
fn who_may_have_lowered_the_limit_leaves_it_open_whether_it_was() {
    for context in ["runc", "crun", "systemd", "kubelet"] {
        let found = killed_while_runs(context, 2, 33);
        assert_eq!(found.cause, Cause::Undetermined, "{found:#?}");
        assert!(found.explanation.contains(context), "{found:#?}");
        // v1 refuses such a limit, and so does a Kubernetes that never resizes.
        assert_eq!(killed_while_runs(context, 1, 33).cause, Cause::ContainerOom);
        assert_eq!(killed_while_runs(context, 2, 26).cause, Cause::ContainerOom);
    }
    assert_eq!(killed_while_runs("java", 2, 33).cause, Cause::ContainerOom);
}

/// `web/app` is OOM-killed while this program runs, and so long after a lower limit of it was found, half a second after the old one.
fn killed_after_a_lower_limit(context: &str, ms_after: i64) -> Attribution {
    let mut stream = on_cluster(2, 34);
    let run = stream.start("web", "app", Plan::default());
    let oom = |stream: &mut Stream| {
        stream.context = Some(context.to_owned());
        stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
    };
    stream.wait(1_000);
    if ms_after < 0 {
        oom(&mut stream);
    }
    stream.wait(ms_after.unsigned_abs());
    let moment = Moment::between(stream.now() - 500_000_000, stream.now());
    let changed =
        LimitChanged { cgroup: run.path(), from: Some(64 << 20), to: 32 << 20, writer: None, refused: None };
    stream.at(Source::Harness, moment, Fact::LimitChanged(changed));
    stream.wait(ms_after.unsigned_abs());
    if ms_after >= 0 {
        oom(&mut stream);
    }
    stream.end(&run, End::Signaled(9));
    judge(&stream.finish(&[])).terminations[0].attribution.clone().unwrap()
}

#[test]
fn a_limit_that_was_found_lower_tells_what_who_sets_limits_was_about() {
    for ms_after in [-200, 5, 700] {
        assert_eq!(killed_after_a_lower_limit("runc", ms_after).cause, Cause::ResizeOom, "{ms_after}");
    }
    // It may have been killed before, and it may have been killed by the write.
    for ms_after in [-200, 5] {
        assert_eq!(killed_after_a_lower_limit("java", ms_after).cause, Cause::Undetermined, "{ms_after}");
    }
    // It grew up to the lower limit.
    assert_eq!(killed_after_a_lower_limit("java", 700).cause, Cause::ContainerOom);
    // The limit was still the old one long after the kill.
    assert_eq!(killed_after_a_lower_limit("java", -800).cause, Cause::ContainerOom);
}

/// A group kill takes the main process and a child of it, which was chosen and is gone so soon that it counts once; nobody tells PIDs.
#[test]
fn two_deaths_in_a_group_kill_are_not_the_main_process_alone() {
    let mut stream = on_cluster(2, 33);
    let run = stream.start("web", "app", Plan { group: true, ..Plan::default() });
    stream.child(&run);
    stream.group_kill_of_two(&run);
    stream.end(&run, End::Signaled(9));
    let dark = [Source::Kmsg, Source::Trace, Source::Exits];
    let findings = judge(&without(&stream.finish(&[]), &dark));
    let found = findings.terminations[0].attribution.clone().unwrap();
    assert_ne!(found.cause, Cause::ContainerOom, "{found:#?}");
}
