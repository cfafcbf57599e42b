//! `exit137 cluster`: the kind cluster by hand.

use super::{block_on, complain, fail, print};
use crate::backend::BackendError;
use crate::backend::kubernetes::image::Image;
use crate::backend::kubernetes::kind::{Kind, NewCluster};
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
        ClusterAct::List => Ok(kind.clusters().await?.into_iter().map(|cluster| cluster + "\n").collect()),
        ClusterAct::Down => {
            kind.delete(name).await?;
            Ok(String::new())
        }
        ClusterAct::Up => {
            ensure(&kind, &args.kind).await?;
            kind.load(name, &Image::build()?).await?;
            Ok(format!("{}\n", context(name)))
        }
        ClusterAct::Load => {
            let image = Image::build()?;
            kind.load(name, &image).await?;
            Ok(format!("{}\n", image.name()))
        }
    }
}

/// Makes the cluster if it is not there.
pub async fn ensure(kind: &Kind, wanted: &KindCluster) -> Result<(), BackendError> {
    if kind.clusters().await?.contains(&wanted.cluster) {
        return Ok(());
    }
    complain(&format!("making the kind cluster {}; this takes a minute", wanted.cluster));
    let new = NewCluster { config: wanted.kind_config.as_deref(), node_image: wanted.node_image.as_deref() };
    kind.create(&wanted.cluster, &new).await
}

/// What kind calls the kube context of a cluster.
pub fn context(cluster: &str) -> String {
    format!("kind-{cluster}")
}
