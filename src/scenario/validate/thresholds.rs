//! Expectations of traffic: k6's thresholds, and the part of the run that they are about.

use exit137_workload::Span;

use crate::scenario::document::{self, Thresholds};
use crate::scenario::problem::{KeyPath, nearest};
use crate::scenario::{Aggregate, ExpectedTraffic, Metric, Operator, Over, Threshold};

use super::Notes;
use super::expect::{Seen, number, operator};

/// What the clients of one traffic must have seen.
pub(super) fn of_traffic(
    found: &document::ExpectedTraffic,
    seen: &Seen<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<ExpectedTraffic> {
    let traffic = seen.traffic.iter().find(|traffic| traffic.name == found.of);
    if traffic.is_none() {
        let known: Vec<&str> = seen.traffic.iter().map(|traffic| traffic.name.as_str()).collect();
        let hint = match (nearest(&found.of, known.iter().copied()), &known[..]) {
            (Some(meant), _) => format!("did you mean {meant}?"),
            (None, []) => "add it: traffic: [{name: main, to: web/app, …}]".to_owned(),
            (None, known) => format!("there are: {}", known.join(", ")),
        };
        notes.problem(&path.key("of"), format!("there is no traffic {:?}", found.of), hint);
    }
    let over = over(found.over.as_ref(), traffic, seen, &path.key("over"), notes);
    let of_metric = [
        (Metric::Failed, &found.http_req_failed),
        (Metric::Duration, &found.http_req_duration),
        (Metric::Requests, &found.http_reqs),
        (Metric::Dropped, &found.dropped_iterations),
        (Metric::Recovery, &found.recovery),
    ];
    let mut thresholds = Vec::new();
    for (metric, said) in of_metric {
        let path = path.key(metric.as_str());
        for text in said.iter().flat_map(|Thresholds(texts)| texts) {
            thresholds.extend(threshold(metric, text, &path, notes));
        }
    }
    if of_metric.iter().all(|(_, said)| said.is_none()) {
        notes.problem(path, "expects nothing", "say for example http_req_failed: rate<0.01");
    }
    let around = matches!(over, Some(Over::Around { .. }));
    if found.recovery.is_some() && over.is_some() && !around {
        let to = traffic.map_or("web/app", |traffic| traffic.to.as_str());
        let hint = format!("say over: {{around: {to}, before: 1s, after: 5s}}");
        notes.problem(&path.key("recovery"), "is measured from the end of a container", hint);
    }
    Some(ExpectedTraffic { of: found.of.clone(), over: over?, thresholds })
}

fn over(
    found: Option<&document::Over>,
    traffic: Option<&document::Traffic>,
    seen: &Seen<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Over> {
    let Some(document::Over::Part(part)) = found else { return Some(Over::Run) };
    let (before, after) = (part.before, part.after);
    match (part.stage, &part.around) {
        (Some(stage), None) => {
            for (key, said) in [("before", before.is_some()), ("after", after.is_some())] {
                if said {
                    notes.problem(&path.key(key), "goes with around", "remove it");
                }
            }
            let stages = traffic.map_or(usize::MAX, |traffic| traffic.stages.as_ref().map_or(1, Vec::len));
            if usize::try_from(stage).is_ok_and(|stage| stage >= stages) {
                let what = format!("is {stage}, and 0 is the first of {stages}");
                notes.problem(&path.key("stage"), what, format!("say at most {}", stages.saturating_sub(1)));
            }
            Some(Over::Stage(stage))
        }
        (None, Some(around)) => {
            let before_ms = before.map_or(1_000, |before| notes.time(&path.key("before"), before));
            let after_ms = after.map_or(5_000, |after| notes.time(&path.key("after"), after));
            let container = seen.selectors.select(around, &path.key("around"), notes)?;
            Some(Over::Around { container, before_ms, after_ms })
        }
        (Some(_), Some(_)) => {
            notes.problem(path, "says both stage and around", "make an expectation of each");
            None
        }
        (None, None) => {
            notes.problem(path, "says neither stage nor around", "leave it out for the whole run");
            None
        }
    }
}

/// What may be made of a metric's values.
fn aggregates(metric: Metric) -> &'static [(&'static str, Aggregate)] {
    match metric {
        Metric::Failed | Metric::Requests | Metric::Dropped => {
            &[("rate", Aggregate::Rate), ("count", Aggregate::Count)]
        }
        Metric::Duration => &[
            ("avg", Aggregate::Average),
            ("min", Aggregate::Minimum),
            ("med", Aggregate::Percentile(50.0)),
            ("max", Aggregate::Maximum),
        ],
        Metric::Recovery => &[("", Aggregate::Value)],
    }
}

fn example(metric: Metric) -> &'static str {
    match metric {
        Metric::Failed => "rate<0.01, or count<5",
        Metric::Duration => "p(99)<200ms, or one of avg, min, med, max",
        Metric::Requests => "rate>100, or count>=1000",
        Metric::Dropped => "count<1, or rate<5",
        Metric::Recovery => "<5s",
    }
}

/// `rate<0.01`, `p(99)<200ms`, `<5s`.
fn threshold(metric: Metric, text: &str, path: &KeyPath, notes: &mut Notes) -> Option<Threshold> {
    let parsed = parse(metric, text);
    let Some((aggregate, operator, value)) = parsed else {
        let what = format!("{text:?} is no threshold of {}", metric.as_str());
        notes.problem(path, what, format!("write {}", example(metric)));
        return None;
    };
    let share = (metric, aggregate) == (Metric::Failed, Aggregate::Rate);
    if share && value > 1.0 {
        let what = format!("{text:?} is more than all of them");
        notes.problem(path, what, "a rate of 1 is all; write rate<0.01 for less than 1 %, or count<5");
    }
    let never = matches!(operator, Operator::Less) && value == 0.0;
    if never {
        let what = format!("{text:?} is true of nothing");
        notes.problem(path, what, "write <= for none at all");
    }
    Some(Threshold { metric, aggregate, operator, value, text: text.trim().to_owned() })
}

fn parse(metric: Metric, text: &str) -> Option<(Aggregate, Operator, f64)> {
    let start = text.find(['<', '>'])?;
    let (left, right) = text.split_at(start);
    let left = left.trim();
    let (operator, right) = operator(right)?;
    let named = aggregates(metric).iter().find(|(name, _)| *name == left).map(|(_, aggregate)| *aggregate);
    let aggregate = named.or_else(|| percentile(left).filter(|_| metric == Metric::Duration))?;
    let value = match metric {
        Metric::Duration | Metric::Recovery => milliseconds(right)?,
        Metric::Failed | Metric::Requests | Metric::Dropped => number(right)?,
    };
    Some((aggregate, operator, value))
}

/// `p(99.9)`
fn percentile(text: &str) -> Option<Aggregate> {
    let inner = text.strip_prefix("p(")?.strip_suffix(')')?;
    number(inner.trim()).filter(|percent| (0.0..=100.0).contains(percent)).map(Aggregate::Percentile)
}

/// A time; a bare number is milliseconds, as in k6.
fn milliseconds(text: &str) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a day has fewer milliseconds than 2^53")]
    let span = |span: Span| span.ms as f64;
    number(text).or_else(|| text.parse::<Span>().ok().map(span))
}
