//! A container that a node's kubelet loses: it ends and goes while the kubelet is away.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Kind;
use crate::backend::BackendError;

/// How long the container may take to end by itself.
const ENDS: Duration = Duration::from_mins(1);

/// How long its runtime may take to notice.
const NOTICES: Duration = Duration::from_secs(20);

/// How often either is looked for.
const LOOK: Duration = Duration::from_millis(300);

/// Forgets a container that has ended; one that runs it leaves alone, and fails. Where there is no `crictl`, containerd forgets it and is
/// started anew, or its CRI plugin would still know it; containers go on meanwhile (`KillMode=process`).
const FORGET: &str = "if command -v crictl >/dev/null; \
    then crictl --runtime-endpoint unix:///run/containerd/containerd.sock rm \"$1\"; \
    else ctr -n k8s.io containers rm \"$1\" && systemctl restart containerd; fi";

impl Kind {
    /// Stops a node's kubelet; what it has started goes on.
    pub async fn stop_kubelet(&self, node: &str) -> Result<(), BackendError> {
        tracing::info!("node {node}: the kubelet is away for a while");
        self.engine(&["exec", node, "systemctl", "stop", "kubelet"]).await.map(drop)
    }

    /// Starts it, if it does not run.
    pub async fn start_kubelet(&self, node: &str) -> Result<(), BackendError> {
        self.engine(&["exec", node, "systemctl", "start", "kubelet"]).await?;
        tracing::info!("node {node}: the kubelet is back");
        Ok(())
    }

    /// Waits until a container that runs has ended by itself, and has the runtime forget it.
    pub async fn remove_once_ended(&self, node: &str, id: &str) -> Result<(), BackendError> {
        if !self.runs(node, id).await? {
            return Err(BackendError(
                "it had ended before the kubelet was away; let it run for some seconds more".to_owned(),
            ));
        }
        let until = Instant::now() + ENDS;
        while self.runs(node, id).await? {
            if Instant::now() >= until {
                let seconds = ENDS.as_secs();
                return Err(BackendError(format!("it has not ended by itself within {seconds} s")));
            }
            sleep(LOOK).await;
        }
        let until = Instant::now() + NOTICES;
        loop {
            match self.engine(&["exec", node, "sh", "-c", FORGET, "sh", id]).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// Whether the runtime says that a container runs.
    async fn runs(&self, node: &str, id: &str) -> Result<bool, BackendError> {
        let tasks = self.engine(&["exec", node, "ctr", "-n", "k8s.io", "tasks", "ls"]).await?;
        Ok(tasks.lines().any(|line| line.starts_with(id) && line.trim_end().ends_with("RUNNING")))
    }
}
