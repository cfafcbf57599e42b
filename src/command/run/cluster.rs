//! What a run on a cluster needs, and whether a scenario can run there.

use tokio::time::Instant;

use crate::backend::BackendError;
use crate::backend::kubernetes::image::Image;
use crate::backend::kubernetes::kind::{Kind, Maker, NewCluster, name_of_run};
use crate::backend::kubernetes::{Access, Keep, KubernetesBackend, preflight};
use crate::backend::local::cgroup::Hierarchy;
use crate::backend::local::lock::{self, RunLock};
use crate::backend::local::{gc, in_initial_pid_namespace};
use crate::cli;
use crate::command::cluster::context;
use crate::command::complain;
use crate::evidence::ClusterFacts;
use crate::loader::Loaded;
use crate::scenario::{Act, Program, Requirement, Role, Scenario, Volume, VolumeKind};

use super::plan::{Group, plan};

/// Where a run's scenarios may run on clusters: any cluster by its context, or kind's.
#[derive(Debug)]
pub(super) enum Clusters {
    Named(Box<Access>),
    Kind(Box<KindClusters>),
}

/// kind's, among them those that this run makes for itself.
#[derive(Debug)]
pub(super) struct KindClusters {
    kind: Kind,
    image: Image,
    /// The cluster of `--cluster` is there.
    there: bool,
    /// In the names of the clusters that it makes, which are its own for as long as it holds the lock.
    run: String,
    keep: Keep,
    _lock: RunLock,
    /// For those clusters' credentials.
    folder: tempfile::TempDir,
}

/// A cluster that is ready, and which of kind's it is if this run made it.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) backend: KubernetesBackend,
    pub(super) made: Option<MadeCluster>,
}

/// A cluster that this run made and removes: at the latest when this is dropped.
#[derive(Debug)]
pub(super) struct MadeCluster {
    name: String,
    kind: Option<Kind>,
}

impl Clusters {
    /// Finds what is needed to reach or make clusters, and removes those that dead runs left.
    pub(super) async fn find(args: &cli::Running) -> Result<Self, BackendError> {
        if let (cli::Backend::Cluster, Some(context), Some(image)) = (args.on, &args.context, &args.image) {
            let (context, image) = (context.clone(), image.clone());
            return Ok(Self::Named(Box::new(Access {
                context,
                kubeconfig: None,
                image,
                nodes: Vec::new(),
                kind: None,
                keep: keep(args.keep),
            })));
        }
        let kind = Kind::find().await?;
        preflight::check(&kind, args.kind.node_image.as_deref()).await?;
        for what in kind.collect(false).await? {
            tracing::warn!("removed what a killed run left behind: {what}");
        }
        let run = gc::new_run_name();
        let lock = RunLock::take(&run, 0).map_err(|error| {
            BackendError::doing(format!("lock {}", lock::directory().join(&run).display()), error)
        })?;
        let there = kind.clusters().await?.contains(&args.kind.cluster);
        let folder = tempfile::tempdir().map_err(|error| BackendError::doing("make a folder", error))?;
        let image = Image::build()?;
        Ok(Self::Kind(Box::new(KindClusters {
            kind,
            image,
            there,
            run,
            keep: keep(args.keep),
            _lock: lock,
            folder,
        })))
    }

    /// Which scenarios run where.
    pub(super) fn plan<'a>(&self, scenarios: &[&'a Loaded]) -> Vec<Group<'a>> {
        match self {
            Self::Named(_) => vec![Group { made: None, scenarios: scenarios.to_vec() }],
            Self::Kind(kind) => {
                let cgroup = Hierarchy::find().map_or(2, |hierarchy| hierarchy.version.number());
                plan(scenarios, cgroup, kind.there)
            }
        }
    }

    /// Gets the cluster of a group ready.
    pub(super) async fn prepare(
        &self,
        args: &cli::Running,
        number: usize,
        group: &Group<'_>,
    ) -> Result<Ready, BackendError> {
        match (self, &group.made) {
            (Self::Named(access), _) => {
                Ok(Ready { backend: KubernetesBackend::prepare(Access::clone(access)).await?, made: None })
            }
            (Self::Kind(kind), None) => {
                let backend = kind.backend(&args.kind.cluster, None).await?;
                Ok(Ready { backend, made: None })
            }
            (Self::Kind(kind), Some(settings)) => {
                let name = name_of_run(&kind.run, number);
                let kubeconfig = kind.folder.path().join(&name);
                let why = match settings.wanted_by.as_slice() {
                    [] => format!("there is no {}", args.kind.cluster),
                    wanted_by => format!("for {}", wanted_by.join(", ")),
                };
                complain(&format!("making the kind cluster {name} ({why}); this takes a minute"));
                let began = Instant::now();
                let made = MadeCluster { name: name.clone(), kind: Some(kind.kind.clone()) };
                let new = NewCluster {
                    config: args.kind.kind_config.as_deref(),
                    node_image: args.kind.node_image.as_deref(),
                    kubeconfig: Some(&kubeconfig),
                    settings: settings.clone(),
                };
                let ready = async {
                    kind.kind.create(&name, &new).await?;
                    kind.kind.load(&name, &kind.image).await?;
                    kind.kind.tune(&name, &context(&name), Some(&kubeconfig), settings).await?;
                    kind.backend(&name, Some(kubeconfig.clone())).await
                };
                match ready.await {
                    Ok(backend) => {
                        complain(&format!("made {name} in {} s", began.elapsed().as_secs()));
                        Ok(Ready { backend, made: Some(made) })
                    }
                    Err(error) => {
                        made.remove().await?;
                        Err(error)
                    }
                }
            }
        }
    }
}

impl KindClusters {
    async fn backend(
        &self,
        cluster: &str,
        kubeconfig: Option<std::path::PathBuf>,
    ) -> Result<KubernetesBackend, BackendError> {
        let kind = &self.kind;
        if kubeconfig.is_none() {
            kind.guard_all(cluster).await?;
            kind.load(cluster, &self.image).await?;
        }
        let own = kubeconfig.is_some().then(|| (kind.clone(), cluster.to_owned()));
        KubernetesBackend::prepare(Access {
            context: context(cluster),
            kubeconfig,
            image: self.image.name().to_owned(),
            nodes: kind.nodes_on_this_host(cluster).await?,
            kind: own,
            keep: self.keep,
        })
        .await
    }
}

impl MadeCluster {
    /// Removes it.
    pub(super) async fn remove(mut self) -> Result<(), BackendError> {
        match self.kind.take() {
            Some(kind) => kind.delete(&self.name).await,
            None => Ok(()),
        }
    }

    /// Leaves it, with a mark that says so; answers how to reach it.
    pub(super) async fn keep(mut self) -> Result<String, BackendError> {
        let name = self.name.clone();
        if let Some(kind) = self.kind.take() {
            kind.mark(&name, Maker::KeptByRun).await?;
        }
        Ok(format!(
            "kept the kind cluster {name}: `kind export kubeconfig --name {name}` reaches it, `exit137 cluster down --cluster \
             {name}` removes it"
        ))
    }
}

impl Drop for MadeCluster {
    fn drop(&mut self) {
        // Only a panic or a future that is no longer waited for comes here.
        let Some(kind) = self.kind.take() else { return };
        let name = self.name.clone();
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| BackendError::doing("start a runtime", error))?;
            runtime.block_on(kind.delete_begun(&name))
        });
        if let Ok(Err(error)) = deleting.join() {
            complain(&format!(
                "the kind cluster {} is left behind; `exit137 gc` removes it: {error}",
                self.name
            ));
        }
    }
}

fn keep(told: cli::Keep) -> Keep {
    match told {
        cli::Keep { keep: true, .. } => Keep::Everything,
        cli::Keep { keep_on_failure: true, .. } => Keep::Failed,
        cli::Keep { .. } => Keep::Nothing,
    }
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
    required
        .or_else(|| of_the_node(scenario, on))
        .or_else(|| not_there_yet(scenario))
        .or_else(|| no_hand(scenario, on))
}

/// What a scenario asks of its node and that cannot be had.
fn of_the_node(scenario: &Scenario, on: cli::Backend) -> Option<String> {
    let node = &scenario.node;
    let told = node.is_used_up() || node.max_pods.is_some() || node.workers.is_some();
    if told && on != cli::Backend::Kind {
        return Some(
            "wants a node of its own kind, which exit137 makes with kind only (--on kind)".to_owned(),
        );
    }
    if scenario.stops_a_kubelet() && on != cli::Backend::Kind {
        return Some(
            "stops a node's kubelet, which is done on clusters that exit137 makes with kind only (--on kind)"
                .to_owned(),
        );
    }
    let by_hand = node.memory.is_some() || node.capacity.is_some();
    let on_host = rustix::process::geteuid().is_root() && in_initial_pid_namespace();
    (by_hand && !on_host)
        .then(|| "changes its node's cgroups: needs root on the host of the kind cluster".to_owned())
}

/// What is done to a node's processes and cgroups is done from its host. An agent only looks.
fn no_hand(scenario: &Scenario, on: cli::Backend) -> Option<String> {
    if on == cli::Backend::Kind && rustix::process::geteuid().is_root() {
        return None;
    }
    scenario.actions.iter().find_map(|action| match &action.act {
        Act::Delete { .. }
        | Act::Drain { .. }
        | Act::Rollout { .. }
        | Act::Create { .. }
        | Act::Resize { .. }
        | Act::LoseContainer { .. } => None,
        Act::Kill { .. } | Act::SetLimit { .. } => Some(format!(
            "cannot {} there: that takes root on the nodes' own host (--on kind, as root), and an agent only looks",
            action.act
        )),
    })
}

/// What a scenario asks for that this version of Kubernetes does not know.
pub(super) fn too_old(
    scenario: &Scenario,
    on: cli::Backend,
    cluster: &ClusterFacts,
    cgroup_version: u8,
) -> Option<String> {
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
    // Before, a memory limit can only be raised in place (KEP-1287).
    let lowers = scenario.actions.iter().any(|action| {
        let Act::Resize { container, memory } = &action.act else { return false };
        scenario.limit_of(container).is_some_and(|limit| *memory < limit)
    });
    let lower = lowers.then(|| needs(34, "lowering a memory limit in place (pods/resize)")).flatten();
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
    of_cgroups
        .or(lower)
        .or(resize)
        .or(of_pods)
        .or_else(|| kills_groups(scenario, on, cluster, cgroup_version))
}

/// From 1.28 to 1.31 a kubelet on cgroup v2 cannot be told to kill single processes (kubernetes#117793, #126096), and later
/// ones are told so only where exit137 makes the cluster.
fn kills_groups(
    scenario: &Scenario,
    on: cli::Backend,
    cluster: &ClusterFacts,
    cgroup_version: u8,
) -> Option<String> {
    if !scenario.node.single_process_oom_kill || cgroup_version != 2 || cluster.minor < 28 {
        return None;
    }
    if cluster.minor < 32 {
        return Some(format!(
            "singleProcessOOMKill needs Kubernetes 1.32; the cluster runs {}",
            cluster.version
        ));
    }
    (on == cli::Backend::Cluster).then(|| {
        "needs a kubelet with singleProcessOOMKill, which exit137 sets where it makes the cluster (--on kind)".to_owned()
    })
}

/// What exit137 cannot bring about on a cluster yet.
fn not_there_yet(scenario: &Scenario) -> Option<String> {
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
