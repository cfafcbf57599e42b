//! Taking sources away, or letting them die in the middle, never yields another cause.
//!
//! The cause stays; or it becomes `undetermined`, or less sure, naming what was missing. A detail may become unknown and
//! never another. A verdict may become inconclusive and never another.

use exit137::cause::Cause;
use exit137::diagnosis::{Attribution, Findings, Termination};
use exit137::evidence::{Fact, Moment, Observation, Source, SourceState};
use exit137::report::model::Outcome;

use crate::canned::{Canned, all};
use crate::laws::judge;
use crate::pidless::as_the_api_tells;
use crate::recorded::{recorded, recorded_on_kind};

const MS: u64 = 1_000_000;

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

/// The record as it would be had this source died at this nanosecond: what it had not stated by then it never states.
pub fn dying(observations: &[Observation], of: Source, at: u64) -> Vec<Observation> {
    let about = |seen: &Observation| match &seen.fact {
        Fact::Source(state) => state.of() == of,
        _ => seen.source == of,
    };
    let mut kept: Vec<Observation> =
        observations.iter().filter(|seen| !about(seen) || seen.moment.latest() < at).cloned().collect();
    kept.push(Observation {
        sequence: 2_000_000,
        source: of,
        moment: Moment::exactly(at),
        raw: None,
        fact: Fact::Source(SourceState::Lost { of, reason: "let die".to_owned() }),
    });
    kept
}

/// Moments at which to let a source die: at each quarter of the record, and just around the kills and ends.
fn moments(observations: &[Observation], findings: &Findings) -> Vec<u64> {
    let of_sources = |seen: &&Observation| matches!(seen.fact, Fact::Source(SourceState::Present { .. }));
    let first =
        observations.iter().filter(of_sources).map(|seen| seen.moment.latest()).max().unwrap_or(0) + 1;
    let last = observations.iter().map(|seen| seen.moment.latest()).max().unwrap_or(first);
    let mut moments: Vec<u64> = (0..4).map(|quarter| first + (last - first) / 4 * quarter).collect();
    // Of many ends alike a few say it all.
    for end in findings.terminations.iter().take(3) {
        for stamp in [end.killed_at, end.ended_at].into_iter().flatten() {
            let (from, to) = (stamp.moment.earliest(), stamp.moment.latest());
            moments.extend([from.saturating_sub(20 * MS), from, to + 1, to + 20 * MS]);
        }
    }
    for kill in findings.hidden_kills.iter().filter_map(|kill| kill.killed_at).take(3) {
        moments.extend([kill.moment.earliest(), kill.moment.latest() + 1]);
    }
    moments.retain(|at| (first..last).contains(at));
    moments.sort_unstable();
    moments.dedup();
    moments
}

fn explained<'a>(findings: &'a Findings, like: &Termination) -> Option<&'a Termination> {
    findings.terminations.iter().find(|t| t.container == like.container)
}

/// What an attribution may become when sources are taken away.
fn allowed(before: Option<&Attribution>, after: Option<&Attribution>, taken: &[Source]) -> bool {
    let names = |after: &Attribution| after.missing.iter().any(|missing| taken.contains(&missing.source));
    match (before, after) {
        (None, None) => true,
        // Only the API tells of what the kubelet makes up; an exit with 0 needs no explanation.
        (Some(before), None) => before.cause == Cause::Synthetic && taken.contains(&Source::Runtime),
        (_, Some(after)) if after.cause == Cause::Undetermined => {
            names(after) || before.is_some_and(|before| before.cause == Cause::Undetermined)
        }
        (Some(before), Some(after)) => {
            let same =
                before.cause == after.cause && (after.detail.is_none() || before.detail == after.detail);
            let equal = before.confidence == after.confidence && before.detail == after.detail;
            let less = after.confidence < before.confidence && names(after);
            let told_less = before.confidence == after.confidence && after.detail.is_none() && names(after);
            same && (equal || less || told_less)
        }
        (_, _) => false,
    }
}

/// Where `part`, made with less of the sources `taken`, breaks the law.
fn violations(whole: &Findings, part: &Findings, taken: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    // Without the runtime nobody says how containers ended, and a kill cannot be told to be a child's.
    let runtime = taken.contains(&Source::Runtime);
    if runtime && !part.sources.iter().any(|s| s.source == Source::Runtime && !s.complete) {
        wrong.push("the runtime's lack is not said".to_owned());
    }
    for before in &whole.terminations {
        let Some(after) = explained(part, before) else {
            if !runtime {
                wrong.push(format!("{} is no longer among the ends", before.container));
            }
            continue;
        };
        if !allowed(before.attribution.as_ref(), after.attribution.as_ref(), taken) {
            wrong.push(format!("{:#?}\nbecame {:#?}", before.attribution, after.attribution));
        }
    }
    for invented in part.terminations.iter().filter(|t| explained(whole, t).is_none()) {
        if invented.attribution.as_ref().map(|a| a.cause) != Some(Cause::Undetermined) {
            wrong.push(format!("invented {invented:#?}"));
        }
    }
    if part.hidden_kills.len() > whole.hidden_kills.len() {
        wrong.push(format!("hid {:#?}", part.hidden_kills));
    }
    wrong
}

/// Each source and each pair of them. On this host the shim reaps containers itself: nobody asks the kernel for its notices.
fn pairs() -> Vec<Vec<Source>> {
    pairs_of(|source| !matches!(source, Source::Harness | Source::Exits))
}

/// The same on a cluster, where the kernel's notices are the node's word on ends beside the API's.
fn pairs_on_kind() -> Vec<Vec<Source>> {
    pairs_of(|source| *source != Source::Harness)
}

fn pairs_of(has: impl Fn(&Source) -> bool) -> Vec<Vec<Source>> {
    let takeable: Vec<Source> = Source::ALL.into_iter().filter(has).collect();
    let mut pairs = Vec::new();
    for (n, one) in takeable.iter().enumerate() {
        pairs.push(vec![*one]);
        pairs.extend(takeable[n + 1..].iter().map(|other| vec![*one, *other]));
    }
    pairs
}

/// Whether a record has these sources: what was never there cannot be taken away.
fn has(observations: &[Observation], taken: &[Source]) -> bool {
    let there = |of: Source| {
        let present = |seen: &Observation| seen.fact == Fact::Source(SourceState::Present { of });
        observations.iter().any(present)
    };
    !taken.contains(&Source::Clients) || there(Source::Clients)
}

fn none(mut wrong: Vec<String>) {
    let count = wrong.len();
    wrong.truncate(6);
    assert!(wrong.is_empty(), "{count}:\n{}", wrong.join("\n\n"));
}

#[test]
fn taking_sources_away_from_a_canned_stream_never_yields_another_cause() {
    let mut wrong = Vec::new();
    for Canned { name, observations, .. } in all() {
        let whole = judge(&observations);
        for taken in pairs() {
            let part = judge(&without(&observations, &taken));
            if taken.contains(&Source::Runtime) {
                let said = part.notes.iter().any(|note| note.contains("runtime"));
                if !part.terminations.is_empty() || !part.hidden_kills.is_empty() || !said {
                    wrong.push(format!("{name} without {taken:?}: {part:#?}"));
                }
            }
            let broken = violations(&whole, &part, &taken);
            wrong.extend(broken.into_iter().map(|what| format!("{name} without {taken:?}: {what}")));
        }
    }
    none(wrong);
}

#[test]
fn a_source_that_dies_in_a_canned_stream_never_yields_another_cause() {
    let mut wrong = Vec::new();
    for Canned { name, observations, .. } in all() {
        let whole = judge(&observations);
        for at in moments(&observations, &whole) {
            for taken in pairs().into_iter().filter(|taken| taken.len() == 1) {
                let part = judge(&dying(&observations, taken[0], at));
                let broken = violations(&whole, &part, &taken);
                wrong
                    .extend(broken.into_iter().map(|what| format!("{name}, {taken:?} dies at {at}: {what}")));
            }
        }
    }
    none(wrong);
}

#[test]
fn taking_sources_away_from_a_recorded_run_never_yields_another_cause() {
    let mut wrong = Vec::new();
    for run in recorded() {
        let name = &run.name;
        let whole = judge(&run.kept.observations);
        for taken in pairs().into_iter().filter(|taken| has(&run.kept.observations, taken)) {
            let less = without(&run.kept.observations, &taken);
            let broken = violations(&whole, &judge(&less), &taken);
            wrong.extend(broken.into_iter().map(|what| format!("{name} without {taken:?}: {what}")));
            let until = if taken.contains(&Source::Memcg) { 0 } else { u64::MAX };
            let report = run.report(less, until);
            if !matches!(report.outcome, Outcome::Passed | Outcome::Inconclusive) {
                wrong.push(format!("{name} without {taken:?} fails: {:#?}", report.mismatches));
            }
        }
    }
    none(wrong);
}

#[test]
fn a_source_that_dies_in_a_recorded_run_never_yields_another_cause_and_never_a_pass() {
    let mut wrong = Vec::new();
    for run in recorded() {
        let name = &run.name;
        let whole = judge(&run.kept.observations);
        for at in moments(&run.kept.observations, &whole) {
            for taken in
                pairs().into_iter().filter(|taken| taken.len() == 1 && has(&run.kept.observations, taken))
            {
                let less = dying(&run.kept.observations, taken[0], at);
                let broken = violations(&whole, &judge(&less), &taken);
                wrong
                    .extend(broken.into_iter().map(|what| format!("{name}, {taken:?} dies at {at}: {what}")));
                let until = if taken == [Source::Memcg] { at } else { u64::MAX };
                let report = run.report(less, until);
                if report.outcome != Outcome::Inconclusive {
                    let (outcome, why) = (report.outcome, &report.mismatches);
                    wrong.push(format!("{name}, {taken:?} dies at {at}: {outcome:?} {why:#?}"));
                }
            }
        }
    }
    none(wrong);
}

#[test]
fn taking_sources_away_from_a_run_on_kind_never_yields_another_cause() {
    let mut wrong = Vec::new();
    for run in recorded_on_kind() {
        let name = &run.name;
        let observations = as_the_api_tells(&run.kept.observations);
        let whole = judge(&observations);
        for taken in pairs_on_kind().into_iter().filter(|taken| has(&run.kept.observations, taken)) {
            let less = without(&observations, &taken);
            let broken = violations(&whole, &judge(&less), &taken);
            wrong.extend(broken.into_iter().map(|what| format!("{name} without {taken:?}: {what}")));
            let until = if taken.contains(&Source::Memcg) { 0 } else { u64::MAX };
            let report = run.report(less, until);
            if !matches!(report.outcome, Outcome::Passed | Outcome::Inconclusive) {
                wrong.push(format!("{name} without {taken:?} fails: {:#?}", report.mismatches));
            }
        }
    }
    none(wrong);
}

#[test]
fn a_source_that_dies_in_a_run_on_kind_never_yields_another_cause_and_never_a_pass() {
    let mut wrong = Vec::new();
    for run in recorded_on_kind() {
        let name = &run.name;
        let observations = as_the_api_tells(&run.kept.observations);
        let whole = judge(&observations);
        for at in moments(&observations, &whole) {
            for taken in pairs_on_kind()
                .into_iter()
                .filter(|taken| taken.len() == 1 && has(&run.kept.observations, taken))
            {
                let less = dying(&observations, taken[0], at);
                let broken = violations(&whole, &judge(&less), &taken);
                wrong
                    .extend(broken.into_iter().map(|what| format!("{name}, {taken:?} dies at {at}: {what}")));
                let until = if taken == [Source::Memcg] { at } else { u64::MAX };
                let report = run.report(less, until);
                if report.outcome != Outcome::Inconclusive {
                    let (outcome, why) = (report.outcome, &report.mismatches);
                    wrong.push(format!("{name}, {taken:?} dies at {at}: {outcome:?} {why:#?}"));
                }
            }
        }
    }
    none(wrong);
}
