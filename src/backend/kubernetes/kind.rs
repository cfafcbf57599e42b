//! The `kind` command line and the container engine below it, called as programs.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;

use super::image::Image;
use super::node::LocalNode;
use crate::backend::BackendError;
use crate::backend::local::cgroup::Hierarchy;
use crate::backend::local::in_initial_pid_namespace;

/// So many of the last lines are shown when a program fails.
const TAIL: usize = 12;

/// The outer memory limit that a new node's container gets where it has none: far above what a fresh node uses.
const GUARD_ROOM: u64 = 8 << 30;

/// `kind` and the engine that it uses.
#[derive(Debug)]
pub struct Kind {
    engine: String,
}

/// What a new cluster is to be like.
#[derive(Clone, Debug, Default)]
pub struct NewCluster<'a> {
    /// The user's own kind config.
    pub config: Option<&'a Path>,
    /// The node image, instead of kind's own.
    pub node_image: Option<&'a str>,
}

impl Kind {
    /// Finds both programs and asks whether they answer.
    pub async fn find() -> Result<Self, BackendError> {
        let kind = Self { engine: engine() };
        let version = kind.run("kind", &["version"]).await?;
        tracing::info!("{}", version.trim());
        kind.run(&kind.engine, &["info"]).await?;
        Ok(kind)
    }

    /// The clusters that there are.
    pub async fn clusters(&self) -> Result<Vec<String>, BackendError> {
        Ok(lines(&self.run("kind", &["get", "clusters"]).await?))
    }

    /// Makes a cluster, waits until it is ready, and guards the host's memory against it.
    pub async fn create(&self, cluster: &str, new: &NewCluster<'_>) -> Result<(), BackendError> {
        let mut args = vec!["create", "cluster", "--name", cluster, "--wait", "120s"];
        let config = new.config.map(|path| path.display().to_string());
        args.extend(config.iter().flat_map(|path| ["--config", path.as_str()]));
        args.extend(new.node_image.iter().flat_map(|image| ["--image", image]));
        self.run("kind", &args).await?;
        self.guard(cluster).await
    }

    /// Removes a cluster.
    pub async fn delete(&self, cluster: &str) -> Result<(), BackendError> {
        self.run("kind", &["delete", "cluster", "--name", cluster]).await.map(drop)
    }

    /// The names of a cluster's nodes.
    pub async fn nodes(&self, cluster: &str) -> Result<Vec<String>, BackendError> {
        let nodes = lines(&self.run("kind", &["get", "nodes", "--name", cluster]).await?);
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
            if !self.run(&self.engine, &args).await?.contains(image.name()) {
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
        self.run("kind", &args).await.map(drop)
    }

    /// The nodes whose cgroups and processes can be seen from here; none where this is not root on the engine's own host.
    pub async fn nodes_on_this_host(&self, cluster: &str) -> Result<Vec<LocalNode>, BackendError> {
        let Ok(hierarchy) = Hierarchy::find() else { return Ok(Vec::new()) };
        if !rustix::process::geteuid().is_root() || !in_initial_pid_namespace() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for name in self.nodes(cluster).await? {
            let pid = self.run(&self.engine, &["inspect", "-f", "{{.State.Pid}}", &name]).await?;
            let Some(cgroup) = memory_cgroup(pid.trim()) else { continue };
            if hierarchy.mount.join(cgroup.trim_start_matches('/')).is_dir() {
                let (mount, version) = (hierarchy.mount.clone(), hierarchy.version);
                found.push(LocalNode { name, cgroup, mount, version });
            }
        }
        Ok(found)
    }

    /// Limits each node's container, above what it uses, so that a runaway ends at the node and not at this machine.
    async fn guard(&self, cluster: &str) -> Result<(), BackendError> {
        for node in self.nodes(cluster).await? {
            let limit = self.run(&self.engine, &["inspect", "-f", "{{.HostConfig.Memory}}", &node]).await?;
            if limit.trim() != "0" {
                continue;
            }
            let bytes = GUARD_ROOM.to_string();
            self.run(&self.engine, &["update", "--memory", &bytes, "--memory-swap", &bytes, &node]).await?;
        }
        Ok(())
    }

    /// Runs a program to its end; what it prints goes to the log as it comes, and with its failure the last of it.
    async fn run(&self, program: &str, args: &[&str]) -> Result<String, BackendError> {
        tracing::debug!("{program} {}", args.join(" "));
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| not_there(program, &error))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ((printed, _), (_, tail)) = tokio::join!(heard(out, false), heard(err, true));
        let status =
            child.wait().await.map_err(|error| BackendError::doing(format!("wait for {program}"), error))?;
        if status.success() {
            return Ok(printed);
        }
        let what = args.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        Err(BackendError(format!("{program} {what} failed ({status}):\n{}{}", tail.join("\n"), hint(&tail))))
    }
}

/// The container engine that kind uses.
pub(super) fn engine() -> String {
    match std::env::var("KIND_EXPERIMENTAL_PROVIDER") {
        Ok(provider) if !provider.is_empty() => provider,
        Ok(_) | Err(_) => "docker".to_owned(),
    }
}

/// All that a program prints, and the last lines of it.
async fn heard(stream: Option<impl AsyncRead + Unpin>, log: bool) -> (String, Vec<String>) {
    let (mut all, mut tail) = (String::new(), Vec::new());
    let Some(stream) = stream else { return (all, tail) };
    // Not everything that is printed is UTF-8, and what is not read blocks who prints it.
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        if log {
            tracing::info!("{line}");
        }
        all.push_str(&line);
        all.push('\n');
        if tail.len() == TAIL {
            tail.remove(0);
        }
        tail.push(line);
    }
    (all, tail)
}

fn not_there(program: &str, error: &std::io::Error) -> BackendError {
    let hint = match program {
        "kind" => "install it (https://kind.sigs.k8s.io), or use `--on cluster --context NAME`",
        _ => {
            "kind needs a container engine: install Docker or podman (and set KIND_EXPERIMENTAL_PROVIDER=podman)"
        }
    };
    BackendError(format!("cannot run {program}: {error}; {hint}"))
}

/// What to do about the usual failures.
fn hint(tail: &[String]) -> &'static str {
    let says = |text: &str| tail.iter().any(|line| line.contains(text));
    if says("permission denied") {
        "\nmay this user use the container engine?"
    } else if says("Cannot connect to the Docker daemon") {
        "\nstart the container engine"
    } else if says("no space left") {
        "\nfree some disk space"
    } else if says("failed to pull image") || says("manifest unknown") {
        "\nis there a registry to pull the node image from? --node-image names one that is here"
    } else {
        ""
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
