//! `exit137 cluster`: the kind cluster by hand.

use super::{block_on, complain, fail, print};
use crate::backend::BackendError;
use crate::backend::kubernetes::agent;
use crate::backend::kubernetes::image::Image;
use crate::backend::kubernetes::kind::{Kind, Maker, NewCluster};
use crate::backend::kubernetes::preflight;
use crate::cli::{self, ClusterAct, KindCluster};
use crate::exit_status::ExitStatus;

/// Does what is asked for; what is printed is the kube context, or the clusters' names.
pub fn cluster(args: &cli::Cluster) -> ExitStatus {
    match block_on(act(args)) {
        Ok(text) => print(&text),
        Err(why) => fail(&why),
    }
}

async fn act(args: &cli::Cluster) -> Result<String, BackendError> {
    let kind = Kind::find().await?;
    let name = &args.kind.cluster;
    match args.act {
        ClusterAct::List => list(&kind).await,
        ClusterAct::Down => {
            down(&kind, name, args.force).await?;
            Ok(String::new())
        }
        ClusterAct::Up => {
            up(&kind, &args.kind).await?;
            // Where its nodes cannot be watched from here, an agent in each is there before a run begins.
            if kind.nodes_on_this_host(name).await?.is_empty() {
                agent::leave(&context(name), Image::build()?.name()).await?;
            }
            Ok(format!("{}\n", context(name)))
        }
        ClusterAct::Load => {
            let image = Image::build()?;
            kind.load(name, &image).await?;
            Ok(format!("{}\n", image.name()))
        }
    }
}

/// Makes the cluster if it is not there, and sees to it that it has the image and that its nodes are guarded.
async fn up(kind: &Kind, wanted: &KindCluster) -> Result<(), BackendError> {
    let name = &wanted.cluster;
    let there = kind.clusters().await?.contains(name);
    if !there {
        preflight::check(kind, wanted.node_image.as_deref()).await?;
        complain(&format!("making the kind cluster {name}; this takes a minute"));
        let new = NewCluster {
            config: wanted.kind_config.as_deref(),
            node_image: wanted.node_image.as_deref(),
            ..NewCluster::default()
        };
        kind.create(name, &new).await?;
    }
    let done = async {
        if !there {
            kind.mark(name, Maker::Hand).await?;
        }
        kind.guard_all(name).await?;
        kind.load(name, &Image::build()?).await
    };
    let done = done.await;
    // What was begun here and is not whole is no cluster to leave behind.
    if done.is_err() && !there {
        kind.delete(name).await?;
    }
    done
}

/// Removes a cluster that exit137 made; another only if it is told to.
async fn down(kind: &Kind, name: &str, force: bool) -> Result<(), BackendError> {
    if !kind.clusters().await?.iter().any(|cluster| cluster == name) {
        return Ok(());
    }
    if !force && !kind.is_ours(name).await? {
        return Err(BackendError(format!(
            "exit137 did not make the kind cluster {name}; to remove it all the same, add --force"
        )));
    }
    kind.delete(name).await
}

/// Each cluster, and whose it is.
async fn list(kind: &Kind) -> Result<String, BackendError> {
    let mut text = String::new();
    for cluster in kind.clusters().await? {
        let ours = kind.is_ours(&cluster).await.unwrap_or(false);
        text.push_str(&format!("{cluster}{}\n", if ours { "" } else { " (not made by exit137)" }));
    }
    Ok(text)
}

/// What kind calls the kube context of a cluster.
pub fn context(cluster: &str) -> String {
    format!("kind-{cluster}")
}
