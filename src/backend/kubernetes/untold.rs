//! Containers whose cgroup has gone and whose end nobody has told yet: the API does so a second later, mostly.

use std::collections::{HashMap, HashSet};

use crate::evidence::{CgroupOwner, ContainerRef, Fact};

/// What is known of cgroups and ends, by the scenario's names.
#[derive(Debug, Default)]
pub(super) struct Untold {
    cgroups: HashMap<String, ContainerRef>,
    gone: HashSet<String>,
    told: HashSet<ContainerRef>,
}

impl Untold {
    /// Takes in what is recorded, in any order.
    pub(super) fn take(&mut self, fact: &Fact) {
        if let Fact::Cgroup(made) = fact
            && let CgroupOwner::Container(container) = &made.owner
        {
            self.cgroups.insert(made.path.clone(), container.clone());
        } else if let Fact::Counters(counters) = fact
            && counters.last
        {
            self.gone.insert(counters.cgroup.clone());
        } else if let Fact::Ended(ended) = fact {
            self.told.insert(ended.container.clone());
        } else if let Fact::StartFailed(failed) = fact {
            self.told.insert(failed.container.clone());
        }
    }

    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        self.cgroups.iter().any(|(path, run)| self.gone.contains(path) && !self.told.contains(run))
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
        untold.take(&read(true));
        assert!(!untold.any());
        untold.take(&made);
        assert!(untold.any());
        let end = End::Code(0);
        let ended = ContainerEnded { container: run, end, reason: None, invented: None, cpu_ms: None };
        untold.take(&Fact::Ended(ended));
        assert!(!untold.any());
        let mut lives = Untold::default();
        lives.take(&made);
        lives.take(&read(false));
        assert!(!lives.any());
    }
}
