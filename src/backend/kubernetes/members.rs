//! Which of the scenario's pods the API's pods are.
//!
//! A pod of ours bears its own name in a label. A controller's pods all bear the one that their template has: they are numbered
//! in the order in which the API tells of them, which is that of their creation, and known by their UIDs; a StatefulSet gives a
//! name to one pod after the other.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod as KubernetesPod;

use super::manifest::POD;
use crate::scenario::Pod;

/// The pods that the API has told of.
#[derive(Debug)]
pub(super) struct Members {
    pods: Vec<Pod>,
    by_uid: BTreeMap<String, Member>,
    /// How many pods of each controller there have been.
    created: BTreeMap<String, u32>,
}

/// A pod in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// What the record calls it.
    pub(super) name: String,
    /// What the API calls it.
    pub(super) api_name: String,
    /// The entry of `pods` that it is an instance of.
    entry: String,
    /// Whether it is still there, and not being deleted.
    stays: bool,
    /// Whether the API has it no more.
    gone: bool,
}

impl Members {
    /// Of a scenario's pods.
    pub(super) fn new(pods: &[Pod]) -> Self {
        Self { pods: pods.to_vec(), by_uid: BTreeMap::new(), created: BTreeMap::new() }
    }

    /// What the record calls this pod, if it is one of the scenario's. `gone` is true of one that the API no longer has.
    pub(super) fn learn(&mut self, object: &KubernetesPod, gone: bool) -> Option<String> {
        let stays = !gone && object.metadata.deletion_timestamp.is_none();
        let uid = object.metadata.uid.clone().unwrap_or_default();
        if let Some(known) = self.by_uid.get_mut(&uid) {
            known.stays &= stays;
            known.gone |= gone;
            return Some(known.name.clone());
        }
        let label = object.metadata.labels.as_ref()?.get(POD)?;
        let pod = self.pods.iter().find(|pod| pod.is_named(label))?;
        let name = if pod.kind.is_controller() {
            let created = self.created.entry(pod.name.clone()).or_default();
            *created += 1;
            pod.name_of(*created - 1)
        } else {
            label.clone()
        };
        let api_name = object.metadata.name.clone().unwrap_or_default();
        let member = Member { name: name.clone(), api_name, entry: pod.name.clone(), stays, gone };
        self.by_uid.insert(uid, member);
        Some(name)
    }

    /// Whether a pod with this UID is known.
    pub(super) fn knows(&self, uid: &str) -> bool {
        self.by_uid.contains_key(uid)
    }

    /// What the record calls the pod with this UID.
    pub(super) fn name(&self, uid: &str) -> Option<&str> {
        self.by_uid.get(uid).map(|member| member.name.as_str())
    }

    /// Whether the API has told all of the pod with this UID that it ever will.
    pub(super) fn is_gone(&self, uid: &str) -> bool {
        self.by_uid.get(uid).is_some_and(|member| member.gone)
    }

    /// The pods of this name that are there now: one, or all of an entry.
    pub(super) fn there_now(&self, name: &str) -> Vec<Member> {
        let mut there: Vec<Member> = self
            .by_uid
            .values()
            .filter(|member| member.stays && (member.name == name || member.entry == name))
            .cloned()
            .collect();
        there.sort_by(|one, two| one.name.cmp(&two.name));
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    fn pods(kind: &str, replicas: u32) -> Vec<Pod> {
        let text = format!(
            "apiVersion: exit137/v1\nkind: Scenario\nmetadata: {{name: s}}\npods:\n- name: web\n  kind: {kind}\n  replicas: {replicas}\n  spec: {{containers: [{{name: app, workload: {{idle: {{}}}}, resources: {{limits: {{memory: 9Mi}}}}}}]}}\nobserve: {{for: 1s}}\nexpect: {{nothingDies: true}}\n"
        );
        scenario::read("s.yaml", &text).unwrap().pods
    }

    fn object(uid: &str, api_name: &str, label: &str) -> KubernetesPod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"uid": uid, "name": api_name, "labels": {POD: label}}
        }))
        .unwrap()
    }

    #[test]
    fn a_controllers_pods_are_numbered_in_the_order_of_their_creation() {
        let mut one = Members::new(&pods("Deployment", 1));
        let mut named = |uid: &str, api: &str| one.learn(&object(uid, api, "web"), false).unwrap();
        assert_eq!(named("a", "web-7d9-x"), "web");
        assert_eq!(named("b", "web-5f4-y"), "web-1");
        assert_eq!(named("a", "web-7d9-x"), "web");
        assert_eq!(named("c", "web-5f4-z"), "web-2");

        let mut two = Members::new(&pods("StatefulSet", 2));
        let mut named = |uid: &str, api: &str| two.learn(&object(uid, api, "web"), false).unwrap();
        assert_eq!([named("a", "web-0"), named("b", "web-1")], ["web-0", "web-1"]);
        assert_eq!(named("c", "web-1"), "web-2", "a name that was given again is another pod");
    }

    #[test]
    fn a_bare_pod_is_called_what_its_label_says_and_others_are_not_ours() {
        let mut members = Members::new(&pods("Pod", 2));
        assert_eq!(members.learn(&object("a", "web-1", "web-1"), false).as_deref(), Some("web-1"));
        assert_eq!(members.learn(&object("b", "db", "db"), false), None);
    }

    #[test]
    fn what_is_gone_is_acted_on_no_more() {
        let mut members = Members::new(&pods("Deployment", 2));
        for uid in ["a", "b"] {
            members.learn(&object(uid, uid, "web"), false);
        }
        members.learn(&object("a", "a", "web"), true);
        members.learn(&object("a", "a", "web"), false);
        let names = |name: &str| members.there_now(name).into_iter().map(|m| m.name).collect::<Vec<_>>();
        assert_eq!(names("web"), ["web-1"]);
        assert_eq!(names("web-0"), Vec::<String>::new());
    }
}
