//! Memory cgroups: one thread that reads sizes and counters of all that are watched, and hears the kernel's notifications.

mod files;
mod watched;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::WatchedCgroup;
use super::drain::Drain;
use super::hub::Subscriber;
use crate::clock;
use watched::{Round, Watched};

/// So many cgroups are read before notifications are looked at again.
const AT_A_TIME: usize = 16;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// How often sizes are read.
const TICK_NS: u64 = 10_000_000;
/// Every so many ticks a round reads more: processes every fifth, the breakdown and the slower counters every tenth.
const PROCESSES_EVERY: u64 = 5;
const BREAKDOWN_EVERY: u64 = 10;
/// The bell's place among the notifications.
const BELL: u64 = u64::MAX;

/// All memory cgroups that are watched.
#[derive(Debug)]
pub(super) struct MemoryCgroups {
    shared: Arc<Shared>,
    drain: Arc<Drain>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    epoll: std::os::fd::OwnedFd,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    watched: HashMap<u64, Watched>,
    by_path: HashMap<String, u64>,
    /// Who waits for sizes of cgroups that are not watched yet.
    early: HashMap<String, Vec<(u64, oneshot::Sender<()>)>>,
}

impl MemoryCgroups {
    pub(super) fn start() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let drain = Arc::new(Drain::new()?);
        epoll::add(&epoll, drain.bell(), EventData::new_u64(BELL), EventFlags::IN)?;
        let shared = Arc::new(Shared { epoll, table: Mutex::default() });
        let (theirs, bell) = (Arc::clone(&shared), Arc::clone(&drain));
        let thread = std::thread::Builder::new().name("exit137-memcg".into()).spawn(move || {
            if let Err(error) = theirs.run(&bell) {
                tracing::error!(%error, "the memory cgroups can no longer be watched");
            }
            bell.dead();
        })?;
        Ok(Self { shared, drain, thread: Some(thread) })
    }

    pub(super) fn add(&self, cgroup: WatchedCgroup, subscriber: Arc<Subscriber>) -> io::Result<()> {
        let mut watched = Watched::open(cgroup, subscriber)?;
        watched.read(clock::boot_ns(), Round::EVERYTHING);
        let mut table = self.shared.lock();
        let id = table.next;
        table.next += 1;
        for (bytes, sender) in table.early.remove(watched.path()).unwrap_or_default() {
            watched.wait_for(bytes, sender);
        }
        if let Some((fd, flags)) = watched.notification() {
            epoll::add(&self.shared.epoll, fd, EventData::new_u64(id), flags)?;
        }
        table.by_path.insert(watched.path().to_owned(), id);
        table.watched.insert(id, watched);
        Ok(())
    }

    pub(super) fn remove(&self, path: &str) {
        let mut table = self.shared.lock();
        let Some(id) = table.by_path.remove(path) else { return };
        if let Some(mut watched) = table.watched.remove(&id) {
            // v1 fires the eventfd once more when the cgroup is removed (mm/memcontrol-v1.c:memcg_event_remove). It is
            // closed here, before that.
            if watched.notified() {
                watched.tell_notified(clock::boot_ns());
            }
            watched.read_last(clock::boot_ns());
        }
    }

    pub(super) fn retell(&self, path: &str) {
        let table = self.shared.lock();
        if let Some(watched) = table.by_path.get(path).and_then(|id| table.watched.get(id)) {
            watched.retell();
        }
    }

    pub(super) fn latest_usage(&self, path: &str) -> Option<u64> {
        let table = self.shared.lock();
        table.watched.get(table.by_path.get(path)?).map(Watched::usage)
    }

    pub(super) fn on_usage(&self, path: &str, bytes: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.shared.lock();
        let id = table.by_path.get(path).copied();
        if let Some(watched) = id.and_then(|id| table.watched.get_mut(&id)) {
            watched.wait_for(bytes, sender);
        } else {
            // Heard of before it is watched; if it is gone already, nobody will ever answer.
            table.early.entry(path.to_owned()).or_default().push((bytes, sender));
        }
        receiver
    }

    pub(super) fn drain(&self) -> bool {
        self.drain.ask()
    }
}

impl Drop for MemoryCgroups {
    fn drop(&mut self) {
        self.drain.stop();
        if let Some(thread) = self.thread.take() {
            // It has said what it had to say.
            let _ = thread.join();
        }
    }
}

impl Table {
    /// Takes notice of the v1 eventfds that have fired.
    fn notified(&mut self, events: &[epoll::Event]) {
        for event in events {
            if let Some(watched) = self.watched.get_mut(&event.data.u64())
                && watched.notified()
            {
                let now = clock::boot_ns();
                // On a node it is the runtime that removes cgroups, and v1 fires then too: nothing is told by that.
                if watched.is_there() {
                    watched.tell_notified(now);
                }
                watched.wake(now);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, drain: &Drain) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        let (mut tick, mut next) = (0_u64, clock::boot_ns());
        let mut answered = 0;
        loop {
            let now = clock::boot_ns();
            let wait = next.saturating_sub(now);
            let wait = Timespec { tv_sec: 0, tv_nsec: i64::try_from(wait).unwrap_or(0) };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let Some(asked) = drain.begin() else { return Ok(()) };
            let mut table = self.lock();
            table.notified(&events);
            let now = clock::boot_ns();
            if now >= next {
                tick += 1;
                // A machine that is late skips ticks rather than run after them.
                next = (next + TICK_NS).max(now);
                let round =
                    Round { processes: tick % PROCESSES_EVERY == 0, breakdown: tick % BREAKDOWN_EVERY == 0 };
                let all: Vec<u64> = table.watched.keys().copied().collect();
                for some in all.chunks(AT_A_TIME) {
                    for id in some {
                        if let Some(watched) = table.watched.get_mut(id) {
                            watched.read(clock::boot_ns(), round);
                        }
                    }
                    // A round through hundreds of cgroups takes long on a busy machine, and one that has died is soon removed.
                    events.clear();
                    epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&AT_ONCE))?;
                    table.notified(&events);
                }
            }
            // Whoever asks wants to know of all that happened before, whether a round was due or not.
            if asked > answered {
                let now = clock::boot_ns();
                for watched in table.watched.values_mut() {
                    watched.read(now, Round { processes: true, breakdown: false });
                }
                answered = asked;
            }
            drop(table);
            drain.done(asked);
        }
    }
}
