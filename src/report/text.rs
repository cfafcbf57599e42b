//! The report for people.

mod clients;
mod style;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::model::{
    AttributionReport, ClusterReport, Outcome, Report, ScenarioReport, TerminationReport, TimeReport,
    TrialReport,
};
use crate::cause::Confidence;
use crate::evidence::{ContainerRef, End, Source};
pub use style::Style;

/// The whole report; the worst comes last, where a log that is cut still has it.
pub fn render(report: &Report, style: Style) -> String {
    let mut out = String::new();
    let width = report.scenarios.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
    let mut scenarios: Vec<&ScenarioReport> = report.scenarios.iter().collect();
    scenarios.sort_by_key(|scenario| scenario.outcome);
    for scenario in scenarios {
        scenario_lines(&mut out, scenario, width, style);
    }
    if !out.is_empty() {
        out.push('\n');
    }
    for cluster in &report.clusters {
        let _ = writeln!(out, "{}", style.dim(&sources(cluster)));
    }
    let s = &report.summary;
    let count = |n: u32, word: &str| format!("{n} {word}");
    let mut parts = vec![count(s.passed, "passed"), count(s.failed, "failed")];
    for (n, word) in [(s.inconclusive, "inconclusive"), (s.errored, "errored"), (s.skipped, "skipped")] {
        if n > 0 {
            parts.push(count(n, word));
        }
    }
    let worst = report.scenarios.iter().map(|scenario| scenario.outcome).max().unwrap_or(Outcome::Skipped);
    let _ = writeln!(out, "{}", style.outcome(worst, &parts.join(", ")));
    out
}

/// What can be seen on a cluster; sources that are blind for the same reason go together.
fn sources(cluster: &ClusterReport) -> String {
    let words =
        |sources: &[Source]| sources.iter().map(|source| source.as_str()).collect::<Vec<_>>().join(", ");
    let mut line = format!("{} ({}): OOM kills are seen by ", cluster.context, cluster.version);
    line.push_str(&if cluster.sees.is_empty() { "nobody".to_owned() } else { words(&cluster.sees) });
    let mut reasons: BTreeMap<&str, Vec<Source>> = BTreeMap::new();
    for missing in &cluster.blind {
        reasons.entry(missing.why.as_str()).or_default().push(missing.source);
    }
    for (why, blind) in reasons {
        let _ = write!(line, "; not by {}: {why}", words(&blind));
    }
    line
}

fn scenario_lines(out: &mut String, scenario: &ScenarioReport, width: usize, style: Style) {
    let word = style.outcome(scenario.outcome, &format!("{:<12}", scenario.outcome.as_str()));
    let _ = write!(out, "{word} {:<width$}", scenario.name);
    if scenario.trials.len() > 1 {
        let _ = write!(out, "  {} of {} trials passed", scenario.passed, scenario.trials.len());
    }
    if let Some(why) = &scenario.skipped {
        let _ = write!(out, "  {}", style.dim(why));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    // Of many trials that went the same way, one is shown.
    let worst = scenario.trials.iter().max_by_key(|trial| (trial.outcome, std::cmp::Reverse(trial.number)));
    if let Some(trial) = worst {
        if scenario.trials.len() > 1 && trial.outcome != Outcome::Passed {
            let _ = writeln!(out, "  trial {}:", trial.number);
        }
        for line in terminations(trial).lines() {
            let _ = writeln!(out, "  {line}");
        }
        for line in lives(trial).lines() {
            let _ = writeln!(out, "  {line}");
        }
        for traffic in &trial.traffic {
            let _ = writeln!(out, "  {}", clients::traffic_line(traffic));
        }
        if trial.outcome != Outcome::Passed {
            for line in details(trial).lines() {
                let _ = writeln!(out, "  {}", style.detail(line));
            }
        }
    }
}

/// Containers that lived, with what they took at most.
fn lives(trial: &TrialReport) -> String {
    let mut out = String::new();
    let ended = |container: &ContainerRef| {
        trial.terminations.iter().any(|termination| termination.container == *container)
    };
    for memory in trial.memory.iter().filter(|memory| !ended(&memory.container)).take(MANY) {
        let Some(peak) = memory.peak else { continue };
        let limit = memory.limit.map_or_else(String::new, |limit| {
            format!(" of {} ({:.0}%)", mebibytes(limit), share(peak, limit))
        });
        let _ = writeln!(out, "{}  lived, peak {}{limit}", name(&memory.container), mebibytes(peak));
    }
    out
}

/// How containers ended, a line or two each.
pub fn terminations(trial: &TrialReport) -> String {
    let mut out = String::new();
    let (shown, rest) = trial.terminations.split_at(trial.terminations.len().min(MANY));
    for termination in shown {
        termination_lines(&mut out, termination);
    }
    if !rest.is_empty() {
        let _ = writeln!(out, "… and {} more terminations, in report.json: {}", rest.len(), counted(rest));
    }
    for (index, kill) in trial.hidden_kills.iter().enumerate() {
        if index == MANY {
            let _ =
                writeln!(out, "… and {} more hidden kills, in report.json", trial.hidden_kills.len() - MANY);
            break;
        }
        let who = kill.comm.as_deref().unwrap_or("a process");
        let at = kill.killed_at.as_ref().map_or_else(String::new, |at| format!(" at {}", since(at)));
        let _ = writeln!(out, "{}  hidden from its status{at}: {who} was OOM-killed", name(&kill.container));
        let _ = writeln!(out, "    {}\n    {}", cause(&kill.attribution), kill.attribution.explanation);
    }
    out
}

/// What each of these was, counted.
fn counted(terminations: &[TerminationReport]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for termination in terminations {
        let what = match (&termination.attribution, termination.exit_code) {
            (Some(attribution), _) => attribution.cause.to_string(),
            (None, Some(code)) => format!("exit {code}"),
            (None, None) => "not started, or not seen".to_owned(),
        };
        *counts.entry(what).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// So many terminations of one trial are shown one by one.
const MANY: usize = 6;

fn termination_lines(out: &mut String, termination: &TerminationReport) {
    let exit = match termination.end {
        Some(End::Signaled(signal)) => format!("exit {} (signal {signal})", 128 + signal),
        Some(end) => format!("exit {}", end.exit_code()),
        None if termination.unseen => "ended, and nobody saw how".to_owned(),
        None => "could not be started".to_owned(),
    };
    let at = termination.killed_at.as_ref().or(termination.ended_at.as_ref());
    let at = at.map_or_else(String::new, |at| {
        let wall = at.wall.as_deref().and_then(|wall| wall.split_once('T')).map_or("", |(_, time)| time);
        format!(" at {} {}", since(at), wall.trim_end_matches('Z'))
    });
    let reason =
        termination.reason.as_ref().map_or_else(String::new, |reason| format!(", Kubernetes says {reason}"));
    let _ = writeln!(out, "{}  {exit}{}{reason}", name(&termination.container), at.trim_end());
    let memory = &termination.memory_at_death;
    let memory = match (memory.usage, memory.limit) {
        (Some(usage), Some(limit)) => format!(", {} of {}", mebibytes(usage), mebibytes(limit)),
        (Some(usage), None) => format!(", {}", mebibytes(usage)),
        (None, _) => String::new(),
    };
    let _ = match &termination.attribution {
        Some(attribution) => {
            writeln!(out, "    {}{memory}\n    {}", cause(attribution), attribution.explanation)
        }
        None if termination.end.is_none() => Ok(()),
        None => match &termination.asked {
            Some(asked) => writeln!(out, "    it ended after {asked}{memory}"),
            None => writeln!(out, "    it ended by itself{memory}"),
        },
    };
    for line in termination.clients.iter().map(clients::impact_lines) {
        let _ = writeln!(out, "    {}", line.replace('\n', "\n    "));
    }
    for (index, line) in termination.last_lines.iter().enumerate() {
        let what = if index == 0 { "wrote last:" } else { "" };
        let _ = writeln!(out, "    {what:<11} {}", line.chars().take(QUOTED_CHARACTERS).collect::<String>());
    }
}

fn cause(of: &AttributionReport) -> String {
    let detail = of.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
    let sender =
        of.sender.as_ref().map(|sender| format!(" by {} [{}]", sender.comm, sender.pid)).unwrap_or_default();
    format!("{}{detail}{sender}, {}", of.cause, of.confidence)
}

/// What differs or is missing, expected beside actual, with the evidence.
pub fn details(trial: &TrialReport) -> String {
    let mut out = String::new();
    for mismatch in &trial.mismatches {
        let _ = writeln!(out, "{}", mismatch.what);
        let _ = writeln!(out, "  expected: {}", mismatch.expected);
        let _ = writeln!(out, "  actual:   {}", mismatch.actual);
        quote(&mut out, trial, &mismatch.evidence);
    }
    for reason in &trial.reasons {
        let _ = writeln!(out, "{reason}");
    }
    for note in &trial.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let unsure = trial.terminations.iter().filter_map(|termination| {
        let attribution = termination.attribution.as_ref()?;
        (attribution.confidence < Confidence::High).then_some((&termination.container, attribution))
    });
    for (container, attribution) in unsure {
        let _ = writeln!(out, "{} is not settled:", name(container));
        for missing in &attribution.missing {
            let _ = writeln!(out, "  missing: {}: {}", missing.source, missing.why);
        }
    }
    out
}

/// So many lines of evidence are quoted for one mismatch.
const QUOTED: usize = 6;

/// So much of each: the kernel's summary has three paths, all of them wanted.
const QUOTED_CHARACTERS: usize = 800;

fn quote(out: &mut String, trial: &TrialReport, evidence: &[u64]) {
    let cited = trial.evidence.iter().filter(|quote| evidence.contains(&quote.sequence));
    for quote in cited.take(QUOTED) {
        let mut text: String = quote.text.chars().take(QUOTED_CHARACTERS).collect();
        if text.len() < quote.text.len() {
            text.push('…');
        }
        let _ = writeln!(out, "  {:>7} #{}: {text}", quote.source, quote.sequence);
    }
}

fn name(container: &ContainerRef) -> String {
    match container.instance {
        0 => format!("{}/{}", container.pod, container.container),
        restarts => format!("{}/{} (restart {restarts})", container.pod, container.container),
    }
}

fn since(at: &TimeReport) -> String {
    at.since_start_us.map_or_else(String::new, |us| format!("+{}.{:06} s", us / 1_000_000, us % 1_000_000))
}

#[expect(clippy::cast_precision_loss, reason = "shown as whole percents")]
fn share(part: u64, of: u64) -> f64 {
    part as f64 / of as f64 * 100.0
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{MemoryAtDeath, Missing};

    #[test]
    fn the_blind_sources_of_a_cluster_are_told_once_for_each_reason() {
        let blind = |source, why: &str| Missing { source, why: why.to_owned() };
        let cluster = ClusterReport {
            context: "kind-ci".to_owned(),
            version: "v1.36.2".to_owned(),
            sees: vec![Source::Runtime, Source::Kubelet],
            blind: vec![
                blind(Source::Kmsg, "no root"),
                blind(Source::Trace, "no tracefs"),
                blind(Source::Memcg, "no root"),
            ],
            remembered: true,
        };
        assert_eq!(
            sources(&cluster),
            "kind-ci (v1.36.2): OOM kills are seen by runtime, kubelet; not by kmsg, memcg: no root; not by trace: no tracefs"
        );
        let all = ClusterReport { blind: Vec::new(), ..cluster };
        assert_eq!(sources(&all), "kind-ci (v1.36.2): OOM kills are seen by runtime, kubelet");
    }

    #[test]
    fn the_worst_is_told_last_and_the_others_stay_in_their_order() {
        let scenario = |name: &str, outcome| ScenarioReport {
            name: name.to_owned(),
            description: None,
            hash: String::new(),
            outcome,
            skipped: None,
            passed: 0,
            without_effect: Vec::new(),
            trials: Vec::new(),
        };
        let scenarios = [
            ("c", Outcome::Errored),
            ("a", Outcome::Passed),
            ("d", Outcome::Failed),
            ("b", Outcome::Passed),
            ("e", Outcome::Skipped),
        ];
        let report = Report::new(None, scenarios.map(|(name, outcome)| scenario(name, outcome)).into());
        let text = render(&report, Style::Plain);
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.split_whitespace().nth(1)).take(5).collect();
        assert_eq!(names, ["e", "a", "b", "d", "c"], "{text}");
    }

    #[test]
    fn terminations_beyond_those_that_are_shown_are_counted() {
        let end = |code| TerminationReport {
            container: ContainerRef { pod: "web".into(), container: "app".into(), instance: 0 },
            exit_code: code,
            end: code.map(End::Exited),
            unseen: false,
            reason: None,
            killed_at: None,
            ended_at: None,
            attribution: None,
            asked: None,
            memory_at_death: MemoryAtDeath::default(),
            clients: Vec::new(),
            last_lines: Vec::new(),
        };
        let ends = [end(Some(1)), end(Some(7)), end(None), end(Some(7))];
        assert_eq!(counted(&ends), "2 exit 7, 1 exit 1, 1 not started, or not seen");
    }
}
