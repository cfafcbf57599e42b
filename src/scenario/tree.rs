//! YAML as a tree that knows where each of its keys and values is written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Location, Spanned};

use super::problem::{KeyPath, Place, Step, shorten};

/// A node of the document.
#[derive(Debug)]
pub(super) enum Tree {
    /// `null`, `true`, `1` or `text`.
    Scalar(Value),
    /// A sequence.
    List(Vec<Spanned<Tree>>),
    /// A mapping, duplicate keys included.
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

/// A problem of the YAML itself.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) place: Option<Place>,
    pub(super) what: String,
    pub(super) hint: &'static str,
}

/// Reads one document. What it may take is bounded by its text: there are no aliases to multiply it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's enum is open: most of its errors are just bad YAML"
)]
pub(super) fn parse(text: &str) -> Result<Spanned<Tree>, Malformed> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_depth: 48,
            max_nodes: 20_000,
            max_events: 100_000,
            max_documents: 1,
        },
        // Every one of them is reported, with its place.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
    };
    let tree: Spanned<Tree> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        use serde_saphyr::Error as Yaml;
        let error = error.without_snippet();
        let hint = match error {
            Yaml::Budget { .. } => {
                "a scenario is one document of at most 20000 nodes, 48 levels deep, without anchors and aliases"
            }
            Yaml::MergeKeyNotAllowed { .. } => "write the keys out; a scenario has no aliases",
            Yaml::MultipleDocuments { .. } => "one file holds one scenario; move the others to files of their own",
            Yaml::Eof { .. } => EMPTY,
            _ => "this is not valid YAML; mind the indentation and quote text that holds `: ` or ` #`",
        };
        let (what, hint) = match (&error, error.to_string()) {
            (Yaml::Budget { .. }, text) if text.contains("Documents") => {
                ("holds more than one document".to_owned(), "one file holds one scenario; move the others to files of their own")
            }
            (Yaml::Budget { .. }, text) if text.contains("nchors") || text.contains("liases") => {
                ("has an anchor or an alias".to_owned(), "write out what it stands for")
            }
            (Yaml::Budget { .. }, _) => ("is too large for a scenario".to_owned(), hint),
            (_, text) if text.contains("tab") => (shown(&text), "indent with spaces; YAML allows no tabs there"),
            (_, text) => (shown(&text), hint),
        };
        Malformed { place: error.location().and_then(place), what, hint }
    })?;
    if matches!(tree.value, Tree::Scalar(Value::Null)) {
        let what = "the file says nothing".to_owned();
        return Err(Malformed { place: place(tree.referenced), what, hint: EMPTY });
    }
    Ok(tree)
}

const EMPTY: &str = "begin with `apiVersion: exit137/v1`; `exit137 schema scenario` has the rest";

/// The first line, in a length to be shown.
fn shown(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

fn place(location: Location) -> Option<Place> {
    (location != Location::UNKNOWN).then(|| Place { line: location.line(), column: location.column() })
}

impl Tree {
    /// As JSON; of duplicate keys the first counts.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    map.entry(key.value.clone()).or_insert_with(|| value.value.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// Every key that its mapping has already: its path, its place, and the place of the first one.
    pub(super) fn duplicates(&self) -> Vec<(KeyPath, Option<Place>, Option<Place>)> {
        let mut found = Vec::new();
        self.find_duplicates(&KeyPath::default(), &mut found);
        found
    }

    fn find_duplicates(&self, path: &KeyPath, found: &mut Vec<(KeyPath, Option<Place>, Option<Place>)>) {
        match self {
            Self::Scalar(_) => {}
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.value.find_duplicates(&path.index(index), found);
                }
            }
            Self::Map(entries) => {
                let mut first = std::collections::HashMap::new();
                for (key, value) in entries {
                    let path = path.key(&key.value);
                    match first.entry(key.value.as_str()) {
                        std::collections::hash_map::Entry::Occupied(earlier) => {
                            found.push((path.clone(), place(key.referenced), place(*earlier.get())));
                        }
                        std::collections::hash_map::Entry::Vacant(vacant) => {
                            vacant.insert(key.referenced);
                        }
                    }
                    value.value.find_duplicates(&path, found);
                }
            }
        }
    }
}

/// Where the value at `path` is written; of what is not there, the nearest thing around it that is.
///
/// A mapping or sequence is pointed at by its key: that is where a reader looks for what is missing in it.
pub(super) fn place_of(root: &Spanned<Tree>, path: &KeyPath) -> Option<Place> {
    walk(root, path).1
}

/// Where the last key of `path` is written.
pub(super) fn place_of_key(root: &Spanned<Tree>, path: &KeyPath) -> Option<Place> {
    walk(root, path).0
}

fn walk(root: &Spanned<Tree>, path: &KeyPath) -> (Option<Place>, Option<Place>) {
    let mut node = root;
    let mut key_place = place(root.referenced);
    let mut value_place = key_place;
    for step in &path.0 {
        let next = match (step, &node.value) {
            (Step::Key(wanted), Tree::Map(entries)) => entries
                .iter()
                .find(|(key, _)| key.value == *wanted)
                .map(|(key, value)| (key.referenced, value)),
            (Step::Index(index), Tree::List(items)) => items.get(*index).map(|item| (item.referenced, item)),
            (Step::Key(_) | Step::Index(_), Tree::Scalar(_) | Tree::List(_) | Tree::Map(_)) => None,
        };
        let Some((key, value)) = next else { break };
        key_place = place(key).or(key_place);
        value_place = match &value.value {
            Tree::Scalar(Value::Null) | Tree::List(_) | Tree::Map(_) => key_place,
            Tree::Scalar(_) => place(value.referenced).or(key_place),
        };
        node = value;
    }
    (key_place, value_place)
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value)
            .ok_or_else(|| E::custom("infinite and undefined numbers mean nothing here"))?;
        Ok(Tree::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::Scalar(text.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Tree>>()? {
            if key.value.chars().any(char::is_control) {
                let key = shorten(&key.value);
                return Err(A::Error::custom(format!("the key {key:?} holds a control character")));
            }
            entries.push((key, value));
        }
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, path: &KeyPath) -> (u64, u64) {
        let place = place_of(&parse(text).unwrap(), path).unwrap();
        (place.line, place.column)
    }

    #[test]
    fn every_key_and_value_knows_where_it_is_written() {
        let text = "a: 1\nb:\n- {c: x}\n- d:\n    e: 2\n";
        let root = KeyPath::default();
        assert_eq!(at(text, &root.key("a")), (1, 4));
        assert_eq!(at(text, &root.key("b")), (2, 1));
        assert_eq!(at(text, &root.key("b").index(0).key("c")), (3, 7));
        assert_eq!(at(text, &root.key("b").index(1).key("d").key("e")), (5, 8));
        assert_eq!(at(text, &root.key("b").index(1).key("d").key("missing")), (4, 3));
    }

    #[test]
    fn duplicate_keys_are_found_all_at_once() {
        let tree = parse("a: 1\na: 2\nb: {c: 1, c: 2}\n").unwrap();
        let paths: Vec<String> = tree.value.duplicates().iter().map(|(path, ..)| path.to_string()).collect();
        assert_eq!(paths, ["a", "b.c"]);
        assert_eq!(tree.value.to_json()["a"], 1);
    }

    #[test]
    fn aliases_a_second_document_and_deep_nesting_are_refused() {
        for (text, said) in [
            ("a: &x 1\nb: *x\n", "anchor"),
            ("a: 1\n---\nb: 2\n", "document"),
            (&"[".repeat(200), ""),
            ("a: {<<: {b: 1}}", "merge"),
            ("", ""),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.what.to_lowercase().contains(said), "{text}: {problem:?}");
        }
    }

    #[test]
    fn words_that_older_yaml_took_for_booleans_stay_words() {
        assert_eq!(parse("on: yes").unwrap().value.to_json(), serde_json::json!({"on": "yes"}));
    }
}
