//! What a run leaves on a cluster: found by its label, removed where the run is dead, and told where it does not go.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Resource;
use kube::api::{Api, DeleteParams, ListParams};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::api_error;
use super::client::{Client, PATIENT, persist};
use super::keep::KEPT;
use super::lease::{self, Leases};
use super::manifest::RUN;
use crate::backend::BackendError;

/// A namespace that takes longer than this to go does not go by itself.
pub(super) const NAMESPACES_GO: Duration = Duration::from_mins(1);

/// How often pods of namespaces that are still going are ended again.
const END_PODS_AGAIN: Duration = Duration::from_secs(5);

/// What became of what dead runs had left.
#[derive(Debug, Default)]
pub struct Collected {
    /// What was removed.
    pub gone: Vec<String>,
    /// What does not go, and why.
    pub stuck: Vec<String>,
}

/// Removes what dead runs have left, and nothing that is a live run's or somebody else's.
pub(super) async fn collect(client: &Client) -> Result<Collected, BackendError> {
    let doing = |error: kube::Error| api_error("look for what killed runs left behind", &error);
    let namespaces = labelled::<Namespace>(client, RUN).await.map_err(doing)?;
    let (classes, roles, bindings) = tokio::join!(
        labelled::<PriorityClass>(client, RUN),
        labelled::<ClusterRole>(client, RUN),
        labelled::<ClusterRoleBinding>(client, RUN),
    );
    // Whoever may not list them has not made any.
    let (classes, roles, bindings) =
        (classes.unwrap_or_default(), roles.unwrap_or_default(), bindings.unwrap_or_default());
    // Asked after the objects: a run takes its lease before it makes any.
    let leases = Leases::read(client).await.map_err(doing)?;
    let owners = |found: &[Found]| found.iter().map(|found| found.run.clone()).collect::<Vec<_>>();
    let runs = [owners(&namespaces), owners(&classes), owners(&roles), owners(&bindings)].concat();
    let with_lease = leases.runs();
    let dead = leases.dead(client, runs).await.map_err(doing)?;
    let mut collected = Collected::default();
    remove::<Namespace>(client, namespaces, &dead, &mut collected).await;
    remove::<PriorityClass>(client, classes, &dead, &mut collected).await;
    remove::<ClusterRoleBinding>(client, bindings, &dead, &mut collected).await;
    remove::<ClusterRole>(client, roles, &dead, &mut collected).await;
    for run in with_lease.into_iter().filter(|run| dead(run)) {
        // The last to go, and the first to be missed by nobody.
        match lease::remove(client, &run).await {
            Ok(()) => collected.gone.push(format!("lease {run}")),
            Err(error) => collected.stuck.push(format!("lease {run}: {error}")),
        }
    }
    Ok(collected)
}

/// Removes the namespaces that runs were told to keep.
pub(super) async fn collect_kept(client: &Client, collected: &mut Collected) -> Result<(), BackendError> {
    let kept = labelled::<Namespace>(client, KEPT).await;
    let kept = kept.map_err(|error| api_error("look for what runs kept", &error))?;
    remove::<Namespace>(client, kept, |_| true, collected).await;
    Ok(())
}

/// Waits until no namespace of this run is left; answers those that do not go, and why.
pub(super) async fn wait_until_gone(client: &Client, run: &str, patience: Duration) -> Vec<String> {
    let namespaces: Api<Namespace> = client.all();
    let ours = ListParams::default().labels(&format!("{RUN}={run}"));
    let until = Instant::now() + patience;
    let mut ending = Instant::now();
    loop {
        let left = match persist(PATIENT, || namespaces.list(&ours)).await {
            Ok(left) => left.items,
            Err(error) => return vec![format!("namespaces of run {run}, as far as is known: {error}")],
        };
        if left.is_empty() || Instant::now() >= until {
            return left.iter().map(stuck).collect();
        }
        // One that was still being made when the run was interrupted.
        for namespace in left.iter().filter(|left| left.metadata.deletion_timestamp.is_none()) {
            let name = namespace.metadata.name.as_deref().unwrap_or_default();
            // Whether it went, the next look tells.
            let _ = namespaces.delete(name, &DeleteParams::background()).await;
        }
        // Pods that a controller made after the others had been ended: nobody waits for their grace period.
        if ending.elapsed() >= END_PODS_AGAIN {
            ending = Instant::now();
            for name in left.iter().filter_map(|left| left.metadata.name.as_deref()) {
                let _ = client.delete_pods(name, &DeleteParams::default().grace_period(0)).await;
            }
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// An object that carries a run's label.
struct Found {
    name: String,
    run: String,
    /// When it was deleted, where it is going already, as Unix seconds.
    deleted: Option<i64>,
}

async fn labelled<K>(client: &Client, label: &str) -> kube::Result<Vec<Found>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = client.all();
    let params = ListParams::default().labels(label);
    let list = persist(PATIENT, || api.list_metadata(&params)).await?;
    let found = list.items.into_iter().filter_map(|object| {
        let metadata = object.metadata;
        let run = metadata.labels.as_ref()?.get(label)?.clone();
        let deleted = metadata.deletion_timestamp.map(|time| time.0.as_second());
        Some(Found { name: metadata.name?, run, deleted })
    });
    Ok(found.collect())
}

async fn remove<K>(client: &Client, found: Vec<Found>, dead: impl Fn(&str) -> bool, collected: &mut Collected)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = client.all();
    let (kind, background) = (K::kind(&()).to_lowercase(), DeleteParams::background());
    for Found { name, run, deleted } in found.into_iter().filter(|found| dead(&found.run)) {
        if let Some(since) = deleted {
            let long_ago = now() - since > i64::try_from(NAMESPACES_GO.as_secs()).unwrap_or(i64::MAX);
            if long_ago {
                collected.stuck.push(why(client, &kind, &name).await);
            }
            continue;
        }
        tracing::debug!("{kind} {name} was left by run {run}");
        match persist(PATIENT, || api.delete(&name, &background)).await {
            Ok(_) => collected.gone.push(format!("{kind} {name}")),
            // Somebody else has tidied up as well.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => collected.stuck.push(format!("{kind} {name}: {error}")),
        }
    }
}

fn now() -> i64 {
    i64::try_from(crate::clock::unix_ns() / 1_000_000_000).unwrap_or(i64::MAX)
}

async fn why(client: &Client, kind: &str, name: &str) -> String {
    let namespaces: Api<Namespace> = client.all();
    let object = if kind == "namespace" { namespaces.get(name).await.ok() } else { None };
    object.as_ref().map_or_else(|| format!("{kind} {name}: something keeps it"), stuck)
}

/// A namespace that does not go, and what the namespace controller says of it (pkg/controller/namespace/deletion,
/// `status_condition_utils.go`): an API service that does not answer, or a finalizer that nobody honours.
fn stuck(namespace: &Namespace) -> String {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let status = namespace.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let mut reasons: Vec<String> = conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .map(|condition| format!("{}: {}", condition.type_, condition.message.as_deref().unwrap_or_default()))
        .collect();
    let finalizers = namespace.metadata.finalizers.iter().flatten();
    reasons.extend(finalizers.map(|finalizer| format!("it waits for its finalizer {finalizer}")));
    if namespace.metadata.deletion_timestamp.is_none() {
        reasons.push("it could not be deleted".to_owned());
    } else if reasons.is_empty() {
        reasons.push("it is still being emptied; it may go by itself".to_owned());
    }
    format!("namespace {name}: {}", reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_that_does_not_go_is_told_with_what_blocks_it() {
        let namespace = json!({
            "metadata": {"name": "exit137-r1-web-1", "deletionTimestamp": "2026-11-24T21:00:00Z"},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Terminating", "conditions": [
                {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "fine"},
                {"type": "NamespaceFinalizersRemaining", "status": "True",
                 "message": "Some content in the namespace has finalizers remaining: example.com/never in 1 resource instances"},
            ]},
        });
        let told = stuck(&serde_json::from_value(namespace).unwrap());
        assert!(told.contains("example.com/never") && told.contains("exit137-r1-web-1"), "{told}");
        assert!(!told.contains("fine"), "{told}");
    }
}
