//! Writing a value into a document: into the entry itself, or into the patch of its manifest.

use serde_json::{Map, Value};

use super::find::Missing;
use crate::scenario::manifest::merged_by;
use crate::scenario::problem::{KeyPath, Step};

/// Writes a value to a place of the whole document. What a manifest says is changed by its entry's patch.
pub(super) fn write(
    document: &mut Value,
    whole: &Value,
    path: &KeyPath,
    value: Value,
) -> Result<(), Missing> {
    if let [Step::Key(pods), Step::Index(index), Step::Key(spec), rest @ ..] = &path.0[..]
        && (pods.as_str(), spec.as_str()) == ("pods", "spec")
        && let Some(entry) = document.get_mut("pods").and_then(|pods| pods.get_mut(index))
        && entry.get("manifest").is_some()
        && let Some(merged) = whole.get("pods").and_then(|pods| pods.get(index)?.get("spec"))
    {
        let patch = inside(entry, "patch");
        return in_patch(patch, merged, rest, value).ok_or_else(|| Missing {
            at: path.clone(),
            what: "is in a list of a manifest that a patch replaces as a whole".to_owned(),
            hint: "set the whole list: PATH=[a, b]".to_owned(),
        });
    }
    at(document, &path.0, value);
    Ok(())
}

/// Writes a value, and the mappings around it that are not there yet.
pub(super) fn at(document: &mut Value, steps: &[Step], value: Value) {
    let mut here = document;
    for step in steps {
        here = match step {
            Step::Key(key) => inside(here, key),
            Step::Index(index) => match here.get_mut(index) {
                Some(item) => item,
                None => return,
            },
        };
    }
    *here = value;
}

/// The value at a key of what is a mapping from now on.
fn inside<'a>(map: &'a mut Value, key: &str) -> &'a mut Value {
    if !map.is_object() {
        *map = Value::Object(Map::new());
    }
    &mut map[key]
}

/// Writes into a patch what a strategic merge brings to that place of what was merged.
fn in_patch(patch: &mut Value, merged: &Value, steps: &[Step], value: Value) -> Option<()> {
    let (mut here, mut merged, mut by) = (patch, merged, None);
    for step in steps {
        match step {
            Step::Key(key) => {
                by = merged_by(key);
                here = inside(here, key);
                merged = merged.get(key).unwrap_or(&Value::Null);
            }
            Step::Index(index) => {
                merged = merged.get(index)?;
                let by = by?;
                here = element(here, by, merged.get(by)?)?;
            }
        }
    }
    *here = value;
    Some(())
}

/// The element of a patch's list that is told apart by this, made if it is not there.
fn element<'a>(list: &'a mut Value, by: &str, is: &Value) -> Option<&'a mut Value> {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let items = list.as_array_mut()?;
    let known = items.iter().position(|item| item.get(by) == Some(is));
    let place = known.unwrap_or_else(|| {
        items.push(Value::Object(Map::from_iter([(by.to_owned(), is.clone())])));
        items.len() - 1
    });
    items.get_mut(place)
}
