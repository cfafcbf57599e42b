//! The kernel log's reader.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::drain::Drain;
use super::hub::{Hub, Subscriber};
use crate::clock;
use crate::evidence::kmsg::{self, Assembler, CALIBRATION_MARK, KernelLogClock, KmsgRecord};
use crate::evidence::{Fact, Moment, Source, SourceState};

/// How often the clock is compared again: it drifts by microseconds a minute.
const CALIBRATE_EVERY: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// What is assumed of a clock that cannot be compared (causes.md section 5: 0.8 ms was measured).
const ASSUMED_ERROR_NS: u64 = 5_000_000;

/// Reads `/dev/kmsg` in a thread of its own.
#[derive(Debug)]
pub(super) struct KernelLog {
    drain: Arc<Drain>,
    clock: Arc<Mutex<KernelLogClock>>,
    thread: Option<JoinHandle<()>>,
}

struct Reader {
    log: OwnedFd,
    marks: Option<File>,
    pending: HashMap<u64, Moment>,
    nonce: u64,
    assembler: Assembler,
    clock: Arc<Mutex<KernelLogClock>>,
    hub: Arc<Hub>,
}

impl KernelLog {
    pub(super) fn start(hub: Arc<Hub>) -> io::Result<Self> {
        let log = open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let mut end = File::from(log);
        end.seek(io::SeekFrom::End(0))?;
        let marks = File::options().write(true).open("/dev/kmsg").ok();
        let assumed =
            i64::try_from(clock::boot_ns()).unwrap_or(0) - i64::try_from(clock::monotonic_ns()).unwrap_or(0);
        let clock = Arc::new(Mutex::new(KernelLogClock { offset_ns: assumed, error_ns: ASSUMED_ERROR_NS }));
        let mut reader = Reader {
            log: end.into(),
            marks,
            pending: HashMap::new(),
            nonce: clock::unix_ns(),
            assembler: Assembler::default(),
            clock: Arc::clone(&clock),
            hub,
        };
        for _ in 0..3 {
            reader.mark();
        }
        // The best of the three is known before anybody asks.
        reader.read_dry()?;
        let drain = Arc::new(Drain::new()?);
        let bell = Arc::clone(&drain);
        let thread = std::thread::Builder::new().name("exit137-kmsg".into()).spawn(move || {
            if let Err(error) = reader.run(&bell) {
                reader.hub.lost(Source::Kmsg, &error);
            }
            bell.dead();
        })?;
        Ok(Self { drain, clock, thread: Some(thread) })
    }

    /// Reads all that has been logged until now.
    pub(super) fn drain(&self) -> bool {
        self.drain.ask()
    }

    /// Records how the clock is set.
    pub(super) fn tell_clock(&self, subscriber: &Subscriber) {
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        tell(subscriber, clock);
    }
}

impl Drop for KernelLog {
    fn drop(&mut self) {
        self.drain.stop();
        if let Some(thread) = self.thread.take() {
            // It has said what it had to say.
            let _ = thread.join();
        }
    }
}

fn tell(subscriber: &Subscriber, clock: KernelLogClock) {
    subscriber
        .recorder
        .now(Source::Kmsg, Fact::KernelLogClock { offset_ns: clock.offset_ns, error_ns: clock.error_ns });
}

impl Reader {
    fn run(&mut self, drain: &Drain) -> io::Result<()> {
        loop {
            let mut fds = [
                PollFd::new(&self.log, PollFlags::IN),
                PollFd::from_borrowed_fd(drain.bell(), PollFlags::IN),
            ];
            let ready = match poll(&mut fds, Some(&CALIBRATE_EVERY)) {
                Ok(ready) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(asked) = drain.begin() else { return Ok(()) };
            if ready == 0 {
                self.mark();
            }
            self.read_dry()?;
            drain.done(asked);
        }
    }

    fn read_dry(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        loop {
            match rustix::io::read(self.log.as_fd(), &mut buffer) {
                Ok(read) => {
                    if let Some(record) = buffer.get(..read).and_then(kmsg::parse_record) {
                        self.take(record);
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                // Overwritten before it was read: the sequence number says how many were.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, record: KmsgRecord) {
        if let Some(nonce) = kmsg::calibration_nonce(&record) {
            self.calibrate(nonce, record.stamp_us);
        }
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let (complete, lost) = self.assembler.push(record);
        if lost > 0 {
            let gap = Fact::Source(SourceState::Gap { of: Source::Kmsg, lost });
            self.hub.each(|subscriber| subscriber.recorder.now(Source::Kmsg, gap.clone()));
        }
        for record in complete.into_iter().filter(|record| record.facility == 0) {
            let Some(fact) = kmsg::parse_text(&record.text) else { continue };
            let moment = clock.moment(record.stamp_us);
            let raw = format!("[{}] {}", record.sequence, record.text);
            self.hub.each(|subscriber| {
                subscriber.recorder.record(Source::Kmsg, moment, Some(raw.clone()), fact.clone());
            });
        }
    }

    /// Writes a line whose stamp, once it is read back, tells how the log's clock is set.
    fn mark(&mut self) {
        self.nonce += 1;
        let Some(marks) = &mut self.marks else { return };
        let before = clock::boot_ns();
        // Level 6 of facility 1: nobody takes it for the kernel's.
        if marks.write_all(format!("<14>{CALIBRATION_MARK}{}", self.nonce).as_bytes()).is_ok() {
            self.pending.insert(self.nonce, Moment::between(before, clock::boot_ns()));
        }
    }

    fn calibrate(&mut self, nonce: u64, stamp_us: u64) {
        let Some(written) = self.pending.remove(&nonce) else { return };
        let stamp = i64::try_from(stamp_us.saturating_mul(1000)).unwrap_or(i64::MAX);
        let offset_ns = i64::try_from(written.middle()).unwrap_or(0) - stamp;
        let measured = KernelLogClock { offset_ns, error_ns: written.uncertainty() + 1000 };
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        // A mark that took long to write says little, unless the clock has moved beyond what was known.
        let moved = clock.offset_ns.abs_diff(offset_ns) > clock.error_ns + measured.error_ns;
        if measured.error_ns <= clock.error_ns.max(20_000) || moved {
            *clock = measured;
            self.hub.each(|subscriber| tell(subscriber, measured));
        }
    }
}

/// Whether the kernel log can be read here: what `exit137 doctor` asks.
pub fn probe() -> io::Result<()> {
    open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    Ok(())
}
