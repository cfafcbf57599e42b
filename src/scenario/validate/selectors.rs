//! Which containers there are to be named.

use crate::scenario::problem::{KeyPath, nearest};
use crate::scenario::{Act, Action, Container, ContainerSelector, Pod};

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

    /// A pod that a controller replaces when it has ended.
    pub(super) fn replaced(&self) -> Option<&'a Pod> {
        self.pods.iter().find(|pod| pod.kind.is_controller())
    }

    /// Something has to start at the beginning.
    pub(super) fn begins(&self, actions: &[Action], notes: &mut Notes) {
        let created = |pod: &Pod| {
            actions
                .iter()
                .any(|action| matches!(&action.act, Act::Create { pod: later } if *later == pod.name))
        };
        if !self.pods.is_empty() && self.pods.iter().all(created) {
            let path = KeyPath::default().key("pods");
            notes.problem(&path, "are all created by actions", "let one start at the beginning");
        }
    }

    fn find(&self, name: &str) -> Option<&'a Pod> {
        self.pods.iter().find(|pod| pod.is_named(name))
    }
}

/// Whether `name` is one of the pod's replicas, or, of a controller's, may come to be one.
pub(super) fn is_replica(pod: &Pod, name: &str) -> bool {
    (pod.replicas > 1 || pod.kind.is_controller()) && pod.name != name && pod.is_named(name)
}

fn hint(name: &str, known: &[&str], what: &str) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("the {what} are: {}", known.join(", ")),
    }
}
