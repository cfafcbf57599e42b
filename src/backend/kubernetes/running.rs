//! A scenario that runs on a cluster: its namespace, its watches, what is done to it, and its end.

mod acts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod as KubernetesPod};
use kube::api::{Api, ApiResource, ListParams, Patch, PatchParams};
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::agent;
use super::artifacts::Artifacts;
use super::changes::NodeChanges;
use super::client::{Client, PATIENT, persist};
use super::logs::Logs;
use super::manifest::{self, Place, Workload};
use super::node::Finder;
use super::told::{Begun, Told};
use super::watch::{self, Contact};
use super::{KubernetesBackend, api_error, changes, keep, objects, scheduling, traffic};
use crate::backend::local::oom_score_adj;
use crate::backend::{Backend as _, BackendError, Running};
use crate::clock;
use crate::evidence::{ActionDone, Fact, Observation, Source, SourceState};
use crate::observe::Watch;
use crate::recorder::Recorder;
use crate::scenario::{Act, ContainerSelector, Pod, Scenario};

/// The sources that the API is.
const OF_THE_API: [Source; 2] = [Source::Runtime, Source::Kubelet];

/// How much later than it happened the API may tell of an end: the kubelet looks once a second (`PLEG`), then writes.
const API_LAG: Duration = Duration::from_secs(4);

/// How much later than the kill the event that explains it may come.
const EVENT_LAG: Duration = Duration::from_secs(8);

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// How long pods may take to begin.
const PATIENCE: Duration = Duration::from_secs(90);
const EACH_POD: Duration = Duration::from_secs(1);

/// How long an API server may be away before what it has to tell is no longer waited for: a static pod that has crashed a few
/// times is started again within this.
const MENDS: Duration = Duration::from_mins(2);

/// How long to gather what goes with the namespace, and how many pods to ask for at a time.
const GATHER: Duration = Duration::from_secs(20);
const PAGE: u32 = 10;

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
    agents: Option<Arc<agent::Trial>>,
    changes: NodeChanges,
    watches: Mutex<JoinSet<()>>,
    contact: Arc<Contact>,
    logs: Arc<Logs>,
    artifacts: Arc<Artifacts>,
    clients: OnceCell<traffic::Clients>,
    boot_id: String,
    folder: PathBuf,
    /// Where the namespace may stay: until the trial is judged.
    undecided: Option<Arc<keep::Undecided>>,
    /// The most memory that a node has for pods.
    largest_node: Option<u64>,
    /// Whether there may be a namespace of ours.
    made: AtomicBool,
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
                let relay = Recorder::relay(move |observation| sender.send(observation).is_ok());
                let watch = observers.watch(relay.clone(), &folder.join("samples.csv")).map_err(observing)?;
                let finder = Finder::start(backend.nodes.clone(), relay, watch.clone()).map_err(observing)?;
                let relayed = tokio::sync::Mutex::new(relayed);
                Some(Arc::new(OnNode { finder: Mutex::new(finder), watch, relayed }))
            }
            // The agents state theirs.
            _ if backend.agents.is_some() => None,
            (observers, _) => {
                let why = observers.as_ref().err().map_or("its nodes are not on this host", String::as_str);
                for of in [Source::Kmsg, Source::Trace, Source::Memcg, Source::Exits] {
                    let reason = why.to_owned();
                    recorder.now(of, Fact::Source(SourceState::Absent { of, reason }));
                }
                None
            }
        };
        let artifacts = Arc::new(Artifacts::new(folder).map_err(observing)?);
        let namespace = format!("exit137-{}-{trial}", backend.run);
        // A namespace is a DNS label.
        let namespace = namespace.chars().take(63).collect::<String>().trim_end_matches('-').to_owned();
        let told = Arc::new(Told::new(recorder.clone(), &scenario.pods));
        let boot_id = backend.host().boot_id;
        let begin = |agents: &agent::Agents| {
            agents.begin(&namespace, Arc::clone(&told), recorder.clone(), folder, &boot_id)
        };
        let agents = backend.agents.as_ref().map(begin).transpose().map_err(observing)?.map(Arc::new);
        let logs = Logs::new(backend.client.namespaced(&namespace), folder).map_err(observing)?;
        Ok(Self {
            client: backend.client.clone(),
            place: Place { namespace, run: backend.run.clone(), image: backend.image.clone() },
            scenario: scenario.clone(),
            told,
            recorder,
            node,
            agents,
            changes: NodeChanges::new(backend),
            watches: Mutex::default(),
            contact: Arc::default(),
            logs,
            artifacts,
            clients: OnceCell::new(),
            boot_id,
            folder: folder.to_path_buf(),
            undecided: (backend.keep != keep::Keep::Nothing).then(|| Arc::clone(&backend.undecided)),
            largest_node: backend.cluster.nodes.iter().filter_map(|node| node.allocatable).max(),
            made: AtomicBool::new(false),
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
        let (name, params) = (&self.place.namespace, params());
        let object = Patch::Apply(manifest::namespace(scenario, &self.place));
        self.made.store(true, Ordering::Relaxed);
        let applied = persist(PATIENT, || namespaces.patch(name, &params, &object)).await;
        // What the server refuses it has not made.
        self.made.store(!matches!(applied, Err(kube::Error::Api(_))), Ordering::Relaxed);
        applied.map(drop).map_err(|error| api_error(&format!("make the namespace {name}"), &error))
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
            let applied = objects::apply_and_hold(&api, &name, &value).await;
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
                    Ok(_) => break,
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
        if let Some(agents) = self.agents.clone() {
            watches.spawn(async move { agents.hear().await });
        }
        let namespace = &self.place.namespace;
        let follower = || (self.recorder.clone(), Arc::clone(&self.contact));
        let (recorder, contact) = follower();
        let pods = watch::Pods::new(Arc::clone(&self.told), self.each_pod());
        watches.spawn(watch::follow(self.client.watch_namespaced(namespace), pods, recorder, contact));
        let (recorder, contact) = follower();
        let events = watch::Events(Arc::clone(&self.told));
        watches.spawn(watch::follow(self.client.watch_namespaced(namespace), events, recorder, contact));
        let (recorder, contact) = follower();
        let nodes = watch::Nodes::new(self.recorder.clone());
        watches.spawn(watch::follow(self.client.watch_all::<Node>(), nodes, recorder, contact));
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

    /// What is done with each object of a pod: its cgroups are looked for, its logs are kept, and when it goes its last form too.
    fn each_pod(&self) -> impl FnMut(&KubernetesPod, Option<String>, bool) + Send + use<> {
        let (node, logs) = (self.node.clone(), Arc::clone(&self.logs));
        let (artifacts, told) = (Arc::clone(&self.artifacts), Arc::clone(&self.told));
        let agents = self.agents.clone();
        move |pod, new, gone| {
            let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            if let (Some(agents), Some(node_name)) = (&agents, node_name) {
                agents.pod_is_on(pod.metadata.uid.as_deref().unwrap_or_default(), node_name);
            }
            if let (Some(uid), Some(node)) = (new, &node) {
                node.finder.lock().unwrap_or_else(PoisonError::into_inner).add_pod(&uid);
            }
            if gone {
                artifacts.pod(pod);
            } else if let Some(name) = told.name_of(pod) {
                logs.see(&name, pod);
            }
        }
    }

    async fn wait_until_begun(&self, names: &[String]) -> Result<(), BackendError> {
        let mut begun = self.told.begun.subscribe();
        let all = |known: &BTreeMap<String, Begun>| {
            let never = known.values().any(|begun| matches!(begun, Begun::Never(_)));
            never || names.iter().all(|name| known.get(name) == Some(&Begun::Yes))
        };
        let patience = PATIENCE + EACH_POD * u32::try_from(names.len()).unwrap_or(u32::MAX);
        let waited = tokio::select! {
            waited = timeout(patience, begun.wait_for(all)) => waited,
            why = scheduling::in_vain(self.api(), self.largest_node) => return Err(why),
        };
        let known = waited.ok().and_then(|known| Some(known.ok()?.clone()));
        let Some(known) = known else { return Err(self.stuck(patience).await) };
        let never = known.iter().find_map(|(pod, begun)| match begun {
            Begun::Never(why) => {
                let hint = if why.contains("Image") {
                    "; is the image's name right, and has every node it or may pull it?"
                } else {
                    ""
                };
                Some(format!("pod {pod} cannot run: {why}{hint}"))
            }
            Begun::No | Begun::Yes => None,
        });
        never.map_or(Ok(()), |why| Err(BackendError(why)))
    }

    /// Why pods have not begun, in the API's own words: what they wait for, or why their controller could not make them.
    async fn stuck(&self, patience: Duration) -> BackendError {
        let mut reasons = BTreeMap::new();
        let pods = self.api().list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for pod in pods {
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            let unmet = conditions.into_iter().find(|condition| condition.status == "False");
            reasons.extend(pod.metadata.name.zip(unmet.and_then(|unmet| unmet.message)));
        }
        let events: Api<Event> = self.client.namespaced(&self.place.namespace);
        let failed = ListParams::default().fields("reason=FailedCreate");
        let failed = events.list(&failed).await.map(|list| list.items).unwrap_or_default();
        reasons.extend(failed.into_iter().filter_map(|event| event.involved_object.name.zip(event.message)));
        let reasons: Vec<String> = reasons.into_iter().map(|(name, why)| format!("{name}: {why}")).collect();
        BackendError(format!(
            "pods did not begin within {} s; is the cluster too small for the scenario? {}",
            patience.as_secs(),
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

    /// On kind a node's capacity is the whole host's; a scenario that says another gets the `oom_score_adj` of that one.
    fn score_by_capacity(&self, scenario: &Scenario) -> Result<(), BackendError> {
        let Some(capacity) = scenario.node.capacity else { return Ok(()) };
        for pod in &scenario.pods {
            for container in &pod.containers {
                let selector = ContainerSelector { pod: pod.name.clone(), container: container.name.clone() };
                let adj = oom_score_adj::for_container(pod, container, capacity);
                // One that has ended already needs no score.
                for pid in self.places(&selector).unwrap_or_default().into_iter().filter_map(|p| p.main_pid) {
                    changes::score(pid, adj).map_err(|error| {
                        BackendError::doing(format!("score {selector} by node.capacity"), error)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Waits until the API has told of what the nodes saw end.
    async fn let_the_api_tell(&self) {
        // After a break, a kubelet has not told yet what it could not.
        let broke = self.contact.broke_within(2 * watch::EVENTS_AFTER_A_BREAK)
            || !self.contact.answers(&self.client).await;
        let (api_lag, event_lag) = if broke {
            self.contact.until_mended(&self.client, MENDS).await;
            (watch::TOLD_AFTER_A_BREAK, watch::EVENTS_AFTER_A_BREAK)
        } else {
            (API_LAG, EVENT_LAG)
        };
        let until = Instant::now() + api_lag;
        // Where nobody watches the nodes, there is no telling what is still to come.
        let nobody = self.node.is_none() && self.agents.is_none();
        while Instant::now() < until && (nobody || self.told.waits_for_names() || self.told.waits_for_ends())
        {
            sleep(Duration::from_millis(50)).await;
        }
        // A kubelet under load sends its events late (`eventRecordQPS`).
        let until = Instant::now() + event_lag;
        let probed: Vec<&Pod> = self.scenario.pods.iter().filter(|pod| is_probed(pod)).collect();
        let is_probed = |name: &str| probed.iter().any(|pod| pod.is_named(name));
        while Instant::now() < until && self.told.waits_for_events(is_probed) {
            sleep(Duration::from_millis(50)).await;
        }
        if broke && self.told.waits_for_events(is_probed) {
            let gap = Fact::Source(SourceState::Gap { of: Source::Kubelet, lost: 1 });
            self.recorder.record(Source::Kubelet, self.contact.since_it_broke(), None, gap);
        }
    }
}

impl RunningOnCluster {
    /// Keeps what goes with the namespace: pods, events, logs.
    async fn keep_what_goes(&self) {
        let (api, events) = (self.api(), self.client.namespaced::<Event>(&self.place.namespace));
        let gather = async {
            let mut params = ListParams::default().limit(PAGE);
            loop {
                let listed = persist(GATHER, || api.list(&params)).await;
                let page = match listed {
                    Ok(page) => page,
                    Err(error) => break tracing::info!(%error, "the pods are not kept"),
                };
                for pod in &page.items {
                    self.artifacts.pod(pod);
                    if let Some(name) = self.told.name_of(pod) {
                        self.logs.see_last(&name, pod);
                    }
                }
                let Some(next) = page.metadata.continue_.filter(|next| !next.is_empty()) else { break };
                params = params.continue_token(&next);
            }
            self.artifacts.events(&events).await;
            self.logs.finish(GATHER).await;
        };
        if timeout(GATHER, gather).await.is_err() {
            tracing::info!("not all could be kept of {} in time", self.place.namespace);
        }
        self.artifacts.close();
    }
}

impl Running for RunningOnCluster {
    async fn start(&self, scenario: &Scenario) -> Result<(), BackendError> {
        self.make_namespace(scenario).await?;
        self.changes.make(scenario, &self.recorder).await?;
        self.begin_watches();
        self.apply_objects().await?;
        // Before the pods: a generator takes seconds to begin, and the scenario's time is theirs.
        let clients =
            traffic::Clients::start(scenario, &self.client, &self.place, &self.recorder, &self.boot_id);
        let _ = self.clients.set(clients.await?);
        let first: Vec<&Pod> = scenario.pods.iter().filter(|pod| !scenario.starts_later(pod)).collect();
        for pod in &first {
            self.apply_pod(pod).await?;
        }
        let names: Vec<String> = first.iter().flat_map(|pod| pod.replica_names()).collect();
        self.wait_until_begun(&names).await?;
        self.score_by_capacity(scenario)
    }

    async fn apply(&self, index: usize, act: &Act) {
        let outcome = self.carry_out(act).await;
        let what = act.to_string();
        self.recorder.now(Source::Harness, Fact::Action(ActionDone { index, what, error: outcome.err() }));
    }

    fn start_traffic(&self, index: usize, zero_ns: u64) {
        if let Some(clients) = self.clients.get() {
            clients.begin(index, zero_ns);
        }
    }

    async fn tear_down(&self) -> Vec<String> {
        if let Some(clients) = self.clients.get() {
            clients.stop().await;
        }
        self.told.tear_down();
        let decided = clock::unix_ns();
        let mut left = self.changes.undo(&self.recorder).await;
        if !self.made.load(Ordering::Relaxed) {
            return left;
        }
        self.let_the_api_tell().await;
        self.keep_what_goes().await;
        // The API tells ends in whole seconds: none that the deletion brings about may look like one from before.
        while clock::unix_ns() / SECOND == decided / SECOND {
            sleep(Duration::from_millis(20)).await;
        }
        if let Some(undecided) = &self.undecided {
            undecided.add(&self.folder, &self.place.namespace);
        } else {
            left.extend(self.remove(&self.controllers, Some(&self.place.namespace)).await);
            left.extend(keep::remove(&self.client, &self.place.namespace).await);
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
        if let Some(agents) = &self.agents {
            agents.finish().await;
        }
        self.told.finish();
        for of in OF_THE_API {
            self.recorder.now(of, Fact::Source(SourceState::Complete { of }));
        }
        Ok(())
    }

    fn latest_usage(&self, cgroup: &str) -> Option<u64> {
        match (&self.node, &self.agents) {
            (Some(node), _) => node.watch.latest_usage(cgroup),
            (None, agents) => agents.as_ref()?.latest_usage(cgroup),
        }
    }

    fn on_usage(&self, cgroup: &str, bytes: u64) -> oneshot::Receiver<()> {
        match (&self.node, &self.agents) {
            (Some(node), _) => node.watch.on_usage(cgroup, bytes),
            (None, Some(agents)) => agents.on_usage(cgroup, bytes),
            // Nobody will ever answer.
            (None, None) => oneshot::channel().1,
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
