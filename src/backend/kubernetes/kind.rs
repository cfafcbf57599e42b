//! The `kind` command line and the container engine below it: clusters, and what their nodes are.

mod call;
pub mod config;
mod guard;
mod kubelet;
mod lose;
mod mark;
mod usage;
mod version;

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::image::Image;
use super::node::LocalNode;
use crate::backend::BackendError;
use crate::backend::local::cgroup::{Hierarchy, Version as CgroupVersion};
use crate::backend::local::in_initial_pid_namespace;
use config::Settings;
pub use guard::Guard;
pub use mark::{Maker, name_of_run};
pub use version::Version;

/// How often a cluster's removal is tried.
const DELETE_TRIES: u32 = 10;
/// How long it takes an engine to come to the end of what it was asked for before.
const DELETE_AGAIN: Duration = Duration::from_secs(1);

/// `kind` and the engine that it uses.
#[derive(Clone, Debug)]
pub struct Kind {
    engine: String,
    version: Option<Version>,
    /// What the engine says of itself.
    pub engine_facts: EngineFacts,
}

/// What the container engine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
    /// `systemd` or `cgroupfs`.
    pub cgroup_driver: String,
    /// Where it keeps its images.
    pub root: String,
}

/// What a new cluster is to be like.
#[derive(Clone, Debug, Default)]
pub struct NewCluster<'a> {
    /// The user's own kind config.
    pub config: Option<&'a Path>,
    /// The node image, instead of kind's own.
    pub node_image: Option<&'a str>,
    /// Where its credentials go, instead of the user's own file.
    pub kubeconfig: Option<&'a Path>,
    /// What its nodes are to be like.
    pub settings: Settings,
}

impl Kind {
    /// Finds both programs, asks whether they answer, and refuses those that are too old.
    pub async fn find() -> Result<Self, BackendError> {
        let engine = engine();
        let said = call::run("kind", &["version"]).await?;
        tracing::info!("{}", said.trim());
        let version = version::check("kind", &said)?;
        let format = match engine.as_str() {
            "podman" => "{{.Version.Version}} {{.Host.CgroupManager}} {{.Store.GraphRoot}}",
            _ => "{{.ServerVersion}} {{.CgroupDriver}} {{.DockerRootDir}}",
        };
        let said = call::run(&engine, &["info", "-f", format]).await?;
        let mut words = said.split_whitespace().map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        let engine_facts = EngineFacts { version: next(), cgroup_driver: next(), root: next() };
        version::check(&engine, &engine_facts.version)?;
        Ok(Self { engine, version, engine_facts })
    }

    /// Its name, for a person.
    pub fn engine_name(&self) -> &str {
        &self.engine
    }

    /// Whether the engine has an image.
    pub async fn has_image(&self, image: &str) -> bool {
        self.engine(&["image", "inspect", "-f", "{{.Id}}", image]).await.is_ok()
    }

    /// Calls the engine.
    async fn engine(&self, args: &[&str]) -> Result<String, BackendError> {
        call::run(&self.engine, args).await
    }

    /// The clusters that there are.
    pub async fn clusters(&self) -> Result<Vec<String>, BackendError> {
        Ok(lines(&call::run("kind", &["get", "clusters"]).await?))
    }

    /// Makes a cluster, waits until it is ready, and guards the host's memory against it. What fails half way is removed.
    pub async fn create(&self, cluster: &str, new: &NewCluster<'_>) -> Result<(), BackendError> {
        let made = self.create_whole(cluster, new).await;
        if made.is_err()
            && let Err(error) = self.delete(cluster).await
        {
            tracing::warn!("the cluster {cluster} that was begun could not be removed: {error}");
        }
        made
    }

    async fn create_whole(&self, cluster: &str, new: &NewCluster<'_>) -> Result<(), BackendError> {
        let own = match new.config {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                BackendError::doing(format!("read the kind config {}", path.display()), error)
            })?),
            None => None,
        };
        // A kubelet of 1.35 does not start on v1 unless it is told to; on v2 it has nothing to say about it.
        let on_v1 = Hierarchy::find().is_ok_and(|hierarchy| hierarchy.version == CgroupVersion::V1);
        let knows = on_v1 && version::knows_fail_cgroup_v1(new.node_image, self.version);
        let config = config::generate(own.as_deref(), &new.settings, knows.then_some(false))?;
        tracing::debug!("kind config: {config}");
        let mut args = vec!["create", "cluster", "--name", cluster, "--wait", "120s", "--config", "-"];
        args.extend(new.node_image.iter().flat_map(|image| ["--image", image]));
        let kubeconfig = new.kubeconfig.map(|path| path.display().to_string());
        args.extend(kubeconfig.iter().flat_map(|path| ["--kubeconfig", path.as_str()]));
        call::run_with_input("kind", &args, config.as_bytes()).await?;
        self.guard_all(cluster).await
    }

    /// Removes a cluster, with what a creation that was broken off may still bring forth.
    pub async fn delete(&self, cluster: &str) -> Result<(), BackendError> {
        let mut tries = 1;
        loop {
            match self.delete_once(cluster).await {
                // Docker lists one that is removed while it is being started until it has given that up.
                Err(error) if tries < DELETE_TRIES => tracing::info!("{error}"),
                done => return done,
            }
            tries += 1;
            sleep(DELETE_AGAIN).await;
        }
    }

    async fn delete_once(&self, cluster: &str) -> Result<(), BackendError> {
        // Its credentials go with it, in whichever file they are by default.
        call::run("kind", &["delete", "cluster", "--name", cluster]).await?;
        let label = format!("label=io.x-k8s.kind.cluster={cluster}");
        let left = lines(&self.engine(&["ps", "-aq", "--filter", &label]).await?);
        for node in &left {
            self.engine(&["rm", "-f", "-v", node]).await?;
        }
        if left.is_empty() {
            return Ok(());
        }
        Err(BackendError(format!("{} still listed the nodes {} of {cluster}", self.engine, left.join(", "))))
    }

    /// Removes a cluster whose making was broken off: what the engine was asked for before that may come only now.
    pub async fn delete_begun(&self, cluster: &str) -> Result<(), BackendError> {
        self.delete(cluster).await?;
        sleep(DELETE_AGAIN).await;
        self.delete(cluster).await
    }

    /// The names of a cluster's nodes.
    pub async fn nodes(&self, cluster: &str) -> Result<Vec<String>, BackendError> {
        let nodes = lines(&call::run("kind", &["get", "nodes", "--name", cluster]).await?);
        if nodes.is_empty() {
            return Err(BackendError(format!(
                "kind knows no nodes of a cluster {cluster}; `exit137 cluster list` names those there are"
            )));
        }
        Ok(nodes)
    }

    /// Loads the image onto every node that lacks it.
    pub async fn load(&self, cluster: &str, image: &Image) -> Result<(), BackendError> {
        let mut lacking = Vec::new();
        for node in self.nodes(cluster).await? {
            let args = ["exec", &node, "ctr", "-n", "k8s.io", "images", "ls", "-q"];
            if !self.engine(&args).await?.contains(image.name()) {
                lacking.push(node);
            }
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let folder = tempfile::tempdir().map_err(|error| BackendError::doing("make a folder", error))?;
        let archive = folder.path().join("exit137.tar");
        image.write(&archive).map_err(|error| BackendError::doing("write the image", error))?;
        let (archive, nodes) = (archive.display().to_string(), lacking.join(","));
        let args = ["load", "image-archive", &archive, "--name", cluster, "--nodes", &nodes];
        call::run("kind", &args).await.map(drop)
    }

    /// The nodes whose cgroups and processes can be seen from here; none where this is not root on the engine's own host.
    pub async fn nodes_on_this_host(&self, cluster: &str) -> Result<Vec<LocalNode>, BackendError> {
        let Ok(hierarchy) = Hierarchy::find() else { return Ok(Vec::new()) };
        if !rustix::process::geteuid().is_root() || !in_initial_pid_namespace() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for name in self.nodes(cluster).await? {
            let pid = self.engine(&["inspect", "-f", "{{.State.Pid}}", &name]).await?;
            let Some(cgroup) = memory_cgroup(pid.trim()) else { continue };
            if hierarchy.mount.join(cgroup.trim_start_matches('/')).is_dir() {
                let (mount, version) = (hierarchy.mount.clone(), hierarchy.version);
                found.push(LocalNode { name, cgroup, mount, version });
            }
        }
        Ok(found)
    }
}

/// Those of a cluster's nodes that run pods of ours: the workers, or the only node. kind names nodes after what they are.
pub fn for_pods(nodes: Vec<String>) -> Vec<String> {
    let (control, workers): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|node| node.contains("-control-plane"));
    if workers.is_empty() { control } else { workers }
}

/// The container engine that kind uses.
pub(super) fn engine() -> String {
    match std::env::var("KIND_EXPERIMENTAL_PROVIDER") {
        Ok(provider) if !provider.is_empty() => provider,
        Ok(_) | Err(_) => "docker".to_owned(),
    }
}

/// The memory cgroup of a node's container, by that of its first process: v1's line of the memory controller, or v2's.
fn memory_cgroup(pid: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of = |wanted: &str| {
        text.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|controller| controller == wanted).then_some(path)
        })
    };
    let path = of("memory").or_else(|| of(""))?;
    Some(path.trim_end_matches("/init.scope").to_owned())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
