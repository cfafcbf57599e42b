//! Which containers there are to be named.

use crate::scenario::problem::{KeyPath, nearest};
use crate::scenario::{Container, ContainerSelector, Pod};

use super::Notes;

/// The pods of a scenario, by name and by replica.
#[derive(Debug)]
pub(super) struct Selectors<'a> {
    pods: &'a [Pod],
}

impl<'a> Selectors<'a> {
    pub(super) fn new(pods: &'a [Pod]) -> Self {
        Self { pods }
    }

    /// The pod that is named, itself or one of its replicas.
    pub(super) fn pod(&self, name: &str, path: &KeyPath, notes: &mut Notes) -> Option<&'a Pod> {
        let found = self.find(name);
        if found.is_none() {
            let known: Vec<&str> = self.pods.iter().map(|pod| pod.name.as_str()).collect();
            let hint = hint(name, &known, "pods");
            notes.problem(path, format!("there is no pod {name:?}"), hint);
        }
        found
    }

    /// The container that `text` names.
    pub(super) fn select(&self, text: &str, path: &KeyPath, notes: &mut Notes) -> Option<ContainerSelector> {
        let Some((pod, container)) = text.split_once('/') else {
            let hint = self
                .pods
                .iter()
                .flat_map(|pod| pod.containers.iter().map(move |c| (pod, c)))
                .next()
                .map_or_else(
                    || "write pod/container".to_owned(),
                    |(pod, container)| format!("write pod/container: {}/{}", pod.name, container.name),
                );
            notes.problem(path, format!("{text:?} names no container"), hint);
            return None;
        };
        let found = self.pod(pod, path, notes)?;
        if !found.containers.iter().any(|known| known.name == container) {
            let known: Vec<&str> = found.containers.iter().map(|container| container.name.as_str()).collect();
            notes.problem(
                path,
                format!("pod {pod:?} has no container {container:?}"),
                hint(container, &known, "containers"),
            );
            return None;
        }
        Some(ContainerSelector { pod: pod.to_owned(), container: container.to_owned() })
    }

    /// The container behind a selector that [`Self::select`] made.
    pub(super) fn container(&self, selector: &ContainerSelector) -> Option<(&'a Pod, &'a Container)> {
        let pod = self.find(&selector.pod)?;
        pod.containers
            .iter()
            .find(|container| container.name == selector.container)
            .map(|container| (pod, container))
    }

    fn find(&self, name: &str) -> Option<&'a Pod> {
        self.pods.iter().find(|pod| pod.name == name || is_replica(pod, name))
    }
}

/// Whether `name` is one of the pod's replicas.
pub(super) fn is_replica(pod: &Pod, name: &str) -> bool {
    pod.replicas > 1
        && name
            .strip_prefix(&pod.name)
            .and_then(|rest| rest.strip_prefix('-'))
            .filter(|index| *index == "0" || !index.starts_with(['0', '+']))
            .and_then(|index| index.parse::<u32>().ok())
            .is_some_and(|index| index < pod.replicas)
}

fn hint(name: &str, known: &[&str], what: &str) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("the {what} are: {}", known.join(", ")),
    }
}
