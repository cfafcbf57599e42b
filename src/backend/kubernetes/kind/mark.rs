//! Whose a kind cluster is: a run's own bears the run in its name, from its first moment; one that `cluster up` made has a mark.

use super::Kind;
use crate::backend::BackendError;
use crate::backend::local::{gc, lock};

/// Where on a node it is written; what is in a container's own layer can be read when it does not run, too.
const MARK: &str = "/kind/exit137";

/// Who made a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// `exit137 cluster up`.
    Hand,
    /// A run that was told to keep it.
    KeptByRun,
}

impl Maker {
    fn word(self) -> &'static str {
        match self {
            Self::Hand => "cluster up",
            Self::KeptByRun => "kept",
        }
    }
}

/// What a run calls its clusters. Runs of other users have their locks elsewhere, so the user is in it, too.
pub fn name_of_run(run: &str, number: usize) -> String {
    format!("exit137-{run}-u{}-{number}", rustix::process::geteuid().as_raw())
}

/// The run that a cluster belongs to, if it is one of this user's.
fn run_of(cluster: &str) -> Option<String> {
    let (run_name, number) = cluster.rsplit_once('-')?;
    let (run_name, user) = run_name.rsplit_once("-u")?;
    let own = rustix::process::geteuid().as_raw().to_string();
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    gc::run_of(run_name).filter(|_| is_number && user == own)
}

impl Kind {
    /// Writes who made a cluster.
    pub async fn mark(&self, cluster: &str, maker: Maker) -> Result<(), BackendError> {
        let Some(node) = self.nodes(cluster).await?.into_iter().next() else { return Ok(()) };
        let write = format!("echo {} > {MARK}", maker.word());
        self.engine(&["exec", &node, "sh", "-c", &write]).await.map(drop)
    }

    /// Who made a cluster; `None` if it was not exit137.
    pub async fn maker(&self, cluster: &str) -> Result<Option<Maker>, BackendError> {
        let Some(node) = self.nodes(cluster).await?.into_iter().next() else { return Ok(None) };
        // An archive with one file in it; also of a container that does not run. What is not there is an error.
        let archive = self.engine(&["cp", &format!("{node}:{MARK}"), "-"]).await.unwrap_or_default();
        Ok([Maker::Hand, Maker::KeptByRun].into_iter().find(|maker| archive.contains(maker.word())))
    }

    /// Whether exit137 made it.
    pub async fn is_ours(&self, cluster: &str) -> Result<bool, BackendError> {
        Ok(run_of(cluster).is_some() || self.maker(cluster).await?.is_some())
    }

    /// Removes the clusters of runs that are not alive, and if asked those that they kept; answers which.
    pub async fn collect(&self, kept: bool) -> Result<Vec<String>, BackendError> {
        let mut gone = Vec::new();
        for cluster in self.clusters().await? {
            let Some(run) = run_of(&cluster) else { continue };
            // A run takes its lock before it makes anything.
            let alive = lock::live_runs().iter().any(|live| live.name == run);
            // One without nodes is half made, or half removed.
            let stays = match self.maker(&cluster).await {
                Ok(Some(Maker::Hand)) => true,
                Ok(Some(Maker::KeptByRun)) => !kept,
                Ok(None) | Err(_) => false,
            };
            if alive || stays {
                continue;
            }
            self.delete(&cluster).await?;
            gone.push(format!("kind cluster {cluster}"));
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cluster_that_a_run_of_this_user_made_belongs_to_a_run() {
        let run = gc::new_run_name();
        let name = name_of_run(&run, 2);
        assert_eq!(run_of(&name).as_deref(), Some(run.as_str()));
        let other = format!("exit137-{run}-u4294967294-0");
        for foreign in
            [other.as_str(), "exit137", "exit137-u0-1", "kind", "exit137-r000000000000", &format!("{name}-x")]
        {
            assert_eq!(run_of(foreign), None, "{foreign}");
        }
    }
}
