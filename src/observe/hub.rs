//! Who is to hear what the host's observers see.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::samples::Samples;
use crate::evidence::{ContainerRef, Fact, Moment, ProcessSeen, Source, SourceState};
use crate::recorder::Recorder;

/// The scenarios that are being recorded.
#[derive(Debug, Default)]
pub(super) struct Hub {
    subscribers: Mutex<Vec<Arc<Subscriber>>>,
}

/// One scenario's recorder, and what is known of its processes.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) recorder: Recorder,
    processes: Mutex<HashMap<u32, ContainerRef>>,
    /// The main processes whose ends are awaited.
    mains: Mutex<HashMap<u32, ContainerRef>>,
    /// Those of them that were dead when notices of ends had been lost.
    doubted: Mutex<Vec<u32>>,
    samples: Mutex<Samples>,
}

impl Hub {
    pub(super) fn subscribe(&self, subscriber: &Arc<Subscriber>) {
        self.lock().push(Arc::clone(subscriber));
    }

    pub(super) fn unsubscribe(&self, subscriber: &Arc<Subscriber>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, subscriber));
    }

    pub(super) fn each(&self, mut tell: impl FnMut(&Subscriber)) {
        for subscriber in self.lock().iter() {
            tell(subscriber);
        }
    }

    /// Tells every record that a source has died.
    pub(super) fn lost(&self, of: Source, error: &io::Error) {
        let reason = format!("its reader failed: {error}");
        self.each(|subscriber| {
            subscriber.recorder.now(of, Fact::Source(SourceState::Lost { of, reason: reason.clone() }));
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Subscriber>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    pub(super) fn new(recorder: Recorder, samples: Samples) -> Self {
        Self {
            recorder,
            processes: Mutex::default(),
            mains: Mutex::default(),
            doubted: Mutex::default(),
            samples: Mutex::new(samples),
        }
    }

    /// This process is a container's; answers whether that is news.
    pub(super) fn learn(&self, pid: u32, container: &ContainerRef) -> bool {
        let known = self.processes().insert(pid, container.clone());
        known.as_ref() != Some(container)
    }

    pub(super) fn add_main(&self, pid: u32, container: &ContainerRef) {
        self.mains().insert(pid, container.clone());
    }

    /// Notices of ends were lost. Of a main process that is dead by now, the notice was sent before it was (`kernel/exit.c:do_exit`): it
    /// waits to be read, or nobody will ever read it, and the next end under this PID is another process's.
    pub(super) fn doubt_dead(&self) {
        let dead = self.mains().keys().copied().filter(|pid| is_dead(*pid)).collect();
        *self.doubted.lock().unwrap_or_else(PoisonError::into_inner) = dead;
    }

    /// All notices that waited have been read: whoever is still awaited was among the lost.
    pub(super) fn forget_doubted(&self) {
        for pid in std::mem::take(&mut *self.doubted.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.mains().remove(&pid);
        }
    }

    /// Whose main process this was. It is asked when that has ended.
    pub(super) fn take_main(&self, pid: u32) -> Option<ContainerRef> {
        self.mains().remove(&pid)
    }

    /// Whose process it is.
    pub(super) fn whose(&self, pid: u32) -> Option<ContainerRef> {
        self.processes().get(&pid).cloned()
    }

    /// A container's run is over: its PIDs may be given to others.
    pub(super) fn forget(&self, container: &ContainerRef) {
        self.processes().retain(|_, whose| whose != container);
    }

    /// A process forked: its child is whose it is.
    pub(super) fn forked(&self, source: Source, moment: Moment, parent: u32, child: u32) {
        let Some(container) = self.whose(parent) else { return };
        if self.learn(child, &container) {
            let seen = ProcessSeen { pid: child, container, parent: Some(parent) };
            self.recorder.record(source, moment, None, Fact::Process(seen));
        }
    }

    pub(super) fn samples(&self) -> std::sync::MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close_samples(&self) {
        if let Err(error) = self.samples().finish() {
            tracing::warn!(%error, "the memory samples could not be written");
        }
    }

    fn mains(&self) -> std::sync::MutexGuard<'_, HashMap<u32, ContainerRef>> {
        self.mains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, HashMap<u32, ContainerRef>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a process has ended, reaped or not.
fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything (`fs/proc/array.c:do_task_stat`).
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_that_have_ended_are_dead() {
        assert!(!is_dead(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_dead(child.id()));
    }
}
