//! Objects that a scenario brings along: what they must have, and what would reach beyond the trial.

use serde_json::Value;

use crate::scenario::Object;
use crate::scenario::problem::KeyPath;

use super::Notes;

/// All objects of a document.
pub(super) fn objects(documents: Vec<Value>, notes: &mut Notes) -> Vec<Object> {
    let path = KeyPath::default().key("objects");
    if !documents.is_empty() {
        notes.needs_cluster(&path, "objects are applied through the API");
    }
    let mut objects: Vec<Object> = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let path = path.index(index);
        let Some(object) = Object::of(document) else {
            notes.problem(&path.key("metadata"), "names no object", "say apiVersion, kind and metadata.name");
            continue;
        };
        if object.makes_pods() {
            let hint = "put it under pods, so that the record names its pods";
            notes.problem(&path.key("kind"), format!("{} makes pods", object.kind), hint);
        } else if let Some((what, hint)) = object.beyond_the_trial() {
            notes.problem(&path.key("kind"), what, hint);
        }
        let same = |other: &Object| other.kind == object.kind && other.name == object.name;
        if objects.iter().any(same) {
            notes.problem(
                &path.keys("metadata.name"),
                format!("{object} is there already"),
                "keep one of them",
            );
        }
        objects.push(object);
    }
    objects
}
