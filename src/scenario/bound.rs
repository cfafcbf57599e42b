//! The most memory that a scenario can take at once.

use super::{Act, Container, Pod, Program, Scenario};

/// Kernel memory and page tables of a container beside what it is told to take, and as much for a pod's pause process.
const OVERHEAD: u64 = 2 << 20;

/// What one generator of traffic takes at most.
const GENERATOR: u64 = 32 << 20;

impl Scenario {
    /// The most memory that it can take at once: what must be free before it may run.
    pub fn bound(&self) -> u64 {
        if let Some(memory) = self.node.memory {
            return memory.saturating_add(self.generators_bound());
        }
        self.pods.iter().fold(self.generators_bound(), |sum, pod| {
            let one = self.pod_bound(pod);
            sum.saturating_add(one.saturating_mul(u64::from(pod.replicas)))
        })
    }

    /// Generators run beside the pods, not in them.
    fn generators_bound(&self) -> u64 {
        self.traffic.iter().map(|traffic| u64::from(traffic.generators) * GENERATOR).sum()
    }

    fn pod_bound(&self, pod: &Pod) -> u64 {
        let raised = |container: &Container| {
            let highest = self.resizes(pod, container).map(|(memory, _)| memory).max();
            container.limit.map(|limit| limit.max(highest.unwrap_or(0)))
        };
        let together = pod.at_once(|container| {
            let taken = match &container.program {
                Program::Workload(workload) => workload.bound(),
                Program::Command(_) => u64::MAX,
            };
            raised(container).map_or(taken, |limit| limit.min(taken)).saturating_add(OVERHEAD)
        });
        let containers = u64::try_from(pod.containers.len()).unwrap_or(u64::MAX);
        let limit =
            self.raised_pod_limit(pod).map_or(u64::MAX, |limit| limit.saturating_add(OVERHEAD * containers));
        together.min(limit).saturating_add(OVERHEAD)
    }

    /// The limit of the pod's cgroup when every resize has raised it.
    fn raised_pod_limit(&self, pod: &Pod) -> Option<u64> {
        let more = pod.containers.iter().fold(0_u64, |sum, container| {
            let highest =
                self.resizes(pod, container).filter(|(_, pod_too)| *pod_too).map(|(memory, _)| memory).max();
            sum.saturating_add(highest.unwrap_or(0).saturating_sub(container.limit.unwrap_or(0)))
        });
        pod.cgroup_limit().map(|limit| limit.saturating_add(more))
    }

    /// What actions set a container's limit to, and whether the pod's too.
    fn resizes<'a>(
        &'a self,
        pod: &'a Pod,
        container: &'a Container,
    ) -> impl Iterator<Item = (u64, bool)> + 'a {
        self.actions.iter().filter_map(move |action| match &action.act {
            Act::SetLimit { container: selector, memory, pod_too } => (pod.is_named(&selector.pod)
                && selector.container == container.name)
                .then_some((*memory, *pod_too)),
            // The kubelet resizes the pod with its container.
            Act::Resize { container: selector, memory } => (pod.is_named(&selector.pod)
                && selector.container == container.name)
                .then_some((*memory, true)),
            Act::Delete { .. }
            | Act::Drain { .. }
            | Act::Rollout { .. }
            | Act::Create { .. }
            | Act::LoseContainer { .. }
            | Act::Kill { .. } => None,
        })
    }
}
