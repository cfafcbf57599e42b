//! Runs of exit137 itself: the program, as a user starts it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use exit137::artifacts;
use exit137::evidence::{Fact, Observation};

use crate::Measured;

/// A folder for one run, gone afterwards.
pub struct Run {
    folder: tempfile::TempDir,
}

impl Run {
    pub fn new() -> Measured<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    /// Starts `exit137 run` on this scenario; `args` are added.
    pub fn start(&self, scenario: &str, args: &[&str]) -> Measured<Child> {
        let file = self.folder.path().join("scenario.yaml");
        std::fs::write(&file, scenario)?;
        let child = Command::new(env!("CARGO_BIN_EXE_exit137"))
            .arg("run")
            .arg(&file)
            .arg("--out")
            .arg(self.out())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(child)
    }

    /// Waits for the run; what did not pass was not measured.
    pub fn passed(child: &mut Child) -> Measured<()> {
        let status = child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("exit137 run: {status}").into()) }
    }

    /// What was recorded of each trial.
    pub fn records(&self, scenario: &str) -> Measured<Vec<Vec<Observation>>> {
        let trials = artifacts::trials(&self.scenario(scenario)?)?;
        trials.iter().map(|trial| Ok(artifacts::read_trial(&trial.path)?.observations)).collect()
    }

    fn scenario(&self, name: &str) -> Measured<PathBuf> {
        find(&self.out(), name).ok_or_else(|| format!("the run kept no folder of {name}").into())
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> =
        folder.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let here = entries.iter().find(|path| path.is_dir() && path.file_name().is_some_and(|own| own == name));
    here.cloned().or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path, name)))
}

/// The nanosecond of the first fact for which `yes` holds.
pub fn when(record: &[Observation], yes: impl Fn(&Fact) -> bool) -> Option<u64> {
    record.iter().find(|seen| yes(&seen.fact)).map(|seen| seen.moment.middle())
}
