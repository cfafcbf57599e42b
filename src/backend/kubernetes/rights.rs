//! What the context's user must be allowed, asked for before anything is made: all that is missing is told at once. The same
//! table is in the README.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};

use super::client::{Client, PATIENT, persist};
use super::lease;
use crate::backend::BackendError;

/// A resource and what is done with it.
struct Need {
    group: &'static str,
    resource: &'static str,
    /// In which namespace; everywhere where none is named.
    namespace: Option<&'static str>,
    verbs: &'static [&'static str],
    /// What is lost without it; nothing works where this says nothing.
    without: Option<&'static str>,
}

const NEEDS: [Need; 7] = [
    need("", "namespaces", None, &["list", "create", "patch", "delete"], None),
    need(
        "coordination.k8s.io",
        "leases",
        Some(lease::NAMESPACE),
        &["list", "create", "patch", "delete"],
        None,
    ),
    need("", "pods", None, &["list", "watch", "create", "patch", "delete", "deletecollection"], None),
    need("", "pods/log", None, &["get"], Some("containers' logs are not kept")),
    need(
        "",
        "events",
        None,
        &["list", "watch"],
        Some("who decided to stop a container is not known, so most of those ends stay undetermined"),
    ),
    need("", "nodes", None, &["list"], Some("the report does not say what the nodes are")),
    need("", "nodes", None, &["watch"], Some("the nodes' conditions are not kept")),
];

/// What putting agents on the nodes takes beside. Nobody may give a right that he has not: pods are watched in all namespaces.
const NEEDS_FOR_AGENTS: [Need; 6] = [
    need("", "nodes", None, &["list"], None),
    need("", "pods/log", Some(lease::NAMESPACE), &["get"], None),
    need("apps", "daemonsets", Some(lease::NAMESPACE), &["list", "get", "create", "patch", "delete"], None),
    need("", "serviceaccounts", Some(lease::NAMESPACE), &["create", "patch", "delete"], None),
    need("rbac.authorization.k8s.io", "clusterroles", None, &["create", "patch", "delete"], None),
    need("rbac.authorization.k8s.io", "clusterrolebindings", None, &["create", "patch", "delete"], None),
];

const fn need(
    group: &'static str,
    resource: &'static str,
    namespace: Option<&'static str>,
    verbs: &'static [&'static str],
    without: Option<&'static str>,
) -> Need {
    Need { group, resource, namespace, verbs, without }
}

/// Asks the API server whether all of it is allowed. What is needed and is not is an error, what only helps a warning.
pub(super) async fn check(context: &str, client: &Client, agents: bool) -> Result<(), BackendError> {
    let for_agents = if agents { &NEEDS_FOR_AGENTS[..] } else { &[] };
    let asked =
        NEEDS.iter().chain(for_agents).flat_map(|need| need.verbs.iter().map(move |verb| (need, *verb)));
    let answers =
        join_all(asked.map(|(need, verb)| async move { (need, verb, allowed(client, need, verb).await) }));
    let mut missing = Vec::new();
    for (need, verb, allowed) in answers.await {
        // A server that does not answer this question will refuse the thing itself.
        if allowed != Some(false) {
            continue;
        }
        match need.without {
            Some(without) => {
                tracing::warn!("the user of context {context:?} may not {verb} {}: {without}", need.resource);
            }
            None => missing.push(format!("{verb} {}", need.resource)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(BackendError(format!(
        "the user of context {context:?} may not: {}; the README lists what exit137 needs on a cluster, and `kubectl auth can-i --list` what it has",
        missing.join(", ")
    )))
}

async fn allowed(client: &Client, need: &Need, verb: &str) -> Option<bool> {
    let (resource, subresource) = match need.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (need.resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(need.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        namespace: need.namespace.map(str::to_owned),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let (reviews, params) = (client.all::<SelfSubjectAccessReview>(), PostParams::default());
    let reviews: Api<SelfSubjectAccessReview> = reviews;
    let answer = persist(PATIENT, || reviews.create(&params, &review)).await.ok()?;
    answer.status.map(|status| status.allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_every_right_that_is_asked_for() {
        let readme = include_str!("../../../README.md");
        for need in NEEDS.iter().chain(&NEEDS_FOR_AGENTS) {
            let rows = readme.lines().filter(|line| line.starts_with(&format!("| {} ", need.resource)));
            let rows = rows.collect::<Vec<_>>().join("\n");
            for verb in need.verbs {
                assert!(rows.contains(verb), "{} {verb} is not in the README's table: {rows}", need.resource);
            }
        }
    }
}
