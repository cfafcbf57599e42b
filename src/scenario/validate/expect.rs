//! Expectations: what they name, and whether they can all be true.

use exit137_workload::{Bytes, Span};

use crate::cause::{Cause, Confidence};
use crate::scenario::document;
use crate::scenario::problem::{KeyPath, nearest};
use crate::scenario::structure::slip;
use crate::scenario::{
    Bound, Comparison, ContainerSelector, Expect, ExpectedHiddenKills, ExpectedRestarts, ExpectedTermination,
    Measure, Node, Observe, Operator, Over, Reference, RestartPolicy, Role, Window,
};

use super::selectors::Selectors;
use super::{Notes, containers, possible, thresholds};

/// What expectations are held against.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) selectors: &'a Selectors<'a>,
    pub(super) traffic: &'a [document::Traffic],
    pub(super) observe: &'a Observe,
    pub(super) node: &'a Node,
    pub(super) actions: &'a [document::Action],
    /// Whether the scenario says itself that it needs a cluster.
    pub(super) cluster: bool,
}

/// All expectations of a document.
pub(super) fn expect(document: &document::Expect, seen: &Seen<'_>, notes: &mut Notes) -> Expect {
    let path = KeyPath::default().key("expect");
    let selectors = seen.selectors;
    let terminations = each(&document.terminations, &path.key("terminations"), |found, path| {
        termination(found, seen, path, notes)
    });
    let survive =
        each(&document.survive, &path.key("survive"), |found, path| selectors.select(found, path, notes));
    let restarts = each(&document.restarts, &path.key("restarts"), |found, path| {
        let (container, min, max) = count(found, 0, selectors, path, notes)?;
        Some(ExpectedRestarts { container, min, max })
    });
    let hidden_kills = each(&document.hidden_kills, &path.key("hiddenKills"), |found, path| {
        let (container, min, max) = count(found, 1, selectors, path, notes)?;
        Some(ExpectedHiddenKills { container, min, max })
    });
    let bounds =
        each(&document.bounds, &path.key("bounds"), |found, path| bound(found, selectors, path, notes));
    let traffic = each(&document.traffic, &path.key("traffic"), |found, path| {
        thresholds::of_traffic(found, seen, path, notes)
    });
    let expect = Expect { terminations, survive, restarts, hidden_kills, bounds, traffic };
    contradictions(document, &expect, selectors, &path, notes);
    possible::impossible(document, &expect, seen, &path, notes);
    expect
}

fn each<T, U>(items: &[T], path: &KeyPath, mut make: impl FnMut(&T, &KeyPath) -> Option<U>) -> Vec<U> {
    items.iter().enumerate().filter_map(|(index, item)| make(item, &path.index(index))).collect()
}

fn termination(
    found: &document::Termination,
    seen: &Seen<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<ExpectedTermination> {
    let container = seen.selectors.select(&found.container, &path.key("container"), notes);
    if let Some(cause) = found.cause.filter(|cause| cause.needs_cluster())
        && !seen.cluster
    {
        let what = format!("only a kubelet brings {cause} about");
        notes.problem(
            &path.key("cause"),
            what,
            "say requires: [cluster]; the scenario is skipped where there is none",
        );
    }
    detail(found, path, notes);
    if found.sender.is_some()
        && found.cause.is_some_and(|cause| cause != Cause::ExternalKill && cause != Cause::UserspaceOom)
    {
        let hint = "only external-kill and userspace-oom have a sender; remove it";
        notes.problem(&path.key("sender"), "goes with another cause", hint);
    }
    let within =
        found.within.as_ref().and_then(|within| window(within, seen.observe, &path.key("within"), notes));
    let at_death = path.key("memoryAtDeath");
    let memory_at_death = found.memory_at_death.as_deref().and_then(|text| {
        let comparison = comparison(text, &at_death, notes)?;
        if matches!(comparison.reference, Reference::Number(_)) {
            notes.problem(
                &at_death,
                format!("{text:?} is no amount of memory"),
                "say >= 95% of limit, or >= 60Mi",
            );
        }
        if let Some(container) = &container {
            refers(&comparison, container, seen.selectors, &at_death, notes);
        }
        Some(comparison)
    });
    let times = times(found, path, notes);
    Some(ExpectedTermination {
        container: container?,
        cause: found.cause,
        detail: found.detail,
        confidence: found.confidence.unwrap_or(Confidence::High),
        exit_code: found.exit_code,
        sender: found.sender.clone(),
        within,
        memory_at_death,
        instance: found.instance,
        times,
    })
}

fn detail(found: &document::Termination, path: &KeyPath, notes: &mut Notes) {
    let Some(detail) = found.detail else { return };
    let path = path.key("detail");
    match found.cause {
        None => notes.problem(&path, format!("{detail} is a form of no cause"), "say the cause too"),
        Some(cause) if cause.details().contains(&detail) => {}
        Some(cause) => {
            let forms: Vec<&str> = cause.details().iter().map(|detail| detail.as_str()).collect();
            let hint = if forms.is_empty() {
                format!("{cause} comes in one form only; remove the detail")
            } else {
                format!("say one of {}", forms.join(", "))
            };
            notes.problem(&path, format!("{detail} is no form of {cause}"), hint);
        }
    }
}

fn window(found: &document::Window, observe: &Observe, path: &KeyPath, notes: &mut Notes) -> Option<Window> {
    let window = Window {
        from_ms: notes.time(&path.key("from"), found.from),
        to_ms: notes.time(&path.key("to"), found.to),
    };
    let observed = observe.for_ms + observe.settle_ms;
    if window.from_ms > window.to_ms {
        notes.problem(path, "ends before it begins", "swap from and to");
        return None;
    }
    if window.to_ms > observed {
        let what = format!("{} lies after the observed time, {}", found.to, Span { ms: observed });
        notes.problem(&path.key("to"), what, "end it earlier, or raise observe.for");
    }
    Some(window)
}

fn times(found: &document::Termination, path: &KeyPath, notes: &mut Notes) -> (u32, u32) {
    let range = match (found.times, found.min_times, found.max_times) {
        (Some(times), None, None) => (times, times),
        (Some(_), _, _) => {
            notes.problem(
                &path.key("times"),
                "is said beside minTimes or maxTimes",
                "keep times, or the other two",
            );
            (1, 1)
        }
        (None, None, None) => (1, 1),
        (None, least, most) => (least.unwrap_or(1), most.unwrap_or(u32::MAX)),
    };
    if range.0 > range.1 {
        notes.problem(&path.key("minTimes"), "is more than maxTimes", "swap them");
    }
    if found.instance.is_some() && range.0 > 1 {
        let hint = "a run of a container ends once; remove instance, or say times: 1";
        notes.problem(path, "expects one run to end several times", hint);
    }
    range
}

fn count(
    found: &document::Count,
    least: u32,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<(ContainerSelector, u32, u32)> {
    let least = if found.max == Some(0) { 0 } else { least };
    let (min, max) = (found.min.unwrap_or(least), found.max.unwrap_or(u32::MAX));
    if found.min.is_none() && found.max.is_none() && least == 0 {
        notes.problem(path, "says no number", "say min, max or both");
    }
    if min > max {
        notes.problem(&path.key("min"), "is more than max", "swap them");
    }
    Some((selectors.select(&found.container, &path.key("container"), notes)?, min, max))
}

const MEASURES: [(&str, Measure); 7] = [
    ("peak", Measure::Peak),
    ("p95", Measure::P95),
    ("working set", Measure::WorkingSet),
    ("pressure full", Measure::PressureFull),
    ("pressure some", Measure::PressureSome),
    ("refaults", Measure::Refaults),
    ("limit hits", Measure::LimitHits),
];

fn bound(
    found: &document::Bound,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Bound> {
    let container = selectors.select(&found.container, &path.key("container"), notes);
    let path = path.key("is");
    let text = found.is.trim();
    if let Some(meant) = slip::operator(text) {
        notes.problem(&path, format!("{text:?} compares with nothing"), format!("did you mean {meant}?"));
        return None;
    }
    let words = text
        .find(['<', '>'])
        .map_or(text, |end| &text[..end])
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let Some((_, measure)) = MEASURES.iter().find(|(name, _)| *name == words) else {
        let known: Vec<&str> = MEASURES.iter().map(|(name, _)| *name).collect();
        let hint = match nearest(&words, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("begin with one of {}", known.join(", ")),
        };
        notes.problem(&path, format!("{text:?} measures nothing"), hint);
        return None;
    };
    let comparison = comparison(text.find(['<', '>']).map_or("", |start| &text[start..]), &path, notes)?;
    let fits = match measure {
        Measure::Peak | Measure::P95 | Measure::WorkingSet => {
            !matches!(comparison.reference, Reference::Number(_))
        }
        Measure::PressureFull | Measure::PressureSome | Measure::Refaults | Measure::LimitHits => {
            matches!(comparison.reference, Reference::Number(_))
        }
    };
    let percent = text.ends_with('%');
    match measure {
        Measure::PressureFull | Measure::PressureSome if !fits || !percent => {
            notes.problem(
                &path,
                format!("{text:?} compares pressure with no percentage"),
                "say for example pressure full < 5%",
            );
        }
        Measure::Refaults | Measure::LimitHits if !fits || percent => {
            notes.problem(
                &path,
                format!("{text:?} compares a count with no number"),
                "say for example refaults < 100",
            );
        }
        Measure::Peak | Measure::P95 | Measure::WorkingSet if !fits => {
            let hint = "say 80% of limit, 80% of request, or 64Mi";
            notes.problem(&path, format!("{text:?} compares memory with a bare number"), hint);
        }
        Measure::Peak
        | Measure::P95
        | Measure::WorkingSet
        | Measure::PressureFull
        | Measure::PressureSome
        | Measure::Refaults
        | Measure::LimitHits => {}
    }
    let container = container?;
    refers(&comparison, &container, selectors, &path, notes);
    Some(Bound { container, measure: *measure, comparison, text: text.to_owned() })
}

/// The operator that a text begins with, and what follows it.
pub(super) fn operator(text: &str) -> Option<(Operator, &str)> {
    let operators = [
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    operators.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?.trim())))
}

/// `< 80% of limit`, `>= 64Mi`, `< 5%`, `< 100`.
fn comparison(text: &str, path: &KeyPath, notes: &mut Notes) -> Option<Comparison> {
    let text = text.trim();
    let Some((operator, right)) = operator(text) else {
        if let Some(meant) = slip::operator(text) {
            notes.problem(path, format!("{text:?} compares with nothing"), format!("did you mean {meant}?"));
            return None;
        }
        notes.problem(
            path,
            format!("{text:?} compares with nothing"),
            "write one of < <= > >= and a value: < 80% of limit",
        );
        return None;
    };
    let words: Vec<&str> = right.split_whitespace().collect();
    let reference = match words[..] {
        [share, "of", "limit"] => percent(share).map(|share| Reference::OfLimit(share / 100.0)),
        [share, "of", "request"] => percent(share).map(|share| Reference::OfRequest(share / 100.0)),
        [one] if one.ends_with('%') => percent(one).map(Reference::Number),
        [one] => one
            .parse::<Bytes>()
            .map(|bytes| Reference::Bytes(bytes.0))
            .ok()
            .or_else(|| number(one).map(Reference::Number)),
        _ => None,
    };
    if reference.is_none() {
        let hint = slip::reference(right).map_or_else(
            || {
                "write 80% of limit, 80% of request, 64Mi, 5% for pressure, or a plain number for a count"
                    .to_owned()
            },
            |meant| format!("did you mean {meant}?"),
        );
        notes.problem(path, format!("{right:?} is nothing to compare with"), hint);
    }
    Some(Comparison { operator, reference: reference? })
}

fn percent(text: &str) -> Option<f64> {
    number(text.strip_suffix('%')?)
}

/// A decimal number, without what else Rust reads as one (`inf`, `1e9`).
pub(super) fn number(text: &str) -> Option<f64> {
    let plain = text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

/// A share of a limit or a request needs one.
fn refers(
    comparison: &Comparison,
    selector: &ContainerSelector,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) {
    let Some((pod, container)) = selectors.container(selector) else { return };
    let (missing, what) = match comparison.reference {
        Reference::OfLimit(_) => (!containers::states_memory(pod, &container.name, true), "limit"),
        Reference::OfRequest(_) => (!containers::states_memory(pod, &container.name, false), "request"),
        Reference::Bytes(_) | Reference::Number(_) => (false, ""),
    };
    if missing {
        let hint = format!("give it resources.{what}s.memory, or compare with a size: 64Mi");
        notes.problem(path, format!("{selector} has no memory {what}"), hint);
    }
}

/// Expectations that cannot all be true.
fn contradictions(
    document: &document::Expect,
    expect: &Expect,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) {
    let said = [
        document.nothing_dies.is_some(),
        !document.terminations.is_empty(),
        !document.survive.is_empty(),
        !document.restarts.is_empty(),
        !document.hidden_kills.is_empty(),
        !document.bounds.is_empty(),
        !document.traffic.is_empty(),
    ];
    if !said.contains(&true) {
        notes.problem(
            path,
            "says nothing",
            "say what must happen: terminations, survive, bounds, traffic, or nothingDies: true",
        );
    }
    if document.nothing_dies.is_some() {
        for (key, is_said) in [
            ("terminations", !document.terminations.is_empty()),
            ("hiddenKills", !document.hidden_kills.is_empty()),
            ("traffic", expect.traffic.iter().any(|traffic| matches!(traffic.over, Over::Around { .. }))),
            ("restarts", document.restarts.iter().any(|count| count.min.is_some_and(|min| min > 0))),
        ] {
            if is_said {
                notes.problem(&path.key(key), "contradicts nothingDies", "remove one of the two");
            }
        }
    }
    for (index, survivor) in expect.survive.iter().enumerate() {
        let path = path.key("survive").index(index);
        let same = |other: &ContainerSelector| overlap(survivor, other, selectors);
        if expect
            .terminations
            .iter()
            .any(|termination| termination.times.0 > 0 && same(&termination.container))
        {
            notes.problem(
                &path,
                format!("{survivor} is expected to end, too"),
                "remove it here or in terminations",
            );
        }
        if expect.restarts.iter().any(|restarts| restarts.min > 0 && same(&restarts.container)) {
            notes.problem(
                &path,
                format!("{survivor} is expected to be restarted, too"),
                "remove it here or in restarts",
            );
        }
    }
    for (index, restarts) in expect.restarts.iter().enumerate() {
        let Some((pod, container)) = selectors.container(&restarts.container) else { continue };
        let never = pod.restart_policy == RestartPolicy::Never && container.role != Role::Sidecar;
        if never && restarts.min > 0 {
            let hint = "say restartPolicy: Always or OnFailure, or expect none";
            let path = path.key("restarts").index(index);
            notes.problem(
                &path,
                format!("{} is never restarted: restartPolicy is Never", restarts.container),
                hint,
            );
        }
    }
}

/// Whether two selectors can mean the same container: a pod's name means each of its replicas.
fn overlap(one: &ContainerSelector, other: &ContainerSelector, selectors: &Selectors<'_>) -> bool {
    let names = |selector: &ContainerSelector| match selectors.container(selector) {
        Some((pod, _)) if pod.name == selector.pod => pod.replica_names(),
        Some(_) | None => vec![selector.pod.clone()],
    };
    one.container == other.container && names(one).iter().any(|name| names(other).contains(name))
}
