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
    /// Victims that nobody has claimed yet.
    strangers: HashSet<u32>,
    /// What has begun and ended: on a cluster the node and the API both tell.
    started: HashSet<ContainerRef>,
    ended: HashSet<ContainerRef>,
}

impl Happenings {
    /// What this observation makes happen. On a cluster, whose process or cgroup it was may be told after what happened to it.
    pub fn observe(&mut self, observation: &Observation) -> Vec<Happening> {
        match &observation.fact {
            Fact::Started(started) => {
                let mut happened = Vec::new();
                if self.started.insert(started.container.clone()) {
                    happened.push(Happening::Started(started.container.clone()));
                }
                happened.extend(started.pid.and_then(|pid| self.learn(pid, &started.container)));
                happened
            }
            Fact::Process(seen) => self.learn(seen.pid, &seen.container).into_iter().collect(),
            Fact::Cgroup(made) => {
                let CgroupOwner::Container(container) = &made.owner else { return Vec::new() };
                self.cgroups.insert(made.path.clone(), container.clone());
                let counted = self.oom_kills.get(&made.path).is_some_and(|kills| *kills > 0);
                if counted { vec![Happening::OomKill(container.clone())] } else { Vec::new() }
            }
            Fact::Ended(ended) => self.ended(&ended.container, Some(ended.end)),
            Fact::StartFailed(failed) => self.ended(&failed.container, failed.end),
            Fact::Stopping(stopping) => {
                let for_good = match stopping.reason {
                    StopReason::LivenessProbe
                    | StopReason::StartupProbe
                    | StopReason::Restart
                    | StopReason::PostStartHook => false,
                    StopReason::Delete
                    | StopReason::Drain
                    | StopReason::Rollout
                    | StopReason::ScaleDown
                    | StopReason::Taint
                    | StopReason::Preemption
                    | StopReason::Eviction
                    | StopReason::Deadline
                    | StopReason::NodeShutdown
                    | StopReason::WithPod
                    | StopReason::PodCompleted
                    | StopReason::TearDown => true,
                };
                vec![Happening::Stopping { container: stopping.container.clone(), for_good }]
            }
            Fact::Victim(victim) => self.victim(victim.pid).into_iter().collect(),
            Fact::KernelKilled(killed) => self.victim(killed.pid).into_iter().collect(),
            Fact::Counters(counters) => {
                let Some(kills) = counters.oom_kill_local else { return Vec::new() };
                let before = self.oom_kills.insert(counters.cgroup.clone(), kills).unwrap_or(0);
                let container = self.cgroups.get(&counters.cgroup).filter(|_| kills > before);
                container.map(|container| Happening::OomKill(container.clone())).into_iter().collect()
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
            | Fact::PodOver(_)
            | Fact::Noted(_)
            | Fact::TrafficStarted(_)
            | Fact::TrafficWindow(_)
            | Fact::TrafficEnded(_)
            | Fact::Finished(_)
            | Fact::OomNotified { .. } => Vec::new(),
        }
    }

    fn ended(&mut self, container: &ContainerRef, end: Option<End>) -> Vec<Happening> {
        let news = self.ended.insert(container.clone());
        if news { vec![Happening::Ended { container: container.clone(), end }] } else { Vec::new() }
    }

    /// Whose process it is; it may have been a victim already.
    fn learn(&mut self, pid: u32, container: &ContainerRef) -> Option<Happening> {
        self.processes.insert(pid, container.clone());
        self.strangers.remove(&pid).then(|| self.victim(pid))?
    }

    fn victim(&mut self, pid: u32) -> Option<Happening> {
        let Some(container) = self.processes.get(&pid) else {
            self.strangers.insert(pid);
            return None;
        };
        self.victims.insert(pid).then(|| Happening::OomKill(container.clone()))
    }
}
