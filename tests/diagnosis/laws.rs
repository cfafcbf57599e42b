//! What holds for every stream, whatever happened in it.

use exit137::cause::{Cause, Confidence};
use exit137::diagnosis::{Attribution, Diagnosis, Findings, Termination};
use exit137::evidence::{Fact, Observation, Source, SourceState};
use proptest::prelude::*;

use crate::canned::{Canned, all};
use crate::stream::{At, Log, Plan, Stream};

pub fn judge(observations: &[Observation]) -> Findings {
    let mut diagnosis = Diagnosis::default();
    for observation in observations {
        diagnosis.observe(observation);
    }
    diagnosis.finish()
}

/// The record as it would be without these sources.
pub fn without(observations: &[Observation], sources: &[Source]) -> Vec<Observation> {
    let mut kept = Vec::new();
    for seen in observations {
        let mut seen = seen.clone();
        if let Fact::Source(state) = &seen.fact
            && sources.contains(&state.of())
        {
            if matches!(state, SourceState::Present { .. }) {
                let reason = "taken away".to_owned();
                seen.fact = Fact::Source(SourceState::Absent { of: state.of(), reason });
                seen.source = Source::Harness;
                kept.push(seen);
            }
            continue;
        }
        if !sources.contains(&seen.source) {
            kept.push(seen);
        }
    }
    kept
}

#[test]
fn every_canned_stream_is_explained_by_what_was_brought_about() {
    let mut wrong = Vec::new();
    for Canned { name, observations, ends, hidden_kills } in all() {
        let findings = judge(&observations);
        let found: Vec<_> = findings.terminations.iter().map(|t| t.attribution.as_ref()).collect();
        let right = found.len() == ends.len()
            && found.iter().zip(&ends).all(|(found, truth)| match (found, truth) {
                (Some(found), Some((cause, detail, least))) => {
                    (found.cause, found.detail) == (*cause, *detail) && found.confidence >= *least
                }
                (found, truth) => found.is_none() == truth.is_none(),
            });
        if !right || findings.hidden_kills.len() != hidden_kills {
            wrong.push(format!("{name}: {found:#?}\nhidden: {:#?}\nnot {ends:?}", findings.hidden_kills));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn explained<'a>(findings: &'a Findings, like: &Termination) -> Option<&'a Termination> {
    findings.terminations.iter().find(|t| t.container == like.container)
}

/// What the law allows an attribution to become when sources are taken away.
fn allowed(before: Option<&Attribution>, after: Option<&Attribution>, taken: &[Source]) -> bool {
    let names = |after: &Attribution| after.missing.iter().any(|missing| taken.contains(&missing.source));
    match (before, after) {
        (None, None) => true,
        (_, Some(after)) if after.cause == Cause::Undetermined => {
            names(after) || before.is_some_and(|before| before.cause == Cause::Undetermined)
        }
        (Some(before), Some(after)) => {
            let same =
                before.cause == after.cause && (after.detail.is_none() || before.detail == after.detail);
            let equal = before.confidence == after.confidence && before.detail == after.detail;
            let less = after.confidence < before.confidence && names(after);
            same && (equal || less)
        }
        (_, _) => false,
    }
}

#[test]
fn taking_away_any_one_or_two_sources_never_yields_another_cause() {
    let takeable: Vec<Source> = Source::ALL.into_iter().filter(|s| *s != Source::Harness).collect();
    let mut wrong = Vec::new();
    for Canned { name, observations, .. } in all() {
        let whole = judge(&observations);
        for (n, one) in takeable.iter().enumerate() {
            for other in &takeable[n..] {
                let taken = [*one, *other];
                let part = judge(&without(&observations, &taken));
                if taken.contains(&Source::Runtime) {
                    let said = part.notes.iter().any(|note| note.contains("runtime"));
                    if !part.terminations.is_empty() || !part.hidden_kills.is_empty() || !said {
                        wrong.push(format!("{name} without {taken:?}: {part:#?}"));
                    }
                    continue;
                }
                for before in &whole.terminations {
                    let after = explained(&part, before);
                    let (before, after) =
                        (before.attribution.as_ref(), after.and_then(|t| t.attribution.as_ref()));
                    if !allowed(before, after, &taken) {
                        wrong.push(format!("{name} without {taken:?}: {before:#?} became {after:#?}"));
                    }
                }
                let new = part.terminations.iter().filter(|t| explained(&whole, t).is_none());
                for invented in new {
                    let cause = invented.attribution.as_ref().map(|a| a.cause);
                    if cause != Some(Cause::Undetermined) {
                        wrong.push(format!("{name} without {taken:?} invented {invented:#?}"));
                    }
                }
                if part.hidden_kills.len() > whole.hidden_kills.len() {
                    wrong.push(format!("{name} without {taken:?} hid {:#?}", part.hidden_kills));
                }
            }
        }
    }
    let count = wrong.len();
    wrong.truncate(6);
    assert!(wrong.is_empty(), "{count}:\n{}", wrong.join("\n\n"));
}

#[test]
fn counters_and_wait_status_alone_still_give_high_on_v2() {
    for Canned { name, observations, ends, .. } in all() {
        let v2 = observations
            .iter()
            .any(|seen| matches!(&seen.fact, Fact::Host(host) if host.cgroup_version == 2));
        let oom = matches!(ends.first(), Some(Some((Cause::ContainerOom | Cause::PodOom, _, _))));
        let single = !observations
            .iter()
            .any(|seen| matches!(seen.fact, Fact::Process(_)) && seen.source == Source::Trace);
        let resized = observations.iter().any(|seen| matches!(seen.fact, Fact::LimitChanged(_)));
        if !v2 || !oom || !single || resized {
            continue;
        }
        let findings = judge(&without(&observations, &[Source::Kmsg, Source::Trace]));
        for (end, truth) in findings.terminations.iter().zip(&ends) {
            let found = end.attribution.as_ref().map(|a| (a.cause, a.confidence));
            assert_eq!(found, truth.map(|(cause, _, _)| (cause, Confidence::High)), "{name}");
        }
    }
}

#[test]
fn finishing_early_and_often_changes_nothing() {
    for Canned { name, observations, .. } in all() {
        let mut online = Diagnosis::default();
        for observation in &observations {
            online.observe(observation);
            let _ = online.finish();
        }
        assert_eq!(online.finish(), judge(&observations), "{name}");
    }
}

#[test]
fn a_record_that_arrives_backwards_is_explained_the_same() {
    for Canned { name, mut observations, .. } in all() {
        let forwards = judge(&observations);
        observations.reverse();
        assert_eq!(judge(&observations), forwards, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_arrival_does_not_matter(seed in any::<prop::sample::Index>(), keys in prop::collection::vec(any::<u32>(), 600)) {
        let canned = all();
        let Canned { observations, .. } = &canned[seed.index(canned.len())];
        let mut shuffled: Vec<_> = observations.iter().enumerate().collect();
        shuffled.sort_by_key(|(n, _)| keys[n % keys.len()]);
        let shuffled: Vec<Observation> = shuffled.into_iter().map(|(_, seen)| seen.clone()).collect();
        prop_assert_eq!(judge(&shuffled), judge(observations));
    }

    #[test]
    fn other_pods_do_not_matter(seed in any::<prop::sample::Index>(), shift in 0_u64..3_000, kind in 0_u8..4) {
        let canned = all();
        let Canned { observations, .. } = &canned[seed.index(canned.len())];
        let mut both = observations.clone();
        both.extend(neighbour(shift, kind));
        let mine = |findings: Findings| -> (Vec<Termination>, usize) {
            let ours = |pod: &str| pod != "neighbour";
            let ends = findings.terminations.into_iter().filter(|t| ours(&t.container.pod)).collect();
            (ends, findings.hidden_kills.iter().filter(|k| ours(&k.container.pod)).count())
        };
        prop_assert_eq!(mine(judge(&both)), mine(judge(observations)));
    }
}

/// Another pod of the same scenario, to which something happens at about the same time.
fn neighbour(shift: u64, kind: u8) -> Vec<Observation> {
    let mut stream = Stream::on(2);
    for _ in 0..5_000 {
        stream.pid();
    }
    stream.wait(shift);
    let run = stream.start("neighbour", "app", Plan::default());
    match kind {
        0 => stream.oom(&run, run.pid, At::Container, Log::Whole, &[]),
        1 => stream.oom(&run, run.pid, At::Pod, Log::NoSummary, &[]),
        2 => stream.kill((77, "bash"), run.pid),
        _ => {
            let child = stream.child(&run);
            stream.oom(&run, child, At::Container, Log::NoSummary, &[]);
        }
    }
    stream.end(&run, exit137::evidence::End::Signaled(9));
    let mut theirs = stream.finish(&[]);
    theirs.retain(|seen| match &seen.fact {
        Fact::Host(_) | Fact::Source(_) => false,
        Fact::Cgroup(made) => made.path.contains("neighbour"),
        Fact::Counters(counters) => counters.cgroup.contains("neighbour"),
        Fact::OomNotified { cgroup } => cgroup.contains("neighbour"),
        _ => true,
    });
    for seen in &mut theirs {
        seen.sequence += 1_000_000;
    }
    theirs
}
