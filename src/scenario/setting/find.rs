//! From a path of names to the place in a document.

use serde_json::Value;

use crate::scenario::problem::{KeyPath, Step, nearest, shorten};

/// Something that a path leads to and that is not there.
#[derive(Debug)]
pub(super) struct Missing {
    /// The last place that is there.
    pub(super) at: KeyPath,
    pub(super) what: String,
    pub(super) hint: String,
}

/// What an entry of `pods` says itself; everything else that is asked of a pod is in its spec.
const OF_AN_ENTRY: [&str; 8] =
    ["name", "kind", "replicas", "controller", "spec", "manifest", "object", "patch"];

/// Lists whose elements are called by names: where one is missing, nothing can be set in it.
const NAMED_LISTS: [&str; 8] =
    ["pods", "containers", "initContainers", "volumes", "env", "actions", "objects", "traffic"];

/// The place that a path of names leads to. The keys at its end need not be there yet: whether they may, validation says.
pub(super) fn find(whole: &Value, steps: &[String]) -> Result<KeyPath, Missing> {
    let mut path = KeyPath::default();
    let mut here = Some(whole);
    let mut pod = None;
    for (index, step) in steps.iter().enumerate() {
        if matches!(&path.0[..], [Step::Key(pods), Step::Index(_)] if pods == "pods") {
            pod = here.and_then(name_of);
            // A slip of the pen for one of its own keys is better told as one.
            if nearest(step, OF_AN_ENTRY).is_none() {
                path = path.key("spec");
                here = here.and_then(|entry| entry.get("spec"));
            }
        }
        match here {
            Some(Value::Array(items)) => {
                let Some(found) = element(items, step) else {
                    return Err(no_element(path, items, step, pod));
                };
                path = path.index(found);
                here = items.get(found);
            }
            Some(Value::Object(_) | Value::Null) | None => {
                let inside = here.and_then(|map| map.get(step)).filter(|value| !value.is_null());
                let more = index + 1 < steps.len();
                if inside.is_none() && more && NAMED_LISTS.contains(&step.as_str()) {
                    return Err(no_element(path.key(step), &[], &steps[index + 1], pod));
                }
                path = path.key(step);
                here = inside;
            }
            Some(scalar @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => {
                let what = format!("{path} is {}, and has nothing inside", shorten(&scalar.to_string()));
                return Err(Missing { at: path, what, hint: "end the path there".to_owned() });
            }
        }
    }
    Ok(path)
}

/// What an element of a list is called.
fn name_of(element: &Value) -> Option<&str> {
    let own = ["name", "container", "of"].iter().find_map(|key| element.get(key)?.as_str());
    own.or_else(|| element.get("metadata")?.get("name")?.as_str())
}

fn element(items: &[Value], step: &str) -> Option<usize> {
    let named = items.iter().position(|item| name_of(item) == Some(step));
    named.or_else(|| step.parse().ok().filter(|index| *index < items.len()))
}

fn no_element(list: KeyPath, items: &[Value], step: &str, pod: Option<&str>) -> Missing {
    let one = match list.0.last() {
        Some(Step::Key(key)) => singular(key),
        Some(Step::Index(_)) | None => "element",
    };
    let around = pod.map_or_else(String::new, |pod| format!(" in pod {}", shorten(pod)));
    let names: Vec<&str> = items.iter().filter_map(name_of).collect();
    let there = match (&names[..], items.len()) {
        ([], 0) => "there is none".to_owned(),
        ([], 1) => "there is one, which is called 0".to_owned(),
        ([], count) => format!("there are {count}, which are called 0 to {}", count - 1),
        ([only], _) => format!("there is {}", shorten(only)),
        (several, _) => format!("there are {}", shorten(&several.join(", "))),
    };
    let hint = match nearest(step, names.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "an element of a list is reached by its name, or by its number".to_owned(),
    };
    let what = format!("no {one} {}{around}; {there}", shorten(step));
    Missing { at: list, what, hint }
}

fn singular(list: &str) -> &str {
    match list {
        "initContainers" => "init container",
        "env" => "variable",
        "traffic" => "traffic",
        other => other.strip_suffix('s').unwrap_or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "pods": [
                {"name": "web", "spec": {"containers": [{"name": "app", "args": ["a", "b"]}, {"name": "log"}]}},
                {"name": "db", "spec": {"initContainers": [{"name": "prepare"}], "containers": [{"name": "app"}]}},
            ],
            "traffic": [{"name": "main", "stages": [{"target": 1}, {"target": 2}]}],
            "actions": [{"at": "1s"}],
            "expect": {"terminations": [{"container": "web/app"}]},
            "observe": {"for": "1s"},
        })
    }

    fn found(path: &str) -> Result<String, String> {
        let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
        find(&document(), &steps).map(|path| path.to_string()).map_err(|missing| missing.what)
    }

    #[test]
    fn elements_are_reached_by_name_or_number_and_a_pods_spec_need_not_be_said() {
        for (path, place) in [
            (
                "pods.web.containers.app.resources.limits.memory",
                "pods[0].spec.containers[0].resources.limits.memory",
            ),
            ("pods.web.spec.containers.log.image", "pods[0].spec.containers[1].image"),
            ("pods.db.initContainers.prepare.image", "pods[1].spec.initContainers[0].image"),
            ("pods.1.replicas", "pods[1].replicas"),
            ("pods.web.terminationGracePeriodSeconds", "pods[0].spec.terminationGracePeriodSeconds"),
            ("pods.web.containers.app.args.1", "pods[0].spec.containers[0].args[1]"),
            ("traffic.main.rate", "traffic[0].rate"),
            ("traffic.main.stages.1.target", "traffic[0].stages[1].target"),
            ("actions.0.at", "actions[0].at"),
            ("expect.terminations.web/app.times", "expect.terminations[0].times"),
            ("node.memory", "node.memory"),
            ("observe.for", "observe.for"),
        ] {
            assert_eq!(found(path).as_deref(), Ok(place), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        for (path, said) in [
            ("pods.wed.replicas", "no pod wed; there are web, db"),
            ("pods.db.containers.ap.image", "no container ap in pod db; there is app"),
            ("pods.web.initContainers.x.image", "no init container x in pod web; there is none"),
            ("traffic.main.stages.2.target", "no stage 2; there are 2, which are called 0 to 1"),
            ("actions.7.at", "no action 7; there is one, which is called 0"),
            ("observe.for.long", "observe.for is \"1s\", and has nothing inside"),
        ] {
            assert_eq!(found(path), Err(said.to_owned()), "{path}");
        }
    }
}
