//! From a record to a trial's part of the report. `run` and `report` both go this way, so they cannot disagree.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{
    AttributionReport, HiddenKillReport, MemoryReport, Outcome, Percentiles, Quote, ScenarioReport,
    TerminationReport, TimeReport, TrialReport,
};
use crate::diagnosis::{Attribution, Diagnosis, Findings, Judged, Stamped, Verdict, judge};
use crate::evidence::{ContainerRef, Ending, Fact, Moment, Observation, Sample};
use crate::scenario::{Act, Program, Scenario};
use crate::statistics::{Distribution, MemorySummaries};

/// What was kept of a trial.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The record.
    pub observations: Vec<Observation>,
    /// The samples.
    pub samples: Vec<Sample>,
    /// What is wrong with the record, if anything is.
    pub damage: Vec<String>,
    /// The last lines that containers wrote.
    pub last_lines: BTreeMap<ContainerRef, Vec<String>>,
}

/// A trial, judged.
pub fn report(scenario: &Scenario, number: u32, kept: &Kept) -> TrialReport {
    let (mut diagnosis, mut memory) = (Diagnosis::default(), MemorySummaries::default());
    // Whose a cgroup is may be told after what was counted in it.
    let (cgroups, rest): (Vec<_>, Vec<_>) =
        kept.observations.iter().partition(|seen| matches!(seen.fact, Fact::Cgroup(_)));
    for observation in cgroups.into_iter().chain(rest) {
        memory.observe(observation);
    }
    for observation in &kept.observations {
        diagnosis.observe(observation);
    }
    for sample in &kept.samples {
        memory.sample(sample);
    }
    let findings = diagnosis.finish();
    let ending = kept
        .observations
        .iter()
        .rev()
        .find_map(|seen| if let Fact::Finished(ending) = &seen.fact { Some(ending) } else { None });
    let verdict = judge(&Judged {
        expect: &scenario.expect,
        pods: &scenario.pods,
        findings: &findings,
        memory: &memory,
        timed_out: ending == Some(&Ending::TimedOut),
    });
    let mut doubts = kept.damage.clone();
    // What was cut short says so itself.
    if matches!(ending, Some(Ending::Observed)) {
        doubts.extend(undone(scenario, &kept.observations));
    }
    let (outcome, mismatches, reasons) = settle(verdict, ending, &doubts);
    // Why a program of the user's own gave up it says itself; ours only tell how they grow.
    let last_lines = |container: &ContainerRef| {
        let asked = outcome != Outcome::Passed && is_the_users_own(scenario, container);
        kept.last_lines.get(container).filter(|_| asked).cloned().unwrap_or_default()
    };
    let clock = Clock::of(&kept.observations);
    let starts: BTreeMap<&ContainerRef, Moment> = kept
        .observations
        .iter()
        .filter_map(|seen| {
            if let Fact::Started(started) = &seen.fact {
                Some((&started.container, seen.moment))
            } else {
                None
            }
        })
        .collect();
    let time = |stamp: &Stamped, container: &ContainerRef| clock.time(stamp, starts.get(container).copied());
    let terminations = findings
        .terminations
        .iter()
        .map(|termination| TerminationReport {
            container: termination.container.clone(),
            exit_code: termination.end.map(crate::evidence::End::exit_code),
            end: termination.end,
            unseen: termination.unseen,
            reason: termination.reason.clone(),
            killed_at: termination.killed_at.as_ref().map(|stamp| time(stamp, &termination.container)),
            ended_at: termination.ended_at.as_ref().map(|stamp| time(stamp, &termination.container)),
            attribution: termination.attribution.as_ref().map(attribution),
            asked: termination.asked.clone(),
            memory_at_death: memory.at_death(termination),
            clients: termination.clients.iter().map(Into::into).collect(),
            last_lines: last_lines(&termination.container),
        })
        .collect();
    let hidden_kills = findings
        .hidden_kills
        .iter()
        .map(|kill| HiddenKillReport {
            container: kill.container.clone(),
            pid: kill.pid,
            comm: kill.comm.clone(),
            killed_at: kill.killed_at.as_ref().map(|stamp| time(stamp, &kill.container)),
            attribution: attribution(&kill.attribution),
        })
        .collect();
    let evidence = quotes(&kept.observations, &findings, &mismatches);
    TrialReport {
        number,
        outcome,
        reasons,
        terminations,
        hidden_kills,
        traffic: findings.traffic.iter().map(Into::into).collect(),
        memory: memories(&memory),
        sources: findings.sources,
        oom_group: oom_group(&kept.observations),
        notes: findings.notes,
        evidence,
        mismatches,
        duration_ms: duration_ms(&kept.observations),
    }
}

fn is_the_users_own(scenario: &Scenario, container: &ContainerRef) -> bool {
    let pod = scenario.pods.iter().find(|pod| pod.is_named(&container.pod));
    let found = pod.and_then(|pod| pod.containers.iter().find(|other| other.name == container.container));
    found.is_some_and(|found| matches!(found.program, Program::Command(_)))
}

/// Actions of the scenario that were not carried out: what it says of the rest says nothing of what it meant.
fn undone(scenario: &Scenario, observations: &[Observation]) -> Vec<String> {
    let done = |index: usize| {
        observations.iter().find_map(|seen| {
            if let Fact::Action(action) = &seen.fact {
                (action.index == index).then_some(action)
            } else {
                None
            }
        })
    };
    let refused = |observation: &Observation| {
        if let Fact::LimitChanged(change) = &observation.fact { change.refused.is_some() } else { false }
    };
    // That v1 refuses a limit below what is in use is an answer, not a failure.
    let kernel_refused = observations.iter().any(refused);
    let mut reasons = Vec::new();
    for (index, action) in scenario.actions.iter().enumerate() {
        let may_be_refused = matches!(action.act, Act::SetLimit { .. }) && kernel_refused;
        match done(index).map(|done| (&done.what, &done.error)) {
            None => {
                reasons.push(format!("actions[{index}] was not carried out: what it waits for did not come"));
            }
            Some((what, Some(why))) if !may_be_refused => {
                reasons.push(format!("actions[{index}] failed: {what}: {why}"));
            }
            Some(_) => {}
        }
    }
    reasons
}

/// A scenario's trials, together.
pub fn scenario_report(scenario: &Scenario, trials: Vec<TrialReport>) -> ScenarioReport {
    let passed = trials.iter().filter(|trial| trial.outcome == Outcome::Passed).count();
    // A run's folder has a place for it, so it was selected; then the run's own end came first.
    let not_begun = trials.is_empty().then(|| "not run: the run ended before it began".to_owned());
    ScenarioReport {
        name: scenario.name.clone(),
        description: scenario.description.clone(),
        hash: scenario.hash.clone(),
        outcome: trials.iter().map(|trial| trial.outcome).max().unwrap_or(Outcome::Inconclusive),
        skipped: not_begun,
        passed: u32::try_from(passed).unwrap_or(u32::MAX),
        without_effect: scenario.without_effect.clone(),
        trials,
    }
}

/// A scenario that was not run.
pub fn skipped(scenario: &Scenario, why: String, no_skips: bool) -> ScenarioReport {
    let outcome = if no_skips { Outcome::Failed } else { Outcome::Skipped };
    ScenarioReport { outcome, skipped: Some(why), ..scenario_report(scenario, Vec::new()) }
}

/// A failure of the harness comes first; a difference that is sure stays one even if the run was cut short.
fn settle(
    verdict: Verdict,
    ending: Option<&Ending>,
    damage: &[String],
) -> (Outcome, Vec<crate::diagnosis::Mismatch>, Vec<String>) {
    let mut reasons = damage.to_vec();
    match ending {
        Some(Ending::Failed { why }) => return (Outcome::Errored, Vec::new(), vec![why.clone()]),
        Some(Ending::Interrupted) => {
            reasons.push("it was cut short before its end, by a signal or by the run's timeout".into());
        }
        Some(Ending::Observed | Ending::TimedOut) => {}
        None => reasons.push("the record ends without its last fact: the harness died".into()),
    }
    let cut_short = !matches!(ending, Some(Ending::Observed | Ending::TimedOut));
    match verdict {
        Verdict::Fail { mismatches, open } => {
            reasons.extend(open);
            let outcome = if cut_short { Outcome::Inconclusive } else { Outcome::Failed };
            (outcome, mismatches, reasons)
        }
        Verdict::Inconclusive { reasons: more } => {
            reasons.extend(more);
            (Outcome::Inconclusive, Vec::new(), reasons)
        }
        Verdict::Pass if reasons.is_empty() => (Outcome::Passed, Vec::new(), reasons),
        Verdict::Pass => (Outcome::Inconclusive, Vec::new(), reasons),
    }
}

fn attribution(of: &Attribution) -> AttributionReport {
    AttributionReport {
        cause: of.cause,
        detail: of.detail,
        confidence: of.confidence,
        sender: of.sender.clone(),
        domain: of.domain.clone(),
        explanation: of.explanation.clone(),
        evidence: of.evidence.clone(),
        missing: of.missing.clone(),
        also_seen: of.also_seen.clone(),
    }
}

fn memories(memory: &MemorySummaries) -> Vec<MemoryReport> {
    let percentiles = |d: Distribution| Percentiles { p50: d.p50, p95: d.p95, peak: d.peak };
    memory
        .iter()
        .map(|(container, summary)| MemoryReport {
            container: container.clone(),
            request: summary.request,
            limit: summary.limit,
            memory: summary.usage.map(percentiles),
            working_set: summary.working_set.map(percentiles),
            peak: summary.peak,
            limit_hits: summary.limit_hits,
            refaults: summary.refaults,
            pressure_full: summary.pressure_full,
            pressure_some: summary.pressure_some,
            samples: summary.samples,
        })
        .collect()
}

fn quotes(
    observations: &[Observation],
    findings: &Findings,
    mismatches: &[crate::diagnosis::Mismatch],
) -> Vec<Quote> {
    let attributions = findings
        .terminations
        .iter()
        .filter_map(|termination| termination.attribution.as_ref())
        .chain(findings.hidden_kills.iter().map(|kill| &kill.attribution));
    let cited: BTreeSet<u64> = attributions
        .flat_map(|attribution| attribution.evidence.iter())
        .chain(mismatches.iter().flat_map(|mismatch| mismatch.evidence.iter()))
        .copied()
        .collect();
    observations
        .iter()
        .filter(|seen| cited.contains(&seen.sequence))
        .map(|seen| Quote {
            sequence: seen.sequence,
            source: seen.source,
            text: seen.raw.clone().unwrap_or_else(|| serde_json::to_string(&seen.fact).unwrap_or_default()),
        })
        .collect()
}

fn oom_group(observations: &[Observation]) -> Option<bool> {
    observations
        .iter()
        .find_map(|seen| if let Fact::Cgroup(made) = &seen.fact { made.oom_group } else { None })
}

fn duration_ms(observations: &[Observation]) -> u64 {
    let first = observations.iter().map(|seen| seen.moment.earliest()).min().unwrap_or(0);
    let last = observations.iter().map(|seen| seen.moment.latest()).max().unwrap_or(first);
    (last - first) / 1_000_000
}

/// The wall clock beside boot time, as it was observed.
struct Clock(Vec<(Moment, u64)>);

impl Clock {
    fn of(observations: &[Observation]) -> Self {
        let calibrations = observations.iter().filter_map(|seen| {
            if let Fact::WallClock { unix_ns } = seen.fact { Some((seen.moment, unix_ns)) } else { None }
        });
        Self(calibrations.collect())
    }

    fn time(&self, stamp: &Stamped, start: Option<Moment>) -> TimeReport {
        let boot_ns = stamp.moment.middle();
        TimeReport {
            wall: self.wall(boot_ns),
            boot_ns,
            uncertainty_ns: stamp.moment.uncertainty(),
            since_start_us: start.map(|start| boot_ns.saturating_sub(start.middle()) / 1000),
            source: stamp.source,
        }
    }

    /// By the calibration nearest in time.
    fn wall(&self, boot_ns: u64) -> Option<String> {
        let (at, unix_ns) = self.0.iter().min_by_key(|(at, _)| at.middle().abs_diff(boot_ns))?;
        let unix = i128::from(*unix_ns) + i128::from(boot_ns) - i128::from(at.middle());
        Some(format!("{:.6}", jiff::Timestamp::from_nanosecond(unix).ok()?))
    }
}
