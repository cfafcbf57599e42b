//! Which runs are alive on a cluster: each renews a Lease of its own.

use std::collections::BTreeMap;
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
use super::client::{Client, PATIENT, persist};
use super::manifest::RUN;
use crate::backend::BackendError;

/// Where the leases lie, and the agents.
pub(super) const NAMESPACE: &str = "exit137";
/// How long one holds without being renewed.
const HOLDS_SECONDS: i32 = 40;
const RENEWED_EVERY: Duration = Duration::from_secs(10);

/// A lease that ran out so long ago is nobody's, however wrong its holder's clock may be.
const LONG_AGO_SECONDS: i64 = 600;

/// Within this time a run that is alive renews its lease, or has tried to.
const RENEWS_WITHIN: Duration = Duration::from_secs(12);

/// Clocks that differ by more seconds than the API's whole ones make up for are worth a word.
const CLOCKS_DIFFER: f64 = 1.0;

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
        let began = now();
        let taken = persist(PATIENT, || renew(client, run, agents)).await;
        let taken = taken.map_err(|error| api_error("take the run's lease", &error))?;
        if let Some(why) = taken.and_then(|made| clocks_differ(began, now(), made)) {
            tracing::warn!("{why}");
        }
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
        let params = DeleteParams::default();
        // One that stays runs out by itself.
        let _ = persist(RENEWED_EVERY, || leases.delete(&self.run, &params)).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
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
    let (params, own) = (params(), Patch::Apply(&own));
    let applied = persist(PATIENT, || namespaces.patch(NAMESPACE, &params, &own)).await;
    applied.map(drop).map_err(|error| api_error(&format!("make the namespace {NAMESPACE}"), &error))
}

/// Takes or renews the lease; answers when the server says that it was made, in whole seconds.
async fn renew(client: &Client, run: &str, agents: Option<&str>) -> kube::Result<Option<Timestamp>> {
    let leases: Api<Lease> = client.namespaced(NAMESPACE);
    let mut labels = BTreeMap::from([(RUN.to_owned(), run.to_owned())]);
    labels.extend(agents.map(|agents| (AGENT.to_owned(), agents.to_owned())));
    let lease = Lease {
        metadata: ObjectMeta { name: Some(run.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(run.to_owned()),
            lease_duration_seconds: Some(HOLDS_SECONDS),
            renew_time: Some(MicroTime(now())),
            ..LeaseSpec::default()
        }),
    };
    let lease = leases.patch(run, &params(), &Patch::Apply(&lease)).await?;
    Ok(lease.metadata.creation_timestamp.map(|made| made.0))
}

/// What to say where the server's clock and this machine's differ, though the lease was made between these two moments.
fn clocks_differ(began: Timestamp, done: Timestamp, made: Timestamp) -> Option<String> {
    let ahead = began.duration_since(made).as_secs_f64() - 1.0;
    let behind = made.duration_since(done).as_secs_f64();
    let (seconds, how) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    (seconds > CLOCKS_DIFFER).then(|| {
        format!(
            "this machine's clock is {seconds:.0} s {how} the cluster's: what the API tells is taken to happen that much too \
             early or too late, and some causes will stay undetermined; set the clocks by NTP"
        )
    })
}

fn params() -> PatchParams {
    PatchParams::apply(NAMESPACE).force()
}

fn now() -> Timestamp {
    Timestamp::from_nanosecond(i128::from(crate::clock::unix_ns())).unwrap_or_default()
}

/// The leases that there are.
pub(super) struct Leases(BTreeMap<String, LeaseSpec>);

impl Leases {
    /// As they are now.
    pub(super) async fn read(client: &Client) -> kube::Result<Self> {
        let leases: Api<Lease> = client.namespaced(NAMESPACE);
        let all = ListParams::default();
        let list = persist(PATIENT, || leases.list(&all)).await?;
        let named = |lease: Lease| {
            let ours = lease.metadata.labels.is_some_and(|labels| labels.contains_key(RUN));
            Some((lease.metadata.name?, lease.spec.unwrap_or_default())).filter(|_| ours)
        };
        Ok(Self(list.items.into_iter().filter_map(named).collect()))
    }

    /// The runs among these, and among those that have a lease, that are dead. Whether a lease has run out is told by this
    /// machine's clock, and its holder's may be another: one that was renewed lately is looked at twice.
    pub(super) async fn dead(
        self,
        client: &Client,
        mut runs: Vec<String>,
    ) -> kube::Result<impl Fn(&str) -> bool + use<>> {
        runs.extend(self.0.keys().cloned());
        let seconds_over = |run: &String| self.0.get(run).map(over_for);
        let doubtful = |over: i64| (1..LONG_AGO_SECONDS).contains(&over);
        let later = if runs.iter().filter_map(seconds_over).any(doubtful) {
            sleep(RENEWS_WITHIN).await;
            Some(Self::read(client).await?)
        } else {
            None
        };
        let before = self.0;
        Ok(move |run: &str| {
            let Some(lease) = before.get(run) else { return true };
            let renewed = later.as_ref().and_then(|later| later.0.get(run));
            over_for(lease) > 0 && renewed.is_none_or(|renewed| renewed.renew_time == lease.renew_time)
        })
    }

    /// The runs that have a lease.
    pub(super) fn runs(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// Removes a run's lease.
pub(super) async fn remove(client: &Client, run: &str) -> kube::Result<()> {
    let leases: Api<Lease> = client.namespaced(NAMESPACE);
    let params = DeleteParams::default();
    persist(PATIENT, || leases.delete(run, &params)).await.map(drop)
}

/// Whether a run lives that uses these agents.
pub(super) async fn any_uses(client: &Client, agents: &str) -> Result<bool, BackendError> {
    let leases: Api<Lease> = client.namespaced(NAMESPACE);
    let of_them = ListParams::default().labels(&format!("{AGENT}={agents}"));
    let leases = persist(PATIENT, || leases.list(&of_them)).await;
    let leases = leases.map_err(|error| api_error("list the runs' leases", &error))?;
    Ok(leases.items.iter().filter_map(|lease| lease.spec.as_ref()).any(|lease| over_for(lease) <= 0))
}

/// For how many seconds a lease has run out.
fn over_for(lease: &LeaseSpec) -> i64 {
    let holds = i64::from(lease.lease_duration_seconds.unwrap_or(HOLDS_SECONDS));
    let renewed = lease.renew_time.as_ref().map_or(0, |time| time.0.as_second());
    now().as_second() - renewed - holds
}
