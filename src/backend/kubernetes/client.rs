//! The API's client.

use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::config::KubeConfigOptions;
use kube::core::gvk::GroupVersion;
use kube::discovery::{self, Scope};

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

    /// Objects of a kind that is known only now; without a namespace, those that belong to none.
    pub(super) fn dynamic(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.0.clone(), namespace, resource),
            None => Api::all_with(self.0.clone(), resource),
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
        match discovery::pinned_kind(&self.0, &wanted).await {
            Ok((resource, capabilities)) => Ok(Some((resource, capabilities.scope == Scope::Namespaced))),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the cluster serves a group of APIs.
    pub(super) async fn serves(&self, group: &str) -> kube::Result<bool> {
        Ok(self.0.list_api_groups().await?.groups.iter().any(|served| served.name == group))
    }
}
