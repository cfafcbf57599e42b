//! Pods: names, replicas, volumes, and what a pod says for all its containers.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{PodSpec, Volume as KubernetesVolume};
use serde_json::Value;

use crate::scenario::document;
use crate::scenario::manifest::Manifests;
use crate::scenario::problem::KeyPath;
use crate::scenario::quantity;
use crate::scenario::{Node, Object, Pod, PodKind, RestartPolicy, Role, Volume, VolumeKind};

use super::selectors::is_replica;
use super::{MOST_MEMORY, Notes, containers, support};

/// What the rest of the scenario says about its pods.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) node: &'a Node,
    pub(super) objects: &'a [Object],
    pub(super) manifests: &'a Manifests,
}

impl Around<'_> {
    /// Whether a container that states no limit has one nevertheless.
    fn bounds(&self) -> bool {
        self.node.is_used_up() || self.objects.iter().any(Object::limits_by_default)
    }
}

/// All pods of a document.
pub(super) fn pods(documents: Vec<document::Pod>, around: &Around<'_>, notes: &mut Notes) -> Vec<Pod> {
    let path = KeyPath::default().key("pods");
    let mut pods: Vec<Pod> = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let path = path.index(index);
        let name = &document.name;
        if pods.iter().any(|pod| pod.name == *name || is_replica(pod, name) || clashes(pod, &document)) {
            let hint = "names of pods, and of their replicas (name-0, name-1), are unique";
            notes.problem(&path.key("name"), format!("{name:?} is the name of another pod"), hint);
        }
        let own = around.manifests.object(index);
        if let Some(pod) = pod(document, own, around.bounds(), &path, notes) {
            pods.push(pod);
        }
    }
    pods
}

/// Whether `earlier` has the name of a replica of `later`, or of one that its controller may yet make.
fn clashes(earlier: &Pod, later: &document::Pod) -> bool {
    let index = earlier.name.strip_prefix(&later.name).and_then(|rest| rest.strip_prefix('-'));
    let controlled = !matches!(later.kind, document::PodKind::Pod);
    let index = index.and_then(|index| index.parse::<u32>().ok());
    index.is_some_and(|index| controlled || (later.replicas > 1 && index < later.replicas))
}

fn pod(
    document: document::Pod,
    own: Option<&Object>,
    bounded: bool,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Pod> {
    let kind = kind(document.kind, path, notes);
    if own.is_some() {
        of_a_manifest(&document, path, notes);
    }
    if kind == PodKind::Pod && !document.controller.is_empty() {
        notes.problem(&path.key("controller"), "is said of a bare pod", "say its kind: Deployment, Job, …");
    }
    for key in ["replicas", "selector", "template"] {
        if document.controller.contains_key(key) {
            let hint = if key == "replicas" { "say replicas beside it" } else { "leave it out" };
            notes.problem(&path.key("controller").key(key), "is made from the rest of the entry", hint);
        }
    }
    let Some(mut spec) = document.spec else {
        notes.problem(path, "spec is missing", "add spec: a Kubernetes PodSpec, or manifest: a file");
        return None;
    };
    let path = path.key("spec");
    support::note(&spec, support::POD, &path, notes);
    note_parts(&spec, &path, notes);
    let workloads = containers::take_workloads(&mut spec, &path, notes);
    let spec: PodSpec = match serde_json::from_value(spec) {
        Ok(spec) => spec,
        Err(error) => {
            notes.problem(&path, error.to_string(), "see Kubernetes' PodSpec");
            return None;
        }
    };
    let (request, limit) = containers::memory(spec.resources.as_ref(), &path.key("resources"), notes);
    let mut volumes = volumes(&spec, &path, notes);
    volumes.extend(own.into_iter().flat_map(claimed));
    let containers = containers::containers(&spec, workloads, &volumes, &path, notes);
    let pod = Pod {
        name: document.name,
        kind,
        replicas: document.replicas,
        restart_policy: restart_policy(spec.restart_policy.as_deref(), &path, notes),
        grace_seconds: containers::seconds(
            spec.termination_grace_period_seconds,
            30,
            &path.key("terminationGracePeriodSeconds"),
            notes,
        ),
        pod_limit: limit,
        pod_request: request,
        node_critical: spec.priority_class_name.as_deref() == Some("system-node-critical"),
        containers,
        volumes,
        spec: Box::new(spec),
        controller: document.controller,
        object: own.cloned().map(Box::new),
    };
    restarts_fit(&pod, &path, notes);
    hold_together(&pod, bounded, &path, notes);
    Some(pod)
}

/// A manifest says itself what its controller does.
fn of_a_manifest(document: &document::Pod, path: &KeyPath, notes: &mut Notes) {
    notes.needs_cluster(&path.key("manifest"), "it is applied through the API");
    if !document.controller.is_empty() {
        notes.problem(&path.key("controller"), "is said beside a manifest", "say it in the manifest");
    }
    if document.replicas != 1
        && matches!(document.kind, document::PodKind::Pod | document::PodKind::DaemonSet)
    {
        notes.problem(&path.key("replicas"), "is not 1, and the manifest has no replicas", "leave it out");
    }
}

/// The volumes that a StatefulSet claims for each of its pods.
fn claimed(own: &Object) -> Vec<Volume> {
    let claims = own.value.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    let names = claims.into_iter().flatten().filter_map(|claim| claim["metadata"]["name"].as_str());
    names.map(|name| Volume { name: name.to_owned(), kind: VolumeKind::Disk }).collect()
}

fn kind(kind: document::PodKind, path: &KeyPath, notes: &mut Notes) -> PodKind {
    let kind = match kind {
        document::PodKind::Pod => return PodKind::Pod,
        document::PodKind::Deployment => PodKind::Deployment,
        document::PodKind::StatefulSet => PodKind::StatefulSet,
        document::PodKind::DaemonSet => PodKind::DaemonSet,
        document::PodKind::Job => PodKind::Job,
    };
    notes.needs_cluster(&path.key("kind"), "a controller makes its pods");
    kind
}

/// What becomes of the keys of what a pod and its containers are made of.
fn note_parts(spec: &Value, path: &KeyPath, notes: &mut Notes) {
    support::note(&spec["securityContext"], support::POD_SECURITY, &path.key("securityContext"), notes);
    support::note(&spec["resources"], support::RESOURCES, &path.key("resources"), notes);
    if let Some(class) = spec["priorityClassName"].as_str()
        && class != "system-node-critical"
    {
        notes.without_effect(
            &path.key("priorityClassName"),
            "only system-node-critical changes how the OOM killer chooses",
        );
    }
    for (index, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let path = path.key("volumes").index(index).key("emptyDir");
        support::note(&volume["emptyDir"], support::EMPTY_DIR, &path, notes);
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let path = path.key(list).index(index);
            support::note(container, support::CONTAINER, &path, notes);
            for (key, table) in [
                ("securityContext", support::SECURITY),
                ("livenessProbe", support::PROBE),
                ("startupProbe", support::PROBE),
                ("lifecycle", support::LIFECYCLE),
                ("resources", support::RESOURCES),
            ] {
                support::note(&container[key], table, &path.key(key), notes);
            }
            for keys in ["livenessProbe.httpGet", "startupProbe.httpGet", "lifecycle.preStop.httpGet"] {
                let found = keys.split('.').fold(container, |value, key| &value[key]);
                support::note(found, support::HTTP_GET, &path.keys(keys), notes);
            }
            for (key, table) in [("env", support::ENV), ("volumeMounts", support::MOUNT)] {
                for (index, item) in container[key].as_array().into_iter().flatten().enumerate() {
                    support::note(item, table, &path.key(key).index(index), notes);
                }
            }
        }
    }
}

fn restart_policy(policy: Option<&str>, path: &KeyPath, notes: &mut Notes) -> RestartPolicy {
    match policy {
        None | Some("Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        Some(other) => {
            let what = format!("{other:?} is no restart policy");
            notes.problem(&path.key("restartPolicy"), what, "say Always, OnFailure or Never");
            RestartPolicy::Always
        }
    }
}

/// The volumes that containers mount and a single host can give.
fn volumes(spec: &PodSpec, path: &KeyPath, notes: &mut Notes) -> Vec<Volume> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mounted: HashSet<&str> = containers
        .flat_map(|container| container.volume_mounts.iter().flatten())
        .map(|mount| mount.name.as_str())
        .collect();
    let mut names = HashSet::new();
    let mut volumes = Vec::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = path.key("volumes").index(index);
        if !names.insert(volume.name.as_str()) {
            let what = format!("{:?} is the name of another volume", volume.name);
            notes.problem(&path.key("name"), what, "names of volumes are unique in a pod");
        }
        if volume.empty_dir.is_none() {
            if mounted.contains(volume.name.as_str()) {
                notes.needs_cluster(&path, "only emptyDir volumes can be had here");
            } else {
                notes.without_effect(&path, "no container mounts it");
            }
        }
        volumes.push(Volume { name: volume.name.clone(), kind: volume_kind(volume, &path, notes) });
    }
    volumes
}

fn volume_kind(volume: &KubernetesVolume, path: &KeyPath, notes: &mut Notes) -> VolumeKind {
    let Some(directory) = &volume.empty_dir else { return VolumeKind::Disk };
    let path = path.key("emptyDir");
    let limit_path = path.key("sizeLimit");
    let size_limit = directory.size_limit.as_ref().and_then(|limit| bytes(&limit.0, &limit_path, notes));
    match directory.medium.as_deref() {
        Some("Memory") => VolumeKind::Memory { size_limit },
        None | Some("") => {
            if size_limit.is_some() {
                notes.without_effect(&limit_path, "only a kubelet evicts a pod whose files outgrow it");
            }
            VolumeKind::Disk
        }
        Some(other) => {
            let hint = "say Memory, or leave it out for a directory on disk";
            notes.problem(&path.key("medium"), format!("{other:?} cannot be had here"), hint);
            VolumeKind::Disk
        }
    }
}

/// Bytes of memory from Kubernetes' words.
pub(super) fn bytes(text: &str, path: &KeyPath, notes: &mut Notes) -> Option<u64> {
    match quantity::memory(text) {
        Ok(bytes) if bytes >= MOST_MEMORY => {
            notes.problem(
                path,
                format!("{text:?} is more memory than any machine has"),
                "did you mean Mi or Gi?",
            );
            None
        }
        Ok(bytes) => Some(bytes),
        Err((what, hint)) => {
            notes.problem(path, what, hint);
            None
        }
    }
}

/// A controller's pods are restarted as it says (apps and batch `ValidatePodTemplateSpecFor*`).
fn restarts_fit(pod: &Pod, path: &KeyPath, notes: &mut Notes) {
    let path = path.key("restartPolicy");
    match (pod.kind, pod.restart_policy) {
        (PodKind::Job, RestartPolicy::Always) => {
            notes.problem(&path, "is Always, and a Job's pods end", "say Never or OnFailure");
        }
        (
            PodKind::Deployment | PodKind::StatefulSet | PodKind::DaemonSet,
            RestartPolicy::Never | RestartPolicy::OnFailure,
        ) => {
            notes.problem(
                &path,
                "is not Always, as a controller asks of its pods",
                "leave it out, or say kind: Job",
            );
        }
        (PodKind::Pod, _)
        | (PodKind::Job, RestartPolicy::Never | RestartPolicy::OnFailure)
        | (PodKind::Deployment | PodKind::StatefulSet | PodKind::DaemonSet, RestartPolicy::Always) => {}
    }
}

/// What must be right between a pod and its containers.
fn hold_together(pod: &Pod, bounded: bool, path: &KeyPath, notes: &mut Notes) {
    let requests =
        pod.containers.iter().filter(|container| container.role != Role::Init).filter_map(|c| c.request);
    let requested: u64 = requests.fold(0, u64::saturating_add);
    if pod.pod_limit.is_some_and(|limit| limit < requested) {
        let hint = "raise it, or lower the containers' requests.memory (where only a limit is given, it is the request too)";
        notes.problem(
            &path.keys("resources.limits.memory"),
            "is less than the containers request together",
            hint,
        );
    }
    let (mut init, mut main) = (0, 0);
    for container in &pod.containers {
        let path = match container.role {
            Role::Init | Role::Sidecar => {
                init += 1;
                path.key("initContainers").index(init - 1)
            }
            Role::Main => {
                main += 1;
                path.key("containers").index(main - 1)
            }
        };
        if !containers::states_memory(pod, &container.name, true) && pod.pod_limit.is_none() && !bounded {
            notes.problem(
                &path,
                format!("container {:?} has no memory limit, and nothing else bounds it", container.name),
                "give it resources.limits.memory, or give the node a budget (node: {memory: 256Mi})",
            );
        }
        if let (Some(limit), Some(pod_limit)) = (container.limit, pod.pod_limit)
            && limit > pod_limit
        {
            let hint = "lower it, or raise spec.resources.limits.memory";
            notes.problem(&path.keys("resources.limits.memory"), "is more than the pod's own limit", hint);
        }
    }
}
