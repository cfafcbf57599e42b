//! Which pods are done: nothing in them runs, and nothing will be restarted.

use std::collections::{HashMap, HashSet};

use super::{Happening, Selection};
use crate::evidence::End;
use crate::scenario::{ContainerSelector, Pod, RestartPolicy, Role};

/// The pods of a scenario, as far as their ends are concerned.
#[derive(Debug)]
pub(super) struct Pods {
    pods: Vec<PodState>,
    ends: HashMap<(String, String), u32>,
}

#[derive(Debug)]
struct PodState {
    name: String,
    policy: RestartPolicy,
    roles: HashMap<String, Role>,
    unfinished: HashSet<String>,
    running_sidecars: HashSet<String>,
    stopped: HashSet<String>,
}

impl Pods {
    pub(super) fn new(pods: &[Pod]) -> Self {
        let of_pod = |pod: &Pod, name: String| PodState {
            name,
            policy: pod.restart_policy,
            roles: pod.containers.iter().map(|c| (c.name.clone(), c.role)).collect(),
            unfinished: pod
                .containers
                .iter()
                .filter(|c| c.role == Role::Main)
                .map(|c| c.name.clone())
                .collect(),
            running_sidecars: HashSet::new(),
            stopped: HashSet::new(),
        };
        let pods = pods
            .iter()
            .flat_map(|pod| pod.replica_names().into_iter().map(move |name| of_pod(pod, name)))
            .collect();
        Self { pods, ends: HashMap::new() }
    }

    pub(super) fn observe(&mut self, happening: &Happening) {
        match happening {
            Happening::Stopping { container, for_good: true } => {
                if let Some(pod) = self.pod(&container.pod) {
                    pod.stopped.insert(container.container.clone());
                }
            }
            Happening::Ended { container, end } => {
                *self.ends.entry((container.pod.clone(), container.container.clone())).or_default() += 1;
                if let Some(pod) = self.pod(&container.pod) {
                    pod.ended(&container.container, *end);
                }
            }
            Happening::Started(container) => {
                if let Some(pod) = self.pod(&container.pod)
                    && pod.roles.get(&container.container) == Some(&Role::Sidecar)
                {
                    pod.running_sidecars.insert(container.container.clone());
                }
            }
            Happening::Stopping { .. } | Happening::OomKill(_) | Happening::MemoryReached { .. } => {}
        }
    }

    pub(super) fn all_ended(&self) -> bool {
        // Sidecars are stopped once the main containers are done; they end after those.
        self.pods.iter().all(|pod| pod.unfinished.is_empty() && pod.running_sidecars.is_empty())
    }

    pub(super) fn ends_of(&self, selector: &ContainerSelector, selection: &Selection) -> u32 {
        self.ends
            .iter()
            .filter(|((pod, container), _)| selection.selects(selector, pod, container))
            .map(|(_, ends)| ends)
            .sum()
    }

    fn pod(&mut self, name: &str) -> Option<&mut PodState> {
        self.pods.iter_mut().find(|pod| pod.name == name)
    }
}

impl PodState {
    /// A container of `restartPolicy: Always` is done only with its pod; a failed init container that is not retried
    /// ends the pod before the main ones began.
    fn ended(&mut self, container: &str, end: Option<End>) {
        let succeeded = end.is_some_and(|end| end.exit_code() == 0);
        let restarted = !self.stopped.contains(container)
            && match self.policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => !succeeded,
                RestartPolicy::Never => false,
            };
        match self.roles.get(container) {
            Some(Role::Main) if !restarted => {
                self.unfinished.remove(container);
            }
            Some(Role::Init) if !restarted && !succeeded => self.unfinished.clear(),
            Some(Role::Sidecar) => {
                self.running_sidecars.remove(container);
            }
            Some(Role::Main | Role::Init) | None => {}
        }
    }
}
