//! Tracepoints, read from a trace instance of our own on a mount that nobody sees.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::drain::Drain;
use super::hub::Hub;
use crate::clock;
use crate::evidence::trace::{self, TraceEvent};
use crate::evidence::{Fact, Moment, Source, SourceState};

/// Reads the tracepoints in a thread of its own. Dropping it removes the instance.
#[derive(Debug)]
pub(super) struct Tracepoints {
    name: String,
    drain: Arc<Drain>,
    thread: Option<JoinHandle<()>>,
}

struct Reader {
    pipe: OwnedFd,
    pending: Vec<u8>,
    read_before: u64,
    hub: Arc<Hub>,
    /// What processes last called themselves. The kernel prints an event's process by a cache that it does not always
    /// keep up (`trace_sched_switch.c:trace_save_cmdline` only tries its lock), so a short-lived sender has an old name or none.
    names: HashMap<u32, String>,
}

/// So many names are kept; who sends a SIGKILL has mostly just been named.
const NAMES: usize = 4096;

/// What each event is set to: its filter, where it has one.
const EVENTS: [(&str, &str); 3] = [
    ("signal/signal_generate", "sig==9 || sig==15"),
    ("oom/mark_victim", ""),
    ("sched/sched_process_fork", ""),
];

/// The trace instances that there are.
pub fn instances() -> io::Result<Vec<String>> {
    let root = mount()?;
    let directory =
        openat(&root, "instances", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a trace instance.
pub fn remove_instance(name: &str) -> io::Result<()> {
    Ok(unlinkat(mount()?, format!("instances/{name}"), AtFlags::REMOVEDIR)?)
}

/// tracefs, mounted for whoever holds the descriptor and nobody else.
fn mount() -> io::Result<OwnedFd> {
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

impl Tracepoints {
    pub(super) fn start(name: &str, hub: Arc<Hub>) -> io::Result<Self> {
        let root = mount()?;
        let path = format!("instances/{name}");
        mkdirat(&root, &path, Mode::from_raw_mode(0o700))?;
        let drain = Arc::new(Drain::new()?);
        let mut tracepoints = Self { name: name.to_owned(), drain, thread: None };
        let set = |file: &str, text: &str| -> io::Result<()> {
            let path = format!("{path}/{file}");
            let fd = openat(&root, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            File::from(fd)
                .write_all(text.as_bytes())
                .map_err(|error| io::Error::other(format!("{path}: {error}")))
        };
        set("trace_clock", "boot")?;
        set("buffer_size_kb", "512")?;
        for (event, filter) in EVENTS {
            if !filter.is_empty() {
                set(&format!("events/{event}/filter"), filter)?;
            }
            set(&format!("events/{event}/enable"), "1")?;
        }
        // Without it the names are the kernel's cache's.
        if let Err(error) = set("events/task/task_rename/enable", "1") {
            tracing::info!(%error, "names of processes are not followed");
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = openat(&root, format!("{path}/trace_pipe"), flags, Mode::empty())?;
        let mut reader =
            Reader { pipe, pending: Vec::new(), read_before: clock::boot_ns(), hub, names: HashMap::new() };
        let bell = Arc::clone(&tracepoints.drain);
        tracepoints.thread =
            Some(std::thread::Builder::new().name("exit137-trace".into()).spawn(move || {
                if let Err(error) = reader.run(&bell) {
                    reader.hub.lost(Source::Trace, &error);
                }
                bell.dead();
            })?);
        Ok(tracepoints)
    }

    /// Reads all that has been traced until now.
    pub(super) fn drain(&self) -> bool {
        self.drain.ask()
    }
}

impl Drop for Tracepoints {
    fn drop(&mut self) {
        self.drain.stop();
        if let Some(thread) = self.thread.take() {
            // It has said what it had to say.
            let _ = thread.join();
        }
        if let Err(error) = remove_instance(&self.name) {
            tracing::warn!(name = self.name, %error, "the trace instance could not be removed");
        }
    }
}

impl Reader {
    fn run(&mut self, drain: &Drain) -> io::Result<()> {
        loop {
            let mut fds = [
                PollFd::new(&self.pipe, PollFlags::IN),
                PollFd::from_borrowed_fd(drain.bell(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let Some(asked) = drain.begin() else { return Ok(()) };
            self.read_dry()?;
            drain.done(asked);
        }
    }

    fn read_dry(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => {
                    self.read_before = clock::boot_ns();
                    return Ok(());
                }
                Ok(read) => {
                    self.pending.extend(buffer.get(..read).unwrap_or_default());
                    self.take_lines();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_lines(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, tail) = rest.split_at(end);
            self.take(&String::from_utf8_lossy(line));
            rest = tail.get(1..).unwrap_or_default();
        }
        let taken = pending.len() - rest.len();
        pending.drain(..taken);
        self.pending = pending;
    }

    /// Follows names, and gives a signal's sender its own.
    fn name(&mut self, event: &mut TraceEvent) {
        match event {
            TraceEvent::Rename { pid, comm } => {
                if self.names.len() >= NAMES {
                    self.names.clear();
                }
                self.names.insert(*pid, comm.clone());
            }
            // The PID may have been another's before.
            TraceEvent::Fork { child, .. } => drop(self.names.remove(child)),
            TraceEvent::Signal(signal) => {
                if let Some(name) = self.names.get(&signal.sender_pid) {
                    signal.sender_comm.clone_from(name);
                }
            }
            TraceEvent::Victim(_) => {}
        }
    }

    fn take(&mut self, line: &str) {
        if let Some(lost) = trace::parse_lost(line) {
            let at = Moment::between(self.read_before, clock::boot_ns());
            let gap = Fact::Source(SourceState::Gap { of: Source::Trace, lost });
            self.hub.each(|subscriber| subscriber.recorder.record(Source::Trace, at, None, gap.clone()));
            return;
        }
        let Some(trace::TraceLine { moment, mut event }) = trace::parse_line(line) else { return };
        self.name(&mut event);
        self.hub.each(|subscriber| match &event {
            TraceEvent::Fork { parent, child } => subscriber.forked(Source::Trace, moment, *parent, *child),
            TraceEvent::Rename { .. } => {}
            // Somebody else's SIGTERMs are nobody's business here.
            TraceEvent::Signal(signal)
                if signal.signal != 9 && subscriber.whose(signal.target_pid).is_none() => {}
            TraceEvent::Signal(_) | TraceEvent::Victim(_) => {
                if let Some(fact) = event.clone().into_fact() {
                    subscriber.recorder.record(Source::Trace, moment, Some(line.trim().to_owned()), fact);
                }
            }
        });
    }
}

/// Whether tracefs can be used here: what `exit137 doctor` asks.
pub fn probe() -> io::Result<()> {
    let root = mount()?;
    let fd = openat(&root, "events/oom/mark_victim/format", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text)?;
    Ok(())
}
