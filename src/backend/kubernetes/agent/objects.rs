//! What an agent is to a cluster: a DaemonSet, and the little that it may do.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::view::MOUNT;
use crate::backend::kubernetes::lease::NAMESPACE;

/// The agents of an image: the label that its objects bear, and their name.
pub(in crate::backend::kubernetes) const AGENT: &str = "exit137.dev/agent";
/// That `exit137 cluster up` made it: no run removes it.
pub(super) const STAYS: &str = "exit137.dev/stays";
/// Which run used it last: whoever looked before that must not remove it.
pub(super) const USED_BY: &str = "exit137.dev/used-by";
/// What an agent's pods are to be, where the cluster lets them.
pub(super) const PRIORITY: &str = "system-node-critical";
/// The container's name.
pub(super) const CONTAINER: &str = "agent";

/// What an image's agents are called: two versions do not disturb each other.
pub(in crate::backend::kubernetes) fn name(image: &str) -> String {
    let digest = Sha256::digest(image.as_bytes());
    digest.iter().take(5).fold("agent-".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

/// Cluster-scoped objects have the program's name before it.
pub(super) fn cluster_name(name: &str) -> String {
    format!("exit137-{name}")
}

fn labels(name: &str) -> Value {
    json!({AGENT: name, "app.kubernetes.io/name": "exit137-agent", "app.kubernetes.io/managed-by": "exit137"})
}

/// Who it is.
pub(super) fn service_account(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels(name)},
    })
}

/// It learns which pods on its node are a run's. It changes nothing.
pub(super) fn role(name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": cluster_name(name), "labels": labels(name)},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}],
    })
}

/// That it may.
pub(super) fn binding(name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": cluster_name(name), "labels": labels(name)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_name(name)},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
    })
}

/// One on each node where a pod without tolerations may run.
///
/// Privileged: `/dev/kmsg` is no device of a container's, the OOM notifications of cgroup v1 are asked for by a write, and the
/// tracepoints are read from a mount of its own. The host's PIDs are the kernel log's; the proc connector answers in the
/// initial network namespace only. Node-critical where a quota does not forbid it: an agent that is evicted or killed for memory
/// cannot tell of it.
pub(super) fn daemon_set(name: &str, image: &str, run: &str, priority: Option<&str>) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "labels": labels(name),
            "annotations": {USED_BY: run},
        },
        "spec": {
            "selector": {"matchLabels": {AGENT: name}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
            "template": {
                "metadata": {"labels": labels(name)},
                "spec": {
                    "serviceAccountName": name,
                    "hostPID": true,
                    "hostNetwork": true,
                    "terminationGracePeriodSeconds": 5,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "containers": [{
                        "name": CONTAINER,
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["agent"],
                        "env": [
                            {"name": "EXIT137_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                            {"name": "EXIT137_AGENT", "value": name},
                        ],
                        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "96Mi"}},
                        "securityContext": {"privileged": true, "readOnlyRootFilesystem": true},
                        "volumeMounts": [{"name": "cgroup", "mountPath": MOUNT}],
                    }],
                    "volumes": [{"name": "cgroup", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}}],
                },
            },
        },
    });
    // What is applied without a field gives it up.
    if let (Some(priority), Some(spec)) = (priority, set.pointer_mut("/spec/template/spec")) {
        spec["priorityClassName"] = json!(priority);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DaemonSet;
    use k8s_openapi::api::rbac::v1::ClusterRole;

    #[test]
    fn only_an_agent_is_privileged_and_it_may_only_look() {
        let name = name("registry/exit137:1");
        let set: DaemonSet =
            serde_json::from_value(daemon_set(&name, "registry/exit137:1", "r1", Some(PRIORITY))).unwrap();
        let spec = set.spec.template.spec.unwrap();
        assert_eq!(spec.containers[0].security_context.as_ref().unwrap().privileged, Some(true));
        assert_eq!((spec.host_pid, spec.host_network, spec.tolerations), (Some(true), Some(true), None));
        assert_eq!(spec.priority_class_name.as_deref(), Some(PRIORITY));
        let plain = serde_json::from_value::<DaemonSet>(daemon_set(&name, "i", "r1", None)).unwrap();
        assert_eq!(plain.spec.template.spec.unwrap().priority_class_name, None);
        let role: ClusterRole = serde_json::from_value(role(&name)).unwrap();
        let rules = role.rules.unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(
            (rules[0].verbs.join(" "), rules[0].resources.clone()),
            ("list watch".into(), Some(vec!["pods".into()]))
        );
    }

    #[test]
    fn each_image_has_agents_of_its_own() {
        assert_ne!(name("exit137:1"), name("exit137:2"));
        assert!(name("a/b:c").len() < 40);
    }
}
