//! What the local backend makes of each key of a `PodSpec`: one table per type.
//!
//! A test holds the tables complete against Kubernetes' own schema, so a key that a newer Kubernetes adds must be decided on.

use serde_json::{Map, Value};

use crate::scenario::problem::KeyPath;

use super::Notes;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// It does what Kubernetes does.
    Honoured,
    /// It is accepted and changes nothing here.
    WithoutEffect(&'static str),
    /// Only a cluster can do it: the scenario is skipped here.
    Cluster(&'static str),
}

use Support::{Cluster, Honoured, WithoutEffect};

/// Keys and what becomes of them.
pub(super) type Table = &'static [(&'static str, Support)];

const SCHEDULED: Support = WithoutEffect("there is one node here, and no scheduler");
const NAMED: Support = WithoutEffect("pods have no names in a DNS here");
const API: Support = WithoutEffect("there is no API server here");
const IMAGES: Support = WithoutEffect("no image is run here");
const OUTPUT: Support = WithoutEffect("output goes to a file here");
const PRIVILEGES: Support = WithoutEffect("containers run without privileges here");

/// `PodSpec`.
pub(super) const POD: Table = &[
    ("activeDeadlineSeconds", Cluster("the kubelet keeps the deadline")),
    ("affinity", SCHEDULED),
    ("automountServiceAccountToken", API),
    ("containers", Honoured),
    ("dnsConfig", NAMED),
    ("dnsPolicy", NAMED),
    ("enableServiceLinks", API),
    ("ephemeralContainers", Cluster("they are added to a running pod through the API")),
    ("evictionResponders", Cluster("evictions go through the API")),
    ("hostAliases", NAMED),
    ("hostIPC", Cluster("pods do not share the host's namespaces here")),
    ("hostNetwork", Cluster("each pod has a network namespace of its own here")),
    ("hostPID", Cluster("each container has a PID namespace of its own here")),
    ("hostUsers", Cluster("pods have no user namespaces of their own here")),
    ("hostname", NAMED),
    ("hostnameOverride", NAMED),
    ("imagePullSecrets", IMAGES),
    ("initContainers", Honoured),
    ("nodeName", SCHEDULED),
    ("nodeSelector", SCHEDULED),
    ("os", SCHEDULED),
    ("overhead", Cluster("it belongs to a runtime class")),
    ("preemptionPolicy", SCHEDULED),
    ("priority", SCHEDULED),
    ("priorityClassName", Honoured),
    ("readinessGates", API),
    ("resourceClaims", Cluster("devices are claimed through the API")),
    ("resources", Honoured),
    ("restartPolicy", Honoured),
    ("runtimeClassName", Cluster("there is one runtime here")),
    ("schedulerName", SCHEDULED),
    ("schedulingGates", Cluster("a gated pod waits for the API")),
    ("schedulingGroup", SCHEDULED),
    ("securityContext", Honoured),
    ("serviceAccount", API),
    ("serviceAccountName", API),
    ("setHostnameAsFQDN", NAMED),
    ("shareProcessNamespace", Cluster("each container has a PID namespace of its own here")),
    ("subdomain", NAMED),
    ("terminationGracePeriodSeconds", Honoured),
    ("tolerations", SCHEDULED),
    ("topologySpreadConstraints", SCHEDULED),
    ("volumes", Honoured),
];

/// `Container`, `workload` included.
pub(super) const CONTAINER: Table = &[
    ("args", Honoured),
    ("command", Honoured),
    ("env", Honoured),
    ("envFrom", Cluster("it reads ConfigMaps and Secrets")),
    ("image", IMAGES),
    ("imagePullPolicy", IMAGES),
    ("lifecycle", Honoured),
    ("livenessProbe", Honoured),
    ("name", Honoured),
    ("ports", WithoutEffect("a pod's ports are open as they are; names of ports count for probes")),
    ("readinessProbe", Honoured),
    ("resizePolicy", WithoutEffect("setLimit resizes in place")),
    ("resources", Honoured),
    ("restartPolicy", Honoured),
    ("restartPolicyRules", Cluster("the kubelet applies them")),
    ("securityContext", Honoured),
    ("startupProbe", Honoured),
    ("stdin", OUTPUT),
    ("stdinOnce", OUTPUT),
    ("terminationMessagePath", OUTPUT),
    ("terminationMessagePolicy", OUTPUT),
    ("tty", OUTPUT),
    ("volumeDevices", Cluster("block devices are claimed through the API")),
    ("volumeMounts", Honoured),
    ("workingDir", Honoured),
    ("workload", Honoured),
];

/// `PodSecurityContext`.
pub(super) const POD_SECURITY: Table = &[
    ("appArmorProfile", PRIVILEGES),
    ("fsGroup", PRIVILEGES),
    ("fsGroupChangePolicy", PRIVILEGES),
    ("runAsGroup", PRIVILEGES),
    ("runAsNonRoot", PRIVILEGES),
    ("runAsUser", Honoured),
    ("seLinuxChangePolicy", PRIVILEGES),
    ("seLinuxOptions", PRIVILEGES),
    ("seccompProfile", PRIVILEGES),
    ("supplementalGroups", PRIVILEGES),
    ("supplementalGroupsPolicy", PRIVILEGES),
    ("sysctls", Cluster("nothing of the host is changed here")),
    ("windowsOptions", PRIVILEGES),
];

/// `SecurityContext`.
pub(super) const SECURITY: Table = &[
    ("allowPrivilegeEscalation", Honoured),
    ("appArmorProfile", PRIVILEGES),
    ("capabilities", PRIVILEGES),
    ("privileged", PRIVILEGES),
    ("procMount", PRIVILEGES),
    (
        "readOnlyRootFilesystem",
        WithoutEffect("containers see the host's own files here, which user 65534 cannot write and root can"),
    ),
    ("runAsGroup", PRIVILEGES),
    ("runAsNonRoot", PRIVILEGES),
    ("runAsUser", Honoured),
    ("seLinuxOptions", PRIVILEGES),
    ("seccompProfile", PRIVILEGES),
    ("windowsOptions", PRIVILEGES),
];

/// `Probe`.
pub(super) const PROBE: Table = &[
    ("exec", Honoured),
    ("failureThreshold", Honoured),
    ("grpc", Cluster("probes speak HTTP and TCP here")),
    ("httpGet", Honoured),
    ("initialDelaySeconds", Honoured),
    ("periodSeconds", Honoured),
    ("successThreshold", Honoured),
    ("tcpSocket", Honoured),
    ("terminationGracePeriodSeconds", Honoured),
    ("timeoutSeconds", Honoured),
];

/// `Lifecycle`.
pub(super) const LIFECYCLE: Table = &[
    ("postStart", Cluster("only preStop is run here")),
    ("preStop", Honoured),
    ("stopSignal", Cluster("containers are stopped by SIGTERM here")),
];

/// `EnvVar`.
pub(super) const ENV: Table =
    &[("name", Honoured), ("value", Honoured), ("valueFrom", Cluster("the value comes from the API"))];

/// `VolumeMount`.
pub(super) const MOUNT: Table = &[
    ("bestEffort", WithoutEffect("what is mounted is there")),
    ("bindMountOptions", WithoutEffect("mounts have the options of their tmpfs here")),
    ("mountPath", Honoured),
    ("mountPropagation", WithoutEffect("nothing is mounted later")),
    ("name", Honoured),
    ("readOnly", Honoured),
    ("recursiveReadOnly", WithoutEffect("nothing is mounted below it")),
    ("subPath", Cluster("volumes are mounted whole here")),
    ("subPathExpr", Cluster("volumes are mounted whole here")),
];

/// `EmptyDirVolumeSource`.
pub(super) const EMPTY_DIR: Table = &[
    ("medium", Honoured),
    ("mode", WithoutEffect("everybody may write to it here")),
    ("sizeLimit", Honoured),
];

/// `HTTPGetAction`.
pub(super) const HTTP_GET: Table = &[
    ("host", Honoured),
    ("httpHeaders", Honoured),
    ("path", Honoured),
    ("port", Honoured),
    ("protocol", Cluster("probes speak HTTP/1.1 here")),
    ("scheme", Honoured),
];

/// `ResourceRequirements`.
pub(super) const RESOURCES: Table = &[
    ("claims", Cluster("devices are claimed through the API")),
    ("limits", Honoured),
    ("requests", Honoured),
];

/// Notes what becomes of each key of `value`; what says nothing (`false`, `[]`, `{}`) asks for nothing.
pub(super) fn note(value: &Value, table: Table, path: &KeyPath, notes: &mut Notes) {
    for (key, value) in value.as_object().into_iter().flat_map(Map::iter) {
        let says_nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
        };
        // `hostUsers` is the one key whose default is true.
        let says_nothing = if key == "hostUsers" { value == &Value::Bool(true) } else { says_nothing };
        let support = table.iter().find(|(known, _)| known == key).map_or(Honoured, |(_, support)| *support);
        match support {
            _ if says_nothing => {}
            Honoured => {}
            WithoutEffect(why) => notes.without_effect(&path.key(key), why),
            Cluster(why) => notes.needs_cluster(&path.key(key), why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::schema;

    #[test]
    fn every_key_that_kubernetes_knows_has_been_decided_on() {
        let schema = schema();
        for (name, table) in [
            ("PodSpec", POD),
            ("Container", CONTAINER),
            ("PodSecurityContext", POD_SECURITY),
            ("SecurityContext", SECURITY),
            ("Probe", PROBE),
            ("Lifecycle", LIFECYCLE),
            ("EnvVar", ENV),
            ("VolumeMount", MOUNT),
            ("EmptyDirVolumeSource", EMPTY_DIR),
            ("HTTPGetAction", HTTP_GET),
            ("ResourceRequirements", RESOURCES),
        ] {
            let properties =
                schema["$defs"][format!("io.k8s.api.core.v1.{name}")]["properties"].as_object().unwrap();
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            for key in &known {
                assert!(table.iter().any(|(decided, _)| decided == key), "{name}.{key} is not decided on");
            }
        }
    }
}
