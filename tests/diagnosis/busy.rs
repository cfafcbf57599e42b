//! Kills that the OOM killer comes to late, because others are before them.

use exit137::cause::{Cause, Confidence};
use exit137::diagnosis::Attribution;
use exit137::evidence::{End, Source};

use crate::laws::judge;
use crate::stream::{At, Log, Plan, Stream};

/// Memory runs out at a level, and the kernel kills `web/app` five seconds later without a summary. Meanwhile, it is busy with others.
fn killed_late(at: At, busy: bool) -> Attribution {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    stream.notify(&run, at);
    for _ in 0..10 {
        stream.wait(500);
        if busy {
            stream.foreign_oom(Log::NoSummary);
        }
    }
    stream.oom_at_last(&run, run.pid, at, Log::NoSummary, &[]);
    stream.end(&run, End::Signaled(9));
    let findings = judge(&stream.finish(&[]));
    findings.terminations[0].attribution.clone().unwrap()
}

fn is_open_for_want_of_a_summary(found: &Attribution) -> bool {
    found.cause == Cause::Undetermined && found.missing.iter().any(|missing| missing.source == Source::Kmsg)
}

#[test]
fn who_waited_for_the_oom_killer_is_known_by_the_notification_from_before() {
    for at in [At::Container, At::Pod] {
        let found = killed_late(at, true);
        assert_eq!((found.cause, found.confidence), (Cause::ContainerOom, Confidence::High), "{found:#?}");
    }
}

#[test]
fn an_old_notification_is_nothing_where_the_oom_killer_was_idle() {
    let found = killed_late(At::Container, false);
    assert!(is_open_for_want_of_a_summary(&found), "{found:#?}");
}

#[test]
fn an_old_notification_of_the_node_may_have_been_for_another() {
    let found = killed_late(At::Node, true);
    assert!(is_open_for_want_of_a_summary(&found), "{found:#?}");
}
