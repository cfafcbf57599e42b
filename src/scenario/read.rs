//! From text to a [`Scenario`]: YAML, structure, meaning. Each step reports everything that it finds.

use serde_json::Value;

use super::document::Document;
use super::manifest::{Manifests, ReadManifest};
use super::problem::{KeyPath, Place, Problem, Step};
use super::setting::{self, Settings};
use super::validate::{self, Notes};
use super::{Scenario, structure, tree};

/// So many problems of a file are shown; nobody reads more.
const SHOWN: usize = 50;

/// Reads a scenario that names no manifest. `file` is what problems call it; the hash is left to whoever has the file.
pub fn read(file: &str, text: &str) -> Result<Scenario, Vec<Problem>> {
    read_with(file, text, &mut |_| Err("cannot be read here".to_owned()))
}

/// Reads a scenario, and the manifests that it names by `manifest`.
pub fn read_with(file: &str, text: &str, manifest: ReadManifest<'_>) -> Result<Scenario, Vec<Problem>> {
    read_set(file, text, &Settings::default(), manifest).map(|(scenario, _)| scenario)
}

/// The text of a scenario: the file's own, or one in which something was set.
pub type Text = String;

/// Reads a scenario in which something is set, and what its text then is. Problems have their places in the file as it is.
pub fn read_set(
    file: &str,
    text: &str,
    settings: &Settings,
    manifest: ReadManifest<'_>,
) -> Result<(Scenario, Text), Vec<Problem>> {
    let mut problems = Vec::new();
    let result = examine((file, text), settings, manifest, &mut |spot, what, hint| {
        let Spot { file: other, place, path } = spot;
        problems.push(Problem { file: other.unwrap_or_else(|| file.to_owned()), place, path, what, hint });
    });
    match result {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(tidy(problems)),
    }
}

/// Where a problem is.
#[derive(Debug)]
pub(super) struct Spot {
    /// In another file than the scenario's.
    pub(super) file: Option<String>,
    pub(super) place: Option<Place>,
    pub(super) path: KeyPath,
}

impl Spot {
    /// In the scenario's own file; the place is found later.
    pub(super) fn at(path: KeyPath) -> Self {
        Self { file: None, place: None, path }
    }
}

/// Takes a problem: where, what, and what to do.
pub(super) type Report<'a> = &'a mut dyn FnMut(Spot, String, String);

fn examine(
    (file, text): (&str, &str),
    settings: &Settings,
    manifest: ReadManifest<'_>,
    report: Report<'_>,
) -> Option<(Scenario, Text)> {
    let tree = match tree::parse(text) {
        Ok(tree) => tree,
        Err(malformed) => {
            let spot = Spot { place: malformed.place, ..Spot::at(KeyPath::default()) };
            report(spot, malformed.what, malformed.hint.to_owned());
            return None;
        }
    };
    // What is known by its path gets its place here.
    let report: Report<'_> = &mut |spot, what, hint| {
        let own = spot.file.is_none() && spot.place.is_none();
        let place = if own { tree::place_of(&tree, &spot.path) } else { spot.place };
        report(Spot { place, ..spot }, what, hint);
    };
    for (path, place, first) in tree.value.duplicates() {
        let line = first.map_or_else(|| "above".to_owned(), |first| format!("on line {}", first.line));
        let spot = Spot { place, ..Spot::at(path) };
        report(spot, "is given twice".to_owned(), format!("it is there {line} already; keep one"));
    }
    let mut value = tree.value.to_json();
    if let Some((what, hint)) = no_scenario(&value) {
        report(Spot::at(KeyPath::default().key("kind")), what, hint);
        return None;
    }
    let (mut text, mut written) = (text.to_owned(), Vec::new());
    if !settings.list.is_empty() {
        written = setting::apply(&mut value, settings, &mut *manifest, &mut *report)?;
        text = setting::text(&value, file, settings);
    }
    // The file is not to blame for a value that it does not have.
    let report: Report<'_> = &mut |spot, what, hint| {
        let set = written.iter().find(|(path, _)| spot.path.0.starts_with(&path.0));
        let what = match set {
            Some((_, setting)) => format!("--set {setting}: {what}"),
            None => what,
        };
        report(spot, what, hint);
    };
    let manifests = Manifests::merge(&mut value, manifest, report)?;
    drop_empty_in_specs(&mut value);
    let flaws = structure::flaws(&value);
    for flaw in &flaws {
        mend(&mut value, flaw);
    }
    let sound = flaws.is_empty();
    let mut flawed = Vec::new();
    for flaw in flaws {
        flawed.push(flaw.path.clone());
        let elsewhere = manifests.spot(&flaw.path, flaw.at_key);
        let spot = elsewhere.unwrap_or_else(|| Spot {
            place: if flaw.at_key { tree::place_of_key(&tree, &flaw.path) } else { None },
            ..Spot::at(flaw.path)
        });
        report(spot, flaw.what, flaw.hint);
    }
    let document: Document = match serde_json::from_value(value) {
        Ok(document) => document,
        // What is wrong with its structure has been said.
        Err(_) if !sound => return None,
        Err(error) => {
            report(
                Spot::at(KeyPath::default()),
                error.to_string(),
                "see `exit137 schema scenario`".to_owned(),
            );
            return None;
        }
    };
    let mut notes = Notes::default();
    let scenario = validate::scenario(document, &manifests, &mut notes);
    // What follows from a flaw that was mended by a guess is not worth a line of its own.
    let follows =
        |path: &KeyPath| flawed.iter().any(|flaw| flaw.0.starts_with(&path.0) || path.0.starts_with(&flaw.0));
    for finding in notes.findings.into_iter().filter(|finding| !follows(&finding.path)) {
        let spot = manifests.spot(&finding.path, false).unwrap_or_else(|| Spot::at(finding.path));
        report(spot, finding.what, finding.hint);
    }
    Some((scenario, text))
}

/// Kubernetes' own manifest is no scenario: what it is, and how a scenario takes it.
fn no_scenario(document: &Value) -> Option<(String, String)> {
    let kind = document.get("kind")?.as_str()?;
    match (document.get("apiVersion")?.as_str()?, kind) {
        ("v1", "Pod") | ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet") | ("batch/v1", "Job") => {}
        _ => return None,
    }
    let hint = "name the file in a scenario: pods: [{name: web, manifest: FILE}]".to_owned();
    Some((format!("this is a {kind}, not a Scenario"), hint))
}

/// Puts what was surely meant in the place of a flaw, or takes the flaw away, so that what else is wrong is found too.
fn mend(document: &mut Value, flaw: &structure::Flaw) {
    let Some((last, above)) = flaw.path.0.split_last() else { return };
    let within = above.iter().try_fold(document, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    });
    match (within, last) {
        (Some(Value::Object(map)), Step::Key(key)) if flaw.at_key => {
            map.shift_remove(key);
        }
        (Some(Value::Object(map)), Step::Key(key)) => match &flaw.meant {
            Some(meant) => drop(map.insert(key.clone(), Value::from(meant.clone()))),
            None => drop(map.shift_remove(key)),
        },
        (Some(_) | None, _) => {}
    }
}

/// In a `PodSpec` an empty value is one that is not there, as in Kubernetes.
fn drop_empty_in_specs(document: &mut Value) {
    let pods = document.get_mut("pods").and_then(Value::as_array_mut);
    for spec in pods.into_iter().flatten().filter_map(|pod| pod.get_mut("spec")) {
        drop_empty(spec);
    }
}

fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_empty);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// In the order of the file, none twice, and not more than anybody reads.
fn tidy(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    problems.dedup();
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        let file = problems[0].file.clone();
        let what = format!("and {more} more problems");
        let hint = "mend the first ones and check again".to_owned();
        problems.push(Problem { file, place: None, path: KeyPath::default(), what, hint });
    }
    problems
}
