//! What holds for every stream, whatever happened in it.

use exit137::cause::{Cause, Confidence};
use exit137::diagnosis::{Diagnosis, Findings, Termination};
use exit137::evidence::{CgroupOwner, ContainerRef, Fact, Observation, Source};
use proptest::prelude::*;

use crate::ablation::without;
use crate::canned::{Canned, all};
use crate::recorded::{Recorded, recorded};
use crate::stream::{At, Log, Plan, Stream};

pub fn judge(observations: &[Observation]) -> Findings {
    let mut diagnosis = Diagnosis::default();
    for observation in observations {
        diagnosis.observe(observation);
    }
    diagnosis.finish()
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

    #[test]
    fn the_order_in_which_a_recorded_run_arrives_does_not_matter(seed in any::<prop::sample::Index>(), keys in prop::collection::vec(any::<u32>(), 600)) {
        let run = seed.get(recorded());
        let mut shuffled: Vec<_> = run.kept.observations.iter().enumerate().collect();
        shuffled.sort_by_key(|(n, _)| keys[n % keys.len()]);
        let shuffled: Vec<Observation> = shuffled.into_iter().map(|(_, seen)| seen.clone()).collect();
        prop_assert_eq!(judge(&shuffled), judge(&run.kept.observations), "{}", run.name);
    }

    #[test]
    fn what_another_recorded_run_did_at_the_same_time_does_not_matter(one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
        let (run, other) = (one.get(recorded()), other.get(recorded()));
        let mut both = run.kept.observations.clone();
        both.extend(beside(run, other));
        let mine = |mut findings: Findings| {
            findings.terminations.retain(|end| !end.container.pod.starts_with("other-"));
            findings.hidden_kills.retain(|kill| !kill.container.pod.starts_with("other-"));
            (findings.terminations, findings.hidden_kills)
        };
        prop_assert_eq!(mine(judge(&both)), mine(judge(&run.kept.observations)), "{} beside {}", run.name, other.name);
    }
}

/// What `other` saw, as if its pods were one scenario with those of `run`, under other names. Both were recorded on one
/// host by one program: what the kernel said to both is said once.
fn beside(run: &Recorded, other: &Recorded) -> Vec<Observation> {
    if run.name == other.name {
        return Vec::new();
    }
    let said: std::collections::BTreeSet<&str> =
        run.kept.observations.iter().filter_map(|seen| seen.raw.as_deref()).collect();
    let theirs = other.kept.observations.iter().filter(|seen| {
        let new = seen.raw.as_deref().is_none_or(|raw| !said.contains(raw));
        new && !matches!(seen.fact, Fact::Host(_) | Fact::Source(_) | Fact::Finished(_))
    });
    theirs
        .cloned()
        .map(|mut seen| {
            seen.sequence += 1_000_000;
            rename(&mut seen.fact);
            seen
        })
        .collect()
}

fn rename(fact: &mut Fact) {
    let other = |pod: &mut String| pod.insert_str(0, "other-");
    let container = |of: &mut ContainerRef| other(&mut of.pod);
    match fact {
        Fact::Cgroup(made) => match &mut made.owner {
            CgroupOwner::Container(of) => container(of),
            CgroupOwner::Pod { pod } | CgroupOwner::Pause { pod } => other(pod),
            CgroupOwner::Node | CgroupOwner::Qos { .. } => {}
        },
        Fact::Started(of) => container(&mut of.container),
        Fact::StartFailed(of) => container(&mut of.container),
        Fact::Ended(of) => container(&mut of.container),
        Fact::Process(of) => container(&mut of.container),
        Fact::ProbeFailed(of) => container(&mut of.container),
        Fact::Stopping(of) => container(&mut of.container),
        Fact::RuntimeSignal { container: of, .. } => container(of),
        Fact::TrafficStarted(started) => {
            other(&mut started.of.traffic);
            started.pods.iter_mut().for_each(other);
        }
        Fact::TrafficWindow(window) => other(&mut window.of.traffic),
        Fact::TrafficEnded(ended) => other(&mut ended.of.traffic),
        _ => {}
    }
}

#[test]
fn a_recorded_run_that_is_judged_while_it_goes_on_is_judged_the_same_in_the_end() {
    for run in recorded() {
        let mut online = Diagnosis::default();
        for (n, observation) in run.kept.observations.iter().enumerate() {
            online.observe(observation);
            // Often enough to be asked in the middle of everything, rarely enough to be done soon.
            if n % 23 == 0 {
                let _ = online.finish();
            }
        }
        assert_eq!(online.finish(), judge(&run.kept.observations), "{}", run.name);
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
