//! Which runs are alive on a cluster: each renews a Lease of its own; what has none is a dead run's and is removed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::agent::AGENT;
use super::api_error;
use super::client::Client;
use super::manifest::RUN;
use crate::backend::BackendError;

/// Where the leases lie, and the agents.
pub(super) const NAMESPACE: &str = "exit137";
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
    /// Says that this run lives, before it makes anything else, and which agents it uses.
    pub(super) async fn take(client: &Client, run: &str, agents: Option<&str>) -> Result<Self, BackendError> {
        make_namespace(client).await?;
        renew(client, run, agents).await.map_err(|error| api_error("take the run's lease", &error))?;
        let (theirs, name, agents) = (client.clone(), run.to_owned(), agents.map(str::to_owned));
        let renewal = tokio::spawn(async move {
            loop {
                sleep(RENEWED_EVERY).await;
                if let Err(error) = renew(&theirs, &name, agents.as_deref()).await {
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

/// Makes the namespace of what all runs share, in which agents may be privileged.
pub(super) async fn make_namespace(client: &Client) -> Result<(), BackendError> {
    let namespaces: Api<Namespace> = client.all();
    let privileged = ("pod-security.kubernetes.io/enforce".to_owned(), "privileged".to_owned());
    let own = Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            labels: Some([privileged].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let applied = namespaces.patch(NAMESPACE, &params(), &Patch::Apply(&own)).await;
    applied.map_err(|error| api_error(&format!("make the namespace {NAMESPACE}"), &error))?;
    Ok(())
}

async fn renew(client: &Client, run: &str, agents: Option<&str>) -> kube::Result<()> {
    let leases: Api<Lease> = client.namespaced(NAMESPACE);
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(run.to_owned()),
            labels: agents.map(|agents| [(AGENT.to_owned(), agents.to_owned())].into()),
            ..ObjectMeta::default()
        },
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

/// Removes the namespaces of runs that no longer renew their lease; answers what was removed.
pub(super) async fn collect(client: &Client) -> Result<Vec<String>, BackendError> {
    let doing = |error: kube::Error| api_error("look for what killed runs left behind", &error);
    let namespaces: Api<Namespace> = client.all();
    let ours = namespaces.list(&ListParams::default().labels(RUN)).await.map_err(doing)?;
    if ours.items.is_empty() {
        return Ok(Vec::new());
    }
    // Asked after the namespaces: a run takes its lease before it makes any.
    let leases: Api<Lease> = client.namespaced(NAMESPACE);
    let leases = leases.list(&ListParams::default()).await.map_err(doing)?;
    let alive = |run: &str| {
        let lease = leases.items.iter().find(|lease| lease.metadata.name.as_deref() == Some(run));
        lease.and_then(|lease| lease.spec.as_ref()).is_some_and(holds)
    };
    let mut gone = Vec::new();
    for namespace in ours.items {
        let labels = namespace.metadata.labels.unwrap_or_default();
        let (Some(name), Some(run)) = (namespace.metadata.name, labels.get(RUN)) else { continue };
        if alive(run) || namespace.metadata.deletion_timestamp.is_some() {
            continue;
        }
        namespaces.delete(&name, &DeleteParams::background()).await.map_err(doing)?;
        gone.push(format!("namespace {name}"));
    }
    Ok(gone)
}

/// Whether a run lives that uses these agents.
pub(super) async fn any_uses(client: &Client, agents: &str) -> Result<bool, BackendError> {
    let leases: Api<Lease> = client.namespaced(NAMESPACE);
    let leases = leases.list(&ListParams::default().labels(&format!("{AGENT}={agents}"))).await;
    let leases = leases.map_err(|error| api_error("list the runs' leases", &error))?;
    Ok(leases.items.iter().filter_map(|lease| lease.spec.as_ref()).any(holds))
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
