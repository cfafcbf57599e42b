//! Kubernetes objects that a scenario brings along and exit137 only hands on.

use serde_json::Value;

/// Kinds of which pods come.
const MAKE_PODS: [&str; 8] = [
    "Pod",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "ReplicaSet",
    "ReplicationController",
];

/// Kinds that belong to the whole cluster. exit137 makes none of them but PriorityClass, which is named after the trial.
const OF_THE_CLUSTER: [&str; 14] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Node",
    "PersistentVolume",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
];

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its group and version: `v1`, `apps/v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// The whole of it.
    pub value: Value,
}

impl Object {
    /// An object, if the value has what every object has.
    pub fn of(value: Value) -> Option<Self> {
        let text = |pointer: &str| {
            value.pointer(pointer)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (api_version, kind, name) = (text("/apiVersion")?, text("/kind")?, text("/metadata/name")?);
        Some(Self { api_version, kind, name, value })
    }

    /// Whether pods come of it.
    pub fn makes_pods(&self) -> bool {
        MAKE_PODS.contains(&self.kind.as_str())
    }

    /// Why it would reach beyond its trial, if it would, and what to do.
    pub fn beyond_the_trial(&self) -> Option<(String, &'static str)> {
        if self.kind == "Namespace" {
            let what = "a Namespace is made for each trial, and everything is put into it";
            return Some((what.to_owned(), "leave it out"));
        }
        if OF_THE_CLUSTER.contains(&self.kind.as_str()) {
            let what =
                format!("{} belongs to the whole cluster, and would reach beyond the trial", self.kind);
            return Some((what, "apply it to the cluster yourself, and leave it out here"));
        }
        if self.kind == "PriorityClass" && self.value["globalDefault"] == true {
            let what = "globalDefault would change what everybody's pods get";
            return Some((what.to_owned(), "remove it, and name the class in priorityClassName"));
        }
        None
    }

    /// Whether it gives containers of the trial's namespace a memory limit where they state none.
    pub fn limits_by_default(&self) -> bool {
        let limits = self.value.pointer("/spec/limits").and_then(Value::as_array);
        self.kind == "LimitRange"
            && limits.into_iter().flatten().any(|limit| {
                limit["type"] == "Container"
                    && (limit["default"].get("memory").is_some() || limit["max"].get("memory").is_some())
            })
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}
