//! What clients saw, in a line or two.

use std::fmt::Write as _;

use crate::report::clients::{ClientsReport, LatencyReport, OutcomesReport, TallyReport, TrafficReport};

/// A traffic in one line.
pub(super) fn traffic_line(traffic: &TrafficReport) -> String {
    let whole = &traffic.whole;
    let mut line = format!("traffic {}  {}", traffic.name, counts(whole));
    if let Some(latency) = &whole.latency {
        let _ = write!(
            line,
            "; p50 {}, p90 {}, p99 {}, p99.9 {}",
            ms(latency.p50),
            ms(latency.p90),
            ms(latency.p99),
            ms(latency.p999)
        );
    }
    line
}

/// What clients saw of an end, in a line or two.
pub(super) fn impact_lines(clients: &ClientsReport) -> String {
    let during = &clients.during;
    let mut line = format!("clients of {}: ", clients.traffic);
    match (clients.first_failed_us, clients.last_failed_us) {
        (Some(first), Some(last)) => {
            let _ = write!(
                line,
                "{} failed, {} to {} after it ({})",
                during.failed,
                micros(first),
                micros(last),
                ways(&during.outcomes)
            );
        }
        _ if during.requests + clients.after.requests == 0 => return line + "no request after it",
        _ => line.push_str("no request failed"),
    }
    if during.dropped > 0 {
        let _ = write!(line, ", {} dropped", during.dropped);
    }
    match clients.good_again_us {
        Some(_) if clients.first_failed_us.is_none() => {}
        Some(again) => {
            let _ = write!(line, "; good again after {}", micros(again));
        }
        None => line.push_str("; not good again"),
    }
    let parts = [("before", &clients.before), ("during", during), ("after", &clients.after)];
    let p99 = |(when, tally): (&str, &TallyReport)| {
        tally.latency.as_ref().map(|LatencyReport { p99, .. }| format!("{} {when}", ms(*p99)))
    };
    let latencies: Vec<String> = parts.into_iter().filter_map(p99).collect();
    if !latencies.is_empty() {
        let _ = write!(line, "\np99 {}", latencies.join(", "));
    }
    line
}

fn counts(tally: &TallyReport) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let number = |value: u64| value as f64;
    let mut text = format!("{} requests", tally.requests);
    if tally.duration_ms > 0 {
        let rate = number(tally.requests) / number(tally.duration_ms) * 1e3;
        let _ = write!(text, " ({rate:.1}/s)");
    }
    let _ = write!(text, ", {} failed", tally.failed);
    if tally.failed > 0 {
        let share = number(tally.failed) / number(tally.requests) * 100.0;
        let _ = write!(text, " ({share:.1}%: {})", ways(&tally.outcomes));
    }
    if tally.retried > 0 {
        let _ = write!(text, ", {} sent again", tally.retried);
    }
    let _ = write!(text, ", {} of {} dropped", tally.dropped, tally.due);
    text
}

/// How those failed that did.
fn ways(outcomes: &OutcomesReport) -> String {
    let ways = [
        (outcomes.reset, "reset"),
        (outcomes.refused, "refused"),
        (outcomes.cut, "cut"),
        (outcomes.timed_out, "timed out"),
        (outcomes.server_error, "5xx"),
        (outcomes.client_error, "4xx"),
        (outcomes.not_sent, "not sent"),
        (outcomes.not_http, "no HTTP"),
    ];
    let said = ways.into_iter().filter(|(count, _)| *count > 0);
    said.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

fn ms(value: f64) -> String {
    if value < 10.0 { format!("{value:.2} ms") } else { format!("{value:.0} ms") }
}

fn micros(value: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
    let value = value as f64 / 1e3;
    ms(value)
}
