//! The lines between exit137 and a generator: JSON, one a line.

use serde::{Deserialize, Serialize};

/// What a generator is told on standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Control {
    /// From now on, requests go to these, in turn. Before the first of them has come nothing is sent: iterations are
    /// failures `refused`. What is in flight to others goes on.
    Endpoints(Vec<Endpoint>),
    /// The load's zero, in Unix nanoseconds. A generator that hears it later begins with what is due by then; what was due
    /// before is dropped, and counted.
    StartAt(u64),
    /// The load ends now.
    Stop,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Address and port: `10.137.0.1:8080`.
    pub address: String,
    /// The file of the network namespace in which sockets to it are made (`/proc/4242/ns/net`); without it, this process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// What a generator says on standard output. Whoever reads it knows where each line was lost: windows are numbered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Line {
    /// It waits for endpoints and a start.
    Ready(Clock),
    /// What happened in a stretch of time.
    Window(Box<Window>),
    /// It is over: the last line.
    Done(Done),
}

/// The generator's clocks, read together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// The boot whose time this is.
    pub boot_id: String,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub boot_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds.
    pub unix_ns: u64,
}

/// A stretch of time and all that ended in it. A window ends after a second, at the end of a stage, and whenever answers turn
/// from good to failed or back (these, at most twenty times in a second).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// 0 is the first; none is left out.
    pub sequence: u64,
    /// Where it begins: where the one before it ended.
    pub from_ns: u64,
    /// Where it ends.
    pub to_ns: u64,
    /// In which stage of the load (from 0); past the last one, the number of stages.
    pub stage: u32,
    /// Iterations that the load called for.
    pub due: u64,
    /// Of these, dropped: no VU was idle, or the schedule was missed.
    pub dropped: u64,
    /// Requests sent or tried in vain, retries among them: what did not end in it or before it is in flight.
    pub sent: u64,
    /// Of these, retries.
    pub retried: u64,
    /// Requests in flight at its end.
    pub in_flight: u64,
    /// Requests that came to their end in it.
    pub outcomes: Outcomes,
    /// Latency, from the intended send, of those that were answered, cut or timed out: what failed at once would flatter it.
    pub latency: Histogram,
    /// The first that failed in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failed: Option<Failure>,
    /// The last that failed in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed: Option<Failure>,
    /// The first of its connections that was reset or cut in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_reset_ns: Option<u64>,
    /// When the first good answer of it was complete (status 200 to 399).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_good_ns: Option<u64>,
    /// When the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good_ns: Option<u64>,
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "Outcome documents them")]
pub struct Outcomes {
    pub success: u64,
    pub redirect: u64,
    pub client_error: u64,
    pub server_error: u64,
    pub refused: u64,
    pub reset: u64,
    pub timed_out: u64,
    pub cut: u64,
    pub not_sent: u64,
    pub not_http: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Answered with 200 to 299.
    Success,
    /// Answered with 300 to 399.
    Redirect,
    /// Answered with 400 to 499.
    ClientError,
    /// Answered with 500 to 599.
    ServerError,
    /// No connection: refused, unreachable, or no endpoint.
    Refused,
    /// The connection was closed or reset before the answer began.
    Reset,
    /// Not complete within the request's timeout.
    TimedOut,
    /// The connection was closed or reset in the middle of the answer.
    Cut,
    /// The generator itself could not send it: no socket, no descriptor.
    NotSent,
    /// What came was no HTTP.
    NotHttp,
}

/// A request that failed: anything but a status from 200 to 399.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// When it failed.
    pub at_ns: u64,
    /// When it was to be sent.
    pub due_ns: u64,
    /// How.
    pub outcome: Outcome,
}

/// A histogram without its empty buckets: pairs of a value and how often, in rising order. Values are microseconds, as
/// hdrhistogram rounds them with three significant digits; merged by adding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(pub Vec<(u64, u64)>);

/// How a generator ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Why.
    pub why: DoneWhy,
    /// How many windows it said.
    pub windows: u64,
    /// How late iterations of an open load were sent, after the intended send.
    pub lateness: Histogram,
}

/// Why a generator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DoneWhy {
    /// The load came to its end.
    Complete,
    /// It was told to stop.
    Stopped,
}
