//! A 137 that the kubelet made up never passes for a kill, and never hides one.

use exit137::cause::{Cause, Confidence};
use exit137::diagnosis::{Attribution, Findings, Termination};
use exit137::evidence::{
    ContainerEnded, End, Fact, Invented, Moment, Observation, ProbeKind, Source, StopReason,
};

use crate::ablation::without;
use crate::laws::judge;
use crate::stream::{At, Log, Plan, Run, Stream};

const DARK: [Source; 3] = [Source::Trace, Source::Exits, Source::Kmsg];

/// A run of `web/app` in which something happens before the kubelet says that it has lost the container.
fn lost(what: impl FnOnce(&mut Stream, &Run)) -> Vec<Observation> {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    what(&mut stream, &run);
    stream.wait(1_500);
    let invented = ContainerEnded {
        container: run.container.clone(),
        end: End::Code(137),
        reason: Some("ContainerStatusUnknown".to_owned()),
        invented: Some(Invented::StatusUnknown),
        cpu_ms: None,
    };
    let told = stream.now();
    stream.at(Source::Runtime, Moment::between(0, told), Fact::Ended(invented));
    stream.finish(&[])
}

/// The node's own word of an end.
fn exits(stream: &mut Stream, run: &Run, end: End) {
    let container = run.container.clone();
    let ended = ContainerEnded { container, end, reason: None, invented: None, cpu_ms: None };
    stream.see(Source::Exits, Fact::Ended(ended));
}

fn only(findings: &Findings) -> (&Termination, &Attribution) {
    assert_eq!(findings.terminations.len(), 1, "{findings:#?}");
    let end = &findings.terminations[0];
    (end, end.attribution.as_ref().unwrap())
}

fn says_it_was_made_up(found: &Attribution) -> bool {
    found.also_seen.iter().any(|seen| seen.contains("made its 137 up"))
}

#[test]
fn an_end_that_only_the_kubelet_tells_of_is_its_invention() {
    let observations = lost(|_, _| {});
    let findings = judge(&observations);
    let (end, found) = only(&findings);
    assert_eq!((found.cause, found.confidence), (Cause::Synthetic, Confidence::High), "{found:#?}");
    assert_eq!((end.end.map(End::exit_code), end.killed_at), (Some(137), None));

    let findings = judge(&without(&observations, &DARK));
    let (_, found) = only(&findings);
    assert_eq!((found.cause, found.confidence), (Cause::Synthetic, Confidence::Medium), "{found:#?}");
    for source in DARK {
        assert!(found.missing.iter().any(|missing| missing.source == source), "{source} {found:#?}");
    }
}

#[test]
fn an_exit_with_0_that_became_137_is_an_invention_and_says_what_happened() {
    let findings = judge(&lost(|stream, run| exits(stream, run, End::Exited(0))));
    let (end, found) = only(&findings);
    assert_eq!((found.cause, found.confidence), (Cause::Synthetic, Confidence::Certain), "{found:#?}");
    assert!(found.explanation.contains("exited by itself with 0"), "{}", found.explanation);
    assert_eq!(end.end, Some(End::Exited(0)));
    let ended = end.ended_at.unwrap().moment;
    assert!(ended.uncertainty() < 1_000_000, "the invention has no moment: {ended:?}");
}

#[test]
fn a_kill_that_the_node_saw_is_told_by_its_cause_and_the_invention_beside_it() {
    let observations = lost(|stream, run| {
        stream.kill((77, "crictl"), run.pid);
        exits(stream, run, End::Signaled(9));
    });
    for taken in [vec![], vec![Source::Exits], vec![Source::Kmsg, Source::Memcg]] {
        let findings = judge(&without(&observations, &taken));
        let (_, found) = only(&findings);
        assert_eq!(found.cause, Cause::ExternalKill, "without {taken:?}: {found:#?}");
        assert!(says_it_was_made_up(found), "{found:#?}");
    }
}

#[test]
fn an_oom_kill_that_any_one_source_names_is_no_invention() {
    let observations = lost(|stream, run| {
        stream.oom(run, run.pid, At::Container, Log::Whole, &[]);
        exits(stream, run, End::Signaled(9));
    });
    for taken in [vec![], vec![Source::Exits], vec![Source::Exits, Source::Trace], vec![Source::Kmsg]] {
        let findings = judge(&without(&observations, &taken));
        let (_, found) = only(&findings);
        assert_eq!(found.cause, Cause::ContainerOom, "without {taken:?}: {found:#?}");
        assert!(says_it_was_made_up(found), "{found:#?}");
    }
    // The counter alone does not say that it was the main process.
    let findings = judge(&without(&observations, &DARK));
    let (_, found) = only(&findings);
    assert_eq!(found.cause, Cause::Undetermined, "{found:#?}");
}

#[test]
fn a_decision_to_stop_does_not_turn_an_invention_into_a_kill() {
    for reason in [StopReason::Delete, StopReason::LivenessProbe] {
        let observations = lost(|stream, run| {
            stream.probe_fails(run, ProbeKind::Liveness);
            stream.stop(run, reason, 1_000);
        });
        for taken in [vec![], DARK.to_vec()] {
            let findings = judge(&without(&observations, &taken));
            let (_, found) = only(&findings);
            assert_eq!(found.cause, Cause::Synthetic, "{reason:?} without {taken:?}: {found:#?}");
        }
    }
}

#[test]
fn what_is_lost_in_the_tear_down_survived() {
    let mut observations = lost(|stream, run| stream.stop(run, StopReason::TearDown, 100));
    let findings = judge(&observations);
    assert_eq!((findings.terminations.len(), findings.survivors.len()), (0, 1), "{findings:#?}");
    observations.reverse();
    assert_eq!(judge(&observations), findings);
}

#[test]
fn two_runs_that_the_kubelet_gave_one_number_are_not_told_of_as_one() {
    let ended = |end: fn(&mut Stream, &Run)| {
        let mut stream = Stream::on(1);
        let run = stream.start("web", "app", Plan::default());
        end(&mut stream, &run);
        stream.finish(&[])
    };
    for mut observations in [
        ended(|stream, run| exits(stream, run, End::Exited(0))),
        ended(|stream, run| {
            stream.oom(run, run.pid, At::Container, Log::Whole, &[]);
            exits(stream, run, End::Signaled(9));
        }),
    ] {
        let first = observations.iter().position(|seen| matches!(seen.fact, Fact::Started(_))).unwrap();
        let mut next = observations[first].clone();
        for (seen, id) in [(&mut observations[first], "a1"), (&mut next, "b2")] {
            let Fact::Started(start) = &mut seen.fact else { panic!("{seen:?}") };
            start.id = Some(id.to_owned());
        }
        next.sequence = observations.len() as u64;
        observations.push(next);
        let findings = judge(&observations);
        let (_, found) = only(&findings);
        assert_eq!(found.cause, Cause::Undetermined, "{found:#?}");
        assert!(found.explanation.contains("a1, b2"), "{}", found.explanation);
    }
}
