//! Whose clock, PIDs and paths a node's facts are stated in, and what they are called in a record that holds several nodes'.

use std::collections::BTreeMap;

use crate::evidence::{Fact, Moment, Observation, OomDomain, OomSummary, PIDS_OF_A_MACHINE};

/// A node, as the record sees it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// How far the record's clock is ahead of the node's.
    pub(super) ahead: i128,
    /// Which machine it is, among those of the record: the first one's PIDs and paths stand as they are.
    pub(super) machine: u32,
    /// What its paths are called by where another machine's may be the same, or where the kernel's cannot be seen.
    pub(super) called: Option<String>,
    /// What the kernel prints before the paths that the node's agent sees, where that had to be found out.
    pub(super) above: Option<String>,
}

impl Place {
    /// A nanosecond on the record's clock.
    pub(super) fn ns(&self, ns: u64) -> u64 {
        u64::try_from((i128::from(ns) + self.ahead).max(0)).unwrap_or(u64::MAX)
    }

    /// A path as the record has it.
    pub(super) fn path(&self, path: &str) -> String {
        self.called.as_ref().map_or_else(|| path.to_owned(), |called| format!("{called}{path}"))
    }

    fn pid(&self, pid: u32) -> u32 {
        // 0 is no process but an idle processor.
        if pid == 0 { 0 } else { pid.saturating_add(self.machine.saturating_mul(PIDS_OF_A_MACHINE)) }
    }

    fn moment(&self, moment: Moment) -> Moment {
        Moment::between(self.ns(moment.earliest()), self.ns(moment.latest()))
    }

    /// Brings what a node states into the record's terms. Paths in the kernel's log are left as the kernel has them.
    pub(super) fn translate(&self, mut observation: Observation) -> Observation {
        observation.moment = self.moment(observation.moment);
        let pid = |pid: &mut u32| *pid = self.pid(*pid);
        let path = |path: &mut String| *path = self.path(path);
        match &mut observation.fact {
            Fact::Cgroup(made) => path(&mut made.path),
            Fact::Counters(counters) => path(&mut counters.cgroup),
            Fact::OomNotified { cgroup } => path(cgroup),
            Fact::LimitChanged(changed) => path(&mut changed.cgroup),
            Fact::Started(started) => {
                started.pid.iter_mut().for_each(pid);
                started.runtime_pid.iter_mut().for_each(pid);
            }
            Fact::Process(seen) => {
                pid(&mut seen.pid);
                seen.parent.iter_mut().for_each(pid);
            }
            Fact::OomSummary(summary) => pid(&mut summary.pid),
            Fact::KernelKilled(killed) => pid(&mut killed.pid),
            Fact::Victim(victim) => pid(&mut victim.pid),
            Fact::Signal(signal) => {
                pid(&mut signal.sender_pid);
                pid(&mut signal.target_pid);
            }
            Fact::Host(_)
            | Fact::Source(_)
            | Fact::WallClock { .. }
            | Fact::KernelLogClock { .. }
            | Fact::StartFailed(_)
            | Fact::Ended(_)
            | Fact::ProbeFailed(_)
            | Fact::Stopping(_)
            | Fact::RuntimeSignal { .. }
            | Fact::Action(_)
            | Fact::OomInvoked { .. }
            | Fact::OomGroup { .. }
            | Fact::Cluster(_)
            | Fact::Pod(_)
            | Fact::PodStopping(_)
            | Fact::PodOver(_)
            | Fact::Noted(_)
            | Fact::TrafficStarted(_)
            | Fact::TrafficWindow(_)
            | Fact::TrafficEnded(_)
            | Fact::Finished(_) => {}
        }
        observation
    }
}

/// Gives the paths in a line of the kernel's log the names that the record has for them. `speaker` is the node that read it,
/// `known` the paths of our pods' cgroups; every node of one machine reads the same log.
pub(super) fn name_paths<'a>(
    fact: &mut Fact,
    speaker: &str,
    places: &mut BTreeMap<String, Place>,
    known: impl Iterator<Item = &'a String> + Clone,
) {
    if let Fact::OomSummary(OomSummary { domain, task_memcg, .. }) = fact {
        let found = name_path(task_memcg, speaker, places, known.clone());
        if let OomDomain::Memcg { cgroup } = domain {
            // The victim's node is the limit's.
            let node = found.as_deref().unwrap_or(speaker).to_owned();
            name_path(cgroup, &node, places, known);
        }
    } else if let Fact::OomGroup { cgroup } = fact {
        name_path(cgroup, speaker, places, known);
    }
}

/// Names one path; answers the node that it is on, where that is known.
fn name_path<'a>(
    path: &mut String,
    near: &str,
    places: &mut BTreeMap<String, Place>,
    known: impl Iterator<Item = &'a String>,
) -> Option<String> {
    let machine = places.get(near)?.machine;
    let own = |place: &Place, path: &str| -> Option<String> {
        let above = place.above.as_deref()?;
        let below = path.strip_prefix(above)?;
        (below.is_empty() || below.starts_with('/')).then(|| below.to_owned())
    };
    // By a node whose place in the hierarchy is known: first the one that is near.
    let mut nodes: Vec<&String> =
        places.iter().filter(|(_, place)| place.machine == machine).map(|(node, _)| node).collect();
    nodes.sort_by_key(|node| node.as_str() != near);
    let placed = nodes.iter().find_map(|node| Some(((*node).clone(), own(places.get(*node)?, path)?)));
    if let Some((node, below)) = placed {
        *path = places.get(&node)?.path(&below);
        return Some(node);
    }
    // By a pod's own cgroup, whose UID no other has: what is before it is what is above the node.
    let unplaced = places.iter().filter(|(_, place)| place.machine == machine && place.above.is_none());
    let unplaced: Vec<(String, String)> =
        unplaced.filter_map(|(node, place)| Some((node.clone(), place.called.clone()?))).collect();
    for cgroup in known {
        for (node, called) in &unplaced {
            let Some(seen) = cgroup.strip_prefix(called.as_str()) else { continue };
            let Some(at) = path.find(seen).filter(|_| seen.contains("pod")) else { continue };
            let below = path.get(at..)?.to_owned();
            let place = places.get_mut(node)?;
            place.above = Some(path.get(..at)?.to_owned());
            *path = place.path(&below);
            return Some(node.clone());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Source, VictimMarked};

    const POD: &str = "/kubelet/kubepods/burstable/pod1b2c";

    fn place(called: Option<&str>, above: Option<&str>, machine: u32) -> Place {
        Place { ahead: 0, machine, called: called.map(str::to_owned), above: above.map(str::to_owned) }
    }

    fn summary(oom: &str, task: &str) -> Fact {
        let domain = OomDomain::Memcg { cgroup: oom.to_owned() };
        Fact::OomSummary(OomSummary { domain, task_memcg: task.to_owned(), comm: "x".into(), pid: 7 })
    }

    fn named(fact: &mut Fact, places: &mut BTreeMap<String, Place>, known: &[String]) {
        name_paths(fact, "a", places, known.iter());
    }

    #[test]
    fn what_is_above_a_node_is_found_by_a_pods_own_cgroup_and_holds_for_the_node() {
        let hidden = |name: &str| (name.to_owned(), place(Some(&format!("/{name}")), None, 0));
        let mut places = BTreeMap::from([hidden("a"), hidden("b")]);
        let known = [format!("/b{POD}")];
        let mut fact = summary("/docker/77/kubelet/kubepods", &format!("/docker/77{POD}/c0"));
        named(&mut fact, &mut places, &known);
        assert_eq!(fact, summary("/b/kubelet/kubepods", &format!("/b{POD}/c0")));
        assert_eq!(places["b"].above.as_deref(), Some("/docker/77"));
        assert_eq!(places["a"].above, None);
    }

    #[test]
    fn a_path_of_nobodys_stays_the_kernels() {
        let mut places = BTreeMap::from([("a".to_owned(), place(Some("/a"), None, 0))]);
        let mut fact = summary("/docker/9/kubelet/kubepods/podx", "/docker/9/kubelet/kubepods/podx/c");
        let before = fact.clone();
        named(&mut fact, &mut places, &[format!("/a{POD}")]);
        assert_eq!(fact, before);
    }

    #[test]
    fn where_the_kernels_paths_are_seen_they_stand_as_they_are() {
        let mut places = BTreeMap::from([("a".to_owned(), place(None, Some(""), 0))]);
        let mut fact = summary("/kubepods", "/kubepods/podx/c");
        let before = fact.clone();
        named(&mut fact, &mut places, &[]);
        assert_eq!(fact, before);
    }

    #[test]
    fn another_machines_pids_and_moments_are_kept_apart() {
        let other = Place { ahead: -5, ..place(Some("/b"), Some(""), 1) };
        let fact = Fact::Victim(VictimMarked { pid: 7, comm: None });
        let seen =
            Observation { sequence: 0, source: Source::Trace, moment: Moment::exactly(100), raw: None, fact };
        let seen = other.translate(seen);
        assert_eq!(seen.moment, Moment::exactly(95));
        assert_eq!(seen.fact, Fact::Victim(VictimMarked { pid: PIDS_OF_A_MACHINE + 7, comm: None }));
        assert_eq!(other.path("/kubepods"), "/b/kubepods");
    }
}
