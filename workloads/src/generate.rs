//! `traffic`: sends a load, and says by lines what became of it (docs/adr/0005-traffic.md).
//!
//! This thread hears and says: it alone writes windows. A thread of its own keeps the time ([`pacer`]); one or a few others
//! send ([`worker`]), each with its own connections and its own counts, which it hands over at the end of each window.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use exit137_workload::traffic::{Clock, Control, Done, DoneWhy, Generator, Histogram, Line};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{clock, report};

mod alarm;
mod control;
mod cuts;
mod endpoints;
mod exchange;
mod http1;
mod http2;
mod pacer;
mod shared;
mod socket;
mod tally;
mod user;
mod windows;
mod worker;

use endpoints::Endpoints;
use exit137_workload::traffic::Window;
use shared::Shared;
use windows::Windows;

/// What reaches the thread that hears and says.
enum Event {
    /// From standard input.
    Control(Control),
    /// Standard input has ended.
    Eof,
    /// What came on standard input is none of the lines that are known.
    Unknown(String),
    /// SIGTERM.
    Terminated,
    /// A window ends here, and the next begins.
    Cut(u64),
    /// What a worker counted in the window with this number; it counts in window `now` from here on.
    Counted { worker: usize, window: u64, now: u64, tally: Box<Window> },
    /// Its last word, with how late it was.
    Finished { worker: usize, window: u64, tally: Box<Window>, lateness: Histogram },
    /// It ended without a last word.
    Died,
}

pub fn run(generator: &Generator) -> Result<u8, String> {
    as_many_descriptors_as_allowed();
    let (said, heard) = channel();
    control::listen(&said)?;
    say(&Line::Ready(clocks()))?;
    Main { generator, endpoints: Arc::new(Endpoints::new(generator)?), said, heard }.run()
}

/// A connection each: the soft limit of 1024 is for programs that use `select`.
fn as_many_descriptors_as_allowed() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused the limit is met later, and told as requests that could not be sent.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

struct Main<'a> {
    generator: &'a Generator,
    endpoints: Arc<Endpoints>,
    said: Sender<Event>,
    heard: Receiver<Event>,
}

/// What goes on once the start has been heard.
struct Sending {
    shared: Arc<Shared>,
    windows: Windows,
    lateness: Histogram,
    why: DoneWhy,
}

impl Main<'_> {
    fn run(&self) -> Result<u8, String> {
        let mut sending = None;
        // The sender that this end keeps is never dropped before it.
        while let Ok(event) = self.heard.recv() {
            match event {
                Event::Control(Control::StartAt(unix_ns)) => match sending {
                    None => sending = Some(self.start(unix_ns)?),
                    Some(_) => report::problem("start-at was heard twice: the first one holds"),
                },
                Event::Control(Control::Endpoints(endpoints)) => self.endpoints.replace(endpoints)?,
                Event::Eof if !self.generator.follow_stdin => {}
                Event::Control(Control::Stop) | Event::Eof | Event::Terminated => match &mut sending {
                    None => return done(DoneWhy::Stopped, 0, Histogram::default()),
                    Some(sending) => {
                        sending.why = DoneWhy::Stopped;
                        sending.shared.stop(clock::boot_ns());
                    }
                },
                Event::Unknown(problem) => return Err(problem),
                Event::Died => return Err("a thread that sends has panicked".into()),
                Event::Cut(at) => with(&mut sending, |sending| sending.windows.cut(at))?,
                Event::Counted { worker, window, now, tally } => {
                    with(&mut sending, |sending| sending.windows.counted(worker, window, &tally, Some(now)))?;
                }
                Event::Finished { worker, window, tally, lateness } => {
                    with(&mut sending, |sending| {
                        sending.lateness.merge(&lateness);
                        sending.windows.counted(worker, window, &tally, None)
                    })?;
                    if let Some(over) = sending.take_if(|sending| sending.windows.all_finished()) {
                        return over.end();
                    }
                }
            }
        }
        Err("nothing is left that could be heard".into())
    }

    fn start(&self, unix_ns: u64) -> Result<Sending, String> {
        // Converted once: the wall clock may be set at any time from now on.
        let now = clocks();
        let zero = (now.boot_ns.saturating_add(unix_ns)).saturating_sub(now.unix_ns);
        let shared = Shared::new(self.generator, Arc::clone(&self.endpoints), zero, now.boot_ns, &self.said);
        let shared = Arc::new(shared);
        let windows = Windows::new(&shared, shared.cuts.window());
        for worker in 0..shared.workers() {
            worker::start(&shared, worker, self.said.clone())?;
        }
        pacer::start(&shared)?;
        Ok(Sending { shared, windows, lateness: Histogram::default(), why: DoneWhy::Complete })
    }
}

fn with(
    sending: &mut Option<Sending>,
    so: impl FnOnce(&mut Sending) -> Result<(), String>,
) -> Result<(), String> {
    sending.as_mut().map_or(Ok(()), so)
}

impl Sending {
    fn end(mut self) -> Result<u8, String> {
        self.shared.finish();
        // Ends of windows that were said while the last worker was finishing.
        self.windows.close(clock::boot_ns())?;
        done(self.why, self.windows.said(), self.lateness)
    }
}

fn done(why: DoneWhy, windows: u64, lateness: Histogram) -> Result<u8, String> {
    say(&Line::Done(Done { why, windows, lateness })).map(|()| 0)
}

fn clocks() -> Clock {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Clock { boot_id: boot_id.trim().to_owned(), boot_ns: clock::boot_ns(), unix_ns: clock::unix_ns() }
}

/// Says a line, at once. When nobody hears it any more there is nothing left to do.
fn say(line: &Line) -> Result<(), String> {
    let mut text = serde_json::to_vec(line).map_err(|error| format!("cannot write a line: {error}"))?;
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&text)
        .and_then(|()| out.flush())
        .map_err(|error| format!("nobody reads standard output any more ({error}): it ends"))
}
