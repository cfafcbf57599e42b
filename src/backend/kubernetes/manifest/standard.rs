//! The `restricted` Pod Security Standard, as far as a pod's own spec decides
//! (staging/src/k8s.io/pod-security-admission/policy/check_*.go).

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile, SecurityContext, Volume};

/// What a pod asks for that the standard does not allow, if it does.
pub(in crate::backend::kubernetes) fn beyond_restricted(spec: &PodSpec) -> Option<&'static str> {
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let host = [spec.host_network, spec.host_pid, spec.host_ipc].contains(&Some(true));
    host.then_some("a namespace of the host")
        .or_else(|| spec.volumes.iter().flatten().any(other_volume).then_some("a volume of the node"))
        .or_else(|| of_pod(spec))
        .or_else(|| containers().find_map(|container| of_container(spec, container)))
}

fn of_pod(spec: &PodSpec) -> Option<&'static str> {
    let security = spec.security_context.as_ref()?;
    if security.sysctls.as_ref().is_some_and(|sysctls| !sysctls.is_empty()) {
        return Some("sysctls");
    }
    if security.se_linux_options.is_some() {
        return Some("SELinux options");
    }
    (security.run_as_user == Some(0)).then_some("to run as root")
}

fn of_container(spec: &PodSpec, container: &Container) -> Option<&'static str> {
    let none = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&none);
    let pod = spec.security_context.as_ref();
    let non_root = own.run_as_non_root.or_else(|| pod.and_then(|pod| pod.run_as_non_root));
    let seccomp = own.seccomp_profile.as_ref().or_else(|| pod.and_then(|pod| pod.seccomp_profile.as_ref()));
    let ports = container.ports.iter().flatten();
    if own.privileged == Some(true) {
        Some("privileges")
    } else if ports.filter_map(|port| port.host_port).any(|port| port != 0) {
        Some("a port of the host")
    } else if own.allow_privilege_escalation != Some(false) {
        Some("privilege escalation")
    } else if own.run_as_user == Some(0) || non_root != Some(true) {
        Some("to run as root")
    } else if !drops_all(own) {
        Some("capabilities")
    } else if !seccomp.is_some_and(confined) {
        Some("no seccomp profile")
    } else if own.se_linux_options.is_some()
        || own.proc_mount.as_deref().is_some_and(|mount| mount != "Default")
    {
        Some("SELinux options or another proc mount")
    } else {
        None
    }
}

fn drops_all(own: &SecurityContext) -> bool {
    let Some(capabilities) = &own.capabilities else { return false };
    let drops = capabilities.drop.iter().flatten().any(|name| name == "ALL");
    drops && capabilities.add.iter().flatten().all(|name| name == "NET_BIND_SERVICE")
}

fn confined(profile: &SeccompProfile) -> bool {
    matches!(profile.type_.as_str(), "RuntimeDefault" | "Localhost")
}

fn other_volume(volume: &Volume) -> bool {
    let allowed = volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some();
    !allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_standard_does_not_allow_is_named() {
        let with = |pod: serde_json::Value, container: serde_json::Value| {
            let mut spec = serde_json::json!({
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": "app", "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            });
            let merge = |into: &mut serde_json::Value, from: serde_json::Value| {
                for (key, value) in from.as_object().unwrap() {
                    into[key] = value.clone();
                }
            };
            merge(&mut spec, pod);
            merge(&mut spec["containers"][0], container);
            beyond_restricted(&serde_json::from_value(spec).unwrap())
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(with(json("{}"), json("{}")), None);
        for (pod, container, what) in [
            (r#"{"hostPID": true}"#, "{}", "a namespace of the host"),
            (r#"{"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}"#, "{}", "a volume of the node"),
            (r#"{"securityContext": {"runAsUser": 0}}"#, "{}", "to run as root"),
            ("{}", r#"{"securityContext": {}}"#, "privilege escalation"),
            ("{}", r#"{"securityContext": {"privileged": true}}"#, "privileges"),
            ("{}", r#"{"ports": [{"containerPort": 80, "hostPort": 80}]}"#, "a port of the host"),
            (r#"{"securityContext": {"runAsNonRoot": true}}"#, "{}", "no seccomp profile"),
        ] {
            assert_eq!(with(json(pod), json(container)), Some(what), "{pod} {container}");
        }
    }
}
