//! The API's client.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};

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
        let client = kube::Client::try_from(config);
        client
            .map(Self)
            .map_err(|error| BackendError::doing(format!("make a client for context {context:?}"), error))
    }

    /// The API server's version.
    pub(super) async fn version(&self) -> kube::Result<k8s_openapi::apimachinery::pkg::version::Info> {
        self.0.apiserver_version().await
    }

    /// When a node's kubelet last looked at its memory, and its `memory.available` then, in bytes.
    pub(super) async fn node_memory(&self, node: &str) -> Result<Option<(Timestamp, u64)>, BackendError> {
        let doing = |error: &dyn fmt::Display| {
            BackendError::doing(format!("ask the kubelet of node {node} for its memory"), error)
        };
        let nodes = kube::api::Request::new("/api/v1/nodes");
        let request = nodes.get_subresource("proxy/stats/summary", node).map_err(|error| doing(&error))?;
        let summary: serde_json::Value = match self.0.request(request).await {
            Ok(summary) => summary,
            // It has not looked yet, or its server is just beginning.
            Err(kube::Error::Api(status)) if status.code >= 500 => return Ok(None),
            Err(error) => return Err(doing(&error)),
        };
        let memory = &summary["node"]["memory"];
        let at = memory["time"].as_str().and_then(|text| text.parse().ok());
        Ok(at.zip(memory["availableBytes"].as_u64()))
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
