//! A sizing for people.

use std::fmt::Write as _;

use super::digest::{Digest, Memory};
use super::report::{Candidate, Confidence, Margin, SizeReport, Sized};
use super::search::Held;
use crate::report::model::Outcome;
use crate::report::text::{Style, mebibytes};

/// The whole answer; `folder` is where the values' folders lie.
pub fn render(report: &SizeReport, folder: &str, style: Style) -> String {
    let question = &report.question;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {} by trying {} of {} to {} in steps of {}",
        question.scenario,
        question.path,
        report.candidates.len(),
        question.from,
        question.to,
        question.step
    );
    let width = report.candidates.iter().map(|one| one.value.len()).max().unwrap_or(0);
    for candidate in &report.candidates {
        let _ = writeln!(out, "  {}", line(candidate, width, style));
    }
    let _ = writeln!(out, "\n{}", headline(report, style));
    answer_lines(&mut out, report, folder);
    for contradiction in &report.not_monotonic {
        let _ = writeln!(
            out,
            "  not monotonic: {} holds although {} fails",
            contradiction.holds, contradiction.fails
        );
    }
    if let Some(answer) = report.answer.as_ref().filter(|_| !report.not_monotonic.is_empty()) {
        let _ = writeln!(out, "    {answer} is the one from which on all that were tried hold");
    }
    for note in &report.notes {
        let _ = writeln!(out, "  note: {note}");
    }
    out
}

/// What a value came to, on a line.
pub fn line(candidate: &Candidate, width: usize, style: Style) -> String {
    let (outcome, word) = match candidate.held {
        Some(Held::Holds) => (Outcome::Passed, "holds"),
        Some(Held::Fails) => (Outcome::Failed, "fails"),
        None => (Outcome::Inconclusive, "open"),
    };
    let Digest { passed, runs, .. } = candidate.trials;
    let mut line = format!(
        "{:>width$}  {}  {passed} of {runs} passed",
        candidate.value,
        style.outcome(outcome, &format!("{word:<5}"))
    );
    if let Some(peak) = candidate.trials.peak() {
        let _ = write!(line, "  peak {}", mebibytes(peak));
    }
    if let Some(p99) = candidate.trials.p99_ms {
        let _ = write!(line, "  p99 {p99:.1} ms");
    }
    let causes = candidate.trials.causes();
    if !causes.is_empty() {
        let _ = write!(line, "  {causes}");
    } else if let Some(reason) =
        candidate.trials.reasons.first().filter(|_| candidate.held != Some(Held::Holds))
    {
        let _ = write!(line, "  {reason}");
    }
    line
}

fn headline(report: &SizeReport, style: Style) -> String {
    let find = report.question.find.as_str();
    let answer = report.answer.as_deref().unwrap_or_default();
    let (outcome, text) = match report.outcome {
        Sized::Found => (Outcome::Passed, format!("{answer} is the {find} that holds")),
        Sized::NearEndHolds => (Outcome::Passed, format!("{answer} holds, the {find} of the range")),
        Sized::FarEndFails => {
            (Outcome::Failed, "none was found: even the far end of the range fails".to_owned())
        }
        Sized::Inconclusive => {
            (Outcome::Inconclusive, "not settled: a value's trials were inconclusive, twice".to_owned())
        }
        Sized::Errored => {
            (Outcome::Errored, "not settled: exit137 or the environment failed, twice".to_owned())
        }
        Sized::CutShort => (Outcome::Inconclusive, "not settled: it was cut short".to_owned()),
    };
    style.outcome(outcome, &text)
}

fn answer_lines(out: &mut String, report: &SizeReport, folder: &str) {
    let Some(answer) = report.candidates.iter().find(|one| Some(&one.value) == report.answer.as_ref()) else {
        return;
    };
    let step = &report.question.step;
    if let Some(fails) = report.candidates.iter().find(|one| Some(&one.value) == report.fails.as_ref()) {
        let Digest { failed, runs, .. } = fails.trials;
        let _ = writeln!(
            out,
            "  confirmed from both sides: {}, one step beside it, failed {failed} of {runs}",
            fails.value
        );
    }
    if let Some(Margin { container, limit, peak, left }) = &report.margin {
        let _ = writeln!(
            out,
            "  margin: {container} used at most {} of {}, {} less; the step is {step}",
            mebibytes(*peak),
            mebibytes(*limit),
            mebibytes(*left)
        );
    }
    if let Some(Confidence { passed, failure_rate_below, one_in_twenty_unseen }) = report.confidence {
        let _ = writeln!(
            out,
            "  confidence: {passed} of {passed} runs passed, so at 95 % fewer than {:.0} % of runs fail; did one in twenty, \
             {passed} runs would show none with a probability of {:.0} %",
            failure_rate_below * 100.0,
            one_in_twenty_unseen * 100.0
        );
    }
    for memory in &answer.trials.memory {
        let _ = writeln!(out, "  {}", memory_line(memory));
    }
    if !report.thrashing.is_empty() {
        let _ = writeln!(out, "  thrashing: it survives by reclaim: {}", report.thrashing.join("; "));
        let knee = report.knee.as_ref().map_or_else(
            || "no value that was tried is without such signs but the far end".to_owned(),
            |knee| format!("{knee} is the nearest value tried without such signs"),
        );
        let where_to = if report.outcome == Sized::NearEndHolds { "beyond" } else { "at" };
        let _ = writeln!(out, "    the cliff is {where_to} {}, the knee beside it: {knee}", answer.value);
    }
    let _ = writeln!(out, "  from: {folder}/{}", answer.folder);
}

fn memory_line(memory: &Memory) -> String {
    let mut line = format!("{}:", memory.container);
    let sizes = [("peak", memory.peak), ("working set", memory.working_set)];
    for (name, bytes) in sizes.iter().filter_map(|(name, bytes)| Some((name, (*bytes)?))) {
        let _ = write!(line, " {name} {},", mebibytes(bytes));
    }
    // cgroup v1 counts no hits of a limit that is met just so.
    let hits = memory.limit_hits.map_or_else(|| "not known".to_owned(), |hits| hits.to_string());
    let _ = write!(line, " limit hits {hits},");
    if let Some(refaults) = memory.refaults {
        let _ = write!(line, " refaults {refaults},");
    }
    for (name, percent) in [("full", memory.pressure_full), ("some", memory.pressure_some)] {
        if let Some(percent) = percent {
            let _ = write!(line, " pressure {name} {percent:.1} %,");
        }
    }
    line.trim_end_matches([',', ':']).to_owned()
}
