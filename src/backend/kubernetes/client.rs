//! The API's client.

use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::api::Api;
use kube::config::KubeConfigOptions;

use crate::backend::BackendError;

/// A client for one kube context. Clones share its connections.
#[derive(Clone)]
pub(super) struct Client(kube::Client);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client for a kube context, which is always named.
    pub(super) async fn of_context(context: &str) -> Result<Self, BackendError> {
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let config = kube::Config::from_kubeconfig(&options).await.map_err(|error| {
            BackendError(format!(
                "cannot use the kube context {context:?}: {error}; `kubectl config get-contexts` lists those there are"
            ))
        })?;
        let client = kube::Client::try_from(config);
        client
            .map(Self)
            .map_err(|error| BackendError::doing(format!("make a client for context {context:?}"), error))
    }

    /// The client of a pod, by its service account.
    pub(super) fn in_cluster() -> Result<Self, BackendError> {
        let config = kube::Config::incluster().map_err(|error| {
            BackendError(format!(
                "this is no pod on a cluster ({error}); an agent is started by `exit137 run`"
            ))
        })?;
        let client = kube::Client::try_from(config);
        client.map(Self).map_err(|error| BackendError::doing("make a client of the cluster", error))
    }

    /// The API server's version.
    pub(super) async fn version(&self) -> kube::Result<k8s_openapi::apimachinery::pkg::version::Info> {
        self.0.apiserver_version().await
    }

    /// Objects of a kind in all namespaces, or in none.
    pub(super) fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.0.clone())
    }

    /// Objects of a kind in one namespace.
    pub(super) fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.0.clone(), namespace)
    }
}
