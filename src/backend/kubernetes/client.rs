//! The API's client: one for requests, one for watches, and the patience to ask again.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::gvk::GroupVersion;
use kube::discovery::{self, Scope};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::BackendError;

/// How long one request may take.
const EACH: Duration = Duration::from_secs(15);

/// How long to ask again while an API server is restarted.
pub(super) const PATIENT: Duration = Duration::from_mins(1);

/// A watch's connection on which nothing has come for so long is dead: the server ends each watch earlier by itself.
const SILENCE: Duration = Duration::from_secs(30);

/// A client for one kube context. Clones share its connections.
#[derive(Clone)]
pub(super) struct Client {
    requests: kube::Client,
    /// Gives a connection up that has gone silent. What follows a log may rightly be silent for longer.
    watches: kube::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client for a kube context, which is always named, of this file or of the user's own.
    pub(super) async fn of_context(context: &str, file: Option<&Path>) -> Result<Self, BackendError> {
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let config = match file {
            None => kube::Config::from_kubeconfig(&options).await,
            Some(file) => match Kubeconfig::read_from(file) {
                Ok(read) => kube::Config::from_custom_kubeconfig(read, &options).await,
                Err(error) => Err(error),
            },
        };
        let config = config.map_err(|error| {
            BackendError(format!(
                "cannot use the kube context {context:?}: {error}; `kubectl config get-contexts` lists those there are"
            ))
        })?;
        Self::with(config, &format!("for context {context:?}"))
    }

    fn with(mut config: kube::Config, what: &str) -> Result<Self, BackendError> {
        config.connect_timeout = Some(EACH);
        let make = |config| {
            kube::Client::try_from(config)
                .map_err(|error| BackendError::doing(format!("make a client {what}"), error))
        };
        let requests = make(config.clone())?;
        config.read_timeout = Some(SILENCE);
        Ok(Self { requests, watches: make(config)? })
    }

    /// The client of a pod, by its service account.
    pub(super) fn in_cluster() -> Result<Self, BackendError> {
        let config = kube::Config::incluster().map_err(|error| {
            BackendError(format!(
                "this is no pod on a cluster ({error}); an agent is started by `exit137 run`"
            ))
        })?;
        Self::with(config, "of the cluster")
    }

    /// The API server's version.
    pub(super) async fn version(&self) -> kube::Result<k8s_openapi::apimachinery::pkg::version::Info> {
        self.requests.apiserver_version().await
    }

    /// When a node's kubelet last looked at its memory, and its `memory.available` then, in bytes.
    pub(super) async fn node_memory(&self, node: &str) -> Result<Option<(Timestamp, u64)>, BackendError> {
        let doing = |error: &dyn fmt::Display| {
            BackendError::doing(format!("ask the kubelet of node {node} for its memory"), error)
        };
        let nodes = kube::api::Request::new("/api/v1/nodes");
        let request = nodes.get_subresource("proxy/stats/summary", node).map_err(|error| doing(&error))?;
        let summary: serde_json::Value = match self.requests.request(request).await {
            Ok(summary) => summary,
            // It has not looked yet, or its server is just beginning.
            Err(kube::Error::Api(status)) if status.code >= 500 => return Ok(None),
            Err(error) => return Err(doing(&error)),
        };
        let memory = &summary["node"]["memory"];
        let at = memory["time"].as_str().and_then(|text| text.parse().ok());
        Ok(at.zip(memory["availableBytes"].as_u64()))
    }

    /// Deletes all pods of a namespace.
    pub(super) async fn delete_pods(&self, namespace: &str, params: &DeleteParams) -> kube::Result<()> {
        let pods = kube::api::Request::new(Pod::url_path(&(), Some(namespace)));
        let request = || {
            let request = pods.delete_collection(params, &ListParams::default());
            request.map_err(kube::Error::BuildRequest)
        };
        // The answer lists them all, as they were: nobody reads it.
        let answer = self.requests.send(request()?.map(Body::from)).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        self.requests.request_text(request()?).await.map(drop)
    }

    /// Objects of a kind in all namespaces, or in none.
    pub(super) fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.requests.clone())
    }

    /// Objects of a kind in one namespace.
    pub(super) fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.requests.clone(), namespace)
    }

    /// Objects of a kind that is known only now; without a namespace, those that belong to none.
    pub(super) fn dynamic(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.requests.clone(), namespace, resource),
            None => Api::all_with(self.requests.clone(), resource),
        }
    }

    /// How the cluster serves a kind, and whether its objects are in namespaces; `None` if it does not know the kind.
    pub(super) async fn kind(
        &self,
        api_version: &str,
        kind: &str,
    ) -> kube::Result<Option<(ApiResource, bool)>> {
        let Ok(version) = api_version.parse::<GroupVersion>() else { return Ok(None) };
        let wanted = GroupVersionKind::gvk(&version.group, &version.version, kind);
        match discovery::pinned_kind(&self.requests, &wanted).await {
            Ok((resource, capabilities)) => Ok(Some((resource, capabilities.scope == Scope::Namespaced))),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the cluster serves a group of APIs.
    pub(super) async fn serves(&self, group: &str) -> kube::Result<bool> {
        Ok(self.requests.list_api_groups().await?.groups.iter().any(|served| served.name == group))
    }

    /// Objects of a kind in no namespace, to be watched.
    pub(super) fn watch_all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.watches.clone())
    }

    /// Objects of a kind in one namespace, to be watched.
    pub(super) fn watch_namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.watches.clone(), namespace)
    }
}

/// Asks until there is an answer: a server that is away, overburdened or out of order is asked again for as long as `patience`.
/// What is asked must come to the same however often it is done.
pub(super) async fn persist<T, F>(patience: Duration, mut ask: impl FnMut() -> F) -> kube::Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let until = Instant::now() + patience;
    let mut pause = Duration::from_millis(100);
    loop {
        let answer = timeout(EACH, ask()).await;
        let answer =
            answer.unwrap_or_else(|_| Err(kube::Error::Service("the server does not answer".into())));
        match answer {
            Err(error) if passes(&error) && Instant::now() + pause < until => {
                tracing::debug!(%error, "the API is asked again");
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            answer => return answer,
        }
    }
}

/// Whether a failure passes by itself: no connection, too many requests, or a server's own trouble.
pub(super) fn passes(error: &kube::Error) -> bool {
    if let kube::Error::Api(status) = error {
        return status.code == 429 || (500..=504).contains(&status.code);
    }
    matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("no", "No").with_code(code).boxed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_comes_back_is_asked_again_and_one_that_refuses_is_not() {
        let asked = Cell::new(0);
        let ask = |code: u16, times: u32| {
            asked.set(0);
            let asked = &asked;
            persist(PATIENT, move || async move {
                asked.set(asked.get() + 1);
                if asked.get() < times { Err(refused(code)) } else { Ok(asked.get()) }
            })
        };
        for code in [429, 500, 503] {
            assert_eq!(ask(code, 5).await.unwrap(), 5, "{code}");
        }
        for code in [400, 403, 404, 409, 422] {
            assert!(ask(code, 5).await.is_err(), "{code}");
            assert_eq!(asked.get(), 1, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_even_where_nothing_ever_answers() {
        let silent = persist(PATIENT, std::future::pending::<kube::Result<()>>);
        let began = Instant::now();
        assert!(silent.await.is_err());
        assert!(began.elapsed() <= PATIENT + EACH);
    }
}
