//! Putting agents on a cluster's nodes, and taking them away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Node, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::objects::{self, AGENT, PRIORITY, STAYS};
use crate::backend::BackendError;
use crate::backend::kubernetes::api_error;
use crate::backend::kubernetes::client::Client;
use crate::backend::kubernetes::lease::{self, NAMESPACE};

/// How long an agent's pods may take to go. They end as soon as they are told to, but a kubelet may wait for its next garbage
/// collection, once a minute (pkg/kubelet/kubelet.go, `ContainerGCPeriod`), before it lets go of the object: 43 s were seen.
const GONE: Duration = Duration::from_secs(100);

/// Applies what the agents of an image are.
pub(super) async fn apply(client: &Client, image: &str, run: &str) -> Result<(), BackendError> {
    let name = objects::name(image);
    let cluster_name = objects::cluster_name(&name);
    put(client.namespaced::<ServiceAccount>(NAMESPACE), &name, &objects::service_account(&name)).await?;
    put(client.all::<ClusterRole>(), &cluster_name, &objects::role(&name)).await?;
    put(client.all::<ClusterRoleBinding>(), &cluster_name, &objects::binding(&name)).await?;
    let sets: Api<DaemonSet> = client.namespaced(NAMESPACE);
    let doing = |error: kube::Error| api_error(&format!("read the agent's DaemonSet {name}"), &error);
    let there = sets.get_opt(&name).await.map_err(doing)?;
    // Who put it there without had a reason, and another template would start anew what others are listening to.
    let plain = there.is_some_and(|set| priority_of(&set).is_none());
    let priority = Some(PRIORITY).filter(|_| !plain);
    put(sets, &name, &objects::daemon_set(&name, image, run, priority)).await
}

/// The same without a priority, if it is for that that no pod is made: a cluster may keep critical pods to `kube-system` by a quota
/// (`plugin/pkg/admission/resourcequota/admission.go`, `limitedResources`). Answers whether it was.
pub(super) async fn apply_without_priority(
    client: &Client,
    image: &str,
    run: &str,
) -> Result<bool, BackendError> {
    let name = objects::name(image);
    let refused = refusal(client, &name).await.is_some_and(|why| why.contains(PRIORITY));
    if refused {
        tracing::info!("the cluster refuses the agents {PRIORITY}; they do without");
        let plain = objects::daemon_set(&name, image, run, None);
        put(client.namespaced::<DaemonSet>(NAMESPACE), &name, &plain).await?;
    }
    Ok(refused)
}

fn priority_of(set: &DaemonSet) -> Option<&str> {
    set.spec.template.spec.as_ref()?.priority_class_name.as_deref()
}

async fn put<K>(api: Api<K>, name: &str, object: &Value) -> Result<(), BackendError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = PatchParams::apply("exit137").force();
    let applied = api.patch(name, &params, &Patch::Apply(object)).await;
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    applied.map_err(|error| api_error(&format!("apply the agent's {kind} {name}"), &error))?;
    Ok(())
}

/// Says that no run is to remove the agents of this image, and removes those of others that were to stay.
pub(super) async fn stay(client: &Client, image: &str) -> Result<(), BackendError> {
    let name = objects::name(image);
    let sets: Api<DaemonSet> = client.namespaced(NAMESPACE);
    let label = json!({"metadata": {"labels": {STAYS: "true"}}});
    let patched = sets.patch(&name, &PatchParams::default(), &Patch::Merge(&label)).await;
    patched.map_err(|error| api_error(&format!("label the agent's DaemonSet {name}"), &error))?;
    for other in sets_of(client).await?.into_iter().filter(|other| *other != name) {
        remove(client, &other).await?;
    }
    Ok(())
}

async fn sets_of(client: &Client) -> Result<Vec<String>, BackendError> {
    let sets: Api<DaemonSet> = client.namespaced(NAMESPACE);
    let all = sets.list(&ListParams::default().labels(AGENT)).await;
    let all = all.map_err(|error| api_error("list the agents", &error))?;
    Ok(all.items.into_iter().filter_map(|set| set.metadata.name).collect())
}

/// Removes agents that no live run uses and that nobody has left there; answers what was removed. `but` is about to be used.
pub(super) async fn collect(client: &Client, but: Option<&str>) -> Result<Vec<String>, BackendError> {
    let mut gone = Vec::new();
    for name in sets_of(client).await?.into_iter().filter(|name| Some(name.as_str()) != but) {
        if remove_unused(client, &name).await? {
            gone.push(format!("agent {NAMESPACE}/{name}"));
        }
    }
    Ok(gone)
}

/// Removes agents unless they are to stay or a live run uses them; answers whether they are removed.
///
/// A run takes its lease and then marks the agents as used. So whoever marked them after they were read here makes the removal
/// fail, and of whoever marked them before, the lease is seen.
pub(super) async fn remove_unused(client: &Client, name: &str) -> Result<bool, BackendError> {
    let doing = |error: kube::Error| api_error(&format!("remove the agents {name}"), &error);
    let sets: Api<DaemonSet> = client.namespaced(NAMESPACE);
    // The status changes the version too.
    for _ in 0..10 {
        let Some(set) = sets.get_opt(name).await.map_err(doing)? else { return Ok(false) };
        let stays = set.metadata.labels.is_some_and(|labels| labels.contains_key(STAYS));
        if stays || lease::any_uses(client, name).await? {
            return Ok(false);
        }
        let only = Preconditions { resource_version: set.metadata.resource_version, uid: set.metadata.uid };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::background() };
        match sets.delete(name, &params).await {
            Ok(_) => {
                remove_rest(client, name).await?;
                return Ok(true);
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
            Err(error) => return Err(doing(error)),
        }
    }
    Ok(false)
}

/// Removes agents, whoever uses them.
async fn remove(client: &Client, name: &str) -> Result<(), BackendError> {
    delete(client.namespaced::<DaemonSet>(NAMESPACE), name).await?;
    remove_rest(client, name).await
}

async fn remove_rest(client: &Client, name: &str) -> Result<(), BackendError> {
    let cluster_name = objects::cluster_name(name);
    delete(client.all::<ClusterRoleBinding>(), &cluster_name).await?;
    delete(client.all::<ClusterRole>(), &cluster_name).await?;
    delete(client.namespaced::<ServiceAccount>(NAMESPACE), name).await
}

async fn delete<K>(api: Api<K>, name: &str) -> Result<(), BackendError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(api_error(&format!("remove the agent's {name}"), &error)),
    }
}

/// Waits until no pod of these agents is left; answers those that are.
pub(super) async fn wait_until_gone(client: &Client, name: &str) -> Vec<String> {
    let until = Instant::now() + GONE;
    loop {
        let left: Vec<String> = match pods(client, name).await {
            Ok(pods) => pods.into_iter().filter_map(|pod| pod.metadata.name).collect(),
            Err(error) => vec![error.to_string()],
        };
        if left.is_empty() || Instant::now() >= until {
            return left;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The pods of agents.
pub(super) async fn pods(client: &Client, name: &str) -> Result<Vec<Pod>, BackendError> {
    let pods: Api<Pod> = client.namespaced(NAMESPACE);
    let of_it = ListParams::default().labels(&format!("{AGENT}={name}"));
    let listed = pods.list(&of_it).await.map_err(|error| api_error("list the agent's pods", &error))?;
    Ok(listed.items)
}

/// The nodes that a pod without tolerations may run on.
pub(super) async fn nodes(client: &Client) -> Result<BTreeSet<String>, BackendError> {
    let nodes: Api<Node> = client.all();
    let listed = nodes.list(&ListParams::default()).await;
    let listed = listed.map_err(|error| api_error("list the nodes", &error))?;
    Ok(listed.items.into_iter().filter(may_run_pods).filter_map(|node| node.metadata.name).collect())
}

fn may_run_pods(node: &Node) -> bool {
    let spec = node.spec.clone().unwrap_or_default();
    let keeps_off = |effect: &str| effect == "NoSchedule" || effect == "NoExecute";
    let tainted = spec.taints.iter().flatten().any(|taint| keeps_off(&taint.effect));
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let os = node.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    ready && !tainted && spec.unschedulable != Some(true) && os.is_none_or(|os| os == "linux")
}

/// Why the agents of these nodes are not ready, in the API's own words, and what to do; and whether one never will be.
pub(super) async fn why_not(client: &Client, name: &str, waited_for: &BTreeSet<String>) -> (String, bool) {
    let pods = pods(client, name).await.unwrap_or_default();
    let by_node: BTreeMap<&str, &Pod> =
        pods.iter().filter_map(|pod| Some((pod.spec.as_ref()?.node_name.as_deref()?, pod))).collect();
    let refused = refusal(client, name).await;
    let why = |node: &String| {
        let (why, in_vain) = match (by_node.get(node.as_str()), &refused) {
            (Some(pod), _) => of_pod(pod),
            (None, Some(refused)) => (refused.clone(), true),
            (None, None) => ("no pod was made there; is the node tainted?".to_owned(), false),
        };
        (format!("node {node}: {why}"), in_vain)
    };
    let all: Vec<(String, bool)> = waited_for.iter().map(why).collect();
    let text: Vec<&str> = all.iter().map(|(why, _)| why.as_str()).collect();
    (text.join("; "), all.iter().any(|(_, in_vain)| *in_vain))
}

/// What an admission, a quota for example, has against the pods.
async fn refusal(client: &Client, name: &str) -> Option<String> {
    let events: Api<Event> = client.namespaced(NAMESPACE);
    let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let events = events.list(&about).await.ok()?;
    let failed = events.items.into_iter().rev().find(|event| event.reason.as_deref() == Some("FailedCreate"));
    failed.and_then(|event| event.message)
}

/// What keeps a pod's container from running, and whether it does so for good.
fn of_pod(pod: &Pod) -> (String, bool) {
    let status = pod.status.clone().unwrap_or_default();
    let state = status.container_statuses.iter().flatten().find_map(|container| container.state.as_ref());
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let reason = waiting.reason.clone().unwrap_or_default();
        let hint = if reason.contains("Image") {
            "; can the node pull it? (`exit137 image` writes it, `exit137 cluster load` loads it into kind)"
        } else if reason == "CrashLoopBackOff" {
            "; its log says why (kubectl -n exit137 logs)"
        } else {
            ""
        };
        let in_vain = !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing" | "");
        let message = waiting.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        return (format!("{reason}{message}{hint}"), in_vain);
    }
    if let Some(terminated) = state.and_then(|state| state.terminated.as_ref()) {
        let code = terminated.exit_code;
        let why = format!("it ended with exit code {code}; its log says why (kubectl -n exit137 logs)");
        return (why, true);
    }
    if state.is_some_and(|state| state.running.is_some()) {
        let why =
            "it runs, but says nothing; may it list and watch pods, and may this context read pods/log?";
        return (why.to_owned(), false);
    }
    let unmet = status.conditions.iter().flatten().find(|condition| condition.status == "False");
    let why = unmet.and_then(|unmet| unmet.message.clone());
    (why.unwrap_or_else(|| "its pod has not begun".to_owned()), false)
}
