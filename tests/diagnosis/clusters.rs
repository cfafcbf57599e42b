//! What only a cluster does: it tries starts again, and lowers limits without saying so.

use exit137::cause::Cause;
use exit137::diagnosis::Attribution;
use exit137::evidence::{ClusterFacts, End, Fact, Source};

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
