//! Which of the scenario's containers the nodes speak of.
//!
//! A node knows a pod by its UID and a container by the runtime's ID; the API says which they are, mostly a second later.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::{CgroupMade, CgroupOwner, ContainerRef, Fact};

/// The names that the API has told.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// By UID.
    pods: BTreeMap<String, String>,
    /// By the runtime's ID.
    containers: BTreeMap<String, ContainerRef>,
}

/// What has become of a fact under provisional names.
#[derive(Debug)]
pub(super) enum Renamed {
    /// It has its names.
    Fact(Fact),
    /// Somebody in it is not known yet.
    NotYet(Fact),
}

impl Names {
    pub(super) fn learn_pod(&mut self, uid: &str, name: &str) {
        self.pods.insert(uid.to_owned(), name.to_owned());
    }

    /// Answers whether that is news.
    pub(super) fn learn_container(&mut self, id: String, container: ContainerRef) -> bool {
        self.containers.insert(id, container).is_none()
    }

    /// Every run of a container that has been heard of.
    pub(super) fn containers(&self) -> BTreeSet<&ContainerRef> {
        self.containers.values().collect()
    }

    /// The runtime's ID of a container's latest run.
    pub(super) fn latest_id(&self, pod: &str, container: &str) -> Option<&str> {
        let of_it = self.containers.iter().filter(|(_, c)| c.pod == pod && c.container == container);
        of_it.max_by_key(|(_, c)| c.instance).map(|(id, _)| id.as_str())
    }

    /// Gives a fact its proper names.
    pub(super) fn rename(&self, mut fact: Fact) -> Renamed {
        let named = if let Fact::Cgroup(made) = &mut fact {
            self.owner(&made.owner).map(|owner| made.owner = owner)
        } else if let Some(run) = fact.run_on_node_mut() {
            self.container(run).map(|named| *run = named)
        } else {
            Some(())
        };
        if named.is_some() { Renamed::Fact(fact) } else { Renamed::NotYet(fact) }
    }

    fn container(&self, provisional: &ContainerRef) -> Option<ContainerRef> {
        self.containers.get(&provisional.container).cloned()
    }

    fn owner(&self, provisional: &CgroupOwner) -> Option<CgroupOwner> {
        Some(match provisional {
            CgroupOwner::Node => CgroupOwner::Node,
            CgroupOwner::Qos { class } => CgroupOwner::Qos { class: class.clone() },
            CgroupOwner::Pod { pod } => CgroupOwner::Pod { pod: self.pods.get(pod)?.clone() },
            CgroupOwner::Pause { pod } => CgroupOwner::Pause { pod: self.pods.get(pod)?.clone() },
            CgroupOwner::Container(container) => CgroupOwner::Container(self.container(container)?),
        })
    }

    /// A cgroup in a pod of ours that the API knows no container for, now that it has told all: the pause process's.
    pub(super) fn as_pause(&self, made: &CgroupMade) -> Option<Fact> {
        let CgroupOwner::Container(provisional) = &made.owner else { return None };
        let pod = self.pods.get(&provisional.pod)?.clone();
        Some(Fact::Cgroup(CgroupMade { owner: CgroupOwner::Pause { pod }, ..made.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::ProcessSeen;

    #[test]
    fn a_fact_waits_until_its_container_is_known() {
        let provisional = ContainerRef { pod: "uid".into(), container: "id".into(), instance: 0 };
        let named = ContainerRef { pod: "web".into(), container: "app".into(), instance: 2 };
        let fact = Fact::Process(ProcessSeen { pid: 7, container: provisional, parent: None });
        let mut names = Names::default();
        let Renamed::NotYet(fact) = names.rename(fact) else { panic!("it has no name yet") };
        assert!(names.learn_container("id".into(), named.clone()));
        let Renamed::Fact(Fact::Process(seen)) = names.rename(fact) else { panic!("it is known by now") };
        assert_eq!(seen.container, named);
        assert_eq!(names.latest_id("web", "app"), Some("id"));
    }
}
