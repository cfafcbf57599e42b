//! What clients saw, as the report has it.

use exit137_workload::traffic::Outcomes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnosis::{ClientImpact, Tally, TrafficFindings};

/// What the clients of one traffic saw in all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficReport {
    /// Its name.
    pub name: String,
    /// Where it went: `container:port`.
    pub to: String,
    /// Why this is not all of it; empty where it is.
    pub doubts: Vec<String>,
    /// How late 99 % of the iterations of an open load were sent at most, in milliseconds.
    pub late_p99_ms: Option<f64>,
    /// All of it.
    pub whole: TallyReport,
}

/// What the clients of one traffic saw of the end of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientsReport {
    /// Of which traffic.
    pub traffic: String,
    /// Microseconds from the kill until the first request failed; absent where none did.
    pub first_failed_us: Option<u64>,
    /// Until the last one failed before answers were good again.
    pub last_failed_us: Option<u64>,
    /// Until the first connection was reset or closed in the middle of an answer.
    pub first_reset_us: Option<u64>,
    /// Until the first good answer after which no request failed for a second; absent where there was none before the next end.
    pub good_again_us: Option<u64>,
    /// Since the end before was got over, or since the beginning.
    pub before: TallyReport,
    /// Until answers were good again.
    pub during: TallyReport,
    /// Until the next end, or until all was over.
    pub after: TallyReport,
}

/// What clients saw in a part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TallyReport {
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// Iterations that the load called for.
    pub due: u64,
    /// Of these, dropped: nobody was idle to send them, or their time was missed.
    pub dropped: u64,
    /// Requests that came to their end.
    pub requests: u64,
    /// Requests that were sent again.
    pub retried: u64,
    /// Requests that were not answered with 200 to 399.
    pub failed: u64,
    /// How they ended.
    pub outcomes: OutcomesReport,
    /// From the intended send to the end of the answer, of those that were answered, cut or timed out.
    pub latency: Option<LatencyReport>,
}

/// How requests ended, and how many each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutcomesReport {
    /// Answered with 200 to 299.
    pub success: u64,
    /// Answered with 300 to 399.
    pub redirect: u64,
    /// Answered with 400 to 499.
    pub client_error: u64,
    /// Answered with 500 to 599.
    pub server_error: u64,
    /// There was no connection to be had.
    pub refused: u64,
    /// The connection ended before the answer began.
    pub reset: u64,
    /// Not complete in time.
    pub timed_out: u64,
    /// The connection ended in the middle of the answer.
    pub cut: u64,
    /// The generator itself could not send it.
    pub not_sent: u64,
    /// What came was no HTTP.
    pub not_http: u64,
}

/// Latencies, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyReport {
    /// The mean.
    pub avg: f64,
    /// Half were at most this.
    pub p50: f64,
    /// 90 % were.
    pub p90: f64,
    /// 99 % were.
    pub p99: f64,
    /// 99.9 % were.
    pub p999: f64,
    /// All were.
    pub max: f64,
}

impl From<&TrafficFindings> for TrafficReport {
    fn from(found: &TrafficFindings) -> Self {
        Self {
            name: found.name.clone(),
            to: found.to.clone(),
            doubts: found.doubts.clone(),
            late_p99_ms: found.late_p99_ms,
            whole: (&found.whole).into(),
        }
    }
}

impl From<&ClientImpact> for ClientsReport {
    fn from(impact: &ClientImpact) -> Self {
        let since = |at: Option<u64>| at.map(|at| at.saturating_sub(impact.killed_ns) / 1_000);
        Self {
            traffic: impact.traffic.clone(),
            first_failed_us: since(impact.first_failed_ns),
            last_failed_us: since(impact.last_failed_ns),
            first_reset_us: since(impact.first_reset_ns),
            good_again_us: since(impact.good_again_ns),
            before: (&impact.before).into(),
            during: (&impact.during).into(),
            after: (&impact.after).into(),
        }
    }
}

impl From<&Tally> for TallyReport {
    fn from(tally: &Tally) -> Self {
        let latency = || {
            Some(LatencyReport {
                avg: tally.mean()?,
                p50: tally.percentile(50.0)?,
                p90: tally.percentile(90.0)?,
                p99: tally.percentile(99.0)?,
                p999: tally.percentile(99.9)?,
                max: tally.most()?,
            })
        };
        Self {
            duration_ms: tally.to_ns.saturating_sub(tally.from_ns) / 1_000_000,
            due: tally.due,
            dropped: tally.dropped,
            requests: tally.requests(),
            retried: tally.retried,
            failed: tally.failed(),
            outcomes: tally.outcomes.into(),
            latency: latency(),
        }
    }
}

impl From<Outcomes> for OutcomesReport {
    fn from(outcomes: Outcomes) -> Self {
        Self {
            success: outcomes.success,
            redirect: outcomes.redirect,
            client_error: outcomes.client_error,
            server_error: outcomes.server_error,
            refused: outcomes.refused,
            reset: outcomes.reset,
            timed_out: outcomes.timed_out,
            cut: outcomes.cut,
            not_sent: outcomes.not_sent,
            not_http: outcomes.not_http,
        }
    }
}
