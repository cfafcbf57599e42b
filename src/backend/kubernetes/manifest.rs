//! From a scenario to the objects that are applied.

pub(super) mod standard;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, Namespace, PodSpec, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, GroupVersionKind};
use serde_json::{Map, Value, json};

use crate::scenario::{Container as OurContainer, Object, Pod, PodKind, Program, Scenario};

/// The run that an object belongs to.
pub const RUN: &str = "exit137.dev/run";
/// The scenario's name.
pub const SCENARIO: &str = "exit137.dev/scenario";
/// What the record calls a pod; of a controller's pods, what it calls them all.
pub const POD: &str = "exit137.dev/pod";
/// The entry of `pods` that a pod is an instance of.
pub const ENTRY: &str = "exit137.dev/entry";
/// The namespace label that holds pods to a standard (KEP-2579; before 1.23 it says nothing).
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Where in our image the workload is.
pub const WORKLOAD: &str = "/exit137/exit137-workload";

/// The user that containers run as unless they say otherwise, as on this host.
pub const NOBODY: i64 = 65_534;

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

/// An object that makes pods.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its kind, as the API knows it.
    pub resource: ApiResource,
    /// Its name in the API.
    pub name: String,
    /// What is applied.
    pub object: Value,
    /// Whether a controller makes the pods, which is removed before them.
    pub controller: bool,
}

/// The namespace of a trial. It is held to the `restricted` Pod Security Standard unless one of the pods asks for more.
pub fn namespace(scenario: &Scenario, place: &Place) -> Namespace {
    let mut labels = labels(scenario, place);
    if asks_for_more(scenario, place).is_none() {
        labels.insert(ENFORCE.to_owned(), "restricted".to_owned());
    }
    Namespace {
        metadata: ObjectMeta {
            name: Some(place.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Which pod asks for more than the `restricted` standard allows, and what.
fn asks_for_more(scenario: &Scenario, place: &Place) -> Option<String> {
    let own = scenario.pods.iter().find_map(|pod| {
        let more = standard::beyond_restricted(&spec(scenario, pod, place))?;
        Some(format!("{}: {more}", pod.name))
    });
    // What an object's pods are is its controller's business.
    own.or_else(|| {
        scenario
            .objects
            .iter()
            .find(|object| object.makes_pods())
            .map(|object| format!("{object} makes pods"))
    })
}

/// What is applied for one entry of `pods`.
pub fn workloads(scenario: &Scenario, pod: &Pod, place: &Place) -> Vec<Workload> {
    let spec = json!(spec(scenario, pod, place));
    if let Some(own) = &pod.object {
        return vec![of_a_manifest(scenario, pod, own, &spec, place)];
    }
    if pod.kind.is_controller() {
        return vec![controller(scenario, pod, &spec, place)];
    }
    let one = |name: String| {
        let mut labels = labels(scenario, place);
        labels.extend([(POD.to_owned(), name.clone()), (ENTRY.to_owned(), pod.name.clone())]);
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": place.namespace, "labels": labels},
            "spec": spec,
        });
        Workload { resource: resource(PodKind::Pod), name, object, controller: false }
    };
    pod.replica_names().into_iter().map(one).collect()
}

/// An object that is applied beside the pods, as the trial has it: in its namespace, or named after it.
pub fn object(scenario: &Scenario, object: &Object, namespaced: bool, place: &Place) -> Value {
    let mut value = object.value.clone();
    let Some(map) = value.as_object_mut() else { return value };
    // An exported object has them; the server would refuse them or take them for claims.
    map.remove("status");
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        for servers in [
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "managedFields",
            "ownerReferences",
        ] {
            metadata.remove(servers);
        }
        if namespaced {
            metadata.insert("namespace".to_owned(), json!(place.namespace));
        } else {
            metadata.insert("name".to_owned(), json!(of_the_trial(&object.name, place)));
        }
        add_labels(metadata, labels(scenario, place));
    }
    value
}

/// What an object that belongs to no namespace is called in this trial.
fn of_the_trial(name: &str, place: &Place) -> String {
    format!("{}-{name}", place.namespace)
}

fn resource(kind: PodKind) -> ApiResource {
    let (group, kind) = match kind {
        PodKind::Pod => ("", "Pod"),
        PodKind::Deployment => ("apps", "Deployment"),
        PodKind::StatefulSet => ("apps", "StatefulSet"),
        PodKind::DaemonSet => ("apps", "DaemonSet"),
        PodKind::Job => ("batch", "Job"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))
}

/// A user's own object, with the pods' spec as it was patched; the rest is as it was written.
fn of_a_manifest(scenario: &Scenario, pod: &Pod, own: &Object, spec: &Value, place: &Place) -> Workload {
    let mut value = object(scenario, own, true, place);
    let mut ours = labels(scenario, place);
    ours.extend([POD, ENTRY].map(|label| (label.to_owned(), pod.name.clone())));
    let of_pods = if pod.kind.is_controller() { &mut value["spec"]["template"] } else { &mut value };
    of_pods["spec"] = spec.clone();
    if let Some(of_pods) = of_pods.as_object_mut() {
        let metadata = of_pods.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            add_labels(metadata, ours);
        }
    }
    if matches!(pod.kind, PodKind::Deployment | PodKind::StatefulSet) {
        value["spec"]["replicas"] = json!(pod.replicas);
    }
    let controller = pod.kind.is_controller();
    Workload { resource: resource(pod.kind), name: own.name.clone(), object: value, controller }
}

fn controller(scenario: &Scenario, pod: &Pod, spec: &Value, place: &Place) -> Workload {
    let resource = resource(pod.kind);
    let mut of_template = labels(scenario, place);
    of_template.extend([POD, ENTRY].map(|label| (label.to_owned(), pod.name.clone())));
    let mut own = pod.controller.clone();
    own.insert("template".to_owned(), json!({"metadata": {"labels": of_template}, "spec": spec}));
    let mut unless_said = |key: &str, value: Value| {
        own.entry(key).or_insert(value);
    };
    match pod.kind {
        PodKind::Job | PodKind::Pod => {
            unless_said("completions", json!(pod.replicas));
            unless_said("parallelism", json!(pod.replicas));
        }
        PodKind::Deployment | PodKind::StatefulSet => {
            unless_said("replicas", json!(pod.replicas));
            unless_said("selector", json!({"matchLabels": {POD: pod.name}}));
        }
        PodKind::DaemonSet => unless_said("selector", json!({"matchLabels": {POD: pod.name}})),
    }
    if pod.kind == PodKind::StatefulSet {
        unless_said("serviceName", json!(pod.name));
    }
    let object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": pod.name, "namespace": place.namespace, "labels": labels(scenario, place)},
        "spec": own,
    });
    Workload { resource, name: pod.name.clone(), object, controller: true }
}

fn labels(scenario: &Scenario, place: &Place) -> BTreeMap<String, String> {
    BTreeMap::from([
        (RUN.to_owned(), place.run.clone()),
        (SCENARIO.to_owned(), scenario.name.clone()),
        ("app.kubernetes.io/managed-by".to_owned(), "exit137".to_owned()),
    ])
}

/// Adds labels of ours to an object's metadata.
fn add_labels(metadata: &mut Map<String, Value>, ours: BTreeMap<String, String>) {
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.extend(ours.into_iter().map(|(key, value)| (key, json!(value))));
    }
}

/// The scenario's own spec, with what a workload runs and with what the `restricted` standard asks for, where it says nothing.
fn spec(scenario: &Scenario, pod: &Pod, place: &Place) -> PodSpec {
    let mut spec = (*pod.spec).clone();
    if let Some(class) = &mut spec.priority_class_name
        && scenario.objects.iter().any(|object| object.kind == "PriorityClass" && object.name == *class)
    {
        *class = of_the_trial(class, place);
    }
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in containers {
        let ours = pod.containers.iter().find(|ours| ours.name == container.name);
        run_workload(container, ours, place);
    }
    // A manifest is tested as it is.
    if pod.object.is_none() {
        restrict(&mut spec, pod);
    }
    spec
}

/// What the `restricted` standard asks for, where the spec says nothing.
fn restrict(spec: &mut PodSpec, pod: &Pod) {
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
}

/// A workload is run from our image.
fn run_workload(container: &mut Container, ours: Option<&OurContainer>, place: &Place) {
    if let Some(Program::Workload(workload)) = ours.map(|ours| &ours.program) {
        container.image.get_or_insert_with(|| place.image.clone());
        container.image_pull_policy.get_or_insert_with(|| "IfNotPresent".to_owned());
        let what = serde_json::to_string(workload).unwrap_or_default();
        container.command = Some(vec![WORKLOAD.to_owned()]);
        // `$(NAME)` means something to the kubelet, and `$$` is its dollar (third_party/forked/golang/expansion).
        container.args = Some(vec!["--spec".to_owned(), what.replace('$', "$$")]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader;
    use crate::scenario::{self, Requirement};

    fn place() -> Place {
        Place { namespace: "ns".into(), run: "r0".into(), image: "ours:1".into() }
    }

    fn read(pods: &str) -> Scenario {
        let text = format!(
            "apiVersion: exit137/v1\nkind: Scenario\nmetadata: {{name: s}}\n{pods}\nobserve: {{for: 1s}}\nexpect: {{nothingDies: true}}\n"
        );
        scenario::read("s.yaml", &text).unwrap()
    }

    const SPEC: &str =
        "spec: {containers: [{name: app, workload: {idle: {}}, resources: {limits: {memory: 9Mi}}}]}";

    #[test]
    fn a_workload_pod_meets_the_restricted_standard_and_runs_our_image() {
        let text = include_str!("../../../scenarios/limit-fast.yaml");
        let scenario = scenario::read("limit-fast.yaml", text).unwrap();
        let pods = workloads(&scenario, &scenario.pods[0], &place());
        assert_eq!((pods[0].name.as_str(), pods.len()), ("web", 1));
        let spec = &pods[0].object["spec"];
        let security = &spec["securityContext"];
        assert_eq!((security["runAsUser"].as_i64(), &security["runAsNonRoot"]), (Some(65_534), &json!(true)));
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        let app = &spec["containers"][0];
        assert_eq!(app["image"], "ours:1");
        assert_eq!(app["command"], json!([WORKLOAD]));
        assert_eq!(app["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(app["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(app["resources"]["limits"]["memory"], "64Mi");
    }

    #[test]
    fn every_shipped_scenario_is_held_to_the_restricted_standard() {
        let own_program = |requirement: &Requirement| matches!(requirement, Requirement::Program(_));
        for loaded in loader::load(&[]).unwrap() {
            // A program of this host is in no image: those run on no cluster.
            if loaded.scenario.requires.iter().any(own_program) {
                continue;
            }
            assert_eq!(asks_for_more(&loaded.scenario, &place()), None, "{}", loaded.scenario.name);
            let labels = namespace(&loaded.scenario, &place()).metadata.labels.unwrap();
            assert_eq!(labels[ENFORCE], "restricted");
        }
    }

    #[test]
    fn a_controller_labels_its_pods_and_selects_them_by_that() {
        for (kind, plural) in
            [("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets")]
        {
            let scenario = read(&format!("pods:\n- {{name: web, kind: {kind}, {SPEC}}}"));
            let made = workloads(&scenario, &scenario.pods[0], &place());
            assert_eq!((made.len(), made[0].resource.plural.as_str()), (1, plural));
            let spec = &made[0].object["spec"];
            assert_eq!(spec["selector"]["matchLabels"], json!({POD: "web"}));
            assert_eq!(spec["template"]["metadata"]["labels"][POD], "web");
        }
    }

    #[test]
    fn a_priority_class_is_named_after_the_trial_wherever_it_is_named() {
        let scenario = read(
            "objects:\n- {apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: high}, value: 7}\npods:\n- {name: web, spec: {priorityClassName: high, containers: [{name: app, workload: {idle: {}}, resources: {limits: {memory: 9Mi}}}]}}",
        );
        let class = object(&scenario, &scenario.objects[0], false, &place());
        assert_eq!(
            (&class["metadata"]["name"], &class["metadata"]["labels"][RUN]),
            (&json!("ns-high"), &json!("r0"))
        );
        let made = workloads(&scenario, &scenario.pods[0], &place());
        assert_eq!(made[0].object["spec"]["priorityClassName"], "ns-high");
    }
}
