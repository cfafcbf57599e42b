//! Which sources saw a canary die, judged from what a real cluster recorded of such a kill.

use std::fs;
use std::path::Path;

use exit137::diagnosis::Missing;
use exit137::diagnosis::canary::{Sight, judge};
use exit137::evidence::{Ending, Fact, Observation, Source, SourceState, record};

/// `limit-fast` on kind, its pod renamed. Another container of the same name was OOM-killed meanwhile on another cluster.
fn died() -> Vec<Observation> {
    let file = "tests/recorded/kind-1.20-v1/limit-fast/trial-1/record.jsonl";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let text = text.replace("\"pod\":\"web\"", "\"pod\":\"canary\"").replace("pod/web", "pod/canary");
    record::decode(text.as_bytes()).unwrap().observations
}

fn without(source: Source, observations: &[Observation]) -> Vec<Observation> {
    observations.iter().filter(|seen| seen.source != source).cloned().collect()
}

fn whys(sight: &Sight) -> Vec<(Source, &str)> {
    sight.blind.iter().map(|Missing { source, why }| (*source, why.as_str())).collect()
}

#[test]
fn where_all_is_well_every_source_saw_it() {
    let sight = judge(&died()).unwrap();
    assert_eq!(whys(&sight), []);
    let all = [Source::Kmsg, Source::Trace, Source::Memcg, Source::Exits, Source::Runtime, Source::Kubelet];
    assert_eq!(sight.sees, all);
}

#[test]
fn a_source_that_is_absent_is_blind_for_its_own_reason() {
    let died = died();
    let mut observations = without(Source::Trace, &died);
    let mut absent = died[0].clone();
    absent.source = Source::Trace;
    absent.fact = Fact::Source(SourceState::Absent { of: Source::Trace, reason: "no tracefs".to_owned() });
    observations.push(absent);
    let sight = judge(&observations).unwrap();
    assert_eq!(whys(&sight), [(Source::Trace, "no tracefs")]);
    assert!(!sight.sees.contains(&Source::Trace));
}

#[test]
fn a_source_that_watched_and_saw_nothing_is_blind_too() {
    let silent = |seen: &Observation| match &seen.fact {
        Fact::OomSummary(_) | Fact::KernelKilled(_) | Fact::Noted(_) => false,
        Fact::Counters(counters) => counters.oom_kill_local == Some(0),
        _ => true,
    };
    let observations: Vec<_> = died().into_iter().filter(silent).collect();
    let sight = judge(&observations).unwrap();
    let blind: Vec<Source> = sight.blind.iter().map(|missing| missing.source).collect();
    assert_eq!(blind, [Source::Kmsg, Source::Memcg, Source::Kubelet]);
    assert!(sight.blind.iter().all(|missing| missing.why.contains("saw nothing")), "{sight:?}");
}

#[test]
fn a_kill_of_somebody_else_is_not_taken_for_the_canary_s() {
    let of_canary = |seen: &Observation| match &seen.fact {
        Fact::OomSummary(summary) => summary.pid == 1707,
        Fact::KernelKilled(killed) => killed.pid == 1707,
        Fact::Victim(victim) => victim.pid == 1707,
        Fact::Signal(signal) => signal.target_pid == 1707,
        _ => false,
    };
    let died = died();
    let others: Vec<_> = died.iter().filter(|seen| !of_canary(seen)).cloned().collect();
    assert!(others.iter().any(|seen| matches!(seen.fact, Fact::KernelKilled(_))), "there is another kill");
    let blind: Vec<Source> = judge(&others).unwrap().blind.iter().map(|missing| missing.source).collect();
    assert_eq!(blind, [Source::Kmsg, Source::Trace]);
}

#[test]
fn a_canary_that_lives_says_what_keeps_it_alive() {
    let mut lives: Vec<_> = died().into_iter().filter(|seen| !matches!(seen.fact, Fact::Ended(_))).collect();
    let why = judge(&lives).unwrap_err();
    assert!(why.contains("not OOM-killed") && why.contains("kind#2848"), "{why}");
    for seen in &mut lives {
        if let Fact::Host(host) = &mut seen.fact {
            host.swap_total = 1 << 30;
        }
    }
    assert!(judge(&lives).unwrap_err().contains("swapoff -a"));
}

#[test]
fn a_canary_that_never_starts_or_cannot_run_says_why() {
    let of_it = |seen: &Observation| matches!(seen.fact, Fact::Ended(_) | Fact::Started(_));
    let mut never: Vec<_> = died().into_iter().filter(|seen| !of_it(seen)).collect();
    assert!(judge(&never).unwrap_err().contains("never started"));
    let mut failed = never[0].clone();
    failed.fact = Fact::Finished(Ending::Failed { why: "ErrImageNeverPull".to_owned() });
    never.push(failed);
    assert!(judge(&never).unwrap_err().contains("ErrImageNeverPull"));
}
