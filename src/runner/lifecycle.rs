//! The order of things in one scenario's run, as a pure state machine.
//!
//! [`Lifecycle::next`] takes what has just happened and answers what is to be done; the driver in `runner.rs` only obeys.
//! Times are milliseconds since the run of the scenario began, on whatever clock the driver reads.

mod happenings;
mod pods;
mod selection;

pub use happenings::{Happening, Happenings};
pub use selection::Selection;

use crate::evidence::{ContainerRef, Ending};
use crate::scenario::{RunEvent, Scenario, Trigger, Until};
use pods::Pods;

/// What has just happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The driver is ready.
    Begin,
    /// The backend has started every pod: the zero of the scenario's own times.
    AllStarted,
    /// Something was observed.
    Seen(Happening),
    /// Time has come to a moment that [`Operation::WakeAt`] named.
    Tick,
    /// The user or the guardian wants this to end.
    Interrupted,
    /// The backend cannot go on.
    Failed(String),
    /// Everything that the run made is gone.
    TornDown,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Start the pods.
    Start,
    /// Carry out the scenario's action with this index.
    Apply(usize),
    /// Have the scenario's traffic with this index begin at this time, which may be yet to come.
    StartTraffic {
        /// Which.
        index: usize,
        /// The zero of its load.
        at: u64,
    },
    /// Send [`Event::Tick`] at this time, if nothing else comes first.
    WakeAt(u64),
    /// Stop what still runs and remove what was made.
    TearDown,
    /// Nothing more to do.
    Finish(Ending),
}

/// Traffic begins so many milliseconds later than it says, and is observed as much longer: its generators hear of its zero before
/// that has come, and miss none of it.
const TRAFFIC_LEAD_MS: u64 = 50;
/// The same where what happens is told late. There a pod that runs has yet to become known to all: Endpoints are written, then
/// `kube-proxy` sets its rules, once a second at most (`--iptables-min-sync-period`).
const LATE_TRAFFIC_LEAD_MS: u64 = 1_500;

/// The state of one scenario's run.
#[derive(Debug)]
pub struct Lifecycle {
    phase: Phase,
    timeout_ms: u64,
    watch: Watch,
    actions: Vec<PendingAction>,
    /// When each traffic begins, after all pods have started.
    traffic: Vec<u64>,
    traffic_lead_ms: u64,
    pods: Pods,
    selection: Selection,
}

#[derive(Debug, PartialEq)]
enum Phase {
    New,
    Starting,
    Watching { zero: u64 },
    Settling { until: u64 },
    TearingDown(Ending),
    Done,
}

#[derive(Debug)]
struct Watch {
    for_ms: u64,
    settle_ms: u64,
    until: Option<Until>,
    terminations: u32,
}

#[derive(Debug)]
struct PendingAction {
    trigger: Trigger,
    due: Option<u64>,
    applied: bool,
    progress: Progress,
}

/// How far an event that may take several happenings has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress(u32);

impl Lifecycle {
    /// The lifecycle of a scenario that has not begun. What is waited for may be told so many milliseconds late, and pods may
    /// take as long again to begin.
    pub fn new(scenario: &Scenario, lag_ms: u64) -> Self {
        let observe = &scenario.observe;
        let late = if observe.until.is_some() { lag_ms } else { 0 };
        let traffic_lead_ms = if lag_ms == 0 { TRAFFIC_LEAD_MS } else { LATE_TRAFFIC_LEAD_MS };
        let lead = if scenario.traffic.is_empty() { 0 } else { traffic_lead_ms };
        Self {
            phase: Phase::New,
            timeout_ms: scenario.timeout_ms + 10 * lag_ms,
            watch: Watch {
                for_ms: observe.for_ms + late + lead,
                settle_ms: observe.settle_ms,
                until: observe.until.clone(),
                terminations: 0,
            },
            actions: scenario
                .actions
                .iter()
                .map(|action| PendingAction {
                    trigger: action.at.clone(),
                    due: None,
                    applied: false,
                    progress: Progress::default(),
                })
                .collect(),
            traffic_lead_ms,
            traffic: scenario.traffic.iter().map(|traffic| traffic.start_ms).collect(),
            pods: Pods::new(&scenario.pods),
            selection: Selection::new(&scenario.pods),
        }
    }

    /// What is to be done, now that this has happened at `now`.
    pub fn next(&mut self, now: u64, event: Event) -> Vec<Operation> {
        match (&self.phase, event) {
            (Phase::Done, _) => Vec::new(),
            (Phase::New, Event::Begin) => {
                self.phase = Phase::Starting;
                vec![Operation::Start, Operation::WakeAt(self.timeout_ms)]
            }
            (Phase::TearingDown(_), Event::TornDown) => {
                match std::mem::replace(&mut self.phase, Phase::Done) {
                    Phase::TearingDown(ending) => vec![Operation::Finish(ending)],
                    Phase::New
                    | Phase::Starting
                    | Phase::Watching { .. }
                    | Phase::Settling { .. }
                    | Phase::Done => Vec::new(),
                }
            }
            (Phase::TearingDown(_), _) => Vec::new(),
            (_, Event::Interrupted) => self.tear_down(Ending::Interrupted),
            (_, Event::Failed(why)) => self.tear_down(Ending::Failed { why }),
            (_, Event::Seen(happening)) => {
                self.take_note(now, &happening);
                self.advance(now)
            }
            (Phase::Starting, Event::AllStarted) => {
                self.phase = Phase::Watching { zero: now };
                for action in &mut self.actions {
                    if let Trigger::Time(after) = action.trigger {
                        action.due = Some(now + after);
                    }
                }
                // Generators keep the time themselves, so all are told at once.
                let start = |(index, after): (usize, &u64)| Operation::StartTraffic {
                    index,
                    at: now + self.traffic_lead_ms + after,
                };
                let mut operations: Vec<Operation> = self.traffic.iter().enumerate().map(start).collect();
                operations.extend(self.advance(now));
                operations
            }
            (_, Event::Begin | Event::AllStarted | Event::Tick | Event::TornDown) => self.advance(now),
        }
    }

    fn take_note(&mut self, now: u64, happening: &Happening) {
        self.pods.observe(happening);
        if matches!(happening, Happening::Ended { .. }) {
            self.watch.terminations += 1;
        }
        for action in &mut self.actions {
            if let Trigger::Event(event, delay) = &action.trigger
                && action.due.is_none()
                && action.progress.completes(event, happening, &self.selection)
            {
                action.due = Some(now + delay);
            }
        }
        let reached = match &self.watch.until {
            Some(Until::Event(event)) => {
                Progress::default().completes(event, happening, &self.selection) || self.counted(event)
            }
            Some(Until::Terminations(count)) => self.watch.terminations >= *count,
            Some(Until::AllEnded) => self.pods.all_ended(),
            None => false,
        };
        if reached && matches!(self.phase, Phase::Watching { .. } | Phase::Starting) {
            self.phase = Phase::Settling { until: now + self.watch.settle_ms };
        }
    }

    /// Whether an event that takes several ends has had them all.
    fn counted(&self, event: &RunEvent) -> bool {
        match event {
            RunEvent::Ended(selector, times) => self.pods.ends_of(selector, &self.selection) >= *times,
            RunEvent::OomKill(_)
            | RunEvent::MemoryReaches(..)
            | RunEvent::Stopping(_)
            | RunEvent::Started(..) => false,
        }
    }

    /// Does what time has made due, and says when to look again.
    fn advance(&mut self, now: u64) -> Vec<Operation> {
        if now >= self.timeout_ms {
            return self.tear_down(Ending::TimedOut);
        }
        let mut operations = Vec::new();
        let mut wake = self.timeout_ms;
        for (index, action) in self.actions.iter_mut().enumerate() {
            match action.due {
                Some(due) if !action.applied && due <= now => {
                    action.applied = true;
                    operations.push(Operation::Apply(index));
                }
                Some(due) if !action.applied => wake = wake.min(due),
                Some(_) | None => {}
            }
        }
        let end = match self.phase {
            Phase::Watching { zero } => Some(zero + self.watch.for_ms),
            Phase::Settling { until } => Some(until),
            Phase::New | Phase::Starting | Phase::TearingDown(_) | Phase::Done => None,
        };
        match end {
            Some(end) if now >= end => operations.extend(self.tear_down(Ending::Observed)),
            Some(end) => operations.push(Operation::WakeAt(wake.min(end))),
            None => operations.push(Operation::WakeAt(wake)),
        }
        operations
    }

    fn tear_down(&mut self, ending: Ending) -> Vec<Operation> {
        self.phase = Phase::TearingDown(ending);
        vec![Operation::TearDown]
    }
}

impl Progress {
    /// Whether this happening completes the event that is waited for.
    fn completes(&mut self, event: &RunEvent, happening: &Happening, selection: &Selection) -> bool {
        let selects = |selector, container: &ContainerRef| {
            selection.selects(selector, &container.pod, &container.container)
        };
        match (event, happening) {
            (RunEvent::OomKill(wanted), Happening::OomKill(seen))
            | (RunEvent::Stopping(wanted), Happening::Stopping { container: seen, .. }) => {
                selects(wanted, seen)
            }
            (RunEvent::Started(wanted, instance), Happening::Started(seen)) => {
                selects(wanted, seen) && seen.instance == *instance
            }
            (RunEvent::MemoryReaches(wanted, bytes), Happening::MemoryReached { container, bytes: seen }) => {
                selects(wanted, container) && seen >= bytes
            }
            (RunEvent::Ended(wanted, times), Happening::Ended { container, .. }) => {
                if selects(wanted, container) {
                    self.0 += 1;
                }
                self.0 >= *times
            }
            (
                RunEvent::OomKill(_)
                | RunEvent::Stopping(_)
                | RunEvent::Started(..)
                | RunEvent::MemoryReaches(..)
                | RunEvent::Ended(..),
                _,
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests;
