//! The watches on pods, events and nodes. They survive an API server's restart and a broken network; what may have been missed
//! meanwhile is said, and nothing else: what the API server still shows after a break has not been missed.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::Resource;
use kube::api::Api;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::told::Told;
use crate::clock;
use crate::evidence::{Fact, Moment, Noted, Source, SourceState};
use crate::recorder::Recorder;

/// The server ends a watch after so many seconds and it is begun again where it was: so a dead connection is noticed soon.
pub(super) const TURN: u32 = 20;

/// So many objects are listed at a time, which bounds what a list of many pods takes in memory.
const PAGE: u32 = 100;

/// How often to try again while the server is away.
const AGAIN: Duration = Duration::from_millis(500);

/// A server that let all watches be for so long is well again.
const QUIET: Duration = Duration::from_secs(3);

/// A kubelet that cannot reach the server tries to send an event twelve times, ten seconds apart, and then drops it (client-go
/// `tools/record/event.go`: `maxTriesPerEvent`, `sleepDuration`).
const EVENTS_ARE_KEPT: u64 = 110_000_000_000;

/// A kubelet that could not reach the server tells so much later at most what it had to tell: it tries anew every ten seconds
/// (`status_manager.go:syncPeriod`, client-go's `sleepDuration`).
pub(super) const TOLD_AFTER_A_BREAK: Duration = Duration::from_secs(14);

/// And events so much later: they wait in line for the one that is tried anew, and then five are sent a second (`eventRecordQPS`).
pub(super) const EVENTS_AFTER_A_BREAK: Duration = Duration::from_secs(30);

/// When watches failed, as boot time: first and last.
#[derive(Debug, Default)]
pub(super) struct Contact {
    first: AtomicU64,
    last: AtomicU64,
}

impl Contact {
    fn broke(&self) {
        let now = clock::boot_ns();
        // The first stays.
        let _ = self.first.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
    }

    /// From the first failure until now.
    pub(super) fn since_it_broke(&self) -> Moment {
        Moment::between(self.first.load(Ordering::Relaxed), clock::boot_ns())
    }

    /// Whether the server answers. One that is going down accepts nothing new while its watches go on for a while.
    pub(super) async fn answers(&self, client: &Client) -> bool {
        let answers = client.version().await.is_ok();
        if !answers {
            self.broke();
        }
        answers
    }

    /// Waits until no watch has failed for a while and the server answers, for so long at most: one that restarts may die again.
    pub(super) async fn until_mended(&self, client: &Client, patience: Duration) {
        let until = Instant::now() + patience;
        while Instant::now() < until && (self.broke_within(QUIET) || !self.answers(client).await) {
            sleep(AGAIN).await;
        }
    }

    /// Whether a watch failed not longer ago than this.
    pub(super) fn broke_within(&self, stretch: Duration) -> bool {
        let broke = self.last.load(Ordering::Relaxed);
        let stretch = u64::try_from(stretch.as_nanos()).unwrap_or(u64::MAX);
        broke > 0 && clock::boot_ns().saturating_sub(broke) <= stretch
    }
}

/// Who hears what a watch tells.
pub(super) trait Heard<K>: Send {
    /// Of what source it is a part.
    const OF: Source;
    /// What is watched, in Kubernetes' word.
    const WHAT: &str;
    /// Whether causes rest on it.
    const ESSENTIAL: bool = true;

    /// All objects are listed from here on.
    fn listing(&mut self) {}

    /// An object as it is now.
    fn object(&mut self, object: K);

    /// An object has gone.
    fn gone(&mut self, _object: K) {}

    /// The watch had lost its place and all objects were listed anew; how many things may have been missed in this stretch.
    fn missed(&mut self, away: &Away) -> u64;
}

/// How long a watch heard nothing.
#[derive(Debug)]
pub(super) struct Away {
    /// From the last word to the new list.
    stretch: Moment,
    /// So long the server could not be reached, in nanoseconds.
    unreachable: u64,
}

/// Follows objects until it is aborted.
pub(super) async fn follow<K, H>(api: Api<K>, mut heard: H, recorder: Recorder, contact: Arc<Contact>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    H: Heard<K>,
{
    let mut line = Line { listed: false, heard: clock::boot_ns(), broke: None, forbidden: false };
    let config = watcher::Config::default().timeout(TURN).page_size(PAGE);
    let stream = watcher(api, config).modify(strip).backoff(Steady);
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => {
                line.word();
                heard.object(object);
            }
            Ok(watcher::Event::InitApply(object)) => heard.object(object),
            Ok(watcher::Event::Delete(object)) => {
                line.word();
                heard.gone(object);
            }
            Ok(watcher::Event::Init) => heard.listing(),
            Ok(watcher::Event::InitDone) => {
                let away = line.listed_again();
                line.word();
                let Some(away) = away else { continue };
                tell::<K, H>(&away, heard.missed(&away), &recorder);
            }
            Err(error) => {
                // A server that has just started may forbid for a moment what it allowed before; one that never allowed it stays so.
                if line.refused::<K, H>(&error, &recorder) && !(line.listed && H::ESSENTIAL) {
                    return;
                }
                contact.broke();
                line.broken::<K, H>(&error);
            }
        }
    }
}

/// The record shows every break; only one in which something may have been lost is a gap.
fn tell<K, H: Heard<K>>(away: &Away, lost: u64, recorder: &Recorder) {
    let fact = if lost > 0 {
        Fact::Source(SourceState::Gap { of: H::OF, lost })
    } else {
        Fact::Noted(Noted {
            object: format!("watch/{}", H::WHAT),
            reason: "Relisted".to_owned(),
            message: "the watch had lost its place; what the API server shows now leaves nothing out"
                .to_owned(),
        })
    };
    recorder.record(H::OF, away.stretch, None, fact);
}

/// How a watch's connection does.
struct Line {
    listed: bool,
    heard: u64,
    broke: Option<u64>,
    forbidden: bool,
}

impl Line {
    fn word(&mut self) {
        self.heard = clock::boot_ns();
        self.broke = None;
    }

    /// A list is complete: the first time the watch begins so, later it had lost its place (HTTP 410).
    fn listed_again(&mut self) -> Option<Away> {
        let now = clock::boot_ns();
        let again = std::mem::replace(&mut self.listed, true);
        again.then(|| Away {
            stretch: Moment::between(self.heard, now),
            unreachable: now - self.broke.unwrap_or(now),
        })
    }

    fn broken<K, H: Heard<K>>(&mut self, error: &watcher::Error) {
        if self.broke.is_none() {
            tracing::info!(watch = H::WHAT, %error, "a watch broke and begins anew");
        }
        self.broke.get_or_insert_with(clock::boot_ns);
    }

    /// Whether the server forbids it; the record says so once, where causes rest on it.
    fn refused<K, H: Heard<K>>(&mut self, error: &watcher::Error, recorder: &Recorder) -> bool {
        let Some(reason) = forbidden(error) else { return false };
        if !std::mem::replace(&mut self.forbidden, true) && H::ESSENTIAL {
            let reason = format!("{} may not be watched: {reason}", H::WHAT);
            recorder.now(H::OF, Fact::Source(SourceState::Lost { of: H::OF, reason }));
        }
        true
    }
}

/// The server's words where a watch is not allowed.
fn forbidden(error: &watcher::Error) -> Option<String> {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status,
        watcher::Error::WatchError(status) => status,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => return None,
    };
    matches!(status.code, 401 | 403).then(|| status.message.clone())
}

/// Nothing is kept that nobody reads.
fn strip<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// A server that restarts is back within a minute, and each second without it is one without news.
pub(super) struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(AGAIN)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// Hears of a namespace's pods.
pub(super) struct Pods<F> {
    told: Arc<Told>,
    /// Is told of each object, and whether it has gone.
    each: F,
    /// Those that are there, and whether all that can be told of them was.
    known: HashMap<String, bool>,
    listed: HashSet<String>,
}

impl<F: FnMut(&Pod, Option<String>, bool) + Send> Pods<F> {
    /// `each` gets each object, the UID of one that is new, and whether it has gone.
    pub(super) fn new(told: Arc<Told>, each: F) -> Self {
        Self { told, each, known: HashMap::new(), listed: HashSet::new() }
    }
}

impl<F: FnMut(&Pod, Option<String>, bool) + Send> Heard<Pod> for Pods<F> {
    const OF: Source = Source::Runtime;
    const WHAT: &str = "pods";

    fn listing(&mut self) {
        self.listed.clear();
    }

    fn object(&mut self, pod: Pod) {
        if let Some(uid) = &pod.metadata.uid {
            self.known.insert(uid.clone(), is_over(&pod));
            self.listed.insert(uid.clone());
        }
        let new = self.told.pod(&pod, false);
        (self.each)(&pod, new, false);
    }

    fn gone(&mut self, pod: Pod) {
        self.known.remove(pod.metadata.uid.as_deref().unwrap_or_default());
        let new = self.told.pod(&pod, true);
        (self.each)(&pod, new, true);
    }

    /// A pod that is still there shows how often its containers were restarted, and what it does not show is told with its
    /// object. One that has gone may have ended in any way.
    fn missed(&mut self, _: &Away) -> u64 {
        let listed = std::mem::take(&mut self.listed);
        let vanished = self.known.iter().filter(|(uid, over)| !listed.contains(*uid) && !**over).count();
        self.known.retain(|uid, _| listed.contains(uid));
        u64::try_from(vanished).unwrap_or(u64::MAX)
    }
}

/// Whether every container of a pod has ended for good.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Hears of a namespace's events.
pub(super) struct Events(pub(super) Arc<Told>);

impl Heard<Event> for Events {
    const OF: Source = Source::Kubelet;
    const WHAT: &str = "events";

    fn object(&mut self, event: Event) {
        self.0.event(&event);
    }

    /// The API server keeps events for an hour (`--event-ttl`), with how often each has happened: a new list has them all, but for
    /// those that a kubelet could not send for so long that it gave them up.
    fn missed(&mut self, away: &Away) -> u64 {
        u64::from(away.unreachable > EVENTS_ARE_KEPT)
    }
}

/// Hears of the nodes' conditions: pressure, and whether the kubelet is well.
pub(super) struct Nodes {
    recorder: Recorder,
    known: HashMap<(String, String), String>,
}

impl Nodes {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, known: HashMap::new() }
    }
}

impl Heard<Node> for Nodes {
    const OF: Source = Source::Kubelet;
    const WHAT: &str = "nodes";
    const ESSENTIAL: bool = false;

    fn object(&mut self, node: Node) {
        let name = node.metadata.name.unwrap_or_default();
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        for condition in conditions {
            let key = (name.clone(), condition.type_.clone());
            let before = self.known.insert(key, condition.status.clone());
            let usual = if condition.type_ == "Ready" { "True" } else { "False" };
            let before = before.unwrap_or_else(|| usual.to_owned());
            if before != condition.status {
                let message = condition.message.unwrap_or_default();
                let noted = Noted {
                    object: format!("node/{name}"),
                    reason: condition.type_,
                    message: format!("{}: {message}", condition.status),
                };
                self.recorder.now(Source::Kubelet, Fact::Noted(noted));
            }
        }
    }

    /// Conditions are kept for people; no cause rests on them.
    fn missed(&mut self, _: &Away) -> u64 {
        0
    }
}
