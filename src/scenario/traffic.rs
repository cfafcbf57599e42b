//! Traffic: what is sent to a container, and what its clients must come to see.

use exit137_workload::traffic::{Generator, HttpVersion, Load, Request, Share};

use super::{ContainerSelector, Operator};

/// Requests to one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// What it is called.
    pub name: String,
    /// To which container; a pod with replicas means each of them in turn.
    pub to: ContainerSelector,
    /// To which of its ports.
    pub port: u16,
    /// How much when.
    pub load: Load,
    /// It begins so many milliseconds after all pods have started.
    pub start_ms: u64,
    /// Requests in flight at its end may take so many milliseconds more.
    pub graceful_stop_ms: u64,
    /// The version of HTTP.
    pub http: HttpVersion,
    /// How many generators share it.
    pub generators: u32,
    /// How often a request that failed is sent again.
    pub retries: u32,
    /// So many milliseconds after it failed.
    pub retry_after_ms: u64,
    /// What is sent.
    pub requests: Vec<Request>,
}

impl Traffic {
    /// What generator number `index` is told.
    pub fn generator(&self, index: u32) -> Generator {
        Generator {
            load: self.load.clone(),
            share: Share { index, of: self.generators },
            requests: self.requests.clone(),
            http: self.http,
            retries: self.retries,
            retry_after_ms: self.retry_after_ms,
            graceful_stop_ms: self.graceful_stop_ms,
            follow_stdin: true,
        }
    }

    /// When its load ends, in milliseconds after all pods have started.
    pub fn end_ms(&self) -> u64 {
        let (Load::ArrivalRate { stages, .. } | Load::Vus { stages, .. }) = &self.load;
        stages.iter().fold(self.start_ms, |sum, stage| sum.saturating_add(stage.ms))
    }

    /// How many stages its load has.
    pub fn stages(&self) -> usize {
        let (Load::ArrivalRate { stages, .. } | Load::Vus { stages, .. }) = &self.load;
        stages.len()
    }
}

/// What the clients of one traffic must have seen.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedTraffic {
    /// Of which traffic.
    pub of: String,
    /// When.
    pub over: Over,
    /// All of these.
    pub thresholds: Vec<Threshold>,
}

/// The part of a traffic that thresholds are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// All of it.
    Run,
    /// One stage of its load; 0 is the first.
    Stage(u32),
    /// The time around each end of a container that is not the tear-down's.
    Around {
        /// Which container.
        container: ContainerSelector,
        /// From so many milliseconds before it was killed, or ended where nothing killed it.
        before_ms: u64,
        /// To so many milliseconds after.
        after_ms: u64,
    },
}

/// A threshold in k6's style: `rate<0.01`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Of which metric.
    pub metric: Metric,
    /// What of it.
    pub aggregate: Aggregate,
    /// How it is compared.
    pub operator: Operator,
    /// With what: a share, a count, or milliseconds.
    pub value: f64,
    /// As the scenario wrote it.
    pub text: String,
}

/// What clients measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `http_req_failed`: requests that were not answered with 200 to 399.
    Failed,
    /// `http_req_duration`: from the intended send to the end of the answer.
    Duration,
    /// `http_reqs`: requests.
    Requests,
    /// `dropped_iterations`: what the load called for and nobody was idle to send.
    Dropped,
    /// From a kill until answers were good again.
    Recovery,
}

/// What is made of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aggregate {
    /// A share of all for [`Metric::Failed`], per second for counts.
    Rate,
    /// How many.
    Count,
    /// The mean.
    Average,
    /// The least.
    Minimum,
    /// The most.
    Maximum,
    /// So many percent were at most this.
    Percentile(f64),
    /// The one value that there is.
    Value,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 5] = [Self::Failed, Self::Duration, Self::Requests, Self::Dropped, Self::Recovery];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "http_req_failed",
            Self::Duration => "http_req_duration",
            Self::Requests => "http_reqs",
            Self::Dropped => "dropped_iterations",
            Self::Recovery => "recovery",
        }
    }
}

impl Threshold {
    /// Whether a value satisfies it.
    pub fn holds(&self, value: f64) -> bool {
        match self.operator {
            Operator::Less => value < self.value,
            Operator::AtMost => value <= self.value,
            Operator::Greater => value > self.value,
            Operator::AtLeast => value >= self.value,
        }
    }
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run => f.write_str("the whole run"),
            Self::Stage(stage) => write!(f, "stage {stage}"),
            Self::Around { container, .. } => write!(f, "the time around the end of {container}"),
        }
    }
}
