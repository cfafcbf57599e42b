//! Containers whose cgroup has gone, or of whose end only their node has told: the API tells of it a second later, mostly, and with
//! Kubernetes' own reason.

use std::collections::{HashMap, HashSet};

use crate::evidence::{CgroupOwner, ContainerRef, Fact, PodOver, PodSign, Source};

/// What is known of cgroups and ends, by the scenario's names.
#[derive(Clone, Debug, Default)]
pub(super) struct Untold {
    cgroups: HashMap<String, ContainerRef>,
    gone: HashSet<String>,
    told: HashSet<ContainerRef>,
    told_by_node: HashSet<ContainerRef>,
    /// The latest sign that a pod is over.
    pods_over: HashMap<String, PodSign>,
}

impl Untold {
    /// Takes in what is recorded, in any order.
    pub(super) fn take(&mut self, source: Source, fact: &Fact) {
        if let Fact::Cgroup(made) = fact
            && let CgroupOwner::Container(container) = &made.owner
        {
            self.cgroups.insert(made.path.clone(), container.clone());
        } else if let Fact::Counters(counters) = fact
            && counters.last
        {
            self.gone.insert(counters.cgroup.clone());
        } else if let Fact::Ended(ended) = fact {
            let told = if source == Source::Exits { &mut self.told_by_node } else { &mut self.told };
            told.insert(ended.container.clone());
        } else if let Fact::PodOver(PodOver { pod, sign }) = fact {
            self.pods_over.insert(pod.clone(), *sign);
        } else if let Fact::StartFailed(failed) = fact {
            self.told.insert(failed.container.clone());
        }
    }

    /// Whether a pod is over, as far as was told: what ends in it now is its pause process.
    pub(super) fn is_over(&self, pod: &str) -> bool {
        self.pods_over.contains_key(pod)
    }

    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        let gone = self.cgroups.iter().filter(|(path, _)| self.gone.contains(*path)).map(|(_, run)| run);
        let mut untold = gone.filter(|run| !self.told_by_node.contains(run));
        // Of a pod that the API has no more it tells nothing more.
        let removed = |run: &ContainerRef| self.pods_over.get(&run.pod) == Some(&PodSign::Removed);
        let mut known = self.told_by_node.iter().filter(|run| !removed(run));
        untold.any(|run| !self.told.contains(run)) || known.any(|run| !self.told.contains(run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{CgroupMade, ContainerEnded, Counters, End};

    #[test]
    fn a_container_whose_cgroup_is_gone_is_waited_for_until_its_end_is_told() {
        let run = ContainerRef { pod: "web".into(), container: "app".into(), instance: 0 };
        let path = "/kubepods/podx/c".to_owned();
        let owner = CgroupOwner::Container(run.clone());
        let made = Fact::Cgroup(CgroupMade { path: path.clone(), owner, limit: None, oom_group: None });
        let read = |last| Fact::Counters(Counters { cgroup: path.clone(), last, ..Counters::default() });
        let mut untold = Untold::default();
        untold.take(Source::Memcg, &read(true));
        assert!(!untold.any());
        untold.take(Source::Harness, &made);
        assert!(untold.any());
        let end = End::Code(0);
        let ended = ContainerEnded { container: run, end, reason: None, invented: None, cpu_ms: None };
        untold.take(Source::Exits, &Fact::Ended(ended.clone()));
        assert!(untold.any());
        let mut removed = untold.clone();
        untold.take(Source::Runtime, &Fact::Ended(ended));
        assert!(!untold.any());
        let over = PodOver { pod: "web".into(), sign: PodSign::Removed };
        removed.take(Source::Runtime, &Fact::PodOver(over));
        assert!(!removed.any());
        let mut lives = Untold::default();
        lives.take(Source::Harness, &made);
        lives.take(Source::Memcg, &read(false));
        assert!(!lives.any());
    }
}
