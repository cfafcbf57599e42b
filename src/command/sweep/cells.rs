//! The cells of a sweep: the scenario with each combination, its trials, and those that are finished already.

use std::cell::Cell as Counter;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::artifacts::{self, Artifacts};
use crate::backend::Backend;
use crate::cli;
use crate::clock;
use crate::command::report;
use crate::command::run::{Reported, Stage, Trial, Work, run_trials};
use crate::command::size::plan::{estimate, to_go, trial_ms};
use crate::command::size::search::digest;
use crate::loader::{self, Loaded, Problem, Template};
use crate::report::model::Outcome;
use crate::report::trial;
use crate::scenario::setting::{Setting, Settings};
use crate::sizing::grid;
use crate::sizing::sweep::{Cell, SweepReport, is_over};

/// What was asked, resolved.
#[derive(Debug)]
pub(super) struct Cells {
    template: Template,
    /// The scenario's own name.
    name: String,
    paths: Vec<String>,
    settings: Settings,
    grid: Vec<Vec<Setting>>,
    repeat: u32,
}

impl Cells {
    /// Of the arguments, or what is wrong with them.
    pub(super) fn of(args: &cli::Sweep) -> Result<Self, String> {
        let grid = grid::cells(&args.set)?;
        let template = Template::read(&args.scenario).map_err(|problem| problem.to_string())?;
        let base = template.with(&Settings::default());
        let name = base.map_err(|problems| super::lines(&problems))?.scenario.name;
        let paths = args.set.iter().map(|axis| axis.path.to_string()).collect();
        let settings = Settings { list: Vec::new(), requests_ratio: args.requests_ratio };
        Ok(Self { template, name, paths, settings, grid, repeat: args.repeat })
    }

    /// The scenario of each cell, under a name of its own.
    pub(super) fn load(&self) -> Result<Vec<Loaded>, Vec<Problem>> {
        let mut names: Vec<String> =
            self.grid.iter().map(|cell| grid::name(&self.name, &values(cell))).collect();
        // Values may differ in what a name cannot hold.
        if names.iter().collect::<HashSet<_>>().len() < names.len() {
            names =
                (1..=names.len()).map(|number| grid::name(&self.name, &[format!("cell-{number}")])).collect();
        }
        let (mut loaded, mut problems) = (Vec::new(), Vec::new());
        for (cell, name) in self.grid.iter().zip(&names) {
            match self.template.with(&self.settings.and(cell, name)) {
                Ok(one) => loaded.push(one),
                Err(found) => problems.extend(found),
            }
        }
        problems.sort();
        problems.dedup();
        if problems.is_empty() { Ok(loaded) } else { Err(problems) }
    }

    /// What is known of every cell.
    pub(super) fn report(&self, loaded: &[Loaded], folder: &Path) -> SweepReport {
        let row = |(cell, loaded): (&Vec<Setting>, &Loaded)| {
            let name = loaded.scenario.name.clone();
            let path = folder.join(&name);
            let reported = report::scenario(&path, &mut None);
            let reported = reported.unwrap_or_else(|_| trial::scenario_report(&loaded.scenario, Vec::new()));
            let skipped =
                reported.skipped.filter(|_| artifacts::read_skip(&path).is_ok_and(|skip| skip.is_some()));
            Cell {
                values: values(cell),
                folder: name,
                skipped,
                errored: reported.outcome == Outcome::Errored,
                trials: digest(&loaded.scenario, &reported.trials),
            }
        };
        let cells = self.grid.iter().zip(loaded).map(row).collect();
        SweepReport::new(self.name.clone(), self.paths.clone(), self.repeat, cells)
    }

    /// How long it may take.
    pub(super) fn estimate(&self, loaded: &[Loaded], args: &cli::Running) -> String {
        let trials = u64::try_from(loaded.len()).unwrap_or(u64::MAX).saturating_mul(u64::from(self.repeat));
        let longest = loaded.iter().map(|one| trial_ms(&one.scenario)).max().unwrap_or(0);
        let all = loaded.iter().map(|one| trial_ms(&one.scenario)).fold(0, u64::saturating_add);
        let all = all.saturating_mul(u64::from(self.repeat)) / u64::from(args.jobs).min(trials.max(1));
        estimate(&format!("{} cells, {trials} trials", loaded.len()), longest, all.max(longest), args)
    }
}

/// What a cell sets its fields to.
fn values(cell: &[Setting]) -> Vec<String> {
    cell.iter().map(|setting| setting.value.clone()).collect()
}

/// Whether this folder holds the same sweep, as far as it has come.
pub(super) fn same(folder: &Path, cells: &Cells, loaded: &[Loaded]) -> Result<(), String> {
    let kept = fs::read_to_string(folder.join("sweep.json"));
    let kept =
        kept.map_err(|_| format!("{} holds no sweep to go on with; start one with --out", folder.display()))?;
    let kept: SweepReport = serde_json::from_str(&kept)
        .map_err(|error| format!("cannot read {}/sweep.json: {error}", folder.display()))?;
    let now: HashSet<Vec<String>> = cells.grid.iter().map(|cell| values(cell)).collect();
    // More values may be tried, none forgotten.
    if kept.paths != cells.paths || !kept.cells.iter().all(|cell| now.contains(&cell.values)) {
        let before: Vec<String> = kept.paths.iter().map(|path| format!("--set {path}=…")).collect();
        return Err(format!(
            "{} holds another grid, of {} cells by {}; give the sweep the same fields and at least the same values, or start another one",
            folder.display(),
            kept.cells.len(),
            before.join(" ")
        ));
    }
    for Loaded { scenario, .. } in loaded {
        let kept = folder.join(&scenario.name).join("scenario.yaml");
        if kept.is_file() && loader::load_kept(&kept)?.hash != scenario.hash {
            return Err(format!(
                "{} was run with another scenario than is named now; give the sweep the same arguments, or start another one",
                kept.display()
            ));
        }
    }
    Ok(())
}

/// Runs the trials that are not finished.
#[derive(Debug)]
pub(super) struct Sweeping {
    repeat: u32,
}

impl Sweeping {
    pub(super) fn new(repeat: u32) -> Self {
        Self { repeat }
    }
}

impl Work for Sweeping {
    fn repeat(&self) -> u32 {
        self.repeat
    }

    async fn on<B: Backend>(
        &mut self,
        stage: &Stage<'_, B>,
        scenarios: &[&Loaded],
    ) -> Result<Vec<Reported>, String> {
        let mut cells: Vec<(&Loaded, PathBuf, HashSet<u32>)> = Vec::new();
        for loaded in scenarios {
            let folder = stage.artifacts.scenario(loaded).map_err(|error| error.to_string())?;
            let finished = finished(loaded, &folder)?;
            cells.push((loaded, folder, finished));
        }
        // Every cell has a first trial before any has a second: what is cut short has something of each.
        let of = |number: u32| {
            let open = cells.iter().filter(move |(.., finished)| !finished.contains(&number));
            open.map(move |(loaded, folder, _)| Trial { loaded, folder, number })
        };
        let trials: Vec<Trial<'_>> = (1..=self.repeat).flat_map(of).collect();
        let (all, began) = (trials.len().max(1), clock::boot_ns());
        let done = Counter::new(0_usize);
        run_trials(&trials, stage, |_| {
            let (before, now) = (done.get(), done.get() + 1);
            done.set(now);
            if before * 10 / all < now * 10 / all && now < all {
                let left = to_go(began, now, all);
                stage.progress.say(&format!("{now} of {all} trials, about {left} to go"));
            }
        })
        .await?;
        Ok(Vec::new())
    }
}

/// The trials that an earlier run of the sweep has brought to their end. Those that it has not are removed, to be run again.
fn finished(loaded: &Loaded, folder: &Path) -> Result<HashSet<u32>, String> {
    let failed = |path: &Path, error: std::io::Error| format!("cannot read {}: {error}", path.display());
    Artifacts::unskip(folder).map_err(|error| failed(folder, error))?;
    let mut finished = HashSet::new();
    for one in artifacts::trials(folder).map_err(|error| failed(folder, error))? {
        let over = artifacts::read_trial(&one.path)
            .is_ok_and(|kept| is_over(trial::report(&loaded.scenario, one.number, &kept).outcome));
        if over {
            finished.insert(one.number);
        } else {
            fs::remove_dir_all(&one.path)
                .map_err(|error| format!("cannot remove {}: {error}", one.path.display()))?;
        }
    }
    Ok(finished)
}
