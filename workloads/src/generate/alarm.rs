//! A time limit that is set anew for each request, and costs next to nothing while it is met.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock;

/// tokio's timer is a millisecond coarse: good enough for time limits and pauses.
pub struct Alarm {
    /// Rings at its time or before, and is set anew then: not whenever the limit moves on.
    sleep: Pin<Box<Sleep>>,
    /// The same moment on both clocks.
    base: (Instant, u64),
}

impl Alarm {
    pub fn new() -> Self {
        let base = (Instant::now(), clock::boot_ns());
        Self { sleep: Box::pin(sleep_until(base.0)), base }
    }

    /// What the future comes to, if it does by this moment.
    pub async fn within<F: Future>(&mut self, at: u64, mut future: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx, at).map(|()| None),
        })
        .await
    }

    /// Waits until this moment.
    pub async fn wait(&mut self, at: u64) {
        poll_fn(|cx| self.poll(cx, at)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<()> {
        let limit = self.base.0 + Duration::from_nanos(at.saturating_sub(self.base.1));
        if self.sleep.deadline() > limit {
            self.sleep.as_mut().reset(limit);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if self.sleep.deadline() >= limit {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(limit);
        }
        Poll::Pending
    }
}
