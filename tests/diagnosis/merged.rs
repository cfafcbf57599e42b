//! An end that is told twice: by the node and by the API.

use exit137::cause::Cause;
use exit137::evidence::{ContainerEnded, End, Fact, Moment, Source};

use crate::laws::judge;
use crate::stream::{At, Log, Plan, Stream};

/// `web/app` is OOM-killed, of which the API tells by the second, and the node's word comes so many milliseconds later.
fn ends(node: End, later_ms: u64) -> (Option<i32>, Cause, bool) {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
    let end = |end, reason: Option<&str>| {
        let (container, reason) = (run.container.clone(), reason.map(str::to_owned));
        Fact::Ended(ContainerEnded { container, end, reason, invented: None, cpu_ms: None })
    };
    let second = Moment::between(stream.now() - 500_000_000, stream.now() + 500_000_000);
    stream.at(Source::Runtime, second, end(End::Code(137), Some("OOMKilled")));
    stream.wait(later_ms);
    stream.see(Source::Exits, end(node, None));
    let findings = judge(&stream.finish(&[]));
    assert_eq!(findings.terminations.len(), 1, "{findings:#?}");
    let told = &findings.terminations[0];
    let to_the_microsecond = told.ended_at.is_some_and(|at| at.moment.uncertainty() < 1_000_000);
    (told.end.map(End::exit_code), told.attribution.as_ref().unwrap().cause, to_the_microsecond)
}

#[test]
fn the_node_tells_when_and_whether_it_was_a_signal() {
    assert_eq!(ends(End::Signaled(9), 1), (Some(137), Cause::ContainerOom, true));
}

#[test]
fn the_end_of_a_later_process_of_the_same_pid_is_not_the_containers() {
    assert_eq!(ends(End::Exited(0), 5_000), (Some(137), Cause::ContainerOom, false));
    assert_eq!(ends(End::Signaled(15), 5_000), (Some(137), Cause::ContainerOom, false));
}
