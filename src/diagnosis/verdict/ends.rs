//! The ends that were expected against those that happened.

use super::{Judged, Notes, is, range, size};
use crate::cause::{Cause, Confidence};
use crate::diagnosis::{Attribution, Termination};
use crate::evidence::ContainerRef;
use crate::scenario::{ExpectedTermination, Operator, Reference, Window};
use crate::statistics::MemorySummaries;

/// How one end stands to one expectation.
#[derive(Debug)]
struct Comparison {
    /// What differs for sure: of what, expected, actual.
    differs: Vec<(&'static str, String, String)>,
    /// What cannot be said.
    unsure: Vec<String>,
}

impl Comparison {
    fn satisfied(&self) -> bool {
        self.differs.is_empty() && self.unsure.is_empty()
    }
}

/// Assigns ends to expectations; whatever is left on either side is a mismatch, or cannot be told.
pub(super) fn compare(judged: &Judged<'_>, notes: &mut Notes) {
    let ends = &judged.findings.terminations;
    let wanted = wanted(judged);
    let fits = |slot: usize, end: usize| {
        let (expected, pod) = &wanted[slot];
        let end = &ends[end];
        concerns(expected, pod, &end.container) && weigh(judged, expected, end).satisfied()
    };
    // What must happen at least is served first; then what may happen besides.
    let mut taken: Vec<Option<usize>> = vec![None; ends.len()];
    let mut short = Vec::new();
    for (slot, (expected, _)) in wanted.iter().enumerate() {
        let least = expected.times.0;
        let served = (0..least).take(ends.len()).filter(|_| serve(slot, &fits, &mut taken)).count();
        short.push(least.saturating_sub(u32::try_from(served).unwrap_or(u32::MAX)));
    }
    for (slot, (expected, _)) in wanted.iter().enumerate() {
        let more = expected.times.1.saturating_sub(expected.times.0);
        let _ = (0..more).take(ends.len()).take_while(|_| serve(slot, &fits, &mut taken)).count();
    }
    let mut left: Vec<&Termination> =
        ends.iter().zip(&taken).filter(|(_, slot)| slot.is_none()).map(|(end, _)| end).collect();
    for ((expected, pod), short) in wanted.iter().zip(short) {
        if short > 0 {
            fall_short(judged, (expected, pod), short, &mut left, notes);
        }
    }
    for end in left {
        // There may be room for one more of what it may have been.
        let room = |slot: usize| {
            let count = taken.iter().filter(|holder| **holder == Some(slot)).count();
            u32::try_from(count).is_ok_and(|count| count < wanted[slot].0.times.1)
        };
        let perhaps = wanted.iter().enumerate().find_map(|(slot, (expected, pod))| {
            let concerned = room(slot) && concerns(expected, pod, &end.container);
            let comparison = concerned.then(|| weigh(judged, expected, end))?;
            comparison.differs.is_empty().then_some(comparison.unsure)
        });
        if let Some(unsure) = perhaps {
            notes.reasons.extend(unsure.iter().map(|why| format!("{}: {why}", end.container)));
            continue;
        }
        if end.unseen {
            notes.reasons.push(unseen(end));
            continue;
        }
        let what = format!("unexpected termination of {}", end.container);
        notes.mismatch(what, "no such termination", describe(end), evidence(end));
    }
}

/// Every expectation once for each replica that it means.
fn wanted<'a>(judged: &Judged<'a>) -> Vec<(&'a ExpectedTermination, String)> {
    let expectations = judged.expect.terminations.iter();
    expectations
        .flat_map(|expected| judged.pods_of(&expected.container).into_iter().map(move |pod| (expected, pod)))
        .collect()
}

fn concerns(expected: &ExpectedTermination, pod: &str, container: &ContainerRef) -> bool {
    is(container, pod, &expected.container.container)
        && expected.instance.is_none_or(|instance| instance == container.instance)
}

/// Gives one more end to an expectation, moving others to where they fit too (an augmenting path).
fn serve(slot: usize, fits: &impl Fn(usize, usize) -> bool, taken: &mut [Option<usize>]) -> bool {
    fn place(
        slot: usize,
        fits: &impl Fn(usize, usize) -> bool,
        taken: &mut [Option<usize>],
        tried: &mut [bool],
    ) -> bool {
        for end in 0..taken.len() {
            if tried[end] || !fits(slot, end) {
                continue;
            }
            tried[end] = true;
            if taken[end].is_none_or(|other| place(other, fits, taken, tried)) {
                taken[end] = Some(slot);
                return true;
            }
        }
        false
    }
    // An end that this expectation has already need not move within it.
    let mut tried: Vec<bool> = taken.iter().map(|holder| *holder == Some(slot)).collect();
    place(slot, fits, taken, &mut tried)
}

/// How near to its limit a container came, for one that was to die and did not.
fn peak(judged: &Judged<'_>, name: &str) -> String {
    let runs = judged.memory.iter().filter(|(run, _)| format!("{}/{}", run.pod, run.container) == name);
    let peaks = runs.filter_map(|(_, summary)| Some((summary.peak?, summary.limit)));
    let Some((peak, limit)) = peaks.max() else { return String::new() };
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    let of_limit = limit.map_or_else(String::new, |limit| format!(" of {}", mebibytes(limit)));
    format!("; its memory reached {}{of_limit}", mebibytes(peak))
}

/// Says for each end that is wanting which other end came instead, or that none came.
fn fall_short(
    judged: &Judged<'_>,
    wanted: (&ExpectedTermination, &str),
    short: u32,
    left: &mut Vec<&Termination>,
    notes: &mut Notes,
) {
    let (expected, pod) = wanted;
    let name = format!("{pod}/{}", expected.container.container);
    for _ in 0..short {
        let weighed = left
            .iter()
            .enumerate()
            .filter(|(_, end)| concerns(expected, pod, &end.container))
            .map(|(place, end)| (place, weigh(judged, expected, end)))
            // The nearest: one that may still be it, then one with the fewest differences.
            .min_by_key(|(_, comparison)| comparison.differs.len());
        let Some((place, comparison)) = weighed else {
            let what = format!("termination of {name}");
            if judged.runtime_watched() {
                let times = range(expected.times.0, expected.times.1);
                let asked = format!("{} ({times} times)", describe_expected(expected));
                let happened = expected.times.0.saturating_sub(short);
                let actual = if happened == 0 {
                    "it did not happen".to_owned()
                } else {
                    format!("it happened {happened} times")
                };
                notes.mismatch(what, asked, &(actual + &peak(judged, &name)), Vec::new());
            } else {
                notes.reasons.push(format!("{what}: the runtime did not watch to the end"));
            }
            return;
        };
        let end = left.remove(place);
        for (what, asked, actual) in &comparison.differs {
            notes.mismatch(format!("{what} of {}", end.container), asked, actual, evidence(end));
        }
        if comparison.differs.is_empty() {
            notes.reasons.extend(comparison.unsure.iter().map(|why| format!("{}: {why}", end.container)));
        }
    }
}

fn weigh(judged: &Judged<'_>, expected: &ExpectedTermination, end: &Termination) -> Comparison {
    let mut comparison = Comparison { differs: Vec::new(), unsure: Vec::new() };
    cause(judged, expected, end, &mut comparison);
    if let Some(code) = expected.exit_code {
        match end.end.map(crate::evidence::End::exit_code) {
            Some(actual) if actual == code => {}
            Some(actual) => comparison.differs.push(("exit code", code.to_string(), actual.to_string())),
            None if end.unseen => comparison.unsure.push("its exit code is not known".to_owned()),
            None => comparison.differs.push(("exit code", code.to_string(), "it never ran".to_owned())),
        }
    }
    if let Some(sender) = &expected.sender {
        // The kernel keeps 15 bytes of a name.
        let same = |comm: &str| comm == sender || (comm.len() == 15 && sender.starts_with(comm));
        match end.attribution.as_ref().and_then(|found| found.sender.as_ref()) {
            Some(actual) if same(&actual.comm) => {}
            Some(actual) => comparison.differs.push(("sender", sender.clone(), actual.comm.clone())),
            None => comparison.unsure.push("who sent the SIGKILL is not known".to_owned()),
        }
    }
    if end.unseen {
        // It may have been another end altogether, at another time.
        comparison.unsure.push("nobody saw how it ended".to_owned());
    } else if let Some(window) = expected.within {
        time(window, end, &mut comparison);
    }
    memory_at_death(judged.memory, expected, end, &mut comparison);
    comparison
}

fn cause(
    judged: &Judged<'_>,
    expected: &ExpectedTermination,
    end: &Termination,
    comparison: &mut Comparison,
) {
    let Some(cause) = expected.cause else { return };
    let asked = describe_expected(expected);
    let Some(found) = &end.attribution else {
        // What the kubelet makes up only the API tells.
        if cause == Cause::Synthetic && !judged.runtime_watched() {
            comparison.unsure.push(format!("{asked} was expected; the API did not watch to the end"));
            return;
        }
        comparison.differs.push(("cause", asked, "nothing killed it: ".to_owned() + &describe(end)));
        return;
    };
    let told = expected.detail.is_none() || found.detail == expected.detail;
    let same = found.cause == cause && (told || found.detail.is_none());
    let missing: Vec<String> = found.missing.iter().map(|m| format!("{}: {}", m.source, m.why)).collect();
    let wanting = if missing.is_empty() { String::new() } else { format!(" ({})", missing.join("; ")) };
    if found.cause == Cause::Undetermined && cause != Cause::Undetermined {
        comparison.unsure.push(format!("{asked} was expected; {}{wanting}", found.explanation));
    } else if !same {
        // A cause that is itself hardly sure does not fail a scenario.
        if found.confidence >= Confidence::High {
            comparison.differs.push(("cause", asked, describe_cause(found)));
        } else {
            comparison.unsure.push(format!("{asked} was expected; found {}{wanting}", describe_cause(found)));
        }
    } else if !told {
        comparison
            .unsure
            .push(format!("{asked} was expected; found {}, in which form is not known", found.cause));
    } else if found.confidence < expected.confidence && cause != Cause::Undetermined {
        let least = expected.confidence;
        comparison
            .unsure
            .push(format!("{cause} is only of {} confidence, not {least}{wanting}", found.confidence));
    }
}

/// Times count from the start of the container instance to the kill, or to its end where nothing killed it.
fn time(window: Window, end: &Termination, comparison: &mut Comparison) {
    let (Some(start), Some(died)) = (end.started_at, end.killed_at.or(end.ended_at)) else {
        comparison.unsure.push("when it started is not known".to_owned());
        return;
    };
    let earliest = died.moment.earliest().saturating_sub(start.moment.latest());
    let latest = died.moment.latest().saturating_sub(start.moment.earliest());
    let (from, to) = (window.from_ms.saturating_mul(1_000_000), window.to_ms.saturating_mul(1_000_000));
    let asked = format!("{} ms to {} ms after its start", window.from_ms, window.to_ms);
    let ms = |ns: u64| ns / 1_000_000;
    if latest < from || earliest > to {
        comparison.differs.push((
            "moment",
            asked,
            format!("{} ms after its start", ms(earliest.midpoint(latest))),
        ));
    } else if earliest < from || latest > to {
        comparison.unsure.push(format!(
            "it died between {} ms and {} ms after its start",
            ms(earliest),
            ms(latest)
        ));
    }
}

fn undetermined(end: &Termination) -> bool {
    end.attribution.as_ref().is_some_and(|found| found.cause == Cause::Undetermined)
}

fn memory_at_death(
    memory: &MemorySummaries,
    expected: &ExpectedTermination,
    end: &Termination,
    comparison: &mut Comparison,
) {
    let Some(asked) = &expected.memory_at_death else { return };
    let died = memory.at_death(end);
    #[expect(clippy::cast_precision_loss, reason = "sizes below 2^53 bytes are exact")]
    let usage = died.usage.map(|usage| usage as f64);
    match usage.and_then(|usage| asked.holds(usage, died.limit, end.request)) {
        Some(true) => {}
        // What an OOM kill would have used it used up after the last reading.
        Some(false) if undetermined(end) => {
            comparison.unsure.push("memory at death: why it died is not known".to_owned());
        }
        Some(false) => {
            let actual = usage.map_or(String::new(), |usage| size(usage, died.limit));
            comparison.differs.push(("memory at death", describe_comparison(asked), actual));
        }
        None => comparison.unsure.push("memory at death: no data".to_owned()),
    }
}

/// Why an end that nobody saw leaves the verdict open.
pub(super) fn unseen(end: &Termination) -> String {
    let explanation = end.attribution.as_ref().map_or("", |found| found.explanation.as_str());
    format!("{}: {explanation}", end.container)
}

/// An end in a few words.
pub(super) fn describe(end: &Termination) -> String {
    let how = match end.end {
        Some(end) => format!("exit code {}", end.exit_code()),
        None if end.unseen => "it ended, and nobody saw how".to_owned(),
        None => "it could not be started".to_owned(),
    };
    end.attribution.as_ref().map_or(how.clone(), |found| format!("{how}, {}", describe_cause(found)))
}

/// The observations that show an end.
pub(super) fn evidence(end: &Termination) -> Vec<u64> {
    end.attribution.as_ref().map(|found| found.evidence.clone()).unwrap_or_default()
}

fn describe_cause(found: &Attribution) -> String {
    let detail = found.detail.map(|detail| format!("/{detail}")).unwrap_or_default();
    format!("{}{detail} ({})", found.cause, found.confidence)
}

fn describe_expected(expected: &ExpectedTermination) -> String {
    let detail = expected.detail.map(|detail| format!("/{detail}")).unwrap_or_default();
    expected.cause.map_or("any cause".to_owned(), |cause| format!("{cause}{detail}"))
}

pub(super) fn describe_comparison(comparison: &crate::scenario::Comparison) -> String {
    let operator = match comparison.operator {
        Operator::Less => "<",
        Operator::AtMost => "<=",
        Operator::Greater => ">",
        Operator::AtLeast => ">=",
    };
    match comparison.reference {
        Reference::Bytes(bytes) => format!("{operator} {bytes} bytes"),
        Reference::OfLimit(share) => format!("{operator} {:.0}% of limit", share * 100.0),
        Reference::OfRequest(share) => format!("{operator} {:.0}% of request", share * 100.0),
        Reference::Number(number) => format!("{operator} {number}"),
    }
}
