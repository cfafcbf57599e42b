//! Which trial runs when.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::Reported;
use crate::artifacts::{self, Artifacts};
use crate::backend::Backend;
use crate::clock;
use crate::command::report;
use crate::evidence::{CgroupOwner, Fact, Observation, StopReason};
use crate::loader::Loaded;
use crate::progress::{Progress, RunEvent};
use crate::report::model::Outcome;
use crate::report::{TrialReport, trial};
use crate::runner::{self, Shared, Usage};
use crate::scenario::Requirement;

/// So many pods at once take a kubelet long to start.
const MANY_PODS: u32 = 12;

/// What trials are run with.
#[derive(Debug)]
pub(in crate::command) struct Stage<'a, B> {
    /// The backend, and whether the run is to end.
    pub(in crate::command) shared: Shared<B>,
    /// So many at a time.
    pub(in crate::command) jobs: usize,
    /// Where they are kept.
    pub(in crate::command) artifacts: &'a Artifacts,
    /// Who is told of them.
    pub(in crate::command) progress: Progress,
}

/// One trial of a scenario.
#[derive(Clone, Copy, Debug)]
pub(in crate::command) struct Trial<'a> {
    /// The scenario.
    pub(in crate::command) loaded: &'a Loaded,
    /// Its folder.
    pub(in crate::command) folder: &'a Path,
    /// From 1.
    pub(in crate::command) number: u32,
}

impl<B: Backend> Stage<'_, B> {
    /// Whether the run is to end.
    pub(in crate::command) fn is_over(&self) -> bool {
        *self.shared.interrupted.borrow()
    }

    /// So many trials of this scenario may run beside each other.
    pub(in crate::command) fn beside(&self, loaded: &Loaded) -> usize {
        if disturbs(loaded, self.shared.backend.lag_ms() > 0) { 1 } else { self.jobs }
    }
}

/// Runs every trial of every scenario.
pub(super) async fn run_all<B: Backend>(
    scenarios: &[&Loaded],
    repeat: u32,
    stage: &Stage<'_, B>,
) -> Result<Vec<Reported>, String> {
    let mut folders = Vec::new();
    for loaded in scenarios {
        let folder = stage.artifacts.scenario(loaded).map_err(|error| error.to_string())?;
        folders.push((*loaded, folder));
    }
    let of = |number: u32| folders.iter().map(move |(loaded, folder)| Trial { loaded, folder, number });
    let trials: Vec<Trial<'_>> = (1..=repeat).flat_map(of).collect();
    run_trials(&trials, stage, |_| {}).await?;
    folders
        .iter()
        .map(|(_, folder)| {
            let mut host = None;
            Ok((report::scenario(folder, &mut host)?, host))
        })
        .collect()
}

/// Runs trials: those that would disturb others alone, the rest beside each other; `done` hears of each that is over. Of those
/// whose turn never came nothing is answered.
pub(in crate::command) async fn run_trials<B: Backend>(
    trials: &[Trial<'_>],
    stage: &Stage<'_, B>,
    done: impl Fn(&TrialReport),
) -> Result<Vec<TrialReport>, String> {
    let (alone, together): (Vec<Trial<'_>>, Vec<Trial<'_>>) =
        trials.iter().partition(|trial| stage.beside(trial.loaded) == 1);
    let beside = stream::iter(together).map(|trial| run_trial(trial, stage)).buffer_unordered(stage.jobs);
    let ran: Vec<Option<TrialReport>> =
        beside.inspect_ok(|report| report.iter().for_each(&done)).try_collect().await?;
    let mut reports: Vec<TrialReport> = ran.into_iter().flatten().collect();
    for trial in alone {
        let report = run_trial(trial, stage).await?;
        report.iter().for_each(&done);
        reports.extend(report);
    }
    Ok(reports)
}

/// What is reported of scenarios whose turn never came.
pub(super) fn not_run(scenarios: &[&Loaded], artifacts: &Artifacts) -> Result<Vec<Reported>, String> {
    let report = |loaded: &&Loaded| {
        let folder = artifacts.scenario(loaded);
        let mut host = None;
        Ok((report::scenario(&folder.map_err(|error| error.to_string())?, &mut host)?, host))
    };
    scenarios.iter().map(report).collect()
}

/// A scenario that takes the whole machine's memory is no company for others, and one that keeps a kubelet busy for half a
/// minute neither.
fn disturbs(loaded: &Loaded, on_cluster: bool) -> bool {
    let pods: u32 = loaded.scenario.pods.iter().map(|pod| pod.replicas).sum();
    let node = loaded.scenario.node.is_used_up() || loaded.scenario.stops_a_kubelet() || pods > MANY_PODS;
    loaded.scenario.requires.contains(&Requirement::DisposableHost) || (on_cluster && node)
}

async fn run_trial<B: Backend>(
    Trial { loaded, folder, number }: Trial<'_>,
    Stage { shared, progress, .. }: &Stage<'_, B>,
) -> Result<Option<TrialReport>, String> {
    if *shared.interrupted.borrow() {
        return Ok(None);
    }
    let scenario = &loaded.scenario;
    let name = if number == 1 { scenario.name.clone() } else { format!("{} #{number}", scenario.name) };
    let trial_folder = Artifacts::trial(folder, number).map_err(|error| error.to_string())?;
    progress.event(&name, RunEvent::Started);
    let (began, began_unix_ns) = (clock::boot_ns(), clock::unix_ns());
    let follower = Mutex::new(Follower::default());
    let trial = format!("{}-{number}", scenario.name);
    runner::run(scenario, &trial, shared, &trial_folder, |observation, usage| {
        follower.lock().unwrap_or_else(PoisonError::into_inner).follow(&name, observation, usage, progress);
    })
    .await;
    let kept = artifacts::read_trial(&trial_folder)?;
    let report = trial::report(scenario, number, &kept);
    shared.backend.judged(&trial_folder, report.outcome == Outcome::Passed, began_unix_ns).await;
    progress.event(&name, RunEvent::Ended(report.outcome, Duration::from_nanos(clock::boot_ns() - began)));
    Ok(Some(report))
}

/// What of the observations makes a person's progress.
#[derive(Default)]
struct Follower {
    containers: HashMap<String, Followed>,
    stopping: bool,
}

/// A container's run, as far as a person cares.
#[derive(Default)]
struct Followed {
    limit: Option<u64>,
    oom_kills: u64,
    killed: bool,
}

impl Follower {
    fn follow(&mut self, name: &str, observation: &Observation, usage: Usage<'_>, progress: &Progress) {
        if let Fact::Cgroup(made) = &observation.fact
            && let CgroupOwner::Container(_) = made.owner
        {
            self.containers.entry(made.path.clone()).or_default().limit = made.limit;
        } else if let Fact::Started(_) = &observation.fact {
            progress.event(name, RunEvent::Phase("running"));
        } else if let Fact::Stopping(stop) = &observation.fact {
            self.stopping |= stop.reason == StopReason::TearDown;
            progress.event(name, RunEvent::Phase("stopping"));
        } else if let Fact::Counters(counters) = &observation.fact
            && let Some(container) = self.containers.get_mut(&counters.cgroup)
        {
            // A group kill counts its members, and the chosen one twice (docs/cgroup-v2.md): it is one kill to a person.
            let grouped = counters.oom_group_kill.filter(|groups| *groups > 0);
            container.oom_kills = grouped.or(counters.oom_kill_local).unwrap_or(0);
        } else if let Fact::Ended(ended) = &observation.fact
            && ended.end.exit_code() == 137
            && !self.stopping
        {
            let run = format!(
                "/{}/{}-{}",
                ended.container.pod, ended.container.container, ended.container.instance
            );
            let of = self.containers.iter_mut().find(|(path, _)| path.ends_with(&run));
            if let Some((_, container)) = of {
                container.killed = true;
            }
        }
        self.tell(name, usage, progress);
    }

    /// The kills so far, and the memory of the container that is nearest to its limit.
    fn tell(&self, name: &str, usage: Usage<'_>, progress: &Progress) {
        let kills =
            self.containers.values().map(|container| container.oom_kills.max(container.killed.into())).sum();
        progress.event(name, RunEvent::Kills(kills));
        let sizes =
            self.containers.iter().filter_map(|(path, container)| Some((usage(path)?, container.limit)));
        let nearest = sizes
            .max_by_key(|(usage, limit)| limit.map_or(0, |limit| usage.saturating_mul(1000) / limit.max(1)));
        if let Some((usage, limit)) = nearest {
            progress.event(name, RunEvent::Memory { usage, limit });
        }
    }
}
