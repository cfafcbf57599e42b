//! The observers: the kernel log, tracepoints and memory cgroups, each into the records that are being made.
//!
//! [`Observers`] are started once per run, for the whole host. A scenario that runs gets a [`Watch`], which sends what
//! they see to its own recorder.

mod drain;
mod exits;
mod hub;
pub mod kmsg;
mod memcg;
mod samples;
pub mod trace;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::clock;
use crate::evidence::{CgroupOwner, ContainerRef, Fact, Moment, Source, SourceState};
use crate::recorder::Recorder;
use hub::{Hub, Subscriber};
use samples::Samples;
pub use samples::{Relay, SampleFile};

/// The host's observers. Dropping them stops them and removes what they made (the trace instance).
#[derive(Debug)]
pub struct Observers {
    hub: Arc<Hub>,
    kmsg: Result<kmsg::KernelLog, String>,
    trace: Result<trace::Tracepoints, String>,
    memcg: Arc<memcg::MemoryCgroups>,
    /// Only where nobody else reaps the containers for us.
    exits: Option<Result<exits::Exits, String>>,
}

/// One scenario's share in them.
#[derive(Clone, Debug)]
pub struct Watch {
    observers: Arc<Observers>,
    subscriber: Arc<Subscriber>,
}

/// A memory cgroup to be watched.
#[derive(Clone, Debug)]
pub struct WatchedCgroup {
    /// Its directory in the mounted hierarchy.
    pub directory: PathBuf,
    /// Its path as the kernel prints it.
    pub path: String,
    /// Whose it is.
    pub owner: CgroupOwner,
}

impl Observers {
    /// Starts what can be had here; `run` names the trace instance (`exit137-<run>`).
    pub fn start(run: &str) -> io::Result<Arc<Self>> {
        Self::begin(run, false)
    }

    /// The same for the nodes of a cluster, whose processes are not ours to reap: their exits are observed too.
    pub fn start_on_node(run: &str) -> io::Result<Arc<Self>> {
        Self::begin(run, true)
    }

    fn begin(run: &str, exits: bool) -> io::Result<Arc<Self>> {
        let hub = Arc::new(Hub::default());
        let initial = crate::backend::local::in_initial_pid_namespace();
        let trace = if initial {
            trace::Tracepoints::start(&format!("exit137-{run}"), Arc::clone(&hub)).map_err(|error| {
                format!("tracefs cannot be used ({error}); run as root on a kernel with tracepoints to learn who sent each SIGKILL")
            })
        } else {
            Err("this is not the initial PID namespace, where the kernel's PIDs mean something; run on the host itself".to_owned())
        };
        let kmsg = kmsg::KernelLog::start(Arc::clone(&hub)).map_err(|error| {
            format!("/dev/kmsg cannot be read ({error}); run as root, or set kernel.dmesg_restrict=0")
        });
        let memcg = Arc::new(memcg::MemoryCgroups::start()?);
        let exits = exits.then(|| {
            if !initial {
                return Err("this is not the initial PID namespace, where the kernel's PIDs mean something"
                    .to_owned());
            }
            exits::Exits::start(Arc::clone(&hub)).map_err(|error| {
                format!("the proc connector cannot be used ({error}); it takes CAP_NET_ADMIN")
            })
        });
        Ok(Arc::new(Self { hub, kmsg, trace, memcg, exits }))
    }

    /// Begins to send what is seen to `recorder`: first which sources are present, absent and why, then calibrations.
    /// Memory samples go to the file at `samples`.
    pub fn watch(self: &Arc<Self>, recorder: Recorder, samples: &Path) -> io::Result<Watch> {
        Ok(self.subscribe(recorder, Samples::into_file(samples)?))
    }

    /// The same for somebody who keeps the samples elsewhere.
    pub fn relay(self: &Arc<Self>, recorder: Recorder, samples: Relay) -> Watch {
        self.subscribe(recorder, Samples::to(samples))
    }

    fn subscribe(self: &Arc<Self>, recorder: Recorder, samples: Samples) -> Watch {
        let subscriber = Arc::new(Subscriber::new(recorder, samples));
        self.hub.subscribe(&subscriber);
        let watch = Watch { observers: Arc::clone(self), subscriber };
        watch.state(Source::Kmsg, self.kmsg.as_ref().err());
        watch.state(Source::Trace, self.trace.as_ref().err());
        watch.state(Source::Memcg, None);
        if let Some(exits) = &self.exits {
            watch.state(Source::Exits, exits.as_ref().err());
        }
        watch.wall_clock();
        if let Ok(kmsg) = &self.kmsg {
            kmsg.tell_clock(&watch.subscriber);
        }
        watch
    }
}

impl Watch {
    /// Watches a memory cgroup: counters and sizes, notifications. Call it before anything runs in the cgroup.
    pub fn add_cgroup(&self, cgroup: WatchedCgroup) -> io::Result<()> {
        self.observers.memcg.add(cgroup, Arc::clone(&self.subscriber))
    }

    /// Reads a cgroup's counters a last time (`Counters { last: true }`) and stops watching it. Call it when everything
    /// in the cgroup has ended, before it is removed.
    pub fn remove_cgroup(&self, path: &str) {
        self.observers.memcg.remove(path);
    }

    /// Says that this process is the container's main one: whatever it forks is the container's too.
    pub fn add_process(&self, pid: u32, container: &ContainerRef) {
        self.subscriber.learn(pid, container);
    }

    /// Says that this process is the container's main one, whose end is to be told.
    pub fn add_main_process(&self, pid: u32, container: &ContainerRef) {
        self.subscriber.learn(pid, container);
        self.subscriber.add_main(pid, container);
    }

    /// Says again how a cgroup's counters stand.
    pub fn retell(&self, path: &str) {
        self.observers.memcg.retell(path);
    }

    /// States everything that happened until now; answers the sources that did not answer. Blocks until that is done.
    pub fn catch_up(&self) -> Vec<Source> {
        let observers = &self.observers;
        let kmsg = observers.kmsg.as_ref().is_ok_and(|kmsg| !kmsg.drain());
        let trace = observers.trace.as_ref().is_ok_and(|trace| !trace.drain());
        let memcg = !observers.memcg.drain();
        let exits = matches!(&observers.exits, Some(Ok(exits)) if !exits.drain());
        let silent =
            [(Source::Kmsg, kmsg), (Source::Trace, trace), (Source::Memcg, memcg), (Source::Exits, exits)];
        silent.into_iter().filter(|(_, silent)| *silent).map(|(source, _)| source).collect()
    }

    /// What this cgroup held when it was last looked at.
    pub fn latest_usage(&self, path: &str) -> Option<u64> {
        self.observers.memcg.latest_usage(path)
    }

    /// Told when this cgroup holds so many bytes; dropped when it is gone before.
    pub fn on_usage(&self, path: &str, bytes: u64) -> oneshot::Receiver<()> {
        self.observers.memcg.on_usage(path, bytes)
    }

    /// Reads everything that happened until now, states for each source whether it watched to the end, and lets go.
    /// Blocks until that is done (bounded by a second).
    pub fn finish(&self) {
        let observers = &self.observers;
        if let Ok(kmsg) = &observers.kmsg {
            self.end(Source::Kmsg, kmsg.drain());
        }
        if let Ok(trace) = &observers.trace {
            self.end(Source::Trace, trace.drain());
        }
        self.end(Source::Memcg, observers.memcg.drain());
        if let Some(Ok(exits)) = &observers.exits {
            self.end(Source::Exits, exits.drain());
        }
        self.wall_clock();
        if let Ok(kmsg) = &observers.kmsg {
            kmsg.tell_clock(&self.subscriber);
        }
        observers.hub.unsubscribe(&self.subscriber);
        self.subscriber.close_samples();
    }

    fn state(&self, of: Source, absent: Option<&String>) {
        let state = match absent {
            None => SourceState::Present { of },
            Some(reason) => SourceState::Absent { of, reason: reason.clone() },
        };
        self.subscriber.recorder.now(of, Fact::Source(state));
    }

    fn end(&self, of: Source, drained: bool) {
        let state = if drained {
            SourceState::Complete { of }
        } else {
            SourceState::Lost { of, reason: "its reader does not answer".into() }
        };
        self.subscriber.recorder.now(of, Fact::Source(state));
    }

    fn wall_clock(&self) {
        let before = clock::boot_ns();
        let unix_ns = clock::unix_ns();
        let at = Moment::between(before, clock::boot_ns());
        self.subscriber.recorder.record(Source::Harness, at, None, Fact::WallClock { unix_ns });
    }
}
