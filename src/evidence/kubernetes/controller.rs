//! Events of the controllers that pods belong to: they say who asked for a pod's end, where the pod itself only says that
//! it is deleted.
//!
//! A ReplicaSet tells which pods it deletes (`controller_utils.go:DeletePod`), its Deployment which ReplicaSets it makes
//! larger and smaller (`deployment/sync.go:scaleReplicaSet`). Events get lost, so that there is none says nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Event, Pod};

use super::event::moment;
use super::pod::Received;
use super::{Statement, WallOffset};
use crate::evidence::{Controller, Fact, Moment, PodStopping, Source, StopReason};

/// The label that a Deployment gives to the pods of each of its ReplicaSets; the ReplicaSet's name ends in its value.
const REVISION: &str = "pod-template-hash";

/// What the controllers of a namespace have said.
#[derive(Debug, Default)]
pub struct Controllers {
    /// What the record calls a pod, by its name in the API.
    pods: BTreeMap<String, String>,
    /// The ReplicaSets that are a Deployment's.
    revisions: BTreeMap<String, Revision>,
    /// Pods that a ReplicaSet has deleted.
    deleted: Vec<Deleted>,
    said: BTreeSet<(String, &'static str)>,
}

/// A Deployment's ReplicaSet.
#[derive(Debug, Default)]
struct Revision {
    deployment: String,
    first_pod: Option<Moment>,
    scaled_up: Option<Moment>,
    /// To how many replicas it was last scaled down.
    scaled_down: Option<u32>,
}

#[derive(Debug)]
struct Deleted {
    pod: String,
    replica_set: String,
    at: Moment,
    words: String,
}

impl Revision {
    /// When its Deployment last wanted more of it, as far as is known.
    fn grew(&self) -> Option<Moment> {
        self.scaled_up.or(self.first_pod)
    }
}

/// The object that answers for a pod.
pub fn controller_of(pod: &Pod) -> Option<Controller> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true))?;
    Some(Controller { kind: owner.kind.clone(), name: owner.name.clone() })
}

impl Controllers {
    /// A pod that the record calls so.
    pub fn pod(&mut self, pod: &str, object: &Pod, wall: &WallOffset) {
        let Some(name) = object.metadata.name.clone() else { return };
        if self.pods.insert(name, pod.to_owned()).is_some() {
            return;
        }
        let hash = object.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION));
        let owner = controller_of(object).filter(|owner| owner.kind == "ReplicaSet");
        let Some((hash, owner)) = hash.zip(owner) else { return };
        let deployment = owner.name.strip_suffix(hash.as_str()).and_then(|name| name.strip_suffix('-'));
        let made = object.metadata.creation_timestamp.as_ref().map(|time| wall.second(time.0));
        let known = self.revisions.entry(owner.name.clone()).or_default();
        deployment.unwrap_or_default().clone_into(&mut known.deployment);
        known.first_pod = known.first_pod.or(made);
    }

    /// What an event on anything but a pod says of why pods stop.
    pub fn event(&mut self, event: &Event, received: Moment, wall: &WallOffset) -> Vec<Statement> {
        let about = &event.involved_object;
        let name = about.name.clone().unwrap_or_default();
        let at = moment(event, event.count.unwrap_or(1), Received { at: received, wall });
        let words = event.message.as_deref().unwrap_or_default();
        match (about.kind.as_deref(), event.reason.as_deref()) {
            (Some("ReplicaSet"), Some("SuccessfulDelete")) => self.deletes(name, at, words),
            (Some("Deployment"), Some("ScalingReplicaSet")) => self.scales(name, at, words),
            (_, _) => return Vec::new(),
        }
        self.statements()
    }

    /// `Deleted pod: NAME`, after `(combined from similar events): ` where there are many.
    fn deletes(&mut self, replica_set: String, at: Moment, words: &str) {
        let Some(pod) = words.split("Deleted pod: ").nth(1) else { return };
        let (pod, words) = (pod.trim().to_owned(), words.to_owned());
        if !self.deleted.iter().any(|known| known.pod == pod) {
            self.deleted.push(Deleted { pod, replica_set, at, words });
        }
    }

    /// `Scaled up replica set NAME to 2`; newer versions add `from 1`, before or after.
    fn scales(&mut self, deployment: String, at: Moment, words: &str) {
        let Some((up, rest)) = words.split_once("replica set ") else { return };
        let mut rest = rest.split_whitespace();
        let Some(name) = rest.next() else { return };
        let rest: Vec<&str> = rest.collect();
        let to = rest.iter().position(|word| *word == "to").and_then(|at| rest.get(at + 1)?.parse().ok());
        let known = self.revisions.entry(name.to_owned()).or_default();
        known.deployment = deployment;
        if up.contains("Scaled up") {
            known.scaled_up = known.scaled_up.filter(|last| last.latest() > at.latest()).or(Some(at));
        } else {
            known.scaled_down = to;
        }
    }

    /// What is known of the deleted pods and has not been said.
    fn statements(&mut self) -> Vec<Statement> {
        let mut statements = Vec::new();
        for deleted in &self.deleted {
            let Some(pod) = self.pods.get(&deleted.pod) else { continue };
            let Some((reason, word)) = self.why(&deleted.replica_set) else { continue };
            if !self.said.insert((deleted.pod.clone(), word)) {
                continue;
            }
            let message = deleted.words.clone();
            let raw = Some(format!("ReplicaSet {}: {message}", deleted.replica_set));
            let fact = Fact::PodStopping(PodStopping { pod: pod.clone(), reason, grace_ms: None, message });
            statements.push(Statement { source: Source::Kubelet, moment: deleted.at, raw, fact });
        }
        statements
    }

    /// Why a ReplicaSet deletes pods: its Deployment has another that it wants more of, or nobody wants so many.
    fn why(&self, replica_set: &str) -> Option<(StopReason, &'static str)> {
        let scale_down = Some((StopReason::ScaleDown, "scale-down"));
        let Some(own) = self.revisions.get(replica_set) else { return scale_down };
        let begun = own.grew();
        let others = self
            .revisions
            .iter()
            .filter(|(name, other)| name.as_str() != replica_set && other.deployment == own.deployment);
        let newer = others
            .filter_map(|(_, other)| other.grew())
            .any(|grew| begun.is_none_or(|begun| grew.latest() > begun.latest().saturating_add(SECOND_NS)));
        if newer {
            return Some((StopReason::Rollout, "rollout"));
        }
        // To none: that may be the first half of a rollout by `strategy: Recreate`.
        own.scaled_down.filter(|to| *to > 0).and(scale_down)
    }
}

/// Pods' times are whole seconds.
const SECOND_NS: u64 = 1_000_000_000;
