//! The run's folder: made before anything runs, never over something that exists, written whole or not at all.

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::evidence::{ContainerRef, Fact, record, sample};
use crate::loader::{Loaded, kept_manifest};
use crate::report::model::ClusterReport;
use crate::report::trial::Kept;

/// A run's folder.
#[derive(Clone, Debug)]
pub struct Artifacts {
    folder: PathBuf,
    /// It was there, with folders of scenarios in it.
    again: bool,
}

/// Why a scenario was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// What it requires and the host lacks.
    pub why: String,
    /// Whether that counts as a failure (`--no-skips`).
    pub fails: bool,
}

/// Where runs go that are not told where.
const RUNS: &str = "exit137-runs";

const SKIPPED: &str = "skipped.json";
const CLUSTERS: &str = "clusters.json";

/// One trial's place in a run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialFolder {
    /// From 1.
    pub number: u32,
    /// Its folder.
    pub path: PathBuf,
}

impl Artifacts {
    /// Makes a new run's folder: `out`, or one named by the time.
    pub fn create(out: Option<&Path>) -> io::Result<Self> {
        let folder = if let Some(out) = out {
            out.to_path_buf()
        } else {
            let now = i128::from(clock::unix_ns());
            let now = jiff::Timestamp::from_nanosecond(now).map_err(io::Error::other)?;
            Path::new(RUNS).join(now.strftime("%Y%m%dT%H%M%S.%3fZ").to_string())
        };
        if let Some(parent) = folder.parent() {
            let failed = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot make {}: {error}; choose another --out", parent.display()),
                )
            };
            fs::create_dir_all(parent).map_err(failed)?;
        }
        make(&folder)?;
        Ok(Self { folder, again: false })
    }

    /// The folder of a run that is gone on with.
    pub fn again(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), again: true }
    }

    /// Removes it where nothing has come into it: the same command can then be given again.
    pub fn discard_if_empty(&self) {
        // One that holds something is refused, and stays; so does the folder of all runs while others are in it.
        if fs::remove_dir(&self.folder).is_ok() && self.folder.parent() == Some(Path::new(RUNS)) {
            let _ = fs::remove_dir(RUNS);
        }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder of a scenario and keeps its file and its manifests there: what the run is judged by.
    pub fn scenario(&self, loaded: &Loaded) -> io::Result<PathBuf> {
        let folder = self.folder.join(&loaded.scenario.name);
        if self.again && folder.is_dir() {
            return Ok(folder);
        }
        make(&folder)?;
        write_whole(&folder.join("scenario.yaml"), &loaded.text)?;
        for (named, text) in &loaded.manifests {
            let kept = folder.join(kept_manifest(named));
            fs::create_dir_all(folder_of(&kept))?;
            write_whole(&kept, text)?;
        }
        Ok(folder)
    }

    /// Keeps, in a scenario's folder, why it was not run.
    pub fn skip(scenario: &Path, skip: &Skip) -> io::Result<()> {
        write_whole(&scenario.join(SKIPPED), &serde_json::to_string(skip)?)
    }

    /// Forgets why a scenario was not run, now that it is.
    pub fn unskip(scenario: &Path) -> io::Result<()> {
        match fs::remove_file(scenario.join(SKIPPED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the folder of a cluster's canary. No scenario's name has a dot.
    pub fn canary(&self, number: usize) -> io::Result<PathBuf> {
        let folder = self.folder.join(format!("canary.{number}"));
        make(&folder)?;
        Ok(folder)
    }

    /// Keeps what can be seen on one more of the run's clusters.
    pub fn add_cluster(&self, cluster: ClusterReport) -> Result<(), String> {
        let mut clusters = read_clusters(&self.folder)?;
        clusters.push(cluster);
        let text = serde_json::to_string_pretty(&clusters).map_err(|error| error.to_string())?;
        let path = self.folder.join(CLUSTERS);
        write_whole(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Makes a trial's folder in a scenario's.
    pub fn trial(scenario: &Path, number: u32) -> io::Result<PathBuf> {
        let folder = scenario.join(format!("trial-{number}"));
        make(&folder)?;
        Ok(folder)
    }
}

/// Writes a file whole or not at all. What is there and is no plain file (`/dev/stdout`) is written to, not replaced.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, text);
    }
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Why no file can be written there, found out before a run rather than after it.
pub fn unwritable(path: &Path) -> Option<String> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return None;
    }
    let folder = folder_of(path);
    let why = match fs::metadata(folder) {
        Err(error) => Some(format!("its folder {}: {error}", folder.display())),
        Ok(_) => tempfile::NamedTempFile::new_in(folder).err().map(|error| error.kind().to_string()),
    };
    let why = why.or_else(|| path.is_dir().then(|| "it is a folder".to_owned()));
    why.map(|why| format!("cannot write {}: {why}", path.display()))
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder).map_err(|error| {
        let why = if error.kind() == io::ErrorKind::AlreadyExists {
            "it exists already, and a run never overwrites anything; name another".to_owned()
        } else {
            error.to_string()
        };
        io::Error::new(error.kind(), format!("cannot make the folder {}: {why}", folder.display()))
    })
}

/// The trials that a scenario's folder has, in their order.
pub fn trials(scenario: &Path) -> io::Result<Vec<TrialFolder>> {
    let mut trials = Vec::new();
    for entry in fs::read_dir(scenario)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_prefix("trial-")?.parse().ok());
        if let Some(number) = number {
            trials.push(TrialFolder { number, path: entry.path() });
        }
    }
    trials.sort_by_key(|trial| trial.number);
    Ok(trials)
}

/// Why a scenario was not run, if it was skipped.
pub fn read_skip(scenario: &Path) -> Result<Option<Skip>, String> {
    read_json(&scenario.join(SKIPPED))
}

/// The clusters of a run, none if it was on its host.
pub fn read_clusters(run: &Path) -> Result<Vec<ClusterReport>, String> {
    Ok(read_json(&run.join(CLUSTERS))?.unwrap_or_default())
}

/// What a file holds, if it is there.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|error| format!("{}: {error}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// So much of the end of a log is looked at, and so many of its lines are told.
const LAST_BYTES: u64 = 4 << 10;
const LAST_LINES: usize = 5;

/// The last lines that a container wrote, as far as its log was kept.
fn last_lines(trial: &Path, container: &ContainerRef) -> io::Result<Vec<String>> {
    let mut log = fs::File::open(trial.join("logs").join(container.log_file()))?;
    let size = log.metadata()?.len();
    log.seek(io::SeekFrom::Start(size.saturating_sub(LAST_BYTES)))?;
    let mut end = Vec::new();
    log.take(LAST_BYTES).read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = end.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    Ok(lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).map(|line| (*line).to_owned()).collect())
}

/// Reads what was kept of a trial.
pub fn read_trial(folder: &Path) -> Result<Kept, String> {
    let path = folder.join("record.jsonl");
    let bytes = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let record = record::decode(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    // Samples only refine; a run that died at once has none.
    let samples = fs::read_to_string(folder.join("samples.csv")).unwrap_or_default();
    let mut damage = Vec::new();
    if record.missing > 0 {
        damage.push(format!("{} observations are missing from the record", record.missing));
    }
    if record.unknown > 0 {
        damage
            .push(format!("{} facts were written by a newer exit137 and are not understood", record.unknown));
    }
    let mut samples: Vec<_> = samples.lines().filter_map(sample::decode).collect();
    // A run that was killed has not brought them into order.
    samples.sort_by_key(|sample| sample.at);
    let observations = record.observations;
    let ended = observations
        .iter()
        .filter_map(|seen| if let Fact::Ended(ended) = &seen.fact { Some(&ended.container) } else { None });
    // Whose log was not kept has not said anything that could be told.
    let last_lines = ended
        .filter_map(|container| Some((container.clone(), last_lines(folder, container).ok()?)))
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    Ok(Kept { observations, samples, damage, last_lines })
}
