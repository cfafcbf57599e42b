//! What in the stream of observations a run reacts to.

use std::collections::{HashMap, HashSet};

use crate::evidence::{CgroupOwner, ContainerRef, End, Fact, Observation, StopReason};

/// Something that a trigger or the end of the observation may wait for.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A container's run began.
    Started(ContainerRef),
    /// A container's run ended, or could not begin.
    Ended {
        /// Which.
        container: ContainerRef,
        /// How, where it ran.
        end: Option<End>,
    },
    /// A container is being stopped.
    Stopping {
        /// Which.
        container: ContainerRef,
        /// Whether it will not be restarted.
        for_good: bool,
    },
    /// The kernel OOM-killed a process of this container.
    OomKill(ContainerRef),
    /// A container's memory has reached so much.
    MemoryReached {
        /// Which.
        container: ContainerRef,
        /// How much, in bytes.
        bytes: u64,
    },
}

/// Turns observations into happenings. It asks only "whose process was that?", never "why?": that is the diagnosis's.
#[derive(Debug, Default)]
pub struct Happenings {
    processes: HashMap<u32, ContainerRef>,
    cgroups: HashMap<String, ContainerRef>,
    oom_kills: HashMap<String, u64>,
    victims: HashSet<u32>,
    /// What has begun and ended: on a cluster the node and the API both tell.
    started: HashSet<ContainerRef>,
    ended: HashSet<ContainerRef>,
}

impl Happenings {
    /// What this observation makes happen.
    pub fn observe(&mut self, observation: &Observation) -> Option<Happening> {
        match &observation.fact {
            Fact::Started(started) => {
                if let Some(pid) = started.pid {
                    self.processes.insert(pid, started.container.clone());
                }
                let news = self.started.insert(started.container.clone());
                news.then(|| Happening::Started(started.container.clone()))
            }
            Fact::Process(seen) => {
                self.processes.insert(seen.pid, seen.container.clone());
                None
            }
            Fact::Cgroup(made) => {
                if let CgroupOwner::Container(container) = &made.owner {
                    self.cgroups.insert(made.path.clone(), container.clone());
                }
                None
            }
            Fact::Ended(ended) => {
                let (container, end) = (ended.container.clone(), Some(ended.end));
                self.ended.insert(container.clone()).then_some(Happening::Ended { container, end })
            }
            Fact::StartFailed(failed) => {
                let (container, end) = (failed.container.clone(), failed.end);
                self.ended.insert(container.clone()).then_some(Happening::Ended { container, end })
            }
            Fact::Stopping(stopping) => Some(Happening::Stopping {
                container: stopping.container.clone(),
                for_good: match stopping.reason {
                    StopReason::LivenessProbe
                    | StopReason::StartupProbe
                    | StopReason::Restart
                    | StopReason::PostStartHook => false,
                    StopReason::Delete
                    | StopReason::Drain
                    | StopReason::Taint
                    | StopReason::Preemption
                    | StopReason::Eviction
                    | StopReason::Deadline
                    | StopReason::NodeShutdown
                    | StopReason::WithPod
                    | StopReason::PodCompleted
                    | StopReason::TearDown => true,
                },
            }),
            Fact::Victim(victim) => self.victim(victim.pid),
            Fact::KernelKilled(killed) => self.victim(killed.pid),
            Fact::Counters(counters) => {
                let container = self.cgroups.get(&counters.cgroup)?;
                let kills = counters.oom_kill_local?;
                let before = self.oom_kills.insert(counters.cgroup.clone(), kills).unwrap_or(0);
                (kills > before).then(|| Happening::OomKill(container.clone()))
            }
            Fact::Host(_)
            | Fact::Source(_)
            | Fact::WallClock { .. }
            | Fact::KernelLogClock { .. }
            | Fact::ProbeFailed(_)
            | Fact::RuntimeSignal { .. }
            | Fact::Action(_)
            | Fact::LimitChanged(_)
            | Fact::OomInvoked { .. }
            | Fact::OomSummary(_)
            | Fact::OomGroup { .. }
            | Fact::Signal(_)
            | Fact::Cluster(_)
            | Fact::Pod(_)
            | Fact::PodStopping(_)
            | Fact::Noted(_)
            | Fact::Finished(_)
            | Fact::OomNotified { .. } => None,
        }
    }

    fn victim(&mut self, pid: u32) -> Option<Happening> {
        let container = self.processes.get(&pid)?;
        self.victims.insert(pid).then(|| Happening::OomKill(container.clone()))
    }
}
