//! Users' own manifests: which object of a file an entry of `pods` is about, its pod's spec with the entry's patch, and where
//! each piece of that is written.

mod merge;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use serde_saphyr::Spanned;

use super::Object;
use super::problem::{KeyPath, Place, Step};
use super::read::{Report, Spot};
use super::tree::{self, Tree};
pub(super) use merge::merged_by;

/// A manifest's file, as whoever can read files gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// What problems call it.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// Reads a manifest by its path as the scenario writes it, or says why it cannot be.
pub type ReadManifest<'a> = &'a mut dyn FnMut(&str) -> Result<ManifestFile, String>;

/// The manifests that a scenario names.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    files: Vec<File>,
    /// By the index of the entry that names it.
    entries: BTreeMap<usize, Entry>,
}

#[derive(Debug)]
struct File {
    named: String,
    path: String,
    documents: Vec<Document>,
}

#[derive(Debug)]
struct Document {
    tree: Spanned<Tree>,
    value: Value,
    /// The lines of the file before it.
    before: u64,
    taken: bool,
}

/// What an entry of `pods` is about.
#[derive(Debug)]
struct Entry {
    file: usize,
    document: usize,
    /// Where in the document the pod's spec is.
    spec: KeyPath,
    patch: Value,
    merged: Value,
    object: Object,
}

/// The kinds that an entry can be about, their API and where their pods' spec is.
const KINDS: [(&str, &str, &str); 5] = [
    ("v1", "Pod", "spec"),
    ("apps/v1", "Deployment", "spec.template.spec"),
    ("apps/v1", "StatefulSet", "spec.template.spec"),
    ("apps/v1", "DaemonSet", "spec.template.spec"),
    ("batch/v1", "Job", "spec.template.spec"),
];

impl Manifests {
    /// Reads what the entries of `pods` name, and writes into them what it says. `None` where that failed, and was reported.
    pub(super) fn merge(document: &mut Value, read: ReadManifest<'_>, report: Report<'_>) -> Option<Self> {
        let mut manifests = Self::default();
        let mut good = true;
        let entries = document.get_mut("pods").and_then(Value::as_array_mut);
        for (index, entry) in entries.into_iter().flatten().enumerate() {
            let path = KeyPath::default().key("pods").index(index);
            let Some(named) = entry.get("manifest").and_then(Value::as_str).map(str::to_owned) else {
                for key in ["object", "patch"] {
                    if entry.get(key).is_some() {
                        good = false;
                        report(
                            Spot::at(path.key(key)),
                            "goes with a manifest".into(),
                            "say manifest: FILE, or remove it".into(),
                        );
                    }
                }
                continue;
            };
            let merged = manifests.entry(index, entry, &named, &path, read, report);
            good &= merged.is_some();
        }
        good &= manifests.rest_is_sound(report);
        good.then_some(manifests)
    }

    fn entry(
        &mut self,
        index: usize,
        entry: &mut Value,
        named: &str,
        path: &KeyPath,
        read: ReadManifest<'_>,
        report: Report<'_>,
    ) -> Option<()> {
        if entry.get("spec").is_some() {
            let hint = "keep one of them; patch changes what the manifest says";
            report(Spot::at(path.key("spec")), "is said beside a manifest".into(), hint.into());
            return None;
        }
        let file = self.file(named, &path.key("manifest"), read, report)?;
        let wanted = entry.get("object").and_then(Value::as_str).map(str::to_owned);
        let document = self.choose(file, wanted.as_deref(), path, report)?;
        let found = &mut self.files[file].documents[document];
        found.taken = true;
        let object = Object::of(found.value.clone())?;
        let (_, kind, place) = KINDS.iter().find(|(_, kind, _)| *kind == object.kind)?;
        let spec = KeyPath::default().keys(place);
        let own = value_at(&found.value, &spec).cloned().unwrap_or_else(|| json!({}));
        let patch = entry.get("patch").cloned().unwrap_or_else(|| json!({}));
        let mut merged = own;
        merge::strategic(&mut merged, &patch);
        if let Some(said) = entry.get("kind").and_then(Value::as_str).filter(|said| said != kind) {
            let what = format!("{said:?} is not what the manifest has: {kind}");
            report(Spot::at(path.key("kind")), what, "leave it out".into());
            return None;
        }
        let map = entry.as_object_mut()?;
        map.insert("kind".to_owned(), json!(kind));
        map.insert("spec".to_owned(), merged.clone());
        map.entry("replicas").or_insert_with(|| json!(replicas(&object)));
        self.entries.insert(index, Entry { file, document, spec, patch, merged, object });
        Some(())
    }

    /// The file of this name, read at most once.
    fn file(
        &mut self,
        named: &str,
        path: &KeyPath,
        read: ReadManifest<'_>,
        report: Report<'_>,
    ) -> Option<usize> {
        if let Some(known) = self.files.iter().position(|file| file.named == named) {
            return Some(known);
        }
        let file = match read(named) {
            Ok(file) => file,
            Err(why) => {
                report(
                    Spot::at(path.clone()),
                    why,
                    "a manifest's path counts from the scenario's file".into(),
                );
                return None;
            }
        };
        let documents = documents(&file, report)?;
        self.files.push(File { named: named.to_owned(), path: file.path, documents });
        Some(self.files.len() - 1)
    }

    /// The document of a file that an entry is about.
    fn choose(&self, file: usize, wanted: Option<&str>, path: &KeyPath, report: Report<'_>) -> Option<usize> {
        let known = |value: &Value| {
            KINDS.iter().any(|(api, kind, _)| value["apiVersion"] == *api && value["kind"] == *kind)
        };
        let name = |value: &Value| {
            let name = value["metadata"]["name"].as_str().unwrap_or("(unnamed)");
            format!("{}/{name}", value["kind"].as_str().unwrap_or_default())
        };
        let all: Vec<(usize, String)> = self.files[file]
            .documents
            .iter()
            .enumerate()
            .filter(|(_, document)| known(&document.value))
            .map(|(index, document)| (index, name(&document.value)))
            .collect();
        let is_wanted = |name: &str| {
            wanted.is_none_or(|wanted| {
                name == wanted || name.split_once('/').is_some_and(|(_, bare)| bare == wanted)
            })
        };
        let chosen: Vec<&(usize, String)> = all.iter().filter(|(_, name)| is_wanted(name)).collect();
        let names: Vec<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
        match (&chosen[..], wanted) {
            ([(index, _)], _) => Some(*index),
            ([], Some(wanted)) => {
                let hint =
                    format!("it has {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
                report(Spot::at(path.key("object")), format!("the manifest has no {wanted}"), hint);
                None
            }
            ([], None) => {
                let what = "has nothing that an entry of pods can be about";
                let hint = "it takes a Pod (v1), a Deployment, a StatefulSet, a DaemonSet (apps/v1) or a Job (batch/v1)";
                report(Spot::at(path.key("manifest")), what.into(), hint.into());
                None
            }
            (several, _) => {
                let what = format!("has several that it could be about: {}", names.join(", "));
                let hint = format!("say which: object: {}", several[0].1);
                report(Spot::at(path.key("manifest")), what, hint);
                None
            }
        }
    }

    /// Whether the documents that no entry is about can be applied as they are.
    fn rest_is_sound(&self, report: Report<'_>) -> bool {
        let mut sound = true;
        for file in &self.files {
            for document in file.documents.iter().filter(|document| !document.taken) {
                let problem = match Object::of(document.value.clone()) {
                    // Everything is put into the trial's own.
                    Some(object) if object.kind == "Namespace" => None,
                    Some(object) => object
                        .beyond_the_trial()
                        .map(|(what, hint)| (KeyPath::default().key("kind"), what, hint.to_owned())),
                    None => {
                        let hint = "every object has apiVersion, kind and metadata.name".to_owned();
                        Some((KeyPath::default(), "is no Kubernetes object".to_owned(), hint))
                    }
                };
                if let Some((path, what, hint)) = problem {
                    sound = false;
                    report(document.spot(file, path, false), what, hint);
                }
            }
        }
        sound
    }

    /// The object that an entry is about.
    pub(super) fn object(&self, entry: usize) -> Option<&Object> {
        self.entries.get(&entry).map(|entry| &entry.object)
    }

    /// Everything that no entry is about.
    pub(super) fn objects(&self) -> Vec<Object> {
        let rest = self.files.iter().flat_map(|file| &file.documents).filter(|document| !document.taken);
        rest.filter_map(|document| Object::of(document.value.clone()))
            .filter(|object| object.kind != "Namespace")
            .collect()
    }

    /// Where something in a pod's spec is written, if that is in a manifest or in the patch of one.
    pub(super) fn spot(&self, path: &KeyPath, at_key: bool) -> Option<Spot> {
        let [Step::Key(pods), Step::Index(index), Step::Key(spec), rest @ ..] = &path.0[..] else {
            return None;
        };
        let entry = self.entries.get(index).filter(|_| pods == "pods" && spec == "spec")?;
        if let Some(steps) = merge::in_patch(&entry.patch, &entry.merged, rest) {
            let mut path = KeyPath::default().key("pods").index(*index).key("patch");
            path.0.extend(steps);
            return Some(Spot::at(path));
        }
        let file = &self.files[entry.file];
        let mut path = entry.spec.clone();
        path.0.extend(rest.iter().cloned());
        Some(file.documents[entry.document].spot(file, path, at_key))
    }
}

impl Document {
    fn spot(&self, file: &File, path: KeyPath, at_key: bool) -> Spot {
        let place =
            if at_key { tree::place_of_key(&self.tree, &path) } else { tree::place_of(&self.tree, &path) };
        let place = place.map(|place| Place { line: place.line + self.before, ..place });
        Spot { file: Some(file.path.clone()), place, path }
    }
}

/// How many pods a controller makes at the beginning.
fn replicas(object: &Object) -> u64 {
    let number = |key: &str| object.value["spec"][key].as_u64();
    match object.kind.as_str() {
        "Job" => number("parallelism").unwrap_or(1).min(number("completions").unwrap_or(u64::MAX)),
        "Deployment" | "StatefulSet" => number("replicas").unwrap_or(1),
        _ => 1,
    }
}

fn value_at<'a>(value: &'a Value, path: &KeyPath) -> Option<&'a Value> {
    path.0.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// The documents of a file. A `---` at the beginning of a line always parts two.
fn documents(file: &ManifestFile, report: Report<'_>) -> Option<Vec<Document>> {
    let mut documents = Vec::new();
    let mut good = true;
    for (before, text) in parts(&file.text) {
        let says_nothing =
            text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if says_nothing {
            continue;
        }
        match tree::parse(&text) {
            Ok(tree) => {
                for (path, place, _) in tree.value.duplicates() {
                    good = false;
                    let place = place.map(|place| Place { line: place.line + before, ..place });
                    let spot = Spot { file: Some(file.path.clone()), place, path };
                    report(spot, "is given twice".into(), "keep one".into());
                }
                let value = tree.value.to_json();
                documents.push(Document { tree, value, before, taken: false });
            }
            Err(malformed) => {
                good = false;
                let place = malformed.place.map(|place| Place { line: place.line + before, ..place });
                let spot = Spot { file: Some(file.path.clone()), place, path: KeyPath::default() };
                report(spot, malformed.what, "mend the manifest".into());
            }
        }
    }
    good.then_some(documents)
}

/// The texts between the marks, each with the number of lines before it.
fn parts(text: &str) -> Vec<(u64, String)> {
    let mut parts = vec![(0, String::new())];
    for (line, text) in (1..).zip(text.lines()) {
        let mark =
            text.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(" #"));
        if mark {
            parts.push((line, String::new()));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(text);
            part.push('\n');
        }
    }
    parts
}

/// A manifest as a run's folder keeps it: without what Secrets hold. Each line keeps its number.
pub fn without_secrets(text: &str) -> String {
    let is_secret = |part: &str| part.lines().any(|line| line.trim_end() == "kind: Secret");
    if !parts(text).iter().any(|(_, part)| is_secret(part)) {
        return text.to_owned();
    }
    let mut kept = String::new();
    for (before, part) in parts(text) {
        if before > 0 {
            kept.push_str("---\n");
        }
        if is_secret(&part) {
            kept.extend(part.lines().map(|_| "# of a Secret\n"));
        } else {
            kept.push_str(&part);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_parted_at_the_marks_and_know_their_lines() {
        let parts = parts("# head\na: 1\n---\nb: |\n  ---\n--- # next\nc: 1\n");
        let expected = [(0, "# head\na: 1\n"), (3, "b: |\n  ---\n"), (6, "c: 1\n")];
        assert_eq!(parts, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn a_kept_manifest_has_no_secrets_and_the_same_lines() {
        let text = "kind: Pod\n---\nkind: Secret\ndata: {a: c2VjcmV0}\n---\nkind: Job\n";
        let kept = without_secrets(text);
        assert!(!kept.contains("c2VjcmV0"));
        assert_eq!(kept.lines().count(), text.lines().count());
        assert_eq!(without_secrets(&kept), kept);
        assert_eq!(without_secrets("kind: Pod\n"), "kind: Pod\n");
    }
}
