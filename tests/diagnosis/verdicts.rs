//! What happened against what was expected.

use exit137::cause::{Cause, Confidence};
use exit137::diagnosis::{Judged, Verdict, judge as verdict};
use exit137::evidence::{Breakdown, End, Fact, Observation, Sample, Source, SourceState};
use exit137::scenario::{
    Bound, Comparison, ContainerSelector, Expect, ExpectedHiddenKills, ExpectedRestarts, ExpectedTermination,
    Measure, Operator, Reference, Window,
};
use exit137::statistics::MemorySummaries;

use crate::ablation::{dying, without};
use crate::laws::judge;
use crate::stream::{At, Log, MIB, Plan, Stream};

pub fn app() -> ContainerSelector {
    ContainerSelector { pod: "web".to_owned(), container: "app".to_owned() }
}

pub fn ends_by(cause: Cause, times: (u32, u32)) -> ExpectedTermination {
    ExpectedTermination {
        container: app(),
        cause: Some(cause),
        detail: None,
        confidence: Confidence::High,
        exit_code: None,
        sender: None,
        within: None,
        memory_at_death: None,
        instance: None,
        times,
    }
}

pub fn expecting(termination: ExpectedTermination) -> Expect {
    Expect { terminations: vec![termination], ..Expect::default() }
}

fn memory(observations: &[Observation], samples: &[Sample]) -> MemorySummaries {
    let mut memory = MemorySummaries::default();
    for observation in observations {
        memory.observe(observation);
    }
    for sample in samples {
        memory.sample(sample);
    }
    memory
}

pub fn passes(expect: &Expect, observations: &[Observation]) -> Verdict {
    judged(expect, observations, &[], false)
}

fn judged(expect: &Expect, observations: &[Observation], samples: &[Sample], timed_out: bool) -> Verdict {
    let findings = judge(observations);
    let memory = memory(observations, samples);
    verdict(&Judged { expect, pods: &[], findings: &findings, memory: &memory, timed_out })
}

/// Every run of `web/app` in its turn OOM-killed, killed by hand, or exiting with 1.
fn runs(how: &[&str]) -> Vec<Observation> {
    let mut stream = Stream::on(2);
    for (instance, how) in how.iter().enumerate() {
        let run = stream.start_instance("web", "app", u32::try_from(instance).unwrap(), Plan::default());
        match *how {
            "oom" => stream.oom(&run, run.pid, At::Container, Log::Whole, &[]),
            "kill" => stream.kill((77, "exit137-action"), run.pid),
            _ => {}
        }
        let end = if *how == "exit" { End::Exited(1) } else { End::Signaled(9) };
        stream.end(&run, end);
    }
    stream.finish(&[])
}

fn lives(play: impl FnOnce(&mut Stream, &crate::stream::Run)) -> Vec<Observation> {
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan::default());
    play(&mut stream, &run);
    stream.finish(&[&run])
}

fn what(verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Fail { mismatches, .. } => mismatches.iter().map(|mismatch| mismatch.what.clone()).collect(),
        Verdict::Pass | Verdict::Inconclusive { .. } => panic!("{verdict:#?}"),
    }
}

fn reasons(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Inconclusive { reasons } => reasons.join("\n"),
        Verdict::Pass | Verdict::Fail { .. } => panic!("{verdict:#?}"),
    }
}

#[test]
fn what_was_expected_and_nothing_else_passes() {
    let expect = expecting(ends_by(Cause::ContainerOom, (1, 1)));
    assert_eq!(passes(&expect, &runs(&["oom"])), Verdict::Pass);
    let expect = Expect { survive: vec![app()], ..Expect::default() };
    assert_eq!(passes(&expect, &lives(|_, _| {})), Verdict::Pass);
}

#[test]
fn what_stays_open_is_told_beside_what_failed() {
    let headroom = Bound {
        container: app(),
        measure: Measure::PressureFull,
        comparison: Comparison { operator: Operator::Less, reference: Reference::Number(5.0) },
        text: "pressure full < 5%".to_owned(),
    };
    let expect = Expect { bounds: vec![headroom], ..expecting(ends_by(Cause::NodeOom, (1, 1))) };
    let Verdict::Fail { open, .. } = passes(&expect, &runs(&["oom"])) else { panic!("it passed") };
    assert!(open.join("\n").contains("pressure full < 5%: no data"), "{open:?}");
}

#[test]
fn another_cause_fails_with_expected_beside_actual_and_the_evidence() {
    let verdict = passes(&expecting(ends_by(Cause::NodeOom, (1, 1))), &runs(&["oom"]));
    let Verdict::Fail { mismatches, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(mismatches.len(), 1, "{mismatches:#?}");
    assert_eq!(mismatches[0].expected, "node-oom");
    assert!(mismatches[0].actual.starts_with("container-oom"));
    assert!(!mismatches[0].evidence.is_empty());
}

#[test]
fn a_termination_that_nobody_expected_fails() {
    let verdict = passes(&Expect::default(), &runs(&["oom"]));
    assert_eq!(what(&verdict), ["unexpected termination of web/app#0"]);
    let verdict = passes(&expecting(ends_by(Cause::ContainerOom, (1, 1))), &runs(&["oom", "kill"]));
    assert_eq!(what(&verdict), ["unexpected termination of web/app#1"]);
}

#[test]
fn a_termination_that_did_not_come_fails() {
    let verdict = passes(&expecting(ends_by(Cause::ContainerOom, (1, 1))), &lives(|_, _| {}));
    assert_eq!(what(&verdict), ["termination of web/app"]);
    let verdict = passes(&expecting(ends_by(Cause::ContainerOom, (3, 5))), &runs(&["oom", "oom"]));
    assert_eq!(what(&verdict), ["termination of web/app"]);
}

#[test]
fn a_wide_expectation_leaves_to_a_narrow_one_what_only_that_can_use() {
    let any = ExpectedTermination { cause: None, ..ends_by(Cause::ContainerOom, (1, 1)) };
    let expect =
        Expect { terminations: vec![any, ends_by(Cause::ContainerOom, (1, 1))], ..Expect::default() };
    assert_eq!(passes(&expect, &runs(&["oom", "kill"])), Verdict::Pass);
    assert_eq!(passes(&expect, &runs(&["kill", "oom"])), Verdict::Pass);
}

#[test]
fn a_cause_that_could_not_be_determined_is_inconclusive_and_says_what_was_missing() {
    let observations = without(&runs(&["kill"]), &[Source::Trace]);
    let said = reasons(&passes(&expecting(ends_by(Cause::ExternalKill, (1, 1))), &observations));
    assert!(said.contains("trace"), "{said}");
    let verdict = passes(&expecting(ends_by(Cause::ExternalKill, (0, 1))), &observations);
    assert!(reasons(&verdict).contains("trace"), "there was room for one that it may have been");
}

#[test]
fn too_little_confidence_is_inconclusive() {
    let certain =
        ExpectedTermination { confidence: Confidence::Certain, ..ends_by(Cause::ContainerOom, (1, 1)) };
    let expect = expecting(certain);
    assert_eq!(passes(&expect, &runs(&["oom"])), Verdict::Pass);
    let observations = without(&runs(&["oom"]), &[Source::Trace, Source::Kmsg]);
    assert!(reasons(&passes(&expect, &observations)).contains("high confidence, not certain"));
}

#[test]
fn a_source_that_died_makes_a_pass_inconclusive() {
    let mut observations = runs(&["oom"]);
    for seen in &mut observations {
        if seen.fact == Fact::Source(SourceState::Complete { of: Source::Kmsg }) {
            seen.fact = Fact::Source(SourceState::Lost { of: Source::Kmsg, reason: "EIO".to_owned() });
        }
    }
    let expect = expecting(ends_by(Cause::ContainerOom, (1, 1)));
    assert!(reasons(&passes(&expect, &observations)).contains("EIO"));
}

#[test]
fn a_timeout_is_inconclusive_with_what_was_seen_until_then() {
    let verdict = judged(&Expect::default(), &runs(&["oom"]), &[], true);
    let said = reasons(&verdict);
    assert!(said.contains("timeout") && said.contains("unexpected termination"), "{said}");
}

#[test]
fn hidden_kills_are_expected_or_a_failure() {
    let hidden = |s: &mut Stream, run: &crate::stream::Run| {
        let child = s.child(run);
        s.oom(run, child, At::Container, Log::Whole, &[]);
        s.wait(50);
    };
    let verdict = passes(&Expect { survive: vec![app()], ..Expect::default() }, &lives(hidden));
    assert_eq!(what(&verdict), ["unexpected OOM kill in web/app#0"]);
    let expected = |min, max| Expect {
        hidden_kills: vec![ExpectedHiddenKills { container: app(), min, max }],
        ..Expect::default()
    };
    assert_eq!(passes(&expected(1, 1), &lives(hidden)), Verdict::Pass);
    assert_eq!(what(&passes(&expected(2, 9), &lives(hidden))), ["hidden OOM kills in web/app"]);
    assert_eq!(what(&passes(&expected(1, 1), &lives(|_, _| {}))), ["hidden OOM kills in web/app"]);
}

#[test]
fn a_hidden_kill_that_could_have_been_missed_is_not_called_absent() {
    let hidden = |s: &mut Stream, run: &crate::stream::Run| {
        let child = s.child(run);
        s.oom(run, child, At::Container, Log::NoSummary, &[]);
        s.wait(50);
    };
    let hidden_kills = vec![ExpectedHiddenKills { container: app(), min: 1, max: 1 }];
    let expect = Expect { hidden_kills, ..Expect::default() };
    // Of a PID in the kernel log alone nobody says whose it was; without the runtime nobody says what was a child.
    for taken in [[Source::Memcg, Source::Trace], [Source::Runtime, Source::Runtime]] {
        let verdict = passes(&expect, &without(&lives(hidden), &taken));
        assert!(reasons(&verdict).contains("hidden OOM kills in web/app: only 0 are known"), "{verdict:?}");
    }
}

#[test]
fn a_container_that_must_survive_and_did_not_fails_and_so_do_restarts() {
    let expect = Expect { survive: vec![app()], ..expecting(ends_by(Cause::ContainerOom, (1, 1))) };
    assert_eq!(what(&passes(&expect, &runs(&["oom"]))), ["survival of web/app"]);
    let restarts = |min, max| Expect {
        restarts: vec![ExpectedRestarts { container: app(), min, max }],
        ..expecting(ends_by(Cause::ContainerOom, (2, 2)))
    };
    assert_eq!(passes(&restarts(1, 1), &runs(&["oom", "oom"])), Verdict::Pass);
    assert_eq!(what(&passes(&restarts(2, 9), &runs(&["oom", "oom"]))), ["restarts of web/app"]);
}

#[test]
fn exit_code_sender_and_window_are_compared_too() {
    let kill = ends_by(Cause::ExternalKill, (1, 1));
    let observations = runs(&["kill"]);
    let with = |change: fn(&mut ExpectedTermination)| {
        let mut expected = kill.clone();
        change(&mut expected);
        passes(&expecting(expected), &observations)
    };
    assert_eq!(with(|e| e.sender = Some("exit137-action".to_owned())), Verdict::Pass);
    assert_eq!(what(&with(|e| e.sender = Some("bash".to_owned()))), ["sender of web/app#0"]);
    assert_eq!(with(|e| e.exit_code = Some(137)), Verdict::Pass);
    assert_eq!(what(&with(|e| e.exit_code = Some(143))), ["exit code of web/app#0"]);
    // It was killed one second after its start.
    assert_eq!(with(|e| e.within = Some(Window { from_ms: 900, to_ms: 1_100 })), Verdict::Pass);
    assert_eq!(what(&with(|e| e.within = Some(Window { from_ms: 0, to_ms: 500 }))), ["moment of web/app#0"]);
    assert_eq!(what(&with(|e| e.instance = Some(1))).len(), 2, "the first run's end is not the second's");
}

fn share(operator: Operator, share: f64) -> Comparison {
    Comparison { operator, reference: Reference::OfLimit(share) }
}

#[test]
fn memory_at_death_is_a_share_of_the_limit() {
    let with = |cause, comparison| {
        let expected = ExpectedTermination { memory_at_death: Some(comparison), ..ends_by(cause, (1, 1)) };
        expecting(expected)
    };
    let oom = with(Cause::ContainerOom, share(Operator::AtLeast, 0.99));
    assert_eq!(passes(&oom, &runs(&["oom"])), Verdict::Pass, "the kernel says that the limit was reached");
    let kill = with(Cause::ExternalKill, share(Operator::Less, 0.5));
    assert!(reasons(&passes(&kill, &runs(&["kill"]))).contains("no data"));
    let samples = [sample(60)];
    assert_eq!(what(&judged(&kill, &runs(&["kill"]), &samples, false)), ["memory at death of web/app#0"]);
}

fn sample(mib: u64) -> Sample {
    Sample {
        at: 1_000_000_000_000,
        cgroup: "/exit137-7/some/node/web/app-0".to_owned(),
        usage: mib * MIB,
        breakdown: Some(Breakdown { working_set: mib * MIB / 2, ..Breakdown::default() }),
    }
}

#[test]
fn a_bound_passes_fails_or_has_no_data_and_no_data_is_never_a_pass() {
    let bound = |measure, comparison| Expect {
        bounds: vec![Bound { container: app(), measure, comparison, text: "the bound".to_owned() }],
        ..Expect::default()
    };
    let observations = lives(|_, _| {});
    let tight = bound(Measure::Peak, share(Operator::Less, 0.8));
    assert_eq!(judged(&tight, &observations, &[sample(40)], false), Verdict::Pass);
    assert_eq!(what(&judged(&tight, &observations, &[sample(60)], false)), ["bound on web/app#0"]);
    let half = bound(Measure::WorkingSet, share(Operator::AtMost, 0.5));
    assert_eq!(judged(&half, &observations, &[sample(64)], false), Verdict::Pass);
    assert!(reasons(&judged(&half, &observations, &[], false)).contains("no data"));
    let pressure = bound(
        Measure::PressureFull,
        Comparison { operator: Operator::Less, reference: Reference::Number(5.0) },
    );
    assert!(reasons(&judged(&pressure, &observations, &[sample(1)], false)).contains("no data"));
    let nobody = Expect {
        bounds: vec![Bound {
            container: ContainerSelector { pod: "api".to_owned(), ..app() },
            ..tight.bounds[0].clone()
        }],
        ..Expect::default()
    };
    assert!(reasons(&judged(&nobody, &observations, &[sample(1)], false)).contains("no data"));
}

#[test]
fn a_bound_that_was_not_measured_to_the_end_fails_only_if_it_was_exceeded_already() {
    let bound = |operator| Expect {
        bounds: vec![Bound {
            container: app(),
            measure: Measure::Peak,
            comparison: share(operator, 0.8),
            text: "the bound".to_owned(),
        }],
        ..Expect::default()
    };
    let observations = lives(|s, _| {
        s.wait(100);
    });
    let cut = dying(&observations, Source::Memcg, 1_000_050_000_000);
    let low = judged(&bound(Operator::AtLeast), &cut, &[sample(10)], false);
    assert!(reasons(&low).contains("it was not measured to the end"), "{low:?}");
    let high = judged(&bound(Operator::Less), &cut, &[sample(60)], false);
    assert_eq!(what(&high), ["bound on web/app#0"]);
}

#[test]
fn memory_at_death_does_not_fail_an_end_that_nothing_settles() {
    let mut expected = ends_by(Cause::ContainerOom, (1, 1));
    expected.memory_at_death = Some(share(Operator::AtLeast, 0.95));
    let less = without(&runs(&["oom"]), &[Source::Memcg, Source::Kmsg]);
    let verdict = judged(&expecting(expected), &less, &[sample(10)], false);
    assert!(reasons(&verdict).contains("container-oom was expected"), "{verdict:?}");
}
