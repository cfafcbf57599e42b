//! The logs of containers' runs, kept as on this host: `logs/POD-CONTAINER-INSTANCE.log`. A kubelet keeps those of the latest run
//! and of the one before it, and of a deleted pod none: so each is fetched as soon as its run is over.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::persist;
use crate::evidence::ContainerRef;
use crate::evidence::kubernetes::container_ids;

/// So many are fetched at a time.
const AT_ONCE: usize = 8;

/// So much of each is kept: the last lines, and not more bytes than this.
const LINES: i64 = 10_000;
const BYTES: u64 = 4 << 20;

/// How long to try for one of them.
const PATIENT: Duration = Duration::from_secs(5);

/// Keeps the logs of one trial's pods.
#[derive(Debug)]
pub(super) struct Logs {
    pods: Api<Pod>,
    folder: PathBuf,
    at_once: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that are kept or being fetched.
    taken: HashSet<ContainerRef>,
    tasks: JoinSet<()>,
}

/// How a run's log is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Of the run that the container's status shows.
    Current,
    /// Of the one before.
    Previous,
    /// Of the run that the status shows, until it ends.
    Followed,
}

impl Logs {
    /// Keeps them in this trial's folder.
    pub(super) fn new(pods: Api<Pod>, folder: &Path) -> std::io::Result<Arc<Self>> {
        let folder = folder.join("logs");
        fs::create_dir(&folder)?;
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Arc::new(Self { pods, folder, at_once, state: Mutex::default() }))
    }

    /// Fetches what can soon be had no more: logs of runs that are over, and of those that their pod's deletion ends.
    pub(super) fn see(self: &Arc<Self>, name: &str, pod: &Pod) {
        let deleted = pod.metadata.deletion_timestamp.is_some();
        for (run, which) in runs(name, pod) {
            match which {
                Which::Followed if deleted => self.take(pod, run, Which::Followed),
                Which::Followed => {}
                Which::Current | Which::Previous => self.take(pod, run, which),
            }
        }
    }

    /// Fetches the logs of all runs that a pod still has.
    pub(super) fn see_last(self: &Arc<Self>, name: &str, pod: &Pod) {
        for (run, which) in runs(name, pod) {
            let which = if which == Which::Followed { Which::Current } else { which };
            self.take(pod, run, which);
        }
    }

    /// Waits until all are there that are being fetched, but not for ever.
    pub(super) async fn finish(&self, patience: Duration) {
        let mut tasks = std::mem::take(&mut self.lock().tasks);
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(patience, all).await.is_err() {
            tracing::info!("some containers' logs could not be fetched in time");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, pod: &Pod, run: ContainerRef, which: Which) {
        let Some(name) = pod.metadata.name.clone() else { return };
        let mut state = self.lock();
        if !state.taken.insert(run.clone()) {
            return;
        }
        // Those that are done need not be remembered.
        while state.tasks.try_join_next().is_some() {}
        let theirs = Arc::clone(self);
        state.tasks.spawn(async move {
            if let Err(why) = theirs.fetch(&name, &run, which).await {
                tracing::debug!(
                    "the log of {name}/{} (run {}) is not kept: {why}",
                    run.container,
                    run.instance
                );
                theirs.lock().taken.remove(&run);
            }
        });
    }

    async fn fetch(&self, pod: &str, run: &ContainerRef, which: Which) -> Result<(), String> {
        // One that is followed lasts for as long as its container: it is not to keep the others waiting.
        let _turn = match which {
            Which::Current | Which::Previous => Some(self.at_once.acquire().await),
            Which::Followed => None,
        };
        let params = LogParams {
            container: Some(run.container.clone()),
            previous: which == Which::Previous,
            follow: which == Which::Followed,
            tail_lines: Some(LINES),
            ..LogParams::default()
        };
        let stream = persist(PATIENT, || self.pods.log_stream(pod, &params)).await;
        let mut stream = std::pin::pin!(stream.map_err(|error| error.to_string())?.take(BYTES));
        let mut file = File::create(self.folder.join(run.log_file())).map_err(|error| error.to_string())?;
        let mut buffer = vec![0; 16 << 10];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    file.write_all(bytes).map_err(|error| error.to_string())?;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// The runs whose logs a kubelet has, and how to ask for each. One that still runs is only to be followed.
fn runs(name: &str, pod: &Pod) -> Vec<(ContainerRef, Which)> {
    let status = pod.status.as_ref();
    let lists = status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let statuses = lists.into_iter().flatten().flatten().flatten();
    let mut running = HashSet::new();
    let mut previous = HashSet::new();
    for status in statuses {
        let state = status.state.as_ref();
        if state.is_some_and(|state| state.running.is_some()) {
            running.insert(status.name.as_str());
        }
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        if let (Some(last), false) = (last, state.is_some_and(|state| state.waiting.is_some())) {
            previous.extend(last.container_id.as_deref());
        }
    }
    let which = |id: &str, run: &ContainerRef| {
        if previous.iter().any(|last| last.ends_with(id)) {
            Which::Previous
        } else if running.contains(run.container.as_str()) {
            Which::Followed
        } else {
            Which::Current
        }
    };
    let ids = container_ids(name, pod).into_iter().filter(|(id, _)| !id.is_empty());
    ids.map(|(id, run)| (run.clone(), which(&id, &run))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(status: &serde_json::Value) -> Vec<(u32, Which)> {
        let pod = json!({"metadata": {"name": "web"}, "status": {"containerStatuses": [status]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        runs("web", &pod).into_iter().map(|(run, which)| (run.instance, which)).collect()
    }

    fn status(restarts: u32, id: &str, state: &serde_json::Value, last: Option<&str>) -> serde_json::Value {
        let last = last
            .map(|id| json!({"terminated": {"exitCode": 137, "containerID": format!("containerd://{id}")}}));
        json!({"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
               "containerID": format!("containerd://{id}"), "state": state, "lastState": last.unwrap_or_else(|| json!({}))})
    }

    #[test]
    fn each_run_is_asked_for_in_the_way_that_the_kubelet_finds_it() {
        let running = json!({"running": {}});
        let ended = json!({"terminated": {"exitCode": 1, "containerID": "containerd://b"}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(asked(&status(0, "a", &running, None)), [(0, Which::Followed)]);
        assert_eq!(asked(&status(1, "b", &running, Some("a"))), [(0, Which::Previous), (1, Which::Followed)]);
        assert_eq!(asked(&status(1, "b", &ended, Some("a"))), [(0, Which::Previous), (1, Which::Current)]);
        // While it waits, the kubelet takes its last run for the current one (kubelet_pods.go:validateContainerLogStatus).
        assert_eq!(asked(&status(0, "a", &waiting, Some("a"))), [(0, Which::Current)]);
    }
}
