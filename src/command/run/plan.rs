//! Which cluster each scenario runs on: the fewest that have what all of them need of their nodes.

use crate::backend::kubernetes::kind::config::Settings;
use crate::loader::Loaded;
use crate::scenario::Node;

/// A cluster, and the scenarios that run on it.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// `None`: the cluster of `--cluster`, which is there. Otherwise the run makes one like this.
    pub(super) made: Option<Settings>,
    pub(super) scenarios: Vec<&'a Loaded>,
}

/// The default of the kubelet's `maxPods`.
const MAX_PODS: u32 = 110;

/// What a scenario needs of its nodes. On cgroup v1 every kubelet kills single processes, told or not.
fn needs(node: &Node, cgroup: u8) -> Settings {
    Settings {
        evict_at: node.evict_at,
        allocatable: node.allocatable,
        single_process_oom_kill: node.single_process_oom_kill && cgroup == 2,
        max_pods: node.max_pods,
        workers: node.workers.unwrap_or(0),
        wanted_by: Vec::new(),
    }
}

/// Divides scenarios among clusters. `there`: whether the cluster of `--cluster` is.
pub(super) fn plan<'a>(scenarios: &[&'a Loaded], cgroup: u8, there: bool) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let (special, plain): (Vec<_>, Vec<_>) = scenarios.iter().copied().partition(|loaded| {
        let node = &loaded.scenario.node;
        node.is_changed() || loaded.scenario.stops_a_kubelet() || needs(node, cgroup) != Settings::default()
    });
    // Those that need a kubelet of their own decide which clusters there are; who only changes the node for a while then
    // finds a place on one of them.
    let (changing, fixed): (Vec<_>, Vec<_>) =
        special.into_iter().partition(|loaded| needs(&loaded.scenario.node, cgroup) == Settings::default());
    for loaded in fixed {
        let needs = needs(&loaded.scenario.node, cgroup);
        place(&mut groups, loaded, &needs, same_kubelet);
    }
    for loaded in changing {
        let size = loaded.scenario.node.memory.max(loaded.scenario.node.guard).unwrap_or(0);
        place(&mut groups, loaded, &Settings::default(), |settings, _| holds(settings, size));
    }
    if there && !plain.is_empty() {
        groups.insert(0, Group { made: None, scenarios: plain });
        return groups;
    }
    for loaded in plain {
        let any = |settings: &Settings, _: &Settings| {
            settings.evict_at.is_none() && settings.allocatable.is_none() && !settings.single_process_oom_kill
        };
        match groups.iter_mut().find(|group| group.made.as_ref().is_some_and(|made| any(made, made))) {
            Some(group) => group.scenarios.push(loaded),
            None => {
                groups.push(Group { made: Some(Settings::default()), scenarios: vec![loaded] });
            }
        }
    }
    groups
}

/// Puts a scenario whose node is special on a cluster that suits it, or on one more.
fn place<'a>(
    groups: &mut Vec<Group<'a>>,
    loaded: &'a Loaded,
    needs: &Settings,
    suits: impl Fn(&Settings, &Settings) -> bool,
) {
    let found = groups.iter_mut().find_map(|group| {
        let made = group.made.as_mut().filter(|made| suits(made, needs))?;
        Some((made, &mut group.scenarios))
    });
    if let Some((made, scenarios)) = found {
        made.max_pods = made.max_pods.max(needs.max_pods);
        made.workers = made.workers.max(needs.workers);
        made.wanted_by.push(loaded.scenario.name.clone());
        scenarios.push(loaded);
        return;
    }
    let wanted_by = vec![loaded.scenario.name.clone()];
    // What runs out of memory there is to be our pods alone, not the control plane.
    let made = Settings { workers: needs.workers.max(1), wanted_by, ..needs.clone() };
    groups.push(Group { made: Some(made), scenarios: vec![loaded] });
}

/// Whether one kubelet can do for both. More pods and more nodes are no harm, fewer pods than usual are.
fn same_kubelet(one: &Settings, other: &Settings) -> bool {
    let few = |settings: &Settings| settings.max_pods.filter(|max| *max < MAX_PODS);
    (one.evict_at, one.allocatable, one.single_process_oom_kill, few(one))
        == (other.evict_at, other.allocatable, other.single_process_oom_kill, few(other))
}

/// Whether a cluster lets a scenario use up so much of a node before anything else of the node's happens.
fn holds(settings: &Settings, size: u64) -> bool {
    settings.evict_at.is_none()
        && settings.allocatable.is_none_or(|allocatable| allocatable / 2 >= size)
        && !settings.single_process_oom_kill
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader;
    use crate::scenario::{Act, Action, ContainerSelector, Trigger};

    fn loaded(name: &str, node: &str) -> Loaded {
        let text = format!(
            "apiVersion: exit137/v1\nkind: Scenario\nmetadata: {{name: {name}}}\nrequires: [cluster]\nnode: {node}\n\
             pods: [{{name: web, spec: {{containers: [{{name: app, workload: {{idle: {{}}}}, \
             resources: {{limits: {{memory: 8Mi}}}}}}]}}}}]\nobserve: {{for: 1s}}\nexpect: {{nothingDies: true}}\n"
        );
        Loaded {
            path: name.into(),
            scenario: crate::scenario::read(name, &text).unwrap(),
            text,
            manifests: loader::Manifests::new(),
        }
    }

    /// `cluster: scenarios`, the cluster by what is special about it.
    fn planned(scenarios: &[Loaded], cgroup: u8, there: bool) -> Vec<(Option<Settings>, Vec<String>)> {
        let scenarios: Vec<&Loaded> = scenarios.iter().collect();
        let names = |group: &Group<'_>| group.scenarios.iter().map(|s| s.scenario.name.clone()).collect();
        plan(&scenarios, cgroup, there).iter().map(|group| (group.made.clone(), names(group))).collect()
    }

    #[test]
    fn scenarios_that_need_the_same_share_a_cluster_and_the_fewest_are_made() {
        let scenarios = [
            loaded("plain", "{}"),
            loaded("evicts", "{evictAt: 512Mi}"),
            loaded("budget", "{memory: 128Mi}"),
            loaded("evicts-too", "{evictAt: 512Mi, maxPods: 200}"),
            loaded("allocatable", "{allocatable: 1Gi}"),
        ];
        let there = planned(&scenarios, 1, true);
        assert_eq!(there[0], (None, vec!["plain".to_owned()]));
        assert_eq!(there[1].1, ["evicts", "evicts-too"]);
        let evicts = there[1].0.clone().unwrap();
        assert_eq!((evicts.evict_at, evicts.max_pods, evicts.workers), (Some(512 << 20), Some(200), 1));
        assert_eq!(evicts.wanted_by, ["evicts", "evicts-too"]);
        assert_eq!(there[2].1, ["allocatable", "budget"]);
        assert_eq!(there.len(), 3);
    }

    #[test]
    fn where_a_cluster_is_made_anyway_a_plain_scenario_runs_on_it_if_it_takes_nothing_away() {
        let many = [loaded("plain", "{}"), loaded("many", "{maxPods: 250}")];
        assert_eq!(planned(&many, 1, false).len(), 1);
        let evicts = [loaded("plain", "{}"), loaded("evicts", "{evictAt: 512Mi}")];
        assert_eq!(planned(&evicts, 1, false).len(), 2);
        let plain = planned(&[loaded("plain", "{}")], 2, false);
        assert_eq!(plain, [(Some(Settings::default()), vec!["plain".to_owned()])]);
    }

    #[test]
    fn a_kubelet_is_taken_away_only_on_a_worker_of_a_cluster_of_the_runs_own() {
        let mut loses = loaded("loses", "{}");
        let container = ContainerSelector { pod: "web".into(), container: "app".into() };
        let act = Act::LoseContainer { container };
        loses.scenario.actions.push(Action { at: Trigger::Time(0), act });
        let scenarios = [loaded("plain", "{}"), loses];
        let planned = planned(&scenarios, 1, true);
        assert_eq!(planned[0], (None, vec!["plain".to_owned()]));
        assert_eq!(planned[1].1, ["loses"]);
        assert_eq!(planned[1].0.as_ref().map(|made| made.workers), Some(1));
    }

    #[test]
    fn a_kubelet_is_told_to_kill_single_processes_only_where_it_would_not() {
        let single = [loaded("plain", "{}"), loaded("single", "{singleProcessOOMKill: true}")];
        assert_eq!(planned(&single, 1, true).len(), 1);
        let on_v2 = planned(&single, 2, true);
        assert_eq!(on_v2.len(), 2);
        assert!(on_v2[1].0.as_ref().is_some_and(|made| made.single_process_oom_kill));
    }
}
