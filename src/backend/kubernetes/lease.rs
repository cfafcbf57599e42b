//! Which runs are alive on a cluster: each renews a Lease of its own; what has none is a dead run's and is removed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::api_error;
use super::client::Client;
use super::manifest::RUN;
use crate::backend::BackendError;

/// Where the leases lie.
const NAMESPACE: &str = "exit137";
/// How long one holds without being renewed.
const HOLDS_SECONDS: i32 = 40;
const RENEWED_EVERY: Duration = Duration::from_secs(10);

/// A run's lease, renewed for as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    client: Client,
    run: String,
    renewal: JoinHandle<()>,
}

impl Held {
    /// Says that this run lives, before it makes anything else.
    pub(super) async fn take(client: &Client, run: &str) -> Result<Self, BackendError> {
        let namespaces: Api<Namespace> = client.all();
        let own = Namespace {
            metadata: ObjectMeta { name: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let applied = namespaces.patch(NAMESPACE, &params(), &Patch::Apply(&own)).await;
        applied.map_err(|error| api_error("make the namespace of the leases", &error))?;
        renew(client, run).await.map_err(|error| api_error("take the run's lease", &error))?;
        let (theirs, name) = (client.clone(), run.to_owned());
        let renewal = tokio::spawn(async move {
            loop {
                sleep(RENEWED_EVERY).await;
                if let Err(error) = renew(&theirs, &name).await {
                    tracing::warn!(%error, "the run's lease could not be renewed");
                }
            }
        });
        Ok(Self { client: client.clone(), run: run.to_owned(), renewal })
    }

    /// The run is over.
    pub(super) async fn give_up(self) {
        self.renewal.abort();
        let leases: Api<Lease> = self.client.namespaced(NAMESPACE);
        // One that stays runs out by itself.
        let _ = leases.delete(&self.run, &DeleteParams::default()).await;
    }
}

async fn renew(client: &Client, run: &str) -> kube::Result<()> {
    let leases: Api<Lease> = client.namespaced(NAMESPACE);
    let lease = Lease {
        metadata: ObjectMeta { name: Some(run.to_owned()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(run.to_owned()),
            lease_duration_seconds: Some(HOLDS_SECONDS),
            renew_time: Some(MicroTime(now())),
            ..LeaseSpec::default()
        }),
    };
    leases.patch(run, &params(), &Patch::Apply(&lease)).await?;
    Ok(())
}

fn params() -> PatchParams {
    PatchParams::apply(NAMESPACE).force()
}

fn now() -> Timestamp {
    Timestamp::from_nanosecond(i128::from(crate::clock::unix_ns())).unwrap_or_default()
}

/// Removes the namespaces of runs that no longer renew their lease, and what these made outside of any; answers what was removed.
pub(super) async fn collect(client: &Client) -> Result<Vec<String>, BackendError> {
    let doing = |error: kube::Error| api_error("look for what killed runs left behind", &error);
    let ours = ListParams::default().labels(RUN);
    let namespaces: Api<Namespace> = client.all();
    let classes: Api<PriorityClass> = client.all();
    let of_runs = namespaces.list(&ours).await.map_err(doing)?.items;
    let classes_of_runs = match classes.list(&ours).await {
        Ok(list) => list.items,
        // Who may not see them has not made any.
        Err(kube::Error::Api(status)) if status.code == 403 => Vec::new(),
        Err(error) => return Err(doing(error)),
    };
    if of_runs.is_empty() && classes_of_runs.is_empty() {
        return Ok(Vec::new());
    }
    // Asked after the rest: a run takes its lease before it makes any.
    let leases: Api<Lease> = client.namespaced(NAMESPACE);
    let leases = leases.list(&ListParams::default()).await.map_err(doing)?;
    let alive = |run: &str| {
        let lease = leases.items.iter().find(|lease| lease.metadata.name.as_deref() == Some(run));
        lease.and_then(|lease| lease.spec.as_ref()).is_some_and(holds)
    };
    let mut gone = Vec::new();
    for name in of_runs.into_iter().filter_map(|namespace| left_behind(namespace.metadata, alive)) {
        namespaces.delete(&name, &DeleteParams::background()).await.map_err(doing)?;
        gone.push(format!("namespace {name}"));
    }
    for name in classes_of_runs.into_iter().filter_map(|class| left_behind(class.metadata, alive)) {
        classes.delete(&name, &DeleteParams::default()).await.map_err(doing)?;
        gone.push(format!("PriorityClass {name}"));
    }
    Ok(gone)
}

/// The name of an object whose run is dead, unless it is on its way out already.
fn left_behind(metadata: ObjectMeta, alive: impl Fn(&str) -> bool) -> Option<String> {
    let run = metadata.labels.as_ref()?.get(RUN)?;
    let stays = metadata.deletion_timestamp.is_none();
    (stays && !alive(run)).then_some(metadata.name?)
}

fn holds(lease: &LeaseSpec) -> bool {
    let renewed = lease.renew_time.as_ref().map(|time| time.0);
    let seconds = i64::from(lease.lease_duration_seconds.unwrap_or(HOLDS_SECONDS));
    renewed.is_some_and(|renewed| now().as_second() - renewed.as_second() <= seconds)
}

/// Waits until no namespace of this run is left; answers those that are.
pub(super) async fn wait_until_gone(client: &Client, run: &str, patience: Duration) -> Vec<String> {
    let namespaces: Api<Namespace> = client.all();
    let ours = ListParams::default().labels(&format!("{RUN}={run}"));
    let until = tokio::time::Instant::now() + patience;
    loop {
        let left = match namespaces.list(&ours).await {
            Ok(left) => left.items.into_iter().filter_map(|n| n.metadata.name).collect::<Vec<_>>(),
            Err(error) => vec![format!("unknown: {error}")],
        };
        if left.is_empty() || tokio::time::Instant::now() >= until {
            return left;
        }
        sleep(Duration::from_millis(250)).await;
    }
}
