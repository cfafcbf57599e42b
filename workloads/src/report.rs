//! What it says: JSON lines on standard output, problems on standard error. Nobody need listen.

use std::io::Write as _;

use crate::clock;

/// A growth by so much is said at once.
pub const STEP: u64 = 1 << 20;
/// A smaller one is said when so much time has gone by.
const PERIOD_NS: u64 = 100_000_000;

/// How much is held, as last said. At a kill it was that, give or take a [`STEP`].
#[derive(Default)]
pub struct Level {
    said: Option<u64>,
    at_ns: u64,
}

impl Level {
    /// How far it may grow before it must be said again.
    pub fn next(&self) -> u64 {
        self.said.unwrap_or(0).saturating_add(STEP)
    }

    /// Says how much is held now, if that is news enough.
    pub fn now(&mut self, held: u64) {
        let far = self.said.is_none_or(|said| said.abs_diff(held) >= STEP);
        if far || clock::now_ns() >= self.at_ns + PERIOD_NS {
            self.settled(held);
        }
    }

    /// Says how much is held, unless just that was said last.
    pub fn settled(&mut self, held: u64) {
        if self.said != Some(held) {
            (self.said, self.at_ns) = (Some(held), clock::now_ns());
            text(&format!("{{\"allocated\": {held}, \"at_monotonic_ns\": {}}}\n", self.at_ns));
        }
    }
}

/// Says what happened.
pub fn event(name: &str, value: &str) {
    let line = serde_json::json!({ name: value });
    text(&format!("{line}\n"));
}

/// Writes to standard output, at once; a reader that is gone is no reason to stop.
pub fn text(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says what went wrong.
pub fn problem(text: &str) {
    let _ = std::io::stderr().write_all(format!("exit137-workload: {text}\n").as_bytes());
}
