//! Containers: what they run, with which memory, and what is mounted into them.

use std::collections::{BTreeMap, HashSet};

use exit137_workload::{Kind, Workload};
use k8s_openapi::api::core::v1::{Container as KubernetesContainer, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use crate::scenario::problem::KeyPath;
use crate::scenario::quantity;
use crate::scenario::{Container, EnvVar, Mount, Pod, Program, Role, Volume, VolumeKind};

use super::{Notes, pods, probes};

/// The workloads of a pod, by where their containers are.
pub(super) type Workloads = BTreeMap<KeyPath, Workload>;

/// Takes the workloads out of a spec, so that Kubernetes' own is left.
pub(super) fn take_workloads(spec: &mut Value, path: &KeyPath, notes: &mut Notes) -> Workloads {
    let mut workloads = Workloads::new();
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let path = path.key(list).index(index);
            let Some(value) = container.as_object_mut().and_then(|map| map.remove("workload")) else {
                continue;
            };
            let at = path.key("workload");
            let workload = serde_json::from_value(value).unwrap_or_else(|error| {
                notes.problem_with_hint(&at, &error.to_string());
                Workload::default()
            });
            for problem in workload.problems() {
                notes.problem_with_hint(&at, &problem);
            }
            workloads.insert(path, workload);
        }
    }
    workloads
}

/// All containers of a pod: init containers and sidecars in their order, then the main ones.
pub(super) fn containers(
    spec: &PodSpec,
    mut workloads: Workloads,
    volumes: &[Volume],
    path: &KeyPath,
    notes: &mut Notes,
) -> Vec<Container> {
    let mut names = HashSet::new();
    let mut containers = Vec::new();
    let lists = [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", &spec.containers),
    ];
    for (list, found) in lists {
        if list == "containers" && found.is_empty() {
            notes.problem(&path.key(list), "is empty", "a pod has at least one container");
        }
        for (index, found) in found.iter().enumerate() {
            let path = path.key(list).index(index);
            if !is_label(&found.name) {
                let hint = "a name has at most 63 lower-case letters, digits and hyphens";
                notes.problem(&path.key("name"), format!("{:?} is no container's name", found.name), hint);
            }
            if !names.insert(found.name.as_str()) {
                let what = format!("{:?} is the name of another container of this pod", found.name);
                notes.problem(&path.key("name"), what, "give it a name of its own");
            }
            let role = role(found, list == "initContainers", &path, notes);
            let program = program(found, workloads.remove(&path), &path, notes);
            containers.push(container(found, role, program, spec, volumes, &path, notes));
        }
    }
    containers
}

fn is_label(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inside)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn role(found: &KubernetesContainer, init: bool, path: &KeyPath, notes: &mut Notes) -> Role {
    let path = path.key("restartPolicy");
    match (init, found.restart_policy.as_deref()) {
        (true, Some("Always")) => Role::Sidecar,
        (_, Some("Always" | "OnFailure" | "Never")) => {
            notes.needs_cluster(&path, "the kubelet applies a container's own policy");
            if init { Role::Init } else { Role::Main }
        }
        (true, None) => Role::Init,
        (false, None) => Role::Main,
        (_, Some(other)) => {
            notes.problem(&path, format!("{other:?} is no restart policy"), "say Always, OnFailure or Never");
            Role::Main
        }
    }
}

fn program(
    found: &KubernetesContainer,
    workload: Option<Workload>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Program {
    let command: Vec<String> =
        found.command.iter().flatten().chain(found.args.iter().flatten()).cloned().collect();
    if let Some(workload) = workload {
        if !command.is_empty() {
            let hint = "a container runs one or the other; keep one of them";
            notes.problem(path, "has a workload and a command", hint);
        }
        return Program::Workload(Box::new(workload));
    }
    if found.command.as_ref().is_none_or(Vec::is_empty) {
        match (&found.image, command.is_empty()) {
            (Some(_), _) => {
                notes.needs_cluster(&path.key("image"), "no image is run here, and it has no command");
            }
            (None, true) => {
                let hint = "say workload: {idle: {}}, or image, or command: [sleep, infinity]";
                notes.problem(path, "has nothing to run", hint);
            }
            (None, false) => {
                let hint = "say the image whose entry point takes them, or the command too";
                notes.problem(path, "has args and no command", hint);
            }
        }
    } else if command[0].is_empty() {
        notes.problem(&path.key("command"), "names no program", "say for example [sleep, infinity]");
    }
    Program::Command(command)
}

fn container(
    found: &KubernetesContainer,
    role: Role,
    program: Program,
    spec: &PodSpec,
    volumes: &[Volume],
    path: &KeyPath,
    notes: &mut Notes,
) -> Container {
    let (request, limit) = memory(found.resources.as_ref(), &path.key("resources"), notes);
    let context = found.security_context.as_ref();
    let pod_context = spec.security_context.as_ref();
    let (user, user_path) = match context.and_then(|context| context.run_as_user) {
        Some(user) => (Some(user), path.keys("securityContext.runAsUser")),
        None => (pod_context.and_then(|context| context.run_as_user), path.clone()),
    };
    let run_as_user = user.and_then(|user| {
        let number = u32::try_from(user).ok().filter(|user| *user < u32::MAX);
        if number.is_none() {
            notes.problem(
                &user_path,
                format!("runAsUser {user} is no user's number"),
                "say for example 65534",
            );
        }
        number
    });
    let ports = probes::Ports::of(found);
    let mounts = mounts(found, volumes, path, notes);
    if let Program::Workload(workload) = &program {
        check_paths(workload, &mounts, volumes, path, notes);
    }
    Container {
        name: found.name.clone(),
        role,
        program,
        env: env(found, path, notes),
        working_dir: found.working_dir.clone().filter(|directory| !directory.is_empty()),
        request,
        limit,
        cpu_guaranteed: cpu_guaranteed(found.resources.as_ref(), &path.key("resources"), notes),
        liveness: probes::probe(
            found.liveness_probe.as_ref(),
            &ports,
            &path.key("livenessProbe"),
            true,
            notes,
        ),
        startup: probes::probe(found.startup_probe.as_ref(), &ports, &path.key("startupProbe"), true, notes),
        readiness: probes::probe(
            found.readiness_probe.as_ref(),
            &ports,
            &path.key("readinessProbe"),
            false,
            notes,
        ),
        pre_stop: probes::pre_stop(found, &ports, path, notes),
        mounts,
        run_as_user,
        allow_privilege_escalation: context.and_then(|context| context.allow_privilege_escalation)
            == Some(true),
    }
}

/// Whether a container states a memory limit (or request), be it one that can be read or not.
pub(super) fn states_memory(pod: &Pod, container: &str, limit: bool) -> bool {
    let containers = pod.spec.init_containers.iter().flatten().chain(&pod.spec.containers);
    containers.filter(|found| found.name == container).filter_map(|found| found.resources.as_ref()).any(
        |resources| {
            let states = |quantities: &Quantities| {
                quantities.as_ref().is_some_and(|quantities| quantities.contains_key("memory"))
            };
            // A limit is a request too, by Kubernetes' defaulting.
            states(&resources.limits) || (!limit && states(&resources.requests))
        },
    )
}

type Quantities = Option<BTreeMap<String, Quantity>>;

/// Request and limit of memory. Where only a limit is given, it is the request too, as Kubernetes defaults it.
pub(super) fn memory(
    resources: Option<&ResourceRequirements>,
    path: &KeyPath,
    notes: &mut Notes,
) -> (Option<u64>, Option<u64>) {
    let Some(resources) = resources else { return (None, None) };
    let mut read = |quantities: &Quantities, key: &str| {
        let path = path.key(key);
        for name in quantities.iter().flatten().map(|(name, _)| name.as_str()) {
            match name {
                "memory" => {}
                "cpu" => notes
                    .without_effect(&path.key(name), "CPU is not limited here; it counts for the QoS class"),
                _ if name.starts_with("hugepages-") => {
                    notes.needs_cluster(&path.key(name), "the node reserves them");
                }
                _ if name == "ephemeral-storage" || name.contains('/') => {
                    notes.without_effect(&path.key(name), "only a kubelet accounts for it");
                }
                _ => notes.problem(
                    &path.key(name),
                    "is no resource",
                    "the resources are memory, cpu, ephemeral-storage",
                ),
            }
        }
        let text = &quantities.as_ref()?.get("memory")?.0;
        pods::bytes(text, &path.key("memory"), notes)
    };
    let request = read(&resources.requests, "requests");
    let limit = read(&resources.limits, "limits");
    let at = path.keys("limits.memory");
    if limit == Some(0) {
        notes.problem(&at, "is 0", "Kubernetes takes 0 for no limit; leave it out if that is meant");
    }
    if let (Some(request), Some(limit)) = (request, limit)
        && limit < request
    {
        notes.problem(&at, "is less than what is requested", "raise the limit, or lower requests.memory");
    }
    (request.or(limit), limit)
}

fn cpu_guaranteed(resources: Option<&ResourceRequirements>, path: &KeyPath, notes: &mut Notes) -> bool {
    let mut read = |quantities: Option<&Quantities>, key: &str| {
        let text = &quantities?.as_ref()?.get("cpu")?.0;
        let cpu = quantity::parse(text).filter(|cpu| cpu.milli >= 0);
        if cpu.is_none() {
            notes.problem(
                &path.key(key).key("cpu"),
                format!("{text:?} is no amount of CPU"),
                "say for example 500m or 2",
            );
        }
        cpu.map(|cpu| cpu.milli)
    };
    let request = read(resources.map(|resources| &resources.requests), "requests");
    let limit = read(resources.map(|resources| &resources.limits), "limits");
    limit.is_some_and(|limit| limit > 0 && request.is_none_or(|request| request == limit))
}

fn env(found: &KubernetesContainer, path: &KeyPath, notes: &mut Notes) -> Vec<EnvVar> {
    let mut env = Vec::new();
    for (index, variable) in found.env.iter().flatten().enumerate() {
        let path = path.key("env").index(index);
        let value = variable.value.clone().unwrap_or_default();
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            let what = format!("{:?} is no variable's name", variable.name);
            notes.problem(&path.key("name"), what, "a name holds no = and is not empty");
        }
        if value.contains('\0') {
            notes.problem(&path.key("value"), "holds a NUL", "no program can be given that");
        }
        if variable.value_from.is_none() {
            env.push(EnvVar { name: variable.name.clone(), value });
        }
    }
    env
}

fn mounts(found: &KubernetesContainer, volumes: &[Volume], path: &KeyPath, notes: &mut Notes) -> Vec<Mount> {
    let mut paths = HashSet::new();
    let mut mounts = Vec::new();
    for (index, mount) in found.volume_mounts.iter().flatten().enumerate() {
        let path = path.key("volumeMounts").index(index);
        if !volumes.iter().any(|volume| volume.name == mount.name) {
            let hint = "add it: volumes: [{name: …, emptyDir: {medium: Memory}}]";
            notes.problem(&path.key("name"), format!("there is no volume {:?}", mount.name), hint);
        }
        let at = &mount.mount_path;
        if !at.starts_with('/')
            || at.trim_end_matches('/').is_empty()
            || at.split('/').any(|part| part == "..")
        {
            let hint = "say an absolute path without .., for example /data";
            notes.problem(&path.key("mountPath"), format!("{at:?} is no place to mount at"), hint);
        }
        if !paths.insert(at.trim_end_matches('/')) {
            notes.problem(
                &path.key("mountPath"),
                "something is mounted there already",
                "choose another path",
            );
        }
        mounts.push(Mount {
            volume: mount.name.clone(),
            path: at.clone(),
            read_only: mount.read_only == Some(true),
        });
    }
    mounts
}

/// A workload that fills a tmpfs needs one, and one that fills the page cache must not be on one.
fn check_paths(workload: &Workload, mounts: &[Mount], volumes: &[Volume], path: &KeyPath, notes: &mut Notes) {
    let in_memory = |path: &str| {
        let holds = |mount: &&Mount| {
            let below = path.strip_prefix(mount.path.trim_end_matches('/'));
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mount = mounts.iter().filter(holds).max_by_key(|mount| mount.path.len());
        let kind = mount.and_then(|mount| volumes.iter().find(|volume| volume.name == mount.volume));
        kind.is_some_and(|volume| matches!(volume.kind, VolumeKind::Memory { .. }))
    };
    match workload.kind() {
        Ok(Kind::Tmpfs(tmpfs)) if !in_memory(&tmpfs.path) => notes.problem(
            &path.keys("workload.tmpfs.path"),
            format!("{:?} is not on an emptyDir with medium: Memory", tmpfs.path),
            "mount one there: volumeMounts and volumes",
        ),
        Ok(Kind::PageCache(cache)) if in_memory(&cache.path) => notes.problem(
            &path.keys("workload.pageCache.path"),
            format!(
                "{:?} is on an emptyDir with medium: Memory, which has no page cache to reclaim",
                cache.path
            ),
            "name a path on a disk",
        ),
        Ok(
            Kind::Tmpfs(_)
            | Kind::PageCache(_)
            | Kind::Hog(_)
            | Kind::Leak(_)
            | Kind::Children(_)
            | Kind::IgnoreTerm(_)
            | Kind::Exit(_)
            | Kind::Serve(_)
            | Kind::Cpu(_)
            | Kind::Idle,
        )
        | Err(_) => {}
    }
}

/// A number of seconds, `default` where none is given.
pub(super) fn seconds(value: Option<i64>, default: u32, path: &KeyPath, notes: &mut Notes) -> u32 {
    let Some(value) = value else { return default };
    match u32::try_from(value) {
        Ok(seconds) if seconds <= 86_400 => seconds,
        Ok(_) => {
            notes.problem(path, format!("{value} seconds are longer than a day"), "say at most 86400");
            default
        }
        Err(_) => {
            notes.problem(path, format!("{value} is no number of seconds"), "say 0 or more");
            default
        }
    }
}
