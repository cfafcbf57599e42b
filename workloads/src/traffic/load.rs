//! What a generator is told: its load, and the requests that it sends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that one generator needs to know, as JSON on its command line. exit137 has validated it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// How much is to be sent when.
    pub load: Load,
    /// Which part of the load this generator takes.
    pub share: Share,
    /// What is sent: one of these per iteration, in the proportion of their weights, by the iteration's number.
    pub requests: Vec<Request>,
    /// The version of HTTP.
    pub http: HttpVersion,
    /// A request that fails (refused, reset, cut, timed out or answered with 5xx) is sent again so often.
    pub retries: u32,
    /// So long after each failure, in milliseconds.
    pub retry_after_ms: u64,
    /// How long requests in flight at the end of the load may still take, in milliseconds (k6's `gracefulStop`).
    pub graceful_stop_ms: u64,
    /// Whether the end of standard input ends it: what started it is gone. Without it, it goes on.
    pub follow_stdin: bool,
}

/// A load over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Load {
    /// Open model: iterations start on schedule. One that finds no idle VU is dropped, and counted.
    ArrivalRate {
        /// The rate at the start, in iterations per time unit.
        start: u64,
        /// From the rate before to this stage's, linearly.
        stages: Vec<LoadStage>,
        /// The time unit of the rates, in milliseconds.
        time_unit_ms: u64,
        /// The most iterations in flight at once.
        max_vus: u32,
    },
    /// Closed model: so many users, each of which starts its next iteration when its last one is over.
    Vus {
        /// How many at the start.
        start: u32,
        /// From the number before to this stage's, linearly.
        stages: Vec<LoadStage>,
    },
}

/// One stage of a load; of no length it is a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadStage {
    /// The rate or the number of VUs that it ends at.
    pub target: u64,
    /// How long it takes, in milliseconds.
    pub ms: u64,
}

/// One of several generators that share a load: number `index` (from 0) of `of` takes the iterations `n` with
/// `n % of == index`, so that together they send exactly the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Which.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path and the query.
    pub path: String,
    /// Header fields beside `host`.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
    /// How often it is sent beside the others.
    pub weight: u32,
    /// From the send until the end of the answer, in milliseconds.
    pub timeout_ms: u64,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpVersion {
    /// HTTP/1.1 with keep-alive: one request at a time on a connection.
    #[default]
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2 with prior knowledge: many requests at a time on a connection.
    #[serde(rename = "2")]
    Http2,
}
