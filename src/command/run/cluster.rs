//! What a run on a cluster needs, and whether a scenario can run there.

use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::kubernetes::image::Image;
use crate::backend::kubernetes::kind::Kind;
use crate::backend::local::cgroup::Hierarchy;
use crate::cli;
use crate::command::cluster::{context, ensure};
use crate::evidence::ClusterFacts;
use crate::scenario::{Act, Program, Requirement, Role, Scenario, Volume, VolumeKind};

/// Finds or makes the cluster, sees to it that it has our image, and makes what the run needs there.
pub(super) async fn prepare(args: &cli::Run) -> Result<KubernetesBackend, String> {
    let prepared = match (args.on, &args.context, &args.image) {
        (cli::Backend::Cluster, Some(context), Some(image)) => {
            KubernetesBackend::prepare(context, image.clone(), Vec::new()).await
        }
        _ => on_kind(args).await,
    };
    prepared.map_err(|error| error.to_string())
}

async fn on_kind(args: &cli::Run) -> Result<KubernetesBackend, crate::backend::BackendError> {
    let kind = Kind::find().await?;
    let cluster = &args.kind.cluster;
    ensure(&kind, &args.kind).await?;
    let image = Image::build()?;
    kind.load(cluster, &image).await?;
    let nodes = kind.nodes_on_this_host(cluster).await?;
    KubernetesBackend::prepare(&context(cluster), image.name().to_owned(), nodes).await
}

/// What a scenario asks for that cannot be had there.
pub(super) fn lack(scenario: &Scenario, on: cli::Backend) -> Option<String> {
    let required = scenario.requires.iter().find_map(|requirement| match requirement {
        Requirement::Cgroup(wanted) => {
            let here = Hierarchy::find().map_or(0, |hierarchy| hierarchy.version.number());
            // A kind node has this host's kernel.
            let differs = on == cli::Backend::Kind && here != *wanted;
            differs.then(|| format!("needs cgroup v{wanted}; the nodes have v{here}"))
        }
        Requirement::DisposableHost => {
            Some("lets a whole machine run out of memory, which is never done to a cluster".to_owned())
        }
        Requirement::Program(program) => {
            Some(format!("needs the program {program}, which an image on a cluster would have to bring"))
        }
        Requirement::Cluster | Requirement::Root => None,
    });
    required.or_else(|| not_there_yet(scenario)).or_else(|| no_hand(scenario, on))
}

/// What is done to a node's processes and cgroups is done from its host. An agent only looks.
fn no_hand(scenario: &Scenario, on: cli::Backend) -> Option<String> {
    if on == cli::Backend::Kind && rustix::process::geteuid().is_root() {
        return None;
    }
    scenario.actions.iter().find_map(|action| match &action.act {
        Act::Delete { .. } | Act::Drain { .. } | Act::Rollout { .. } | Act::Create { .. } | Act::Resize { .. } => None,
        Act::Kill { .. } | Act::SetLimit { .. } => Some(format!(
            "cannot {} there: that takes root on the nodes' own host (--on kind, as root), and an agent only looks",
            action.act
        )),
    })
}

/// What a scenario asks for that this version of Kubernetes does not know.
pub(super) fn too_old(scenario: &Scenario, cluster: &ClusterFacts, cgroup_version: u8) -> Option<String> {
    let of_cgroups = scenario.requires.iter().find_map(|requirement| match requirement {
        Requirement::Cgroup(wanted) if *wanted != cgroup_version => {
            Some(format!("needs cgroup v{wanted}; the nodes have v{cgroup_version}"))
        }
        Requirement::Cgroup(_)
        | Requirement::DisposableHost
        | Requirement::Program(_)
        | Requirement::Cluster
        | Requirement::Root => None,
    });
    let needs = |minor: u32, what: &str| {
        (cluster.minor < minor)
            .then(|| format!("{what} needs Kubernetes 1.{minor}; the cluster runs {}", cluster.version))
    };
    let resizes = scenario.actions.iter().any(|action| matches!(action.act, Act::Resize { .. }));
    // KEP-1287 (InPlacePodVerticalScaling): on by default since.
    let resize = resizes.then(|| needs(33, "resizing in place (pods/resize)")).flatten();
    let of_pods = scenario.pods.iter().find_map(|pod| {
        let sidecar = pod.containers.iter().any(|container| container.role == Role::Sidecar);
        let sized = |volume: &Volume| matches!(volume.kind, VolumeKind::Memory { size_limit: Some(_) });
        // KEP-2837 (PodLevelResources), KEP-753 (SidecarContainers), KEP-1967 (SizeMemoryBackedVolumes): on by default since.
        let pod_level = pod.pod_limit.and_then(|_| needs(34, "a pod's own limit"));
        let sidecar = || sidecar.then(|| needs(29, "a sidecar container")).flatten();
        let sized =
            || pod.volumes.iter().any(sized).then(|| needs(22, "a memory volume's sizeLimit")).flatten();
        pod_level.or_else(sidecar).or_else(sized)
    });
    of_cgroups.or(resize).or(of_pods)
}

/// What exit137 cannot bring about on a cluster yet.
fn not_there_yet(scenario: &Scenario) -> Option<String> {
    if scenario.node.memory.is_some() {
        return Some("node.memory: a cluster's node cannot be given a budget yet".to_owned());
    }
    for pod in &scenario.pods {
        for container in &pod.containers {
            if let Program::Workload(workload) = &container.program
                && workload.cpu.is_some()
            {
                return Some(format!(
                    "{}/{}: how much CPU time a process had used is not seen on a cluster",
                    pod.name, container.name
                ));
            }
            let of_spec = pod.spec.init_containers.iter().flatten().chain(&pod.spec.containers);
            let image = of_spec.filter(|own| own.name == container.name).find_map(|own| own.image.as_ref());
            if matches!(container.program, Program::Command(_)) && image.is_none() {
                return Some(format!(
                    "{}/{}: a command needs an image on a cluster",
                    pod.name, container.name
                ));
            }
        }
    }
    None
}
