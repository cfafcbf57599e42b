//! `exit137 run`.

mod canary;
mod cluster;
mod disruption;
mod environment;
mod interrupt;
mod plan;
mod schedule;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::report::render;
use super::{complain, fail, print};
use crate::artifacts::{self, Artifacts, Skip, write_whole};
use crate::backend::Backend;
use crate::cli::{self, Color, Format};
use crate::exit_status::ExitStatus;
use crate::loader::{self, Loaded};
use crate::progress::Progress;
use crate::report::{Report, ScenarioReport, trial};
use crate::runner::Shared;
use cluster::{Clusters, Ready};
use environment::Environment;
use interrupt::{Interrupt, Signals};
use plan::Group;
pub(super) use schedule::{Stage, Trial, run_trials};

/// Runs scenarios; answers what their outcomes ask for.
pub fn run(args: &cli::Run, color: Color) -> ExitStatus {
    let selected = match select(args) {
        Ok(selected) => selected,
        Err(status) => return status,
    };
    if selected.is_empty() {
        complain("no scenario was selected; see --filter");
        return ExitStatus::NothingRan;
    }
    if let Err(status) = allowed(&args.running, &selected) {
        return status;
    }
    if let Some(why) = args.json.iter().chain(&args.junit).find_map(|path| artifacts::unwritable(path)) {
        return fail(&why);
    }
    let artifacts = match Artifacts::create(args.running.out.as_deref()) {
        Ok(artifacts) => artifacts,
        Err(error) => return fail(&error.to_string()),
    };
    let mut work = EveryScenario { repeat: args.repeat };
    let (scenarios, interrupted) = match carry_out(&args.running, &selected, &artifacts, &mut work) {
        Ok(done) => done,
        Err(why) => {
            artifacts.discard_if_empty();
            return fail(&why);
        }
    };
    let host = scenarios.iter().find_map(|(_, host)| host.clone());
    let clusters = match artifacts::read_clusters(artifacts.folder()) {
        Ok(clusters) => clusters,
        Err(why) => return fail(&why),
    };
    let report = Report::new(host, scenarios.into_iter().map(|(report, _)| report).collect()).on(clusters);
    let told = tell(args, color, &report, &artifacts);
    ExitStatus::choose([told, report.exit_status()].into_iter().chain(interrupted))
}

/// The scenarios that are named, all of them valid.
fn select(args: &cli::Run) -> Result<Vec<Loaded>, ExitStatus> {
    let scenarios = loader::load(&args.paths).map_err(|problems| {
        for problem in &problems {
            complain(&problem.to_string());
        }
        complain("nothing was started");
        ExitStatus::Usage
    })?;
    let wanted = |loaded: &Loaded| {
        args.filter.as_ref().is_none_or(|text| loaded.scenario.name.contains(text.as_str()))
    };
    Ok(scenarios.into_iter().filter(wanted).collect())
}

/// What may not be done to a cluster that others use, said.
pub(super) fn allowed(args: &cli::Running, selected: &[Loaded]) -> Result<(), ExitStatus> {
    if args.on != cli::Backend::Cluster || args.allow_disruption {
        return Ok(());
    }
    let refused = disruption::refused(selected);
    if refused.is_empty() {
        return Ok(());
    }
    for scenario in &refused {
        complain(scenario);
    }
    complain("nothing was started: allow it with --allow-disruption, or leave these out");
    Err(ExitStatus::Usage)
}

pub(super) type Reported = (ScenarioReport, Option<crate::evidence::HostFacts>);

/// What is done once a backend is ready.
pub(super) trait Work {
    /// So many trials of one scenario may be wanted beside each other.
    fn repeat(&self) -> u32;

    /// Does it, with scenarios that can run there; answers what came of them.
    async fn on<B: Backend>(
        &mut self,
        stage: &Stage<'_, B>,
        scenarios: &[&Loaded],
    ) -> Result<Vec<Reported>, String>;
}

/// Every trial of every scenario.
struct EveryScenario {
    repeat: u32,
}

impl Work for EveryScenario {
    fn repeat(&self) -> u32 {
        self.repeat
    }

    async fn on<B: Backend>(
        &mut self,
        stage: &Stage<'_, B>,
        scenarios: &[&Loaded],
    ) -> Result<Vec<Reported>, String> {
        schedule::run_all(scenarios, self.repeat, stage).await
    }
}

/// Does the work on the backend that was asked for, with those of the scenarios that can run there; answers what came of them,
/// and what else asks for an exit status.
pub(super) fn carry_out(
    args: &cli::Running,
    selected: &[Loaded],
    artifacts: &Artifacts,
    work: &mut impl Work,
) -> Result<(Vec<Reported>, Vec<ExitStatus>), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(execute(args, selected, artifacts, work))
}

async fn execute(
    args: &cli::Running,
    selected: &[Loaded],
    artifacts: &Artifacts,
    work: &mut impl Work,
) -> Result<(Vec<Reported>, Vec<ExitStatus>), String> {
    let (mut runnable, mut reports) = (Vec::new(), Vec::new());
    for loaded in selected {
        let lack = match args.on {
            cli::Backend::Local => environment::lack(&loaded.scenario),
            cli::Backend::Kind | cli::Backend::Cluster => cluster::lack(&loaded.scenario, args.on),
        };
        match lack {
            Some(why) => reports.push(skip(loaded, why, args.no_skips, artifacts)?),
            None => runnable.push(loaded),
        }
    }
    let mut statuses = Vec::new();
    if !runnable.is_empty() {
        let signals = Signals::hold().map_err(|error| format!("cannot listen to signals: {error}"))?;
        let jobs = usize::try_from(args.jobs).unwrap_or(usize::MAX);
        let ran = match args.on {
            cli::Backend::Local => {
                let Environment { backend, jobs } =
                    Environment::prepare(&runnable, work.repeat(), jobs).await?;
                let interrupt = Interrupt::listen(signals, args.timeout, backend.alarm());
                let ran = run_on(work, &runnable, backend, jobs, &interrupt, artifacts, &mut statuses).await;
                interrupt.tell(&mut statuses);
                ran?
            }
            cli::Backend::Kind | cli::Backend::Cluster => {
                let interrupt = Interrupt::listen(signals, args.timeout, watch::channel(None).1);
                let ran =
                    Box::pin(on_clusters(args, work, &runnable, &interrupt, artifacts, &mut statuses)).await;
                interrupt.tell(&mut statuses);
                ran?
            }
        };
        reports.extend(ran);
    }
    reports.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    Ok((reports, statuses))
}

/// Runs scenarios on the clusters that have what they need, one cluster after another.
async fn on_clusters(
    args: &cli::Running,
    work: &mut impl Work,
    runnable: &[&Loaded],
    interrupt: &Interrupt,
    artifacts: &Artifacts,
    statuses: &mut Vec<ExitStatus>,
) -> Result<Vec<Reported>, String> {
    let mut reports = Vec::new();
    let clusters = Clusters::find(args).await.map_err(|error| error.to_string())?;
    for (number, group) in clusters.plan(runnable).iter().enumerate() {
        match Box::pin(unless_interrupted(interrupt, clusters.prepare(args, number, group))).await {
            Some(Ok(ready)) => {
                reports.extend(
                    on_cluster(args, work, ready, (number, group), interrupt, artifacts, statuses).await?,
                );
            }
            // The scenarios that have run are reported all the same.
            Some(Err(error)) => {
                statuses.push(fail(&error.to_string()));
                reports.extend(schedule::not_run(&group.scenarios, artifacts)?);
            }
            None => reports.extend(schedule::not_run(&group.scenarios, artifacts)?),
        }
    }
    Ok(reports)
}

/// Runs a group's scenarios on its cluster, and removes the cluster if this run made it.
async fn on_cluster(
    args: &cli::Running,
    work: &mut impl Work,
    ready: Ready,
    (number, group): (usize, &Group<'_>),
    interrupt: &Interrupt,
    artifacts: &Artifacts,
    statuses: &mut Vec<ExitStatus>,
) -> Result<Vec<Reported>, String> {
    let Ready { backend, made } = ready;
    let (backend, mut reports, mut known) = (Arc::new(backend), Vec::new(), Vec::new());
    for loaded in &group.scenarios {
        let version = backend.host().cgroup_version;
        let lack = match cluster::too_old(&loaded.scenario, args.on, backend.cluster(), version) {
            Some(why) => Some(why),
            None => backend.lack(&loaded.scenario).await.map_err(|error| error.to_string())?,
        };
        match lack {
            Some(why) => reports.push(skip(loaded, why, args.no_skips, artifacts)?),
            None => known.push(*loaded),
        }
    }
    let jobs = usize::try_from(args.jobs).unwrap_or(usize::MAX);
    let sings =
        if known.is_empty() { Ok(true) } else { canary::sings(&backend, number, interrupt, artifacts).await };
    let ran = if matches!(sings, Ok(true)) {
        run_on(work, &known, backend, jobs, interrupt, artifacts, statuses).await
    } else {
        statuses.extend(sings.err().map(|why| fail(&why)));
        tear_down(backend, statuses).await;
        schedule::not_run(&known, artifacts)
    };
    let passed = ran.as_ref().is_ok_and(|ran| {
        Report::new(None, ran.iter().map(|(report, _)| report.clone()).collect()).exit_status()
            == ExitStatus::Passed
    });
    if let Some(made) = made {
        let kept = args.keep.keep || (args.keep.keep_on_failure && !passed);
        let done = if kept { made.keep().await } else { made.remove().await.map(|()| String::new()) };
        match done {
            Ok(told) if told.is_empty() => {}
            Ok(told) => complain(&told),
            Err(error) => statuses.push(fail(&error.to_string())),
        }
    }
    reports.extend(ran?);
    Ok(reports)
}

/// Waits for something unless the run is to end before; what it had begun it undoes itself.
async fn unless_interrupted<T>(interrupt: &Interrupt, future: impl Future<Output = T>) -> Option<T> {
    let mut asked = interrupt.asked.clone();
    tokio::select! {
        biased;
        Ok(_) = asked.wait_for(|yes| *yes) => None,
        done = future => Some(done),
    }
}

/// Runs scenarios on a backend, and removes it.
async fn run_on<B: Backend>(
    work: &mut impl Work,
    runnable: &[&Loaded],
    backend: Arc<B>,
    jobs: usize,
    interrupt: &Interrupt,
    artifacts: &Artifacts,
    statuses: &mut Vec<ExitStatus>,
) -> Result<Vec<Reported>, String> {
    let shared = Shared { backend: Arc::clone(&backend), interrupted: interrupt.asked.clone() };
    let stage = Stage { shared, jobs, artifacts, progress: Progress::new() };
    let ran = work.on(&stage, runnable).await;
    drop(stage);
    tear_down(backend, statuses).await;
    ran
}

async fn tear_down<B: Backend>(backend: Arc<B>, statuses: &mut Vec<ExitStatus>) {
    for problem in environment::tear_down(backend).await {
        complain(&format!("left behind: {problem}"));
        statuses.push(ExitStatus::Environment);
    }
}

/// Keeps that a scenario is not run, so that the run's folder tells it too.
fn skip(loaded: &Loaded, why: String, fails: bool, artifacts: &Artifacts) -> Result<Reported, String> {
    let skip = Skip { why: why.clone(), fails };
    let folder = artifacts.scenario(loaded);
    folder.and_then(|folder| Artifacts::skip(&folder, &skip)).map_err(|error| error.to_string())?;
    Ok((trial::skipped(&loaded.scenario, why, fails), None))
}

/// Writes and prints the report in all its forms.
fn tell(args: &cli::Run, color: Color, report: &Report, artifacts: &Artifacts) -> ExitStatus {
    let write = |path: &Path, format: Format| {
        let text = render(report, format, Color::Never)?;
        write_whole(path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let folder = artifacts.folder();
    let mut files =
        vec![(folder.join("report.json"), Format::Json), (folder.join("junit.xml"), Format::Junit)];
    files.extend(args.json.iter().map(|path| (path.clone(), Format::Json)));
    files.extend(args.junit.iter().map(|path| (path.clone(), Format::Junit)));
    let mut statuses = Vec::new();
    for (path, format) in files {
        if let Err(why) = write(&path, format) {
            statuses.push(fail(&why));
        }
    }
    match render(report, Format::Text, color) {
        Ok(text) => statuses.push(print(&format!("{text}kept in {}\n", folder.display()))),
        Err(why) => statuses.push(fail(&why)),
    }
    // That the report was told says nothing about how the scenarios went.
    if statuses.contains(&ExitStatus::Environment) { ExitStatus::Environment } else { ExitStatus::NothingRan }
}
