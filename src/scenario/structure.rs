//! What of a document's structure is wrong, all of it at once, in words.

pub(super) mod slip;

use std::sync::LazyLock;

use exit137_workload::{Bytes, Rate, Span};
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::LocationSegment;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::problem::{KeyPath, Step, nearest, shorten};
use super::schema::schema;

/// A structural problem. It is shown at the value, or at its key where the key itself is wrong.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) path: KeyPath,
    pub(super) at_key: bool,
    pub(super) what: String,
    pub(super) hint: String,
    /// What was surely meant instead, where that can be told.
    pub(super) meant: Option<String>,
}

struct Checker {
    schema: Value,
    validator: Option<Validator>,
}

static CHECKER: LazyLock<Checker> = LazyLock::new(|| {
    let schema = schema();
    let validator = jsonschema::options().build(&schema).ok();
    Checker { schema, validator }
});

/// Everything that the schema says against `document`.
pub(super) fn flaws(document: &Value) -> Vec<Flaw> {
    let Some(validator) = &CHECKER.validator else {
        // A test holds that the schema compiles.
        return Vec::new();
    };
    let mut flaws = Vec::new();
    for error in validator.iter_errors(document) {
        describe(&error, &mut flaws);
    }
    one_for_each_mistake(&mut flaws);
    flaws
}

/// A value of the wrong type is none of the known ones either; of the two, the one that says what to write is kept.
fn one_for_each_mistake(flaws: &mut Vec<Flaw>) {
    let mut kept: Vec<Flaw> = Vec::new();
    for flaw in flaws.drain(..) {
        match kept.iter_mut().find(|other| !flaw.at_key && !other.at_key && other.path == flaw.path) {
            Some(other) if other.hint.is_empty() => *other = flaw,
            Some(_) => {}
            None => kept.push(flaw),
        }
    }
    *flaws = kept;
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's enum has kinds that our schema never asks for"
)]
fn describe(error: &ValidationError<'_>, flaws: &mut Vec<Flaw>) {
    let path = path_of(error);
    let around = schema_around(error);
    let instance = error.instance();
    let mut say = |path: KeyPath, at_key: bool, what: String, hint: String| {
        flaws.push(Flaw { path, at_key, what, hint, meant: meant(around, instance) });
    };
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let known: Vec<&str> = properties(around);
            for key in unexpected {
                let hint = match nearest(key, known.iter().copied()) {
                    Some(meant) => format!("did you mean {meant}?"),
                    None if known.len() <= 15 => format!("known here: {}", known.join(", ")),
                    None => "remove it; Kubernetes knows no such key here".to_owned(),
                };
                say(path.key(key), true, "unknown key".to_owned(), hint);
            }
        }
        Kind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let said = around.pointer(&format!("/properties/{key}")).map(resolve);
            let said = said.and_then(|schema| schema["description"].as_str()).unwrap_or("it must be given");
            say(path, true, format!("{key} is missing"), format!("add {key}: {}", lower_first(said)));
        }
        Kind::Type { kind } => {
            let unit = unit_hint(around, instance);
            let what = if unit.is_some() && instance.is_number() {
                format!("{} lacks its unit", shown(instance))
            } else {
                format!("is {}, and must be {}", shown(instance), wanted(kind))
            };
            say(path, false, what, unit.or_else(|| shape_hint(kind, instance)).unwrap_or_default());
        }
        Kind::Pattern { .. } => {
            let (what, hint) = match unit_hint(around, instance) {
                Some(hint) => (format!("{} lacks its unit or is none", shown(instance)), hint),
                None => pattern(&path, around, instance),
            };
            say(path, false, what, hint);
        }
        Kind::MinProperties { .. } | Kind::MaxProperties { .. } => {
            let known = properties(around).join(", ");
            let what = if instance.as_object().is_some_and(serde_json::Map::is_empty) {
                "says nothing"
            } else {
                "says more than one thing"
            };
            say(path, true, what.to_owned(), format!("say exactly one of {known}"));
        }
        Kind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            let (what, hint) = one_of(instance, options);
            say(path, false, what, hint);
        }
        Kind::Constant { expected_value } => {
            let (what, hint) = one_of(instance, std::slice::from_ref(expected_value));
            say(path, false, what, hint);
        }
        Kind::OneOfNotValid { context } | Kind::AnyOf { context } => {
            let options: Vec<Value> = context.iter().flatten().flat_map(options).collect();
            let (what, hint) = one_of(instance, &options);
            say(path, false, what, hint);
        }
        Kind::Minimum { limit } => {
            say(
                path,
                false,
                format!("is {}, less than {limit}", shown(instance)),
                format!("say at least {limit}"),
            );
        }
        Kind::Maximum { limit } => {
            say(
                path,
                false,
                format!("is {}, more than {limit}", shown(instance)),
                format!("say at most {limit}"),
            );
        }
        Kind::MinItems { limit } => {
            say(path, true, "is empty".to_owned(), format!("give at least {limit}"));
        }
        Kind::MaxLength { limit } => {
            say(
                path,
                false,
                format!("is longer than {limit} characters"),
                "choose something shorter".to_owned(),
            );
        }
        // What else a schema can say, ours does not; should it come to, the library's words do.
        _ => say(path, false, error.to_string().chars().take(200).collect(), String::new()),
    }
}

fn options(error: &ValidationError<'_>) -> Vec<Value> {
    if let Kind::Constant { expected_value } = error.kind() {
        return vec![(**expected_value).clone()];
    }
    if let Kind::Enum { options } = error.kind() {
        return options.as_array().cloned().unwrap_or_default();
    }
    Vec::new()
}

fn one_of(instance: &Value, options: &[Value]) -> (String, String) {
    let words: Vec<String> = options
        .iter()
        .map(|option| option.as_str().map_or_else(|| option.to_string(), str::to_owned))
        .collect();
    let meant = slip::signal(instance, &words)
        .or_else(|| instance.as_str().and_then(|word| nearest(word, words.iter().map(String::as_str))));
    let oom_killed = instance
        .as_str()
        .is_some_and(|word| ["oomkilled", "oom", "oom-killed"].contains(&word.to_lowercase().as_str()));
    let unquoted = instance.is_number() && words.contains(&instance.to_string());
    let hint = match (meant, &words[..]) {
        _ if unquoted => format!("write it in quotes: \"{instance}\""),
        (_, causes) if oom_killed && causes.iter().any(|word| word == "container-oom") => {
            "Kubernetes' OOMKilled can be container-oom, pod-oom, node-oom, child-oom, start-oom or resize-oom".to_owned()
        }
        (Some(meant), _) => format!("did you mean {meant}?"),
        (None, []) => String::new(),
        (None, [only]) if only == "true" => "say true, or leave it out".to_owned(),
        (None, [only]) => format!("say {only}"),
        (None, several) => format!("say one of {}", several.join(", ")),
    };
    (format!("{} is not known here", shown(instance)), hint)
}

/// For a text in a shape of its own: what shape.
fn pattern(path: &KeyPath, around: &Value, instance: &Value) -> (String, String) {
    let is_name = matches!(path.0.last(), Some(Step::Key(key)) if key == "name");
    let hint = if is_name {
        "a name has lower-case letters, digits and hyphens, and begins and ends with a letter or a digit"
            .to_owned()
    } else {
        let words = around["pattern"].as_str().unwrap_or_default();
        let words: String = words.trim_matches(['^', '$', '(', ')']).replace('|', ", ");
        format!("say one of {}", words.replace("[^/ ]+", "NAME"))
    };
    (format!("{} is not known here", shown(instance)), hint)
}

/// For a size, rate or time: what is wrong with it, by the parser that reads it.
fn unit_hint(around: &Value, instance: &Value) -> Option<String> {
    let example = around["examples"].get(0)?.as_str()?;
    let text = instance.as_str().map_or_else(|| instance.to_string(), str::to_owned);
    let text = shorten(&text);
    let (problem, meant) = match example {
        "64Mi" => (text.parse::<Bytes>().err(), slip::size(&text)),
        "8Mi/s" => (text.parse::<Rate>().err(), slip::rate(&text)),
        "250ms" => (text.parse::<Span>().err(), slip::time(&text)),
        _ => return None,
    };
    if let Some(meant) = meant {
        return Some(format!("did you mean {meant}?"));
    }
    let hint =
        problem.as_deref().and_then(|problem| problem.split_once("; ")).map(|(_, hint)| hint.to_owned());
    Some(hint.unwrap_or_else(|| format!("write for example {example}")))
}

/// How the same is written in the shape that is wanted.
fn shape_hint(kind: &TypeKind, instance: &Value) -> Option<String> {
    let wants = wanted(kind);
    let text = shorten(instance.as_str()?);
    match wants.as_str() {
        "a list" => {
            Some(format!("write it as a list: [{}]", text.split_whitespace().collect::<Vec<_>>().join(", ")))
        }
        "a mapping" if text.contains('/') => Some(format!("write it as a mapping: {{container: {text}}}")),
        "a mapping" => {
            Some(format!("write it as a mapping: {{{text}: …}}; `exit137 schema scenario` says with what"))
        }
        _ => None,
    }
}

/// A number that lacks only its unit.
fn meant(around: &Value, instance: &Value) -> Option<String> {
    let text = instance.as_str().map_or_else(|| instance.to_string(), str::to_owned);
    let number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    let unit = match around["examples"].get(0)?.as_str()? {
        "64Mi" => "Mi",
        "8Mi/s" => "Mi/s",
        "250ms" => "s",
        _ => return None,
    };
    number.then(|| text + unit)
}

fn properties(schema: &Value) -> Vec<&str> {
    schema["properties"].as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// The schema whose keyword was not met.
fn schema_around(error: &ValidationError<'_>) -> &'static Value {
    let pointer = error.schema_path().as_str();
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    CHECKER.schema.pointer(parent).map_or(&Value::Null, resolve)
}

fn resolve(schema: &'static Value) -> &'static Value {
    if schema.get("description").is_some() {
        return schema;
    }
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    target.and_then(|target| CHECKER.schema.pointer(target)).unwrap_or(schema)
}

fn path_of(error: &ValidationError<'_>) -> KeyPath {
    let step = |segment: LocationSegment<'_>| match segment {
        LocationSegment::Property(key) => Step::Key(key.into_owned()),
        LocationSegment::Index(index) => Step::Index(index),
    };
    KeyPath(error.instance_path().segments().map(step).collect())
}

fn wanted(kind: &TypeKind) -> String {
    let words = match kind {
        TypeKind::Single(kind) => vec![kind.to_string()],
        TypeKind::Multiple(kinds) => kinds.iter().map(|kind| kind.to_string()).collect(),
    };
    let words: Vec<&str> = words
        .iter()
        .map(|word| match word.as_str() {
            "array" => "a list",
            "object" => "a mapping",
            "string" => "a text",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "true or false",
            other => other,
        })
        .collect();
    words.join(" or ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("{:?}", shorten(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_compiles() {
        assert!(CHECKER.validator.is_some(), "{:?}", jsonschema::options().build(&schema()).err());
    }
}
