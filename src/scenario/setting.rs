//! `--set PATH=VALUE`: a field of a scenario, reached by names, gets another value before the scenario is validated.
//!
//! The result is an ordinary scenario, with a text and a hash of its own, that can be run again without any of this.

mod find;
mod write;

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::manifest::{Manifests, ReadManifest};
use super::problem::{KeyPath, Step};
use super::read::{Report, Spot};
use super::{quantity, structure, tree};

/// A way to a field by names: `pods.web.containers.app.resources.limits.memory`. An element of a list is reached by what it is
/// called, or by its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath {
    steps: Vec<String>,
}

/// A field, and the value that it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Which.
    pub path: FieldPath,
    /// As it would be written in the scenario's YAML.
    pub value: String,
}

/// What part of a limit the request of the same resource is to be, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u16);

/// Everything that is changed in a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// In this order.
    pub list: Vec<Setting>,
    /// Where one of them sets a container's limit, its request follows.
    pub requests_ratio: Option<Ratio>,
}

impl Settings {
    /// These, more of them, and the name that the scenario then has.
    #[must_use]
    pub fn and(&self, more: &[Setting], name: &str) -> Self {
        let steps = ["metadata", "name"].map(str::to_owned).to_vec();
        let name = Setting { path: FieldPath { steps }, value: name.to_owned() };
        let list = self.list.iter().chain(more).cloned().chain([name]).collect();
        Self { list, requests_ratio: self.requests_ratio }
    }
}

impl FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("{text:?} {why}; write for example pods.web.containers.app.resources.limits.memory")
        };
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let step = if let Some(quoted) = rest.strip_prefix("[\"") {
                let (key, after) =
                    quoted.split_once("\"]").ok_or_else(|| wrong("has a [\" without its \"]"))?;
                rest = after;
                key
            } else if let Some(numbered) = rest.strip_prefix('[') {
                let (key, after) = numbered.split_once(']').ok_or_else(|| wrong("has a [ without its ]"))?;
                rest = after;
                key
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let (key, after) = rest.split_at(end);
                rest = after;
                key
            };
            if step.is_empty() {
                return Err(wrong("is no path"));
            }
            steps.push(step.to_owned());
            if rest.is_empty() {
                return Ok(Self { steps });
            }
            if let Some(after) = rest.strip_prefix('.') {
                rest = after;
            } else if !rest.starts_with('[') {
                return Err(wrong("goes on after a ] without a dot"));
            }
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.steps.iter().enumerate() {
            match (place, step.contains(['.', '['])) {
                (_, true) => write!(f, "[\"{step}\"]")?,
                (0, false) => f.write_str(step)?,
                (_, false) => write!(f, ".{step}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) =
            text.split_once('=').ok_or_else(|| format!("{text:?} says no value; write PATH=VALUE"))?;
        Ok(Self { path: path.parse()?, value: value.to_owned() })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let thousandths = quantity::parse(text).filter(|parsed| !parsed.has_unit);
        let thousandths = thousandths.and_then(|parsed| u16::try_from(parsed.milli).ok());
        match thousandths {
            Some(thousandths @ 1..=1000) => Ok(Self(thousandths)),
            Some(_) | None => {
                Err(format!("{text:?} is no part of a limit; write a number above 0 and at most 1: 0.5"))
            }
        }
    }
}

impl Ratio {
    /// So much of a quantity, rounded down; nothing of what is none.
    fn of(self, limit: &Value, resource: &str) -> Option<String> {
        let text = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
        let milli = quantity::parse(&text)?.milli * i128::from(self.0) / 1000;
        let whole = milli / 1000;
        Some(match resource {
            "cpu" => format!("{milli}m"),
            _ if whole > 0 && whole % (1 << 20) == 0 => format!("{}Mi", whole >> 20),
            _ if whole > 0 && whole % (1 << 10) == 0 => format!("{}Ki", whole >> 10),
            _ => whole.to_string(),
        })
    }
}

/// A setting that was written, and where.
pub(super) type Written<'a> = (KeyPath, &'a Setting);

/// Writes the settings into a document; `None` where one could not be, and was reported.
pub(super) fn apply<'a>(
    document: &mut Value,
    settings: &'a Settings,
    manifest: ReadManifest<'_>,
    report: Report<'_>,
) -> Option<Vec<Written<'a>>> {
    let (mut good, mut written) = (true, Vec::new());
    for setting in &settings.list {
        // What there is to be reached is what the manifests and the patches together say.
        let mut whole = document.clone();
        Manifests::merge(&mut whole, &mut *manifest, &mut *report)?;
        let found = find::find(&whole, &setting.path.steps);
        let set = found.and_then(|path| {
            let value = typed(&whole, &path, &setting.value);
            if let Some((request, value)) =
                settings.requests_ratio.and_then(|ratio| request(&path, &value, ratio))
            {
                write::write(document, &whole, &request, value)?;
            }
            write::write(document, &whole, &path, value).map(|()| path)
        });
        match set {
            Ok(path) => written.push((path, setting)),
            Err(find::Missing { at, what, hint }) => {
                good = false;
                report(Spot::at(at), format!("--set {}: {what}", setting.path), hint);
            }
        }
    }
    good.then_some(written)
}

/// A value as the field's type has it: a number where a text is wanted is meant as a text.
fn typed(whole: &Value, path: &KeyPath, text: &str) -> Value {
    let literal = || Value::from(text);
    let value = tree::parse(text).map_or_else(|_| literal(), |tree| tree.value.to_json());
    let fits = |value: &Value| {
        let mut changed = whole.clone();
        write::at(&mut changed, &path.0, value.clone());
        !structure::flaws(&changed).iter().any(|flaw| flaw.path == *path)
    };
    if value.is_string() || fits(&value) || !fits(&literal()) { value } else { literal() }
}

/// Where the request is that goes with a limit, and what it is to be.
fn request(path: &KeyPath, limit: &Value, ratio: Ratio) -> Option<(KeyPath, Value)> {
    let [before @ .., Step::Key(resources), Step::Key(limits), Step::Key(resource)] = &path.0[..] else {
        return None;
    };
    let is_limit = resources == "resources" && limits == "limits";
    let value = ratio.of(limit, resource).filter(|_| is_limit)?;
    let request = KeyPath(before.to_vec()).key("resources").key("requests").key(resource);
    Some((request, value.into()))
}

/// The text of a document that was changed.
pub(super) fn text(document: &Value, file: &str, settings: &Settings) -> String {
    let said: Vec<String> = settings.list.iter().map(|setting| format!("--set {setting}")).collect();
    let file = file.rsplit('/').next().unwrap_or(file);
    let head: String =
        format!("{file} with {}", said.join(" ")).chars().filter(|c| !c.is_control()).collect();
    // What was read as YAML can be written as YAML; should it not be, JSON is YAML too.
    let body = serde_saphyr::to_string(document).unwrap_or_else(|_| document.to_string());
    format!("# {head}\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_by_its_dots_and_brackets_and_written_alike() {
        for (text, steps) in [
            ("pods.web.replicas", vec!["pods", "web", "replicas"]),
            ("actions[0].at", vec!["actions", "0", "at"]),
            ("objects.a.metadata.labels[\"a.b/c\"]", vec!["objects", "a", "metadata", "labels", "a.b/c"]),
        ] {
            let path: FieldPath = text.parse().unwrap();
            assert_eq!(path.steps, steps);
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        for text in ["", ".", "a..b", "a.", "a[0", "a[\"b]", "a[]", "a[0]b"] {
            assert!(text.parse::<FieldPath>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_is_its_part_of_the_limit() {
        let half: Ratio = "0.5".parse().unwrap();
        let of = |limit: &str, resource: &str| half.of(&Value::from(limit), resource);
        assert_eq!(of("64Mi", "memory").as_deref(), Some("32Mi"));
        assert_eq!(of("1Mi", "memory").as_deref(), Some("512Ki"));
        assert_eq!(of("1000001", "memory").as_deref(), Some("500000"));
        assert_eq!(of("1", "cpu").as_deref(), Some("500m"));
        assert_eq!(of("lots", "memory"), None);
        for text in ["0", "1.1", "-1", "half", "500m", ""] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }
}
