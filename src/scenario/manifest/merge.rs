//! Kubernetes' strategic merge, as far as pods' specs need it: lists of named things are merged by their names.

use serde_json::{Map, Value};

use crate::scenario::problem::Step;

/// By which key the elements of a list are told apart (`patchMergeKey` in api/core/v1/types.go); other lists are replaced whole.
const MERGED_BY: [(&str, &str); 8] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("hostAliases", "ip"),
];

/// The key that tells a list's elements apart; `None` where a patch replaces the list.
pub(in crate::scenario) fn merged_by(list: &str) -> Option<&'static str> {
    MERGED_BY.iter().find(|(name, _)| *name == list).map(|(_, key)| *key)
}

/// Puts what `patch` says into `into`; `null` takes away.
pub(super) fn strategic(into: &mut Value, patch: &Value) {
    let (Some(into), Some(patch)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            into.shift_remove(key);
        } else if let (Some(by), Some(items)) = (merged_by(key), value.as_array()) {
            list(into, key, by, items);
        } else if value.is_object() {
            strategic(into.entry(key).or_insert_with(|| Value::Object(Map::new())), value);
        } else {
            into.insert(key.clone(), value.clone());
        }
    }
}

fn list(into: &mut Map<String, Value>, key: &str, by: &str, items: &[Value]) {
    let list = into.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    let Some(list) = list.as_array_mut() else { return };
    for item in items {
        match list.iter_mut().find(|known| item.get(by).is_some() && known.get(by) == item.get(by)) {
            Some(known) => strategic(known, item),
            None => list.push(item.clone()),
        }
    }
}

/// The way to what lies at `steps` in what was merged, in the patch; `None` if the patch does not say it.
pub(super) fn in_patch(patch: &Value, merged: &Value, steps: &[Step]) -> Option<Vec<Step>> {
    let mut way = Vec::new();
    let (mut patch, mut merged, mut list) = (patch, merged, None);
    for step in steps {
        let index = match step {
            Step::Key(key) => {
                list = merged_by(key);
                (patch, merged) = (patch.get(key)?, merged.get(key).unwrap_or(&Value::Null));
                way.push(step.clone());
                continue;
            }
            Step::Index(index) => *index,
        };
        let item = merged.get(index)?;
        let place = match list {
            Some(by) => patch.as_array()?.iter().position(|own| own.get(by) == item.get(by))?,
            None => index,
        };
        (patch, merged) = (patch.get(place)?, item);
        way.push(Step::Index(place));
    }
    Some(way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_named_container_is_patched_and_the_rest_stays() {
        let mut spec = json!({"containers": [
            {"name": "proxy", "image": "p"},
            {"name": "app", "image": "a", "env": [{"name": "A", "value": "1"}], "args": ["x", "y"]},
        ], "nodeSelector": {"a": "b"}});
        let patch = json!({"nodeSelector": null, "containers": [{"name": "app", "args": ["z"],
            "resources": {"limits": {"memory": "9Mi"}}, "env": [{"name": "B", "value": "2"}]}]});
        strategic(&mut spec, &patch);
        assert_eq!(
            spec,
            json!({"containers": [
                {"name": "proxy", "image": "p"},
                {"name": "app", "image": "a", "args": ["z"], "resources": {"limits": {"memory": "9Mi"}},
                 "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            ]})
        );
        let steps = |last: &str| [Step::Key("containers".into()), Step::Index(1), Step::Key(last.into())];
        let way = in_patch(&patch, &spec, &steps("resources")).unwrap();
        assert_eq!(way[1], Step::Index(0));
        assert_eq!(in_patch(&patch, &spec, &steps("image")), None);
    }
}
