//! From a scenario to the objects that are applied.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, Namespace, Pod as KubernetesPod, PodSpec, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::scenario::{Container as OurContainer, Pod, Program, Scenario};

/// The run that an object belongs to.
pub const RUN: &str = "exit137.dev/run";
/// The scenario's name.
pub const SCENARIO: &str = "exit137.dev/scenario";
/// What the record calls a pod.
pub const POD: &str = "exit137.dev/pod";

/// Where in our image the workload is.
const WORKLOAD: &str = "/exit137/exit137-workload";

/// The user that containers run as unless they say otherwise, as on this host.
const NOBODY: i64 = 65_534;

/// Whose objects these are, and what they run.
#[derive(Clone, Debug)]
pub struct Place {
    /// The trial's own namespace.
    pub namespace: String,
    /// The run's name.
    pub run: String,
    /// The name of our image.
    pub image: String,
}

/// The namespace of a trial.
pub fn namespace(scenario: &Scenario, place: &Place) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(place.namespace.clone()),
            labels: Some(labels(scenario, place)),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// All pods of a scenario, replicas multiplied, by what the record calls them.
pub fn pods(scenario: &Scenario, place: &Place) -> Vec<(String, KubernetesPod)> {
    let each = |pod: &Pod| {
        let named = pod.replica_names().into_iter();
        named.map(|name| (name.clone(), one_pod(scenario, pod, name, place))).collect::<Vec<_>>()
    };
    scenario.pods.iter().flat_map(each).collect()
}

fn labels(scenario: &Scenario, place: &Place) -> BTreeMap<String, String> {
    BTreeMap::from([
        (RUN.to_owned(), place.run.clone()),
        (SCENARIO.to_owned(), scenario.name.clone()),
        ("app.kubernetes.io/managed-by".to_owned(), "exit137".to_owned()),
    ])
}

fn one_pod(scenario: &Scenario, pod: &Pod, name: String, place: &Place) -> KubernetesPod {
    let mut labels = labels(scenario, place);
    labels.insert(POD.to_owned(), name.clone());
    KubernetesPod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(place.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(spec(pod, place)),
        ..KubernetesPod::default()
    }
}

/// The scenario's own spec, with what a workload runs and with what the `restricted` standard asks for, where it says nothing.
fn spec(pod: &Pod, place: &Place) -> PodSpec {
    let mut spec = (*pod.spec).clone();
    let security = spec.security_context.get_or_insert_default();
    // Somebody else's image may expect to be root, and a container may ask for it.
    let ours = pod.containers.iter().all(|container| matches!(container.program, Program::Workload(_)));
    let root = pod.containers.iter().any(|container| container.run_as_user == Some(0));
    if ours && !root {
        security.run_as_user.get_or_insert(NOBODY);
        security.run_as_non_root.get_or_insert(true);
    }
    security.seccomp_profile.get_or_insert_with(|| SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    });
    spec.automount_service_account_token.get_or_insert(false);
    spec.enable_service_links.get_or_insert(false);
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in containers {
        let ours = pod.containers.iter().find(|ours| ours.name == container.name);
        complete(container, ours, place);
    }
    spec
}

fn complete(container: &mut Container, ours: Option<&OurContainer>, place: &Place) {
    if let Some(Program::Workload(workload)) = ours.map(|ours| &ours.program) {
        container.image.get_or_insert_with(|| place.image.clone());
        container.image_pull_policy.get_or_insert_with(|| "IfNotPresent".to_owned());
        let what = serde_json::to_string(workload).unwrap_or_default();
        container.command = Some(vec![WORKLOAD.to_owned()]);
        // `$(NAME)` means something to the kubelet, and `$$` is its dollar (third_party/forked/golang/expansion).
        container.args = Some(vec!["--spec".to_owned(), what.replace('$', "$$")]);
    }
    let workload = ours.is_some_and(|ours| matches!(ours.program, Program::Workload(_)));
    let security: &mut SecurityContext = container.security_context.get_or_insert_default();
    if workload && security.privileged != Some(true) {
        security.allow_privilege_escalation.get_or_insert(false);
        security.capabilities.get_or_insert_with(|| Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn a_workload_pod_meets_the_restricted_standard_and_runs_our_image() {
        let text = include_str!("../../../scenarios/limit-fast.yaml");
        let scenario = scenario::read("limit-fast.yaml", text).unwrap();
        let place = Place { namespace: "ns".into(), run: "r0".into(), image: "ours:1".into() };
        let pods = pods(&scenario, &place);
        let (name, pod) = &pods[0];
        assert_eq!((name.as_str(), pods.len()), ("web", 1));
        let spec = pod.spec.as_ref().unwrap();
        let security = spec.security_context.as_ref().unwrap();
        assert_eq!((security.run_as_user, security.run_as_non_root), (Some(65_534), Some(true)));
        assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        let app = &spec.containers[0];
        assert_eq!(app.image.as_deref(), Some("ours:1"));
        assert_eq!(app.command.as_deref(), Some([WORKLOAD.to_owned()].as_slice()));
        let own = app.security_context.as_ref().unwrap();
        assert_eq!(own.allow_privilege_escalation, Some(false));
        assert_eq!(own.capabilities.as_ref().unwrap().drop.as_deref(), Some(["ALL".to_owned()].as_slice()));
        assert_eq!(app.resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"].0, "64Mi");
    }
}
