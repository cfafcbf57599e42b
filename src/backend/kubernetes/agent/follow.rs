//! Following the log of one node's agent: through broken connections, rotated logs and restarted agents, without loss or doubling.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{AsyncBufReadExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::deploy;
use super::objects::CONTAINER;
use crate::backend::kubernetes::client::Client;
use crate::backend::kubernetes::lease::NAMESPACE;
use crate::clock;
use crate::evidence::stream::{Beat, Line, News, Stream};

/// An agent that says nothing for so long is asked again: a connection may have died without a word.
const SILENCE: Duration = Duration::from_secs(4);
/// Before it is asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// The log is asked for in whole seconds, by the node's clock, and lines of one moment may have been cut apart.
const AGAIN: SignedDuration = SignedDuration::from_secs(2);
/// Whoever joins wants the latest beat at once and no more.
const TAIL: i64 = 30;

/// What is told of a node, to every trial.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) node: Arc<str>,
    pub(super) news: News,
}

/// A node's agent, as far as it has been heard.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) node: Arc<str>,
    stream: Mutex<Stream>,
    /// The latest beat.
    pub(super) beat: watch::Sender<Option<Beat>>,
    /// The least that this machine's boot-time clock was ahead of the agent's when a beat arrived.
    ahead: Mutex<Option<i128>>,
    listeners: Arc<Mutex<Vec<mpsc::UnboundedSender<Told>>>>,
}

/// Where in a log the reading stands.
#[derive(Default)]
struct Place {
    /// Whose log it is: a pod's UID.
    pod: Option<String>,
    /// The node's time of the last line.
    stamp: Option<Timestamp>,
}

impl Followed {
    pub(super) fn new(node: &str, listeners: Arc<Mutex<Vec<mpsc::UnboundedSender<Told>>>>) -> Self {
        Self {
            node: Arc::from(node),
            stream: Mutex::default(),
            beat: watch::Sender::default(),
            ahead: Mutex::default(),
            listeners,
        }
    }

    /// How far this machine's boot-time clock is ahead of the node's: by nothing where it is the same machine, otherwise by what
    /// it was at most, less the way of the quickest beat.
    pub(super) fn ahead(&self, own_boot_id: &str) -> i128 {
        let same = self.beat.borrow().as_ref().is_some_and(|beat| beat.boot_id == own_boot_id);
        if same { 0 } else { lock(&self.ahead).unwrap_or(0) }
    }

    /// Follows for as long as it is let.
    pub(super) async fn follow(&self, client: Client, name: String) {
        let (mut place, mut said) = (Place::default(), String::new());
        loop {
            if let Err(why) = self.read(&client, &name, &mut place).await
                && why != said
            {
                tracing::info!(node = %self.node, %why, "an agent's log is asked for again");
                said = why;
            }
            sleep(PAUSE).await;
        }
    }

    async fn read(&self, client: &Client, name: &str, place: &mut Place) -> Result<(), String> {
        let pods = deploy::pods(client, name).await.map_err(|error| error.to_string())?;
        let pod = newest_on(&self.node, pods).ok_or("no agent runs there")?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut params = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow: true,
            timestamps: true,
            ..LogParams::default()
        };
        if place.pod.is_none() {
            params.tail_lines = Some(TAIL);
        } else if place.pod.as_ref() == Some(&uid) {
            params.since_time = place.stamp.map(|stamp| stamp.saturating_sub(AGAIN).unwrap_or(stamp));
        }
        let api: Api<Pod> = client.namespaced(NAMESPACE);
        let pod = pod.metadata.name.unwrap_or_default();
        let asked = api.log_stream(&pod, &params);
        let log = timeout(SILENCE, asked).await.map_err(|_| "the API server does not answer")?;
        let message =
            |error| if let kube::Error::Api(status) = error { status.message } else { error.to_string() };
        let mut lines = log.map_err(message)?.lines();
        loop {
            match timeout(SILENCE, lines.next()).await {
                Ok(Some(Ok(line))) => {
                    place.pod = Some(uid.clone());
                    self.take(&line, place);
                }
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(None) => return Err("it ended".to_owned()),
                Err(_) => return Err(format!("it said nothing for {} s", SILENCE.as_secs())),
            }
        }
    }

    fn take(&self, line: &str, place: &mut Place) {
        let received = clock::boot_ns();
        let Some((stamp, line)) = line.split_once(' ') else { return };
        let Ok(stamp) = stamp.parse() else { return };
        place.stamp = Some(stamp);
        let Some(line) = Line::read(line) else {
            tracing::debug!(node = %self.node, "agent: {line}");
            return;
        };
        let news = lock(&self.stream).take(line);
        for news in news {
            if let News::Beat(beat) = &news {
                self.take_beat(beat, received);
            }
            let told = Told { node: Arc::clone(&self.node), news };
            lock(&self.listeners).retain(|listener| listener.send(told.clone()).is_ok());
        }
    }

    fn take_beat(&self, beat: &Beat, received: u64) {
        let ahead = i128::from(received) - i128::from(beat.until);
        let mut known = lock(&self.ahead);
        let rebooted = self.beat.borrow().as_ref().is_some_and(|last| last.boot_id != beat.boot_id);
        *known = Some(known.filter(|_| !rebooted).map_or(ahead, |known| known.min(ahead)));
        drop(known);
        self.beat.send_replace(Some(beat.clone()));
    }
}

/// The agent's pod on a node: the latest that is not about to go.
fn newest_on(node: &str, pods: Vec<Pod>) -> Option<Pod> {
    let there = |pod: &Pod| {
        pod.metadata.deletion_timestamp.is_none()
            && pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
    };
    let age = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    pods.into_iter().filter(there).max_by_key(age)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
