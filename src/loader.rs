//! Finds and reads scenario files. A bad file is an error, never a skip.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::scenario::manifest::{ManifestFile, without_secrets};
use crate::scenario::problem::{KeyPath, nearest};
use crate::scenario::setting::Settings;
use crate::scenario::{self, Scenario, Text};

pub use crate::scenario::problem::Problem;

/// The scenarios that ship, in the order of their names.
const SHIPPED: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// No scenario is longer; what is, is something else.
const LONGEST: u64 = 1 << 20;

/// Manifests by their paths.
pub type Manifests = BTreeMap<String, String>;

/// A scenario and the file that it was read from.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// What it says, to be kept with the run.
    pub text: String,
    /// What its manifests say, by their paths as it writes them: to be kept too, so without what Secrets hold.
    pub manifests: Manifests,
    /// What it means.
    pub scenario: Scenario,
}

/// Reads these files, and all `*.yaml` and `*.yml` below these folders; without any, the scenarios that ship.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Loaded>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut texts = Vec::new();
    if paths.is_empty() {
        texts.extend(SHIPPED.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())));
    }
    for path in paths {
        if let Some((name, text)) = shipped(path) {
            texts.push((PathBuf::from(name), text.to_owned()));
            continue;
        }
        match files(path) {
            Ok(found) => {
                for file in found {
                    match read_text(&file) {
                        Ok(text) => texts.push((file, text)),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    let (mut loaded, mut refused, mut named) = (Vec::new(), Vec::new(), HashSet::new());
    for (path, text) in texts {
        let beside = path.parent().map(Path::to_path_buf).unwrap_or_default();
        match parse(&path, &text, &Settings::default(), |named| beside.join(named)) {
            Ok((scenario, _, manifests)) => {
                named.extend(manifests.keys().filter_map(|named| fs::canonicalize(beside.join(named)).ok()));
                loaded.push(Loaded { path, text, manifests, scenario });
            }
            Err(found) => refused.push((path, found)),
        }
    }
    // A manifest that lies beside its scenario is none itself.
    let is_manifest = |path: &Path| fs::canonicalize(path).is_ok_and(|path| named.contains(&path));
    problems.extend(refused.into_iter().filter(|(path, _)| !is_manifest(path)).flat_map(|(_, found)| found));
    problems.extend(same_names(&loaded));
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// The file of one scenario, in which something can be set before it is validated.
#[derive(Debug)]
pub struct Template {
    path: PathBuf,
    text: String,
}

impl Template {
    /// Reads this file, or the scenario that ships under this name.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        if let Some((name, text)) = shipped(path) {
            return Ok(Self { path: PathBuf::from(name), text: text.to_owned() });
        }
        if path.is_dir() {
            return Err(problem(path, "is a folder".to_owned(), "name the file of one scenario"));
        }
        let file = files(path)?.into_iter().next().unwrap_or_else(|| path.to_owned());
        Ok(Self { text: read_text(&file)?, path: file })
    }

    /// The scenario with these settings.
    pub fn with(&self, settings: &Settings) -> Result<Loaded, Vec<Problem>> {
        let beside = self.path.parent().map(Path::to_path_buf).unwrap_or_default();
        let (scenario, text, manifests) =
            parse(&self.path, &self.text, settings, |named| beside.join(named))?;
        Ok(Loaded { path: self.path.clone(), text, manifests, scenario })
    }
}

/// The scenario that ships under this name, with or without its folder and ending, unless a file of that name is there.
fn shipped(path: &Path) -> Option<(&'static str, &'static str)> {
    let stem = |path: &Path| path.file_stem().map(std::ffi::OsStr::to_owned);
    let bare =
        path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent == Path::new("scenarios"));
    let named = || SHIPPED.iter().find(|(name, _)| stem(Path::new(name)) == stem(path)).copied();
    if bare && !path.exists() { named() } else { None }
}

/// Reads the copy of a scenario that a run's folder keeps.
pub fn load_kept(path: &Path) -> Result<Scenario, String> {
    let text = read_text(path).map_err(|problem| problem.to_string())?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let parsed = parse(path, &text, &Settings::default(), |named| folder.join(kept_manifest(named)));
    parsed.map(|(scenario, ..)| scenario).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

/// Where, in its folder of a run, the copy of a manifest lies.
pub fn kept_manifest(named: &str) -> PathBuf {
    Path::new("manifests").join(named.replace('%', "%25").replace('/', "%2F"))
}

/// Reads a scenario and its manifests, each from where `place` says; its text is another where something is set.
fn parse(
    path: &Path,
    text: &str,
    settings: &Settings,
    place: impl Fn(&str) -> PathBuf,
) -> Result<(Scenario, Text, Manifests), Vec<Problem>> {
    let mut manifests = Manifests::new();
    let mut read = |named: &str| {
        let path = place(named);
        let text = read_text(&path).map_err(|problem| format!("{}: {}", path.display(), problem.what))?;
        manifests.insert(named.to_owned(), without_secrets(&text));
        Ok(ManifestFile { path: path.display().to_string(), text })
    };
    let (scenario, text) = scenario::read_set(&path.display().to_string(), text, settings, &mut read)?;
    let hash = hash(&text, &manifests);
    Ok((Scenario { hash, ..scenario }, text, manifests))
}

/// Of all that a scenario is judged by.
fn hash(text: &str, manifests: &Manifests) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    let mut hash = Sha256::new_with_prefix(text);
    for manifest in manifests.values() {
        hash.update(manifest);
    }
    hash.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn problem(path: &Path, what: String, hint: &str) -> Problem {
    let file = path.display().to_string();
    Problem { file, place: None, path: KeyPath::default(), what, hint: hint.to_owned() }
}

/// The file itself, or every scenario file below a folder, sorted.
fn files(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let metadata = fs::metadata(path).map_err(|error| {
        let ships = SHIPPED.iter().filter_map(|(path, _)| Path::new(path).file_stem()?.to_str());
        let meant = path.file_stem().and_then(|stem| nearest(stem.to_str()?, ships));
        let hint = meant.map_or_else(
            || {
                "name a scenario file, a folder of them, or one that ships (`exit137 show` lists them)"
                    .to_owned()
            },
            |meant| format!("did you mean {meant}, which ships?"),
        );
        problem(path, format!("cannot be found: {error}"), &hint)
    })?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    walk(path, &mut found)?;
    found.sort();
    if found.is_empty() {
        return Err(problem(
            path,
            "holds no scenario".to_owned(),
            "a scenario is a file that ends in .yaml or .yml",
        ));
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Problem> {
    let failed =
        |error: std::io::Error| problem(folder, format!("cannot be listed: {error}"), "mend its permissions");
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // A link to a folder is not followed: it may lead back here.
        if entry.file_type().map_err(failed)?.is_dir() {
            if !is_of_a_run(&path) {
                walk(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
    Ok(())
}

/// Whether a run made this folder: what it keeps of scenarios are copies.
fn is_of_a_run(folder: &Path) -> bool {
    ["report.json", "size.json", "sweep.json", "trial-1"].iter().any(|kept| folder.join(kept).exists())
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let failed = |error: std::io::Error| {
        problem(path, format!("cannot be read: {error}"), "mend the path or its permissions")
    };
    // A FIFO would be waited for, and a device may never end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(problem(path, "is no regular file".to_owned(), "copy it into a file and name that"));
    }
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(problem(
            path,
            "is longer than 1 MiB".to_owned(),
            "is it a scenario? one rarely has 100 lines",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let what = format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to());
        problem(path, what, "save it as UTF-8")
    })
}

/// A run keeps its scenarios in folders of their names.
fn same_names(loaded: &[Loaded]) -> Vec<Problem> {
    let mut first: HashMap<&str, &Path> = HashMap::new();
    let mut problems = Vec::new();
    for Loaded { path, scenario, .. } in loaded {
        if let Some(earlier) = first.get(scenario.name.as_str()) {
            let what = format!("is named {:?}, as is {}", scenario.name, earlier.display());
            problems.push(problem(path, what, "give it a metadata.name of its own"));
        } else {
            first.insert(&scenario.name, path);
        }
    }
    problems
}
