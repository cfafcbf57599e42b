//! What a run leaves on a cluster because it was told to: trials' namespaces, with the pods as they are.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::client::{Client, PATIENT, persist};
use super::manifest::RUN;

/// Which run left a namespace. It takes the place of the run's own label, so nobody takes it for what a dead run left behind.
pub(super) const KEPT: &str = "exit137.dev/kept";

/// Which trials' namespaces stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// None.
    #[default]
    Nothing,
    /// Those of trials that did not pass.
    Failed,
    /// All.
    Everything,
}

/// Namespaces that stay until their trials are judged, by the trial's folder.
#[derive(Debug, Default)]
pub(super) struct Undecided(Mutex<Vec<(PathBuf, String)>>);

impl Undecided {
    pub(super) fn add(&self, trial: &Path, namespace: &str) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((trial.to_owned(), namespace.to_owned()));
    }

    /// The namespace of a trial that has been judged.
    pub(super) fn take(&self, trial: &Path) -> Option<String> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = waiting.iter().position(|(folder, _)| folder == trial)?;
        Some(waiting.swap_remove(index).1)
    }
}

/// Marks a namespace as kept by this run, so that only `gc --kept` removes it.
pub(super) async fn keep(client: &Client, namespace: &str, run: &str) -> kube::Result<()> {
    let namespaces: Api<Namespace> = client.all();
    let labels = json!({"metadata": {"labels": {RUN: null, KEPT: run}}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&labels));
    persist(PATIENT, || namespaces.patch(namespace, &params, &patch)).await.map(drop)
}

/// Removes a trial's namespace; answers what could not be.
pub(super) async fn remove(client: &Client, namespace: &str) -> Vec<String> {
    let mut left = Vec::new();
    // Whoever ignores SIGTERM is not waited for.
    let (now, background) = (DeleteParams::default().grace_period(0), DeleteParams::background());
    let namespaces = client.all::<Namespace>();
    if let Err(error) = persist(PATIENT, || client.delete_pods(namespace, &now)).await {
        left.push(format!("pods in namespace {namespace}: {error}"));
    }
    match persist(PATIENT, || namespaces.delete(namespace, &background)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => left.push(format!("namespace {namespace}: {error}")),
        Ok(_) => {}
    }
    left
}
