//! What a scenario does to its pods on a cluster.

use std::sync::PoisonError;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::client::{PATIENT, persist};
use super::super::members::Member;
use super::super::node::Place;
use super::RunningOnCluster;
use crate::backend::local::{ActionSpec, act, write_limit};
use crate::clock;
use crate::evidence::{Moment, StopReason};
use crate::scenario::{Act, ContainerSelector, Pod, PodKind};

/// How long `kubectl drain` waits where a PodDisruptionBudget forbids an eviction (kubectl pkg/drain: `evictPods`).
const ASKED_AGAIN: Duration = Duration::from_secs(5);

/// How long a container that runs may stay without a process that is known: what triggers an action may be heard of before it is.
const PROCESS_KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// How often the processes are asked for until they are known.
const PROCESS_ASKED_EVERY: Duration = Duration::from_millis(20);

impl RunningOnCluster {
    /// Carries out an action; answers why it could not be.
    pub(super) async fn carry_out(&self, act: &Act) -> Result<(), String> {
        match act {
            Act::Delete { pod, grace_seconds } => self.delete(pod, *grace_seconds).await,
            Act::Drain { pod } => self.drain(pod).await,
            Act::Rollout { pod } => self.roll_out(pod).await,
            Act::Create { pod } => self.create(pod).await,
            Act::Kill { container, signal, child } => self.kill(container, *signal, *child).await,
            Act::SetLimit { container, memory, .. } => self.set_limit(container, *memory).await,
            Act::Resize { container, memory } => self.resize(container, *memory).await,
            Act::LoseContainer { container } => self.lose(container).await,
        }
    }

    /// The pods of this name that are there now.
    fn targets(&self, name: &str) -> Result<Vec<Member>, String> {
        let targets = self.told.there_now(name);
        if targets.is_empty() { Err(format!("there is no pod {name} now")) } else { Ok(targets) }
    }

    /// The entry of `pods` that this name means.
    fn entry(&self, name: &str) -> Result<&Pod, String> {
        let found = self.scenario.pods.iter().find(|pod| pod.is_named(name));
        found.ok_or_else(|| format!("there is no pod {name}"))
    }

    async fn delete(&self, name: &str, grace_seconds: Option<u32>) -> Result<(), String> {
        let grace = grace_seconds.unwrap_or(self.entry(name)?.grace_seconds);
        for target in self.targets(name)? {
            self.delete_one(&target, grace).await?;
        }
        Ok(())
    }

    async fn delete_one(&self, target: &Member, grace: u32) -> Result<(), String> {
        let before = clock::boot_ns();
        let params = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
        let api = self.api();
        let deleted = persist(PATIENT, || api.delete(&target.api_name, &params)).await;
        deleted.map_err(|error| error.to_string())?;
        self.asked(target, StopReason::Delete, grace, before);
        Ok(())
    }

    /// The kubelet comes back whatever happens meanwhile; if this is broken off, the tear-down brings it back.
    async fn lose(&self, selector: &ContainerSelector) -> Result<(), String> {
        for target in self.targets(&selector.pod)? {
            let lost = self.lose_one(selector, &target).await;
            let still_away = self.changes.bring_kubelets_back().await;
            lost?;
            still_away.into_iter().next().map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    async fn lose_one(&self, selector: &ContainerSelector, target: &Member) -> Result<(), String> {
        let id = self.told.latest_id(&target.name, &selector.container);
        let id = id.ok_or_else(|| format!("{selector} does not run"))?;
        let object = self.api().get(&target.api_name).await.map_err(|error| error.to_string())?;
        let node = object.spec.and_then(|spec| spec.node_name);
        let node = node.ok_or_else(|| format!("{} is on no node", target.name))?;
        self.changes.take_kubelet_away(&node).await.map_err(|error| error.to_string())?;
        self.changes.remove_once_ended(&node, &id).await.map_err(|error| error.to_string())?;
        // Not before: a container that a deletion ended would have been seen to.
        self.delete_one(target, self.entry(&selector.pod)?.grace_seconds).await
    }

    /// The Eviction API, as `kubectl drain` uses it. A body that names no version is read as the newest that the server has:
    /// `policy/v1` since 1.22, `policy/v1beta1` before (registry/core/pod/storage/eviction.go).
    async fn drain(&self, name: &str) -> Result<(), String> {
        let grace = self.entry(name)?.grace_seconds;
        for target in self.targets(name)? {
            loop {
                let before = clock::boot_ns();
                match self.api().evict(&target.api_name, &EvictParams::default()).await {
                    Ok(_) => {
                        self.asked(&target, StopReason::Drain, grace, before);
                        break;
                    }
                    Err(kube::Error::Api(status)) if status.code == 429 => sleep(ASKED_AGAIN).await,
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        Ok(())
    }

    fn asked(&self, target: &Member, reason: StopReason, grace_seconds: u32, before: u64) {
        let at = Moment::between(before, clock::boot_ns());
        self.told.asked(&target.name, reason, Some(u64::from(grace_seconds) * 1000), at);
    }

    /// A new annotation on the template makes the controller replace its pods. When it asks which of them to stop, the API tells.
    async fn roll_out(&self, name: &str) -> Result<(), String> {
        let namespace = &self.place.namespace;
        let name_in_api = self.entry(name)?.api_name();
        let done = match self.entry(name)?.kind {
            PodKind::Deployment => {
                self.client.namespaced::<Deployment>(namespace).restart(name_in_api).await.map(drop)
            }
            PodKind::StatefulSet => {
                self.client.namespaced::<StatefulSet>(namespace).restart(name_in_api).await.map(drop)
            }
            PodKind::DaemonSet => {
                self.client.namespaced::<DaemonSet>(namespace).restart(name_in_api).await.map(drop)
            }
            PodKind::Pod | PodKind::Job => return Err(format!("{name} is not rolled out by anybody")),
        };
        done.map_err(|error| error.to_string())
    }

    async fn create(&self, name: &str) -> Result<(), String> {
        let pod = self.entry(name)?.clone();
        self.apply_pod(&pod).await.map_err(|error| error.to_string())
    }

    /// The `resize` subresource (KEP-1287, since 1.33). The request follows the limit down, or the pod would be invalid.
    async fn resize(&self, selector: &ContainerSelector, memory: u64) -> Result<(), String> {
        let entry = self.entry(&selector.pod)?;
        let own = entry.containers.iter().find(|own| own.name == selector.container);
        let request = own
            .and_then(|own| own.request.filter(|request| own.limit == Some(*request) || *request > memory));
        let mut resources = json!({"limits": {"memory": memory.to_string()}});
        if request.is_some() {
            resources["requests"] = json!({"memory": memory.to_string()});
        }
        let patch = json!({"spec": {"containers": [{"name": selector.container, "resources": resources}]}});
        for target in self.targets(&selector.pod)? {
            let patch = Patch::Strategic(&patch);
            let resized = self
                .api()
                .patch_subresource("resize", &target.api_name, &PatchParams::default(), &patch)
                .await;
            resized.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Where the latest runs of these containers are on their nodes.
    pub(super) fn places(&self, selector: &ContainerSelector) -> Result<Vec<Place>, String> {
        let node = self.node.as_ref().ok_or("the nodes' processes are not on this host")?;
        let finder = node.finder.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places = Vec::new();
        for target in self.targets(&selector.pod)? {
            let id = self.told.latest_id(&target.name, &selector.container);
            places.extend(id.and_then(|id| finder.place(&id)));
        }
        if places.is_empty() { Err(format!("{selector} does not run")) } else { Ok(places) }
    }

    /// Where the latest runs of these containers are, and their main processes.
    async fn processes(&self, container: &ContainerSelector) -> Result<Vec<(Place, u32)>, String> {
        let deadline = Instant::now() + PROCESS_KNOWN_WITHIN;
        loop {
            let known = self.places(container).and_then(|places| {
                let with_pid = places.into_iter().map(|place| place.main_pid.map(|pid| (place, pid)));
                with_pid.collect::<Option<Vec<_>>>().ok_or_else(|| format!("{container} does not run"))
            });
            if known.is_ok() || self.node.is_none() || Instant::now() >= deadline {
                return known;
            }
            sleep(PROCESS_ASKED_EVERY).await;
        }
    }

    async fn kill(&self, container: &ContainerSelector, signal: i32, child: bool) -> Result<(), String> {
        for (place, main_pid) in self.processes(container).await? {
            let cgroup_procs = place.cgroup.directory.join("cgroup.procs");
            act(&ActionSpec::Kill { cgroup_procs, main_pid, child, signal }).await?;
        }
        Ok(())
    }

    /// Writes the limit on the node, as a runtime does that is told to.
    async fn set_limit(&self, container: &ContainerSelector, memory: u64) -> Result<(), String> {
        for place in self.places(container)? {
            write_limit(place.cgroup, memory, &self.recorder).await?;
        }
        Ok(())
    }
}
