//! What a generator of traffic says, as facts of the record: the same wherever it runs.

use exit137_workload::traffic::{Clock, Failure, Line, Window};

use crate::clock;
use crate::evidence::{
    End, Fact, GeneratorEnd, GeneratorRef, Moment, Source, SourceState, TrafficEnded, TrafficWindow,
};
use crate::recorder::Recorder;

/// A generator that is heard.
#[derive(Debug)]
pub struct Heard {
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
    pub fn new(recorder: Recorder, of: GeneratorRef, boot_id: &str) -> Self {
        Self { recorder, of, boot_id: boot_id.to_owned(), ahead_ns: 0, next: 0, done: false }
    }

    /// Whether it has said that it is done.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Takes a line; answers whether it says that the generator is ready.
    pub fn take(&mut self, line: &str) -> Result<bool, serde_json::Error> {
        match serde_json::from_str(line)? {
            Line::Ready(clock) => {
                self.ahead_ns = self.ahead(&clock);
                return Ok(true);
            }
            Line::Window(mut window) if window.sequence >= self.next => {
                self.next = window.sequence + 1;
                moved(&mut window, self.ahead_ns);
                let at = Moment::between(window.from_ns, window.to_ns);
                let fact = TrafficWindow { of: self.of.clone(), window };
                self.recorder.record(Source::Clients, at, None, Fact::TrafficWindow(fact));
            }
            Line::Window(_) => {}
            Line::Done(done) => {
                if !self.done {
                    self.done = true;
                    let fact = TrafficEnded { of: self.of.clone(), end: GeneratorEnd::Done(done) };
                    self.recorder.now(Source::Clients, Fact::TrafficEnded(fact));
                }
            }
        }
        Ok(false)
    }

    /// It is gone and had not said that it was done.
    pub fn died(&self, end: Option<End>, why: String) {
        let GeneratorRef { traffic, generator } = &self.of;
        let reason = format!("generator {generator} of traffic {traffic} ended before it was done");
        let fact = TrafficEnded { of: self.of.clone(), end: GeneratorEnd::Died { end, why } };
        self.recorder.now(Source::Clients, Fact::TrafficEnded(fact));
        let lost = SourceState::Lost { of: Source::Clients, reason };
        self.recorder.now(Source::Clients, Fact::Source(lost));
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
