//! What a generator says, in the record's time and each thing once.

use exit137_workload::traffic::{Clock, Failure, Line, Window};

use crate::backend::clients;
use crate::clock;
use crate::evidence::{End, GeneratorRef};
use crate::recorder::Recorder;

/// A generator that is heard.
#[derive(Debug)]
pub(super) struct Heard {
    recorder: Recorder,
    of: GeneratorRef,
    /// This machine's boot.
    boot_id: String,
    /// How far this machine's boot time is ahead of the generator's.
    ahead_ns: i128,
    /// The window that comes next: a log that is read anew tells them all again.
    next: u64,
    done: bool,
}

impl Heard {
    /// Nothing has been heard yet.
    pub(super) fn new(recorder: Recorder, of: GeneratorRef, boot_id: &str) -> Self {
        Self { recorder, of, boot_id: boot_id.to_owned(), ahead_ns: 0, next: 0, done: false }
    }

    /// Whether it has said that it is done.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes a line; answers whether it says that the generator is ready.
    pub(super) fn take(&mut self, line: &str) -> Result<bool, serde_json::Error> {
        let mut line = serde_json::from_str(line)?;
        match &mut line {
            Line::Ready(clock) => {
                self.ahead_ns = self.ahead(clock);
                return Ok(true);
            }
            Line::Window(window) if window.sequence < self.next => return Ok(false),
            Line::Window(window) => {
                self.next = window.sequence + 1;
                moved(window, self.ahead_ns);
            }
            Line::Done(_) if self.done => return Ok(false),
            Line::Done(_) => {}
        }
        self.done |= clients::record(&self.recorder, &self.of, line);
        Ok(false)
    }

    /// It is gone and had not said that it was done.
    pub(super) fn died(&self, end: Option<End>, why: String) {
        clients::died(&self.recorder, &self.of, end, why);
    }

    /// Another machine's boot time comes to ours by way of the wall clock, which both keep.
    fn ahead(&self, theirs: &Clock) -> i128 {
        if theirs.boot_id == self.boot_id {
            return 0;
        }
        let unix_minus_boot = |unix: u64, boot: u64| i128::from(unix) - i128::from(boot);
        unix_minus_boot(theirs.unix_ns, theirs.boot_ns) - unix_minus_boot(clock::unix_ns(), clock::boot_ns())
    }
}

/// Moves everything in a window by so many nanoseconds.
fn moved(window: &mut Window, by_ns: i128) {
    let moved = |ns: u64| u64::try_from(i128::from(ns) + by_ns).unwrap_or(0);
    let failure = |failure: Failure| Failure {
        at_ns: moved(failure.at_ns),
        due_ns: moved(failure.due_ns),
        outcome: failure.outcome,
    };
    window.from_ns = moved(window.from_ns);
    window.to_ns = moved(window.to_ns);
    window.first_failed = window.first_failed.map(failure);
    window.last_failed = window.last_failed.map(failure);
    window.first_reset_ns = window.first_reset_ns.map(moved);
    window.first_good_ns = window.first_good_ns.map(moved);
    window.last_good_ns = window.last_good_ns.map(moved);
}
