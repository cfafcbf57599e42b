//! One generator on a cluster: waited for, followed, and told.

use std::convert::Infallible;
use std::time::Duration;

use exit137_workload::traffic::Control;
use futures::{AsyncBufReadExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, AttachParams, AttachedProcess, ListParams, LogParams};
use tokio::io::{AsyncWriteExt as _, SimplexStream, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::heard::Heard;
use super::objects::{CONTAINER, GENERATOR};
use crate::backend::BackendError;
use crate::backend::kubernetes::api_error;
use crate::backend::kubernetes::client::{PATIENT, persist};
use crate::evidence::End;

/// How long a pod may take to run, its image pulled.
const PATIENCE: Duration = Duration::from_secs(90);
/// Before something is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// A log in which nothing comes for so long is asked for again: a connection may have died without a word. A generator that
/// sends says a window every second.
const SILENCE: Duration = Duration::from_secs(10);

/// A generator that has said that it is ready.
pub(super) struct Generator {
    pods: Api<Pod>,
    /// Its pod's name.
    pod: String,
    heard: Heard,
}

impl Generator {
    /// Waits until the pod of this Job runs and says that it is ready.
    pub(super) async fn ready(pods: Api<Pod>, job: &str, mut heard: Heard) -> Result<Self, BackendError> {
        let until = Instant::now() + PATIENCE;
        let failed = |why: &str| BackendError(format!("the generator {job} did not get ready: {why}"));
        loop {
            let listed = pods.list(&ListParams::default().labels(&format!("{GENERATOR}={job}"))).await;
            let listed =
                listed.map_err(|error| api_error(&format!("look for the generator {job}"), &error))?;
            let pod = listed.items.into_iter().next();
            let state = pod.as_ref().map_or(State::Waits("its pod is not made".to_owned()), state);
            let name = pod.and_then(|pod| pod.metadata.name).unwrap_or_default();
            match state {
                State::Ended(end) => {
                    return Err(failed(&format!("it ended ({end:?}): {}", log(&pods, &name).await)));
                }
                State::Runs if says_ready(&log(&pods, &name).await, &mut heard) => {
                    return Ok(Self { pods, pod: name, heard });
                }
                State::Runs | State::Waits(_) if Instant::now() < until => sleep(PAUSE).await,
                State::Runs => return Err(failed("it runs and says nothing")),
                State::Waits(why) => return Err(failed(&why)),
            }
        }
    }

    /// Hears it to its end, and tells it what it is to be told; answers whether it was a good end.
    pub(super) async fn run(self, told: mpsc::UnboundedReceiver<Control>) -> bool {
        let (pods, pod) = (self.pods.clone(), self.pod.clone());
        tokio::select! {
            done = self.hear() => done,
            never = tell(&pods, &pod, told) => match never {},
        }
    }

    async fn hear(mut self) -> bool {
        loop {
            if let Err(why) = self.read_log().await {
                tracing::info!(pod = self.pod, %why, "a generator's log is asked for again");
            }
            if self.heard.is_done() {
                return true;
            }
            match persist(PATIENT, || self.pods.get_opt(&self.pod)).await {
                Ok(Some(pod)) => {
                    if let State::Ended(end) = state(&pod) {
                        // What it said last may have come since.
                        let _ = self.read_log().await;
                        if !self.heard.is_done() {
                            self.heard.died(end, String::new());
                        }
                        return self.heard.is_done();
                    }
                }
                Ok(None) => {
                    self.heard.died(None, "its pod is gone".to_owned());
                    return false;
                }
                Err(error) => {
                    self.heard.died(None, format!("the API does not answer: {error}"));
                    return false;
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads the whole log and follows it; what was heard before is not taken again.
    async fn read_log(&mut self) -> Result<(), String> {
        let params =
            LogParams { container: Some(CONTAINER.to_owned()), follow: true, ..LogParams::default() };
        let asked = timeout(SILENCE, self.pods.log_stream(&self.pod, &params)).await;
        let stream =
            asked.map_err(|_| "the API server does not answer")?.map_err(|error| error.to_string())?;
        let mut lines = stream.lines();
        while !self.heard.is_done() {
            match timeout(SILENCE, lines.next()).await {
                Ok(Some(Ok(line))) => {
                    if let Err(error) = self.heard.take(&line) {
                        tracing::warn!(pod = self.pod, %error, "a generator says: {line}");
                    }
                }
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(None) => return Ok(()),
                Err(_) => return Err(format!("it said nothing for {} s", SILENCE.as_secs())),
            }
        }
        Ok(())
    }
}

/// Tells a generator for as long as it is let. A connection that broke is made again: lines that are told twice change nothing.
async fn tell(pods: &Api<Pod>, pod: &str, mut told: mpsc::UnboundedReceiver<Control>) -> Infallible {
    let mut input = None;
    while let Some(control) = told.recv().await {
        let Ok(line) = serde_json::to_string(&control) else { continue };
        let until = Instant::now() + PATIENCE;
        while let Err(why) = say(pods, pod, &mut input, &(line.clone() + "\n")).await {
            tracing::info!(pod, %why, "a generator is attached to again");
            input = None;
            if Instant::now() >= until {
                break;
            }
            sleep(PAUSE).await;
        }
    }
    std::future::pending().await
}

/// A generator's standard input.
struct Input {
    stdin: WriteHalf<SimplexStream>,
    /// The connection lasts as long as this.
    _attached: AttachedProcess,
}

impl Input {
    async fn open(pods: &Api<Pod>, pod: &str) -> Result<Self, String> {
        let params = AttachParams::default().container(CONTAINER).stdin(true).stdout(false).stderr(false);
        let attached = timeout(SILENCE, pods.attach(pod, &params)).await;
        let attached = attached.map_err(|_| "the API server does not answer".to_owned())?;
        let mut attached = attached.map_err(|error| error.to_string())?;
        let stdin = attached.stdin().ok_or("its standard input cannot be had")?;
        Ok(Self { stdin, _attached: attached })
    }

    async fn write(&mut self, line: &str) -> std::io::Result<()> {
        self.stdin.write_all(line.as_bytes()).await?;
        self.stdin.flush().await
    }
}

async fn say(pods: &Api<Pod>, pod: &str, input: &mut Option<Input>, line: &str) -> Result<(), String> {
    let open = match input.take() {
        Some(open) => open,
        None => Input::open(pods, pod).await?,
    };
    input.insert(open).write(line).await.map_err(|error| error.to_string())
}

/// How a generator's pod does.
enum State {
    /// Why it does not run yet.
    Waits(String),
    Runs,
    Ended(Option<End>),
}

fn state(pod: &Pod) -> State {
    let status = pod.status.as_ref();
    let of_container = |status: &ContainerStatus| {
        let state = status.state.as_ref()?;
        let waiting = || {
            let waiting = state.waiting.as_ref()?;
            let words = [waiting.reason.as_deref(), waiting.message.as_deref()];
            Some(State::Waits(words.into_iter().flatten().collect::<Vec<_>>().join(": ")))
        };
        let ended = state.terminated.as_ref().map(|ended| State::Ended(Some(End::Code(ended.exit_code))));
        ended.or_else(|| state.running.as_ref().map(|_| State::Runs)).or_else(waiting)
    };
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let found = containers.and_then(|containers| containers.iter().find_map(of_container));
    let over = matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
    let unmet = || {
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let mut unmet = conditions.filter(|condition| condition.status == "False");
        unmet.find_map(|condition| condition.message.clone()).unwrap_or_default()
    };
    let otherwise = || if over { State::Ended(None) } else { State::Waits(unmet()) };
    found.unwrap_or_else(otherwise)
}

async fn log(pods: &Api<Pod>, pod: &str) -> String {
    let params = LogParams { container: Some(CONTAINER.to_owned()), ..LogParams::default() };
    pods.logs(pod, &params).await.unwrap_or_default()
}

fn says_ready(log: &str, heard: &mut Heard) -> bool {
    log.lines().any(|line| heard.take(line).unwrap_or(false))
}
