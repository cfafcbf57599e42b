//! Drives one scenario: obeys its lifecycle, records what is observed, always cleans up.

pub mod lifecycle;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::backend::{Backend, Running};
use crate::clock;
use crate::diagnosis::Diagnosis;
use crate::evidence::{CgroupOwner, Ending, Fact, Observation, Source};
use crate::recorder::Recorder;
use crate::scenario::{RunEvent, Scenario, Trigger, Until};
use lifecycle::{Event, Happening, Happenings, Lifecycle, Operation};

/// What one run of a scenario came to.
#[derive(Debug)]
pub struct Outcome {
    /// How it came to its end.
    pub ending: Ending,
    /// Everything that was observed, folded.
    pub diagnosis: Diagnosis,
}

/// What every scenario of a run shares.
#[derive(Debug)]
pub struct Shared<B> {
    /// Where pods run.
    pub backend: Arc<B>,
    /// True once the run is to end.
    pub interrupted: watch::Receiver<bool>,
}

/// What a cgroup held when it was last looked at.
pub type Usage<'a> = &'a dyn Fn(&str) -> Option<u64>;

/// Runs a scenario once, under a name that no other trial of the run has. Its record and samples go into `folder`; `heard` is told of each observation.
pub async fn run<B: Backend>(
    scenario: &Scenario,
    trial: &str,
    shared: &Shared<B>,
    folder: &Path,
    heard: impl Fn(&Observation, Usage<'_>) + Send,
) -> Outcome {
    match Driver::new(scenario, trial, shared, folder) {
        Ok(driver) => driver.drive(heard).await,
        Err(error) => Outcome {
            ending: Ending::Failed {
                why: format!("cannot begin the record in {}: {error}", folder.display()),
            },
            diagnosis: Diagnosis::default(),
        },
    }
}

/// What the driver's tasks report back.
enum Done {
    Started(Result<(), String>),
    TornDown(Vec<String>),
    MemoryReached(Happening),
}

struct Driver<'a, B: Backend> {
    scenario: &'a Scenario,
    trial: &'a str,
    folder: PathBuf,
    shared: &'a Shared<B>,
    recorder: Recorder,
    observations: mpsc::UnboundedReceiver<Observation>,
    lifecycle: Lifecycle,
    happenings: Happenings,
    diagnosis: Diagnosis,
    began: u64,
    wake: u64,
    running: watch::Receiver<Option<Arc<B::Running>>>,
    done: (mpsc::UnboundedSender<Done>, mpsc::UnboundedReceiver<Done>),
    tasks: JoinSet<()>,
    left_behind: Vec<String>,
}

impl<'a, B: Backend> Driver<'a, B> {
    fn new(
        scenario: &'a Scenario,
        trial: &'a str,
        shared: &'a Shared<B>,
        folder: &Path,
    ) -> std::io::Result<Self> {
        let (listener, observations) = mpsc::unbounded_channel();
        let mut host = shared.backend.host();
        let recorder = Recorder::create(&folder.join("record.jsonl"), &host.boot_id, listener)?;
        host.scenario.clone_from(&scenario.name);
        host.scenario_hash.clone_from(&scenario.hash);
        recorder.now(Source::Harness, Fact::Host(host));
        Ok(Self {
            scenario,
            trial,
            folder: folder.to_path_buf(),
            shared,
            recorder,
            observations,
            lifecycle: Lifecycle::new(scenario, shared.backend.lag_ms()),
            happenings: Happenings::default(),
            diagnosis: Diagnosis::default(),
            began: clock::boot_ns(),
            wake: 0,
            running: watch::channel(None).1,
            done: mpsc::unbounded_channel(),
            tasks: JoinSet::new(),
            left_behind: Vec::new(),
        })
    }

    async fn drive(mut self, heard: impl Fn(&Observation, Usage<'_>) + Send) -> Outcome {
        let mut interrupted = self.shared.interrupted.clone();
        // Told once: an interruption stays true, and would be all that is ever heard of from then on.
        let mut told = false;
        let mut operations = self.next(Event::Begin);
        loop {
            for operation in operations {
                if let Some(ending) = self.obey(operation) {
                    return self.finish(ending, heard).await;
                }
            }
            let wake = Duration::from_millis(self.wake.saturating_sub(self.now()));
            operations = tokio::select! {
                biased;
                Ok(_) = interrupted.wait_for(|yes| *yes), if !told => {
                    told = true;
                    self.next(Event::Interrupted)
                }
                Some(done) = self.done.1.recv() => self.take(done),
                Some(observation) = self.observations.recv() => {
                    heard(&observation, &|cgroup| self.usage(cgroup));
                    self.hear(&observation)
                }
                () = tokio::time::sleep(wake) => self.next(Event::Tick),
            };
        }
    }

    fn now(&self) -> u64 {
        (clock::boot_ns() - self.began) / 1_000_000
    }

    fn usage(&self, cgroup: &str) -> Option<u64> {
        self.running.borrow().as_ref()?.latest_usage(cgroup)
    }

    fn next(&mut self, event: Event) -> Vec<Operation> {
        self.lifecycle.next(self.now(), event)
    }

    /// Carries an operation out; the last one yields how it all ended.
    fn obey(&mut self, operation: Operation) -> Option<Ending> {
        match operation {
            Operation::Start => self.start(),
            Operation::Apply(index) => self.apply(index),
            Operation::StartTraffic { index, at } => self.start_traffic(index, at),
            Operation::WakeAt(at) => self.wake = at,
            Operation::TearDown => self.tear_down(),
            Operation::Finish(ending) => return Some(ending),
        }
        None
    }

    fn start(&mut self) {
        let (backend, scenario, trial) =
            (Arc::clone(&self.shared.backend), self.scenario.clone(), self.trial.to_owned());
        let (recorder, done, folder) = (self.recorder.clone(), self.done.0.clone(), self.folder.clone());
        let (started, wait) = watch::channel(None);
        self.running = wait;
        self.tasks.spawn(async move {
            let outcome = backend.begin(&scenario, &trial, recorder, &folder);
            let outcome = match outcome {
                Ok(running) => {
                    let running = Arc::new(running);
                    started.send_replace(Some(Arc::clone(&running)));
                    running.start(&scenario).await
                }
                Err(error) => Err(error),
            };
            // The driver outlives its tasks, so somebody listens.
            let _ = done.send(Done::Started(outcome.map_err(|error| error.to_string())));
        });
    }

    fn apply(&mut self, index: usize) {
        let Some(running) = self.running.borrow().clone() else { return };
        let Some(act) = self.scenario.actions.get(index).map(|action| action.act.clone()) else { return };
        self.tasks.spawn(async move { running.apply(index, &act).await });
    }

    fn start_traffic(&self, index: usize, at: u64) {
        if let Some(running) = self.running.borrow().as_ref() {
            running.start_traffic(index, self.began + at * 1_000_000);
        }
    }

    fn tear_down(&mut self) {
        let (running, done) = (self.running.borrow().clone(), self.done.0.clone());
        // What still starts or acts is not to go on behind the tear-down's back.
        self.tasks.abort_all();
        self.tasks.spawn(async move {
            let left_behind = match running {
                Some(running) => running.tear_down().await,
                None => Vec::new(),
            };
            let _ = done.send(Done::TornDown(left_behind));
        });
    }
}

impl<B: Backend> Driver<'_, B> {
    /// What a task has come to.
    fn take(&mut self, done: Done) -> Vec<Operation> {
        match done {
            Done::Started(Ok(())) => self.next(Event::AllStarted),
            Done::Started(Err(why)) => self.next(Event::Failed(why)),
            Done::MemoryReached(happening) => self.next(Event::Seen(happening)),
            Done::TornDown(left_behind) => {
                self.left_behind = left_behind;
                self.next(Event::TornDown)
            }
        }
    }

    fn hear(&mut self, observation: &Observation) -> Vec<Operation> {
        self.diagnosis.observe(observation);
        if let Fact::Cgroup(made) = &observation.fact
            && let CgroupOwner::Container(container) = &made.owner
        {
            let running = self.running.borrow().clone();
            for bytes in self.awaited_sizes(&container.pod, &container.container) {
                let Some(running) = &running else { continue };
                let reached = running.on_usage(&made.path, bytes);
                let happening = Happening::MemoryReached { container: container.clone(), bytes };
                let done = self.done.0.clone();
                self.tasks.spawn(async move {
                    if reached.await.is_ok() {
                        let _ = done.send(Done::MemoryReached(happening));
                    }
                });
            }
        }
        let happened = self.happenings.observe(observation);
        happened.into_iter().flat_map(|happening| self.next(Event::Seen(happening))).collect()
    }

    /// The sizes of this container that the scenario waits for.
    fn awaited_sizes(&self, pod: &str, container: &str) -> Vec<u64> {
        let selection = lifecycle::Selection::new(&self.scenario.pods);
        let actions = self.scenario.actions.iter().filter_map(|action| match &action.at {
            Trigger::Event(event, _) => Some(event),
            Trigger::Time(_) => None,
        });
        let until = match &self.scenario.observe.until {
            Some(Until::Event(event)) => Some(event),
            Some(Until::AllEnded | Until::Terminations(_)) | None => None,
        };
        let mut sizes: Vec<u64> = actions
            .chain(until)
            .filter_map(|event| match event {
                RunEvent::MemoryReaches(selector, bytes) if selection.selects(selector, pod, container) => {
                    Some(*bytes)
                }
                RunEvent::MemoryReaches(..)
                | RunEvent::OomKill(_)
                | RunEvent::Ended(..)
                | RunEvent::Stopping(_)
                | RunEvent::Started(..) => None,
            })
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Hears what is still on its way, then lets the observers go.
    async fn finish(mut self, mut ending: Ending, heard: impl Fn(&Observation, Usage<'_>) + Send) -> Outcome {
        self.tasks.abort_all();
        let running = self.running.borrow().clone();
        if let Some(running) = running
            && let Err(error) = running.finish().await
        {
            ending = Ending::Failed { why: error.to_string() };
        }
        for left in &self.left_behind {
            tracing::warn!("{}: left behind: {left}", self.trial);
        }
        // It goes into the record: whoever tells the run again is to know it too.
        if !self.left_behind.is_empty() && matches!(ending, Ending::Observed | Ending::TimedOut) {
            ending = Ending::Failed { why: format!("left behind: {}", self.left_behind.join("; ")) };
        }
        self.recorder.now(Source::Harness, Fact::Finished(ending.clone()));
        while let Ok(observation) = self.observations.try_recv() {
            heard(&observation, &|cgroup| self.usage(cgroup));
            self.diagnosis.observe(&observation);
        }
        if let Some(error) = self.recorder.take_error() {
            ending = Ending::Failed { why: format!("the record could not be written: {error}") };
        }
        Outcome { ending, diagnosis: self.diagnosis }
    }
}
