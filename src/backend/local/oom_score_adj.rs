//! `oom_score_adj` as the kubelet computes it (`pkg/kubelet/qos/policy.go:GetContainerOOMScoreAdjust`).

use crate::scenario::{Container, Pod, QosClass, Role};

/// The pause process's (`defaultSandboxOOMAdj`).
pub const PAUSE: i32 = -998;

/// A container's `oom_score_adj` on a node of this capacity.
pub fn for_container(pod: &Pod, container: &Container, capacity: u64) -> i32 {
    if pod.node_critical {
        return -997;
    }
    match pod.qos_class() {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let share = pod.shared_request();
            let own = burstable(container.request.unwrap_or(0).saturating_add(share), capacity);
            if container.role != Role::Sidecar {
                return own;
            }
            // A sidecar is never killed before the containers that it serves.
            let smallest =
                pod.containers.iter().filter(|c| c.role == Role::Main).map(|c| c.request.unwrap_or(0)).min();
            own.min(smallest.map_or(own, |request| burstable(request.saturating_add(share), capacity)))
        }
    }
}

fn burstable(request: u64, capacity: u64) -> i32 {
    let share = u128::from(request) * 1000 / u128::from(capacity.max(1));
    (1000 - i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burstable_container_is_scored_by_its_share_of_the_capacity() {
        // causes.md section 3: 16 GiB, request 1 GiB.
        assert_eq!(burstable(1 << 30, 16 << 30), 938);
        assert_eq!(burstable(0, 16 << 30), 999);
        assert_eq!(burstable(16 << 30, 16 << 30), 3);
    }
}
