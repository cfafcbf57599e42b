//! An end that nobody saw: what was gone before the tear-down has not survived, and how it ended is open.

use exit137::cause::Cause;
use exit137::diagnosis::{Findings, Verdict};
use exit137::evidence::{
    CgroupOwner, ContainerRef, End, Fact, Observation, PodOver, PodSign, PodStopping, Source, StopReason,
};
use exit137::report::model::Outcome;
use exit137::scenario::Expect;
use proptest::prelude::*;

use crate::ablation::without;
use crate::laws::judge;
use crate::pidless::as_the_api_tells;
use crate::recorded::recorded_on_kind;
use crate::stream::{Plan, Run, Stream};
use crate::verdicts::{app, ends_by, expecting, passes};

/// How it shows that a container is no more.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shown {
    CgroupGone,
    Phase,
    Removed,
    Nothing,
}

/// The record less what tells how these runs ended.
fn untold(observations: &[Observation], runs: &[ContainerRef]) -> Vec<Observation> {
    let ends = |seen: &Observation| match &seen.fact {
        Fact::Ended(ended) => runs.contains(&ended.container),
        _ => false,
    };
    observations.iter().filter(|seen| !ends(seen)).cloned().collect()
}

/// A pod that meets its deadline, of which no status is updated; it is torn down `before` or after that.
fn deadline(shown: Shown, torn_down_before: bool) -> Vec<Observation> {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    let tear_down = |stream: &mut Stream, run: &Run| stream.stop(run, StopReason::TearDown, 0);
    let (pod, message) = ("web".to_owned(), "longer than the specified deadline".to_owned());
    let stop = PodStopping { pod: pod.clone(), reason: StopReason::Deadline, grace_ms: Some(2_000), message };
    stream.see(Source::Kubelet, Fact::PodStopping(stop));
    if torn_down_before {
        tear_down(&mut stream, &run);
    }
    stream.wait(2_000);
    let over = |sign| Fact::PodOver(PodOver { pod, sign });
    match shown {
        Shown::CgroupGone => stream.end(&run, End::Signaled(9)),
        Shown::Phase => stream.see(Source::Runtime, over(PodSign::Failed)),
        Shown::Removed => stream.see(Source::Runtime, over(PodSign::Removed)),
        Shown::Nothing => {}
    }
    stream.wait(500);
    if !torn_down_before {
        tear_down(&mut stream, &run);
    }
    let container = run.container.clone();
    untold(&stream.finish(&[]), &[container])
}

fn survivors_and_ends(findings: &Findings) -> (usize, usize) {
    (findings.survivors.len(), findings.terminations.len())
}

fn reasons(verdict: Verdict) -> String {
    match verdict {
        Verdict::Inconclusive { reasons } => reasons.join("\n"),
        Verdict::Pass | Verdict::Fail { .. } => panic!("{verdict:#?}"),
    }
}

#[test]
fn what_was_gone_before_the_tear_down_has_not_lived_and_why_it_ended_is_open() {
    for shown in [Shown::CgroupGone, Shown::Phase, Shown::Removed] {
        let observations = deadline(shown, false);
        let findings = judge(&observations);
        assert_eq!(survivors_and_ends(&findings), (0, 1), "{shown:?} {findings:#?}");
        let end = &findings.terminations[0];
        let found = end.attribution.as_ref().unwrap();
        assert!(end.unseen && end.end.is_none(), "{end:#?}");
        assert_eq!(found.cause, Cause::Undetermined, "{found:#?}");
        assert!(found.missing.iter().any(|missing| missing.source == Source::Runtime), "{found:#?}");
        let mut backwards = observations;
        backwards.reverse();
        assert_eq!(judge(&backwards), findings, "{shown:?}");
    }
}

#[test]
fn an_end_that_nobody_saw_leaves_the_verdict_open_whatever_was_expected() {
    let mut late = ends_by(Cause::Deadline, (1, 1));
    (late.exit_code, late.sender) = (Some(137), Some("runc".to_owned()));
    let any = exit137::scenario::ExpectedTermination { cause: None, ..ends_by(Cause::Deadline, (1, 1)) };
    let survive = Expect { survive: vec![app()], ..Expect::default() };
    let expectations = [
        expecting(ends_by(Cause::Deadline, (1, 1))),
        expecting(late),
        expecting(any),
        expecting(ends_by(Cause::ContainerOom, (2, 3))),
        survive,
        Expect::default(),
    ];
    for shown in [Shown::CgroupGone, Shown::Phase, Shown::Removed] {
        let observations = deadline(shown, false);
        for expect in &expectations[..3] {
            let why = reasons(passes(expect, &observations));
            assert!(why.contains("nobody") && !why.contains("did not happen"), "{shown:?}: {why}");
        }
        for expect in &expectations[4..] {
            assert!(reasons(passes(expect, &observations)).contains("nobody told"), "{shown:?}");
        }
    }
}

#[test]
fn what_went_with_the_tear_down_or_never_went_has_lived() {
    for shown in [Shown::CgroupGone, Shown::Phase, Shown::Removed, Shown::Nothing] {
        let findings = judge(&deadline(shown, true));
        assert_eq!(survivors_and_ends(&findings), (1, 0), "{shown:?} {findings:#?}");
    }
    let findings = judge(&without(&deadline(Shown::Nothing, false), &[Source::Memcg]));
    assert_eq!(survivors_and_ends(&findings), (1, 0), "{findings:#?}");
}

#[test]
fn a_sigkill_that_was_seen_does_not_make_up_for_an_end_that_nobody_told() {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    stream.kill((77, "crictl"), run.pid);
    stream.end(&run, End::Signaled(9));
    stream.wait(500);
    stream.stop(&run, StopReason::TearDown, 0);
    let findings = judge(&untold(&stream.finish(&[]), std::slice::from_ref(&run.container)));
    assert_eq!(survivors_and_ends(&findings), (0, 1), "{findings:#?}");
    let end = &findings.terminations[0];
    assert!(end.unseen && end.attribution.as_ref().unwrap().cause == Cause::Undetermined, "{end:#?}");
}

/// Whether this run's cgroup was no more before the tear-down. Where the end itself brings the tear-down about it still was.
fn gone_before_the_tear_down(observations: &[Observation], run: &ContainerRef) -> bool {
    let torn_down = observations.iter().find_map(|seen| match &seen.fact {
        Fact::Stopping(stop) if stop.container == *run && stop.reason == StopReason::TearDown => {
            Some(seen.moment.earliest())
        }
        _ => None,
    });
    let path = observations.iter().find_map(|seen| match &seen.fact {
        Fact::Cgroup(made) if made.owner == CgroupOwner::Container(run.clone()) => Some(made.path.clone()),
        _ => None,
    });
    observations.iter().any(|seen| match &seen.fact {
        Fact::Counters(counters) => {
            let of_it = counters.last && Some(&counters.cgroup) == path.as_ref();
            of_it && torn_down.is_none_or(|torn_down| seen.moment.earliest() < torn_down)
        }
        _ => false,
    })
}

/// Whatever of a recorded run's ends nobody told.
fn holds_without(run: usize, chosen: &[prop::sample::Index], taken: &[Source]) {
    let run = &recorded_on_kind()[run];
    // Who did not hear of the others' ends from the node waited for the API's word.
    let observations = as_the_api_tells(&run.kept.observations);
    let whole = judge(&observations);
    let ended: Vec<ContainerRef> = whole
        .terminations
        .iter()
        .map(|end| end.container.clone())
        .filter(|container| gone_before_the_tear_down(&observations, container))
        .collect();
    if ended.is_empty() {
        return;
    }
    let chosen: Vec<ContainerRef> = chosen.iter().map(|index| index.get(&ended).clone()).collect();
    let less = without(&untold(&observations, &chosen), taken);
    let part = judge(&less);
    for container in &chosen {
        let named = format!("{} of {} without {taken:?}", container, run.name);
        assert!(!part.survivors.contains(container), "{named} survived");
        // What could not be started is told of by nobody else.
        let Some(end) = part.terminations.iter().find(|end| end.container == *container) else { continue };
        let before = whole.terminations.iter().find(|end| end.container == *container).unwrap();
        let found = end.attribution.as_ref().map(|found| found.cause);
        let was = before.attribution.as_ref().map(|found| found.cause);
        assert!(found == Some(Cause::Undetermined) || found == was, "{named}: {was:?}, now {end:#?}");
    }
    let report = run.report(less, u64::MAX);
    assert!(
        matches!(report.outcome, Outcome::Passed | Outcome::Inconclusive),
        "{} without the ends of {chosen:?} and {taken:?}: {:#?}",
        run.name,
        report.mismatches
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_run_on_kind_whose_end_nobody_told_never_survived_and_never_did_not_happen(
        run in 0..recorded_on_kind().len(),
        chosen in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        pidless in any::<bool>(),
    ) {
        let dark: &[Source] = if pidless { &[Source::Trace, Source::Exits] } else { &[Source::Exits] };
        holds_without(run, &chosen, dark);
        holds_without(run, &chosen, &[]);
    }
}
