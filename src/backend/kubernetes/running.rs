//! A scenario that runs on a cluster: its namespace, its watches, what is done to it, and its end.

mod acts;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod as KubernetesPod};
use kube::api::{Api, ApiResource, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::client::Client;
use super::manifest::{self, Place, Workload};
use super::node::Finder;
use super::told::{Begun, Told};
use super::{KubernetesBackend, api_error, objects};
use crate::backend::{BackendError, Running};
use crate::evidence::{ActionDone, Fact, Moment, Observation, Source, SourceState};
use crate::observe::Watch;
use crate::recorder::Recorder;
use crate::scenario::{Act, Pod, Scenario};

/// The sources that the API is.
const OF_THE_API: [Source; 2] = [Source::Runtime, Source::Kubelet];

/// How much later than it happened the API may tell of an end: the kubelet looks once a second (`PLEG`), then writes.
const API_LAG: Duration = Duration::from_secs(4);

/// How much later than the kill the event that explains it may come.
const EVENT_LAG: Duration = Duration::from_secs(8);

/// How long pods may take to begin.
const PATIENCE: Duration = Duration::from_secs(90);

/// Who applies.
const MANAGER: &str = "exit137";

/// A scenario whose pods are on a cluster.
#[derive(Debug)]
pub struct RunningOnCluster {
    client: Client,
    place: Place,
    scenario: Scenario,
    recorder: Recorder,
    told: Arc<Told>,
    node: Option<Arc<OnNode>>,
    watches: Mutex<JoinSet<()>>,
    /// What is removed before the pods, so that nobody makes them anew.
    controllers: Mutex<Vec<Made>>,
    /// What no namespace takes with it.
    outside: Mutex<Vec<Made>>,
}

/// An object that was made, or may have been: it is noted before it is asked for.
#[derive(Clone, Debug)]
struct Made {
    resource: ApiResource,
    name: String,
}

/// What watches the nodes from this host.
#[derive(Debug)]
struct OnNode {
    finder: Mutex<Finder>,
    watch: Watch,
    relayed: tokio::sync::Mutex<mpsc::UnboundedReceiver<Observation>>,
}

impl RunningOnCluster {
    pub(super) fn new(
        backend: &KubernetesBackend,
        scenario: &Scenario,
        trial: &str,
        recorder: Recorder,
        folder: &Path,
    ) -> Result<Self, BackendError> {
        for of in OF_THE_API {
            recorder.now(of, Fact::Source(SourceState::Present { of }));
        }
        recorder.now(Source::Harness, Fact::Cluster(backend.cluster.clone()));
        let observing = |error| BackendError::doing(format!("observe into {}", folder.display()), error);
        let node = match (&backend.observers, backend.nodes.is_empty()) {
            (Ok(observers), false) => {
                let (sender, relayed) = mpsc::unbounded_channel();
                let relay = Recorder::relay(sender);
                let watch = observers.watch(relay.clone(), folder.join("samples.csv")).map_err(observing)?;
                let finder = Finder::start(backend.nodes.clone(), relay, watch.clone()).map_err(observing)?;
                let relayed = tokio::sync::Mutex::new(relayed);
                Some(Arc::new(OnNode { finder: Mutex::new(finder), watch, relayed }))
            }
            (observers, _) => {
                let why = observers.as_ref().err().map_or("its nodes are not on this host", String::as_str);
                for of in [Source::Kmsg, Source::Trace, Source::Memcg, Source::Exits] {
                    let reason = why.to_owned();
                    recorder.now(of, Fact::Source(SourceState::Absent { of, reason }));
                }
                None
            }
        };
        let namespace = format!("exit137-{}-{trial}", backend.run);
        // A namespace is a DNS label.
        let namespace = namespace.chars().take(63).collect::<String>().trim_end_matches('-').to_owned();
        Ok(Self {
            client: backend.client.clone(),
            place: Place { namespace, run: backend.run.clone(), image: backend.image.clone() },
            scenario: scenario.clone(),
            told: Arc::new(Told::new(recorder.clone(), &scenario.pods)),
            recorder,
            node,
            watches: Mutex::default(),
            controllers: Mutex::default(),
            outside: Mutex::default(),
        })
    }

    fn api(&self) -> Api<KubernetesPod> {
        self.client.namespaced(&self.place.namespace)
    }

    /// Makes the namespace; a pod in it needs the service account that a controller makes a moment later.
    async fn make_namespace(&self, scenario: &Scenario) -> Result<(), BackendError> {
        let namespaces: Api<Namespace> = self.client.all();
        let object = manifest::namespace(scenario, &self.place);
        let applied = namespaces.patch(&self.place.namespace, &params(), &Patch::Apply(&object)).await;
        applied
            .map_err(|error| api_error(&format!("make the namespace {}", self.place.namespace), &error))?;
        Ok(())
    }

    /// Applies what the scenario brings along beside its pods.
    async fn apply_objects(&self) -> Result<(), BackendError> {
        for object in &self.scenario.objects {
            let (resource, namespaced) = objects::served(&self.client, object).await?;
            let value = manifest::object(&self.scenario, object, namespaced, &self.place);
            let name = value["metadata"]["name"].as_str().unwrap_or(&object.name).to_owned();
            if !namespaced {
                note(&self.outside, Made { resource: resource.clone(), name: name.clone() });
            }
            let namespace = namespaced.then_some(self.place.namespace.as_str());
            let api = self.client.dynamic(&resource, namespace);
            let applied = objects::apply(&api, &name, &value).await;
            applied.map_err(|error| api_error(&format!("apply {object}"), &error))?;
        }
        Ok(())
    }

    /// Applies what an entry of `pods` makes.
    async fn apply_pod(&self, pod: &Pod) -> Result<(), BackendError> {
        for Workload { resource, name, object, controller } in
            manifest::workloads(&self.scenario, pod, &self.place)
        {
            if controller {
                note(&self.controllers, Made { resource: resource.clone(), name: name.clone() });
            }
            let api = self.client.dynamic(&resource, Some(&self.place.namespace));
            let until = Instant::now() + PATIENCE;
            loop {
                match objects::apply(&api, &name, &object).await {
                    Ok(()) => break,
                    Err(kube::Error::Api(status))
                        if comes_soon(&status.message) && Instant::now() < until =>
                    {
                        sleep(Duration::from_millis(50)).await;
                    }
                    Err(error) => {
                        return Err(api_error(&format!("apply {} {name}", resource.kind), &error));
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_watches(&self) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let (pods, told, node) = (self.api(), Arc::clone(&self.told), self.node.clone());
        let recorder = self.recorder.clone();
        watches.spawn(async move { watch_pods(pods, &told, node.as_deref(), &recorder).await });
        let events = self.client.namespaced(&self.place.namespace);
        let (told, recorder) = (Arc::clone(&self.told), self.recorder.clone());
        watches.spawn(async move { watch_events(events, &told, &recorder).await });
        if let Some(node) = self.node.clone() {
            let told = Arc::clone(&self.told);
            watches.spawn(async move {
                let mut relayed = node.relayed.lock().await;
                while let Some(observation) = relayed.recv().await {
                    told.node(observation);
                }
            });
        }
    }

    async fn wait_until_begun(&self, names: &[String]) -> Result<(), BackendError> {
        let mut begun = self.told.begun.subscribe();
        let all = |known: &BTreeMap<String, Begun>| {
            let never = known.values().any(|begun| matches!(begun, Begun::Never(_)));
            never || names.iter().all(|name| known.get(name) == Some(&Begun::Yes))
        };
        let waited = timeout(PATIENCE, begun.wait_for(all)).await;
        let known = waited.ok().and_then(|known| Some(known.ok()?.clone()));
        let Some(known) = known else { return Err(self.stuck().await) };
        let never = known.iter().find_map(|(pod, begun)| match begun {
            Begun::Never(why) => Some(format!("pod {pod} cannot run: {why}")),
            Begun::No | Begun::Yes => None,
        });
        never.map_or(Ok(()), |why| Err(BackendError(why)))
    }

    /// Why pods have not begun, in the API's own words: what they wait for, or why their controller could not make them.
    async fn stuck(&self) -> BackendError {
        let mut reasons = Vec::new();
        let pods = self.api().list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            let unmet = conditions.into_iter().find(|condition| condition.status == "False");
            reasons.extend(unmet.and_then(|unmet| unmet.message).map(|why| format!("{name}: {why}")));
        }
        let events: Api<Event> = self.client.namespaced(&self.place.namespace);
        let failed = ListParams::default().fields("reason=FailedCreate");
        let failed = events.list(&failed).await.map(|list| list.items).unwrap_or_default();
        let words = |event: Event| {
            let about = event.involved_object.name.unwrap_or_default();
            event.message.map(|why| format!("{about}: {why}"))
        };
        reasons.extend(failed.into_iter().filter_map(words).take(3));
        BackendError(format!(
            "pods did not begin within {} s; is the cluster too small for the scenario? {}",
            PATIENCE.as_secs(),
            reasons.join("; ")
        ))
    }

    /// Removes what was made; answers what could not be.
    async fn remove(&self, made: &Mutex<Vec<Made>>, namespace: Option<&str>) -> Vec<String> {
        let made = std::mem::take(&mut *made.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = Vec::new();
        for Made { resource, name } in made {
            let api = self.client.dynamic(&resource, namespace);
            if let Err(error) = objects::remove(&api, &name).await {
                left.push(format!("{} {name}: {error}", resource.kind));
            }
        }
        left
    }

    /// Waits until the API has told of what the nodes saw end.
    async fn let_the_api_tell(&self) {
        let until = Instant::now() + API_LAG;
        // Where nobody watches the nodes, there is no telling what is still to come.
        while Instant::now() < until && (self.node.is_none() || self.told.waits_for_names()) {
            sleep(Duration::from_millis(50)).await;
        }
        // A kubelet under load sends its events late (`eventRecordQPS`).
        let until = Instant::now() + EVENT_LAG;
        let probed: Vec<&Pod> = self.scenario.pods.iter().filter(|pod| is_probed(pod)).collect();
        let is_probed = |name: &str| probed.iter().any(|pod| pod.is_named(name));
        while Instant::now() < until && self.told.waits_for_events(is_probed) {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Running for RunningOnCluster {
    async fn start(&self, scenario: &Scenario) -> Result<(), BackendError> {
        self.make_namespace(scenario).await?;
        self.begin_watches();
        self.apply_objects().await?;
        let first: Vec<&Pod> = scenario.pods.iter().filter(|pod| !scenario.starts_later(pod)).collect();
        for pod in &first {
            self.apply_pod(pod).await?;
        }
        let names: Vec<String> = first.iter().flat_map(|pod| pod.replica_names()).collect();
        self.wait_until_begun(&names).await
    }

    async fn apply(&self, index: usize, act: &Act) {
        let outcome = self.carry_out(act).await;
        let what = act.to_string();
        self.recorder.now(Source::Harness, Fact::Action(ActionDone { index, what, error: outcome.err() }));
    }

    async fn tear_down(&self) -> Vec<String> {
        self.told.tear_down();
        self.let_the_api_tell().await;
        let mut left = Vec::new();
        left.extend(self.remove(&self.controllers, Some(&self.place.namespace)).await);
        // Whoever ignores SIGTERM is not waited for.
        let now = DeleteParams::default().grace_period(0);
        if let Err(error) = self.api().delete_collection(&now, &ListParams::default()).await {
            left.push(format!("pods in namespace {}: {error}", self.place.namespace));
        }
        let namespaces: Api<Namespace> = self.client.all();
        match namespaces.delete(&self.place.namespace, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => left.push(format!("namespace {}: {error}", self.place.namespace)),
            Ok(_) => {}
        }
        left.extend(self.remove(&self.outside, None).await);
        left
    }

    async fn finish(&self) -> Result<(), BackendError> {
        let mut watches = std::mem::take(&mut *self.watches.lock().unwrap_or_else(PoisonError::into_inner));
        watches.shutdown().await;
        if let Some(node) = self.node.clone() {
            let theirs = Arc::clone(&node);
            let finished = tokio::task::spawn_blocking(move || {
                theirs.finder.lock().unwrap_or_else(PoisonError::into_inner).stop();
                theirs.watch.finish();
            });
            finished.await.map_err(|error| BackendError::doing("let the observers finish", error))?;
            let mut relayed = node.relayed.lock().await;
            while let Ok(observation) = relayed.try_recv() {
                self.told.node(observation);
            }
        }
        self.told.finish();
        for of in OF_THE_API {
            self.recorder.now(of, Fact::Source(SourceState::Complete { of }));
        }
        Ok(())
    }

    fn latest_usage(&self, cgroup: &str) -> Option<u64> {
        self.node.as_ref()?.watch.latest_usage(cgroup)
    }

    fn on_usage(&self, cgroup: &str, bytes: u64) -> oneshot::Receiver<()> {
        match &self.node {
            Some(node) => node.watch.on_usage(cgroup, bytes),
            // Nobody will ever answer.
            None => oneshot::channel().1,
        }
    }
}

/// Whether a probe may stop one of its containers.
fn is_probed(pod: &Pod) -> bool {
    pod.containers.iter().any(|container| container.liveness.is_some() || container.startup.is_some())
}

fn note(into: &Mutex<Vec<Made>>, made: Made) {
    into.lock().unwrap_or_else(PoisonError::into_inner).push(made);
}

/// What a controller makes a moment after the namespace: the default service account, what a quota is used up to.
fn comes_soon(refusal: &str) -> bool {
    refusal.contains("serviceaccount") || refusal.contains("status unknown for quota")
}

fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

/// Follows the pods of a namespace. A watch that had to begin anew may have missed something: that is said.
async fn watch_pods(pods: Api<KubernetesPod>, told: &Told, node: Option<&OnNode>, recorder: &Recorder) {
    let stream = watcher(pods, watcher::Config::default()).default_backoff();
    pin_mut!(stream);
    let mut gap = Gap::new(Source::Runtime);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                if let (Some(uid), Some(node)) = (told.pod(&pod, false), node) {
                    node.finder.lock().unwrap_or_else(PoisonError::into_inner).add_pod(&uid);
                }
            }
            Ok(watcher::Event::Delete(pod)) => drop(told.pod(&pod, true)),
            Ok(watcher::Event::Init) => gap.listing(recorder),
            Ok(watcher::Event::InitDone) => {}
            Err(error) => gap.broken(&error),
        }
    }
}

async fn watch_events(events: Api<Event>, told: &Told, recorder: &Recorder) {
    let stream = watcher(events, watcher::Config::default()).default_backoff();
    pin_mut!(stream);
    let mut gap = Gap::new(Source::Kubelet);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) => told.event(&event),
            Ok(watcher::Event::Init) => gap.listing(recorder),
            Ok(watcher::Event::Delete(_) | watcher::Event::InitDone) => {}
            Err(error) => gap.broken(&error),
        }
    }
}

/// A watch that broke, and what it may have missed.
struct Gap {
    of: Source,
    listed: bool,
    heard: u64,
}

impl Gap {
    fn new(of: Source) -> Self {
        Self { of, listed: false, heard: crate::clock::boot_ns() }
    }

    /// The watch lists everything: the first time it begins so, later it has lost its place (HTTP 410).
    fn listing(&mut self, recorder: &Recorder) {
        if self.listed {
            let at = Moment::between(self.heard, crate::clock::boot_ns());
            let gap = SourceState::Gap { of: self.of, lost: 1 };
            recorder.record(self.of, at, None, Fact::Source(gap));
        }
        self.listed = true;
        self.heard = crate::clock::boot_ns();
    }

    fn broken(&self, error: &watcher::Error) {
        tracing::info!(source = %self.of, %error, "a watch broke and begins anew");
    }
}
