//! Which pods a name means.

use std::collections::HashMap;

use crate::scenario::{ContainerSelector, Pod};

/// The pods of a scenario, by the names that select them. A name alone does not tell a replica (`web-1` of `web`) from a
/// pod that is only called so.
#[derive(Debug)]
pub struct Selection {
    /// The name that each pod's replicas share, by the pod's own name.
    shared: HashMap<String, String>,
}

impl Selection {
    /// The pods of a scenario.
    pub fn new(pods: &[Pod]) -> Self {
        let names = |pod: &Pod| {
            pod.replica_names().into_iter().map(|own| (own, pod.name.clone())).collect::<Vec<_>>()
        };
        Self { shared: pods.iter().flat_map(names).collect() }
    }

    /// Whether a selector means this container: its pod by its own name, or by the name that its replicas share.
    pub fn selects(&self, selector: &ContainerSelector, pod: &str, container: &str) -> bool {
        selector.container == container
            && (selector.pod == pod || self.shared.get(pod).is_some_and(|shared| *shared == selector.pod))
    }
}
