//! Requests to stop: why, and how long it may take.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::evidence::StopReason;

/// That a pod or a container is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Why.
    pub reason: StopReason,
    /// Since when.
    pub since: Instant,
    /// How long it may take from then on.
    pub grace_ms: u64,
}

/// What every container has after SIGTERM, however little is left of its grace period: the kubelet's
/// `minimumGracePeriodInSeconds`.
pub const LEAST_GRACE: Duration = Duration::from_secs(2);

impl StopRequest {
    /// A request of now.
    pub fn now(reason: StopReason, grace_ms: u64) -> Self {
        Self { reason, since: Instant::now(), grace_ms }
    }

    /// The end of the run: at once.
    pub fn tear_down() -> Self {
        Self::now(StopReason::TearDown, 0)
    }

    /// When the grace period ends.
    pub fn due(&self) -> Instant {
        self.since + Duration::from_millis(self.grace_ms)
    }

    /// The same with what is left of its grace period.
    pub fn left(&self) -> Self {
        let left = self.due().saturating_duration_since(Instant::now());
        Self::now(self.reason, u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The next request to stop, after one that is being obeyed.
pub async fn next_request(stop: &mut watch::Receiver<Option<StopRequest>>) -> StopRequest {
    // The run itself is over when nobody can ask any more.
    let asked = stop.changed().await.is_ok();
    let request = *stop.borrow_and_update();
    request.filter(|_| asked).unwrap_or_else(StopRequest::tear_down)
}
