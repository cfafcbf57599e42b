//! Objects of any kind: whether the cluster knows them, applying them, and removing those that no namespace holds.

use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::api_error;
use super::client::{Client, PATIENT, persist};
use crate::backend::BackendError;
use crate::scenario::{Object, Scenario};

/// Who applies.
const MANAGER: &str = "exit137";

/// The one kind outside of namespaces that a trial makes: it is named after the trial, and found again by its label.
const PRIORITY_CLASS: &str = "PriorityClass";

/// How long to wait for a quota's first count; where none comes, the pods are tried all the same.
const QUOTA_COUNTS: Duration = Duration::from_secs(10);

/// Where resource metrics come from.
const METRICS: &str = "metrics.k8s.io";

/// What a scenario's objects ask for that this cluster does not have.
pub(super) async fn lack(client: &Client, scenario: &Scenario) -> Result<Option<String>, BackendError> {
    let doing = |error: kube::Error| api_error("ask what the cluster serves", &error);
    for object in &scenario.objects {
        if client.kind(&object.api_version, &object.kind).await.map_err(doing)?.is_none() {
            return Ok(Some(format!(
                "{object}: the cluster does not know {} {}",
                object.api_version, object.kind
            )));
        }
        if object.kind == "HorizontalPodAutoscaler" && !client.serves(METRICS).await.map_err(doing)? {
            return Ok(Some(format!("{object}: the cluster has no metrics API ({METRICS})")));
        }
    }
    Ok(None)
}

/// How a kind is served, and whether in namespaces.
pub(super) async fn served(client: &Client, object: &Object) -> Result<(ApiResource, bool), BackendError> {
    let known = client.kind(&object.api_version, &object.kind).await;
    let known = known.map_err(|error| api_error(&format!("ask for the kind of {object}"), &error))?;
    let (resource, namespaced) = known.ok_or_else(|| {
        BackendError(format!("{object}: the cluster does not know {} {}", object.api_version, object.kind))
    })?;
    if !namespaced && object.kind != PRIORITY_CLASS {
        return Err(BackendError(format!(
            "{object} belongs to the whole cluster; apply it yourself and leave it out of the scenario"
        )));
    }
    Ok((resource, namespaced))
}

/// Server-side apply: what is there already becomes what is asked for.
pub(super) async fn apply(
    api: &Api<DynamicObject>,
    name: &str,
    object: &Value,
) -> kube::Result<DynamicObject> {
    let params = PatchParams::apply(MANAGER).force();
    let object = Patch::Apply(object);
    persist(PATIENT, || api.patch(name, &params, &object)).await
}

/// The same, and a ResourceQuota holds from then on: pods pass one that the API server's admission has not heard of yet, and its
/// controller fills `status.hard` in a moment after that (`resource_quota_controller.go:syncResourceQuota`).
pub(super) async fn apply_and_hold(api: &Api<DynamicObject>, name: &str, object: &Value) -> kube::Result<()> {
    let until = Instant::now() + QUOTA_COUNTS;
    loop {
        let applied = apply(api, name, object).await?;
        let is_quota = object["kind"] == "ResourceQuota";
        if !is_quota || !applied.data["status"]["hard"].is_null() || Instant::now() >= until {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Removes an object and what it has made; that there is none is fine.
pub(super) async fn remove(api: &Api<DynamicObject>, name: &str) -> kube::Result<()> {
    let background = DeleteParams::background();
    match persist(PATIENT, || api.delete(name, &background)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
