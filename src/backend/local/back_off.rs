//! How long a container waits before it is started again.

use std::time::Duration;

use tokio::time::Instant;

/// The kubelet's back-off between a container's restarts (`kuberuntime_manager.go:doBackOff`,
/// `client-go/util/flowcontrol/backoff.go`): at once the first time, then 10 s, doubling to 300 s, and from the beginning
/// after 10 minutes without an end.
#[derive(Debug)]
pub struct BackOff {
    scale: f64,
    last: Option<Restart>,
}

#[derive(Clone, Copy, Debug)]
struct Restart {
    at: Instant,
    /// What the next one waits, unscaled.
    next_wait: Duration,
}

const FIRST: Duration = Duration::from_secs(10);
/// `MaxContainerBackOff`.
const LONGEST: Duration = Duration::from_mins(5);
/// Twice `MaxContainerBackOff`: what lived for longer is healthy.
const HEALTHY: Duration = Duration::from_mins(10);

impl BackOff {
    /// That of a container that has not ended yet; every time in it is multiplied by `scale`.
    pub fn new(scale: f64) -> Self {
        Self { scale, last: None }
    }

    /// How long a container that has ended now waits.
    pub fn wait(&mut self, now: Instant) -> Duration {
        let healthy = HEALTHY.mul_f64(self.scale);
        let last = self.last.filter(|last| now.saturating_duration_since(last.at) <= healthy);
        let wait = last.map_or(Duration::ZERO, |last| last.next_wait);
        let next_wait = if last.is_some() { (wait * 2).min(LONGEST) } else { FIRST };
        let scaled = wait.mul_f64(self.scale);
        self.last = Some(Restart { at: now + scaled, next_wait });
        scaled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a container waits that ends so many seconds after each of its starts.
    fn waits<const N: usize>(scale: f64, lives: [u64; N]) -> [u128; N] {
        let mut back_off = BackOff::new(scale);
        let mut now = Instant::now();
        lives.map(|life| {
            now += Duration::from_secs(life);
            let wait = back_off.wait(now);
            now += wait;
            wait.as_millis()
        })
    }

    #[test]
    fn the_first_restart_is_at_once_and_each_further_one_waits_twice_as_long_up_to_five_minutes() {
        assert_eq!(waits(1.0, [0; 8]), [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
        assert_eq!(waits(0.01, [0; 4]), [0, 100, 200, 400]);
        assert_eq!(waits(0.0, [0; 3]), [0, 0, 0]);
    }

    #[test]
    fn ten_minutes_of_health_begin_it_anew() {
        assert_eq!(waits(1.0, [0, 0, 600, 0]), [0, 10_000, 20_000, 40_000]);
        assert_eq!(waits(1.0, [0, 0, 601, 0]), [0, 10_000, 0, 10_000]);
    }
}
