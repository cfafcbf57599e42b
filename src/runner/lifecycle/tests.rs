use super::*;
use crate::evidence::{ContainerRef, End};
use crate::scenario::{
    Act, Action, ContainerSelector, Expect, Node, Observe, Pod, PodKind, RestartPolicy, Scenario, Traffic,
};
use exit137_workload::traffic::{HttpVersion, Load, LoadStage};

fn scenario(observe: Observe, actions: Vec<Action>) -> Scenario {
    Scenario {
        name: "s".into(),
        description: None,
        hash: String::new(),
        requires: Vec::new(),
        node: Node::default(),
        objects: Vec::new(),
        pods: Vec::new(),
        traffic: Vec::new(),
        actions,
        observe,
        expect: Expect::default(),
        timeout_ms: 60_000,
        back_off_scale: 1.0,
        without_effect: Vec::new(),
    }
}

fn pod(name: &str, replicas: u32) -> Pod {
    Pod {
        name: name.into(),
        kind: PodKind::Pod,
        replicas,
        containers: Vec::new(),
        volumes: Vec::new(),
        restart_policy: RestartPolicy::Always,
        grace_seconds: 30,
        pod_limit: None,
        pod_request: None,
        node_critical: false,
        spec: Box::default(),
        controller: serde_json::Map::new(),
        object: None,
    }
}

fn watching(for_ms: u64, until: Option<Until>, settle_ms: u64) -> Observe {
    Observe { for_ms, until, settle_ms }
}

fn app(instance: u32) -> ContainerRef {
    ContainerRef { pod: "web".into(), container: "app".into(), instance }
}

fn selector() -> ContainerSelector {
    ContainerSelector { pod: "web".into(), container: "app".into() }
}

fn kill_on(event: RunEvent, delay: u64) -> Action {
    Action {
        at: Trigger::Event(event, delay),
        act: Act::Kill { container: selector(), signal: 9, child: false },
    }
}

/// A lifecycle whose pods started at 100 ms.
fn started(scenario: &Scenario) -> Lifecycle {
    let mut lifecycle = Lifecycle::new(scenario, 0);
    assert_eq!(lifecycle.next(0, Event::Begin), [Operation::Start, Operation::WakeAt(60_000)]);
    lifecycle.next(100, Event::AllStarted);
    lifecycle
}

fn ended(instance: u32) -> Event {
    Event::Seen(Happening::Ended { container: app(instance), end: Some(End::Signaled(9)) })
}

#[test]
fn observation_lasts_as_long_as_the_scenario_says_counted_from_when_all_pods_have_started() {
    let mut lifecycle = started(&scenario(watching(1_000, None, 0), Vec::new()));
    assert_eq!(lifecycle.next(500, Event::Tick), [Operation::WakeAt(1_100)]);
    assert_eq!(lifecycle.next(1_100, Event::Tick), [Operation::TearDown]);
    assert_eq!(lifecycle.next(1_200, Event::TornDown), [Operation::Finish(Ending::Observed)]);
}

#[test]
fn a_timed_action_is_applied_once_when_its_time_has_come() {
    let action =
        Action { at: Trigger::Time(300), act: Act::Delete { pod: "web".into(), grace_seconds: None } };
    let mut lifecycle = started(&scenario(watching(1_000, None, 0), vec![action]));
    assert_eq!(lifecycle.next(200, Event::Tick), [Operation::WakeAt(400)]);
    assert_eq!(lifecycle.next(401, Event::Tick), [Operation::Apply(0), Operation::WakeAt(1_100)]);
    assert_eq!(lifecycle.next(402, Event::Tick), [Operation::WakeAt(1_100)]);
}

#[test]
fn traffic_is_told_its_own_zero_at_once_when_all_pods_have_started() {
    let traffic = |name: &str, start_ms| Traffic {
        name: name.into(),
        to: selector(),
        port: 8080,
        load: Load::Vus { start: 1, stages: vec![LoadStage { target: 1, ms: 500 }] },
        start_ms,
        graceful_stop_ms: 0,
        http: HttpVersion::Http1,
        generators: 1,
        retries: 0,
        retry_after_ms: 0,
        requests: Vec::new(),
    };
    let mut scenario = scenario(watching(1_000, None, 0), Vec::new());
    scenario.traffic = vec![traffic("main", 0), traffic("spike", 250)];
    let mut lifecycle = Lifecycle::new(&scenario, 0);
    lifecycle.next(0, Event::Begin);
    assert_eq!(
        lifecycle.next(100, Event::AllStarted),
        [
            Operation::StartTraffic { index: 0, at: 150 },
            Operation::StartTraffic { index: 1, at: 400 },
            Operation::WakeAt(1_150)
        ]
    );
    assert_eq!(lifecycle.next(400, Event::Tick), [Operation::WakeAt(1_150)], "it is told once");
}

#[test]
fn an_action_on_an_event_waits_for_it_and_then_for_its_delay() {
    let action = kill_on(RunEvent::OomKill(selector()), 5);
    let mut lifecycle = started(&scenario(watching(1_000, None, 0), vec![action]));
    assert_eq!(lifecycle.next(200, Event::Seen(Happening::OomKill(app(0)))), [Operation::WakeAt(205)]);
    assert_eq!(lifecycle.next(205, Event::Tick), [Operation::Apply(0), Operation::WakeAt(1_100)]);
}

#[test]
fn an_event_of_another_container_triggers_nothing() {
    let action = kill_on(RunEvent::OomKill(selector()), 0);
    let mut lifecycle = started(&scenario(watching(1_000, None, 0), vec![action]));
    let other = ContainerRef { pod: "webby".into(), container: "app".into(), instance: 0 };
    assert_eq!(lifecycle.next(200, Event::Seen(Happening::OomKill(other))), [Operation::WakeAt(1_100)]);
}

#[test]
fn ends_are_counted_until_there_are_enough_and_then_the_scenario_settles() {
    let until = Until::Event(RunEvent::Ended(selector(), 2));
    let mut lifecycle = started(&scenario(watching(10_000, Some(until), 50), Vec::new()));
    assert_eq!(lifecycle.next(200, ended(0)), [Operation::WakeAt(10_100)]);
    assert_eq!(lifecycle.next(300, ended(1)), [Operation::WakeAt(350)]);
    assert_eq!(lifecycle.next(350, Event::Tick), [Operation::TearDown]);
}

#[test]
fn a_replica_is_selected_by_the_name_that_all_replicas_share() {
    let selection = Selection::new(&[pod("web", 2)]);
    assert!(selection.selects(&selector(), "web-0", "app"));
    assert!(selection.selects(&selector(), "web-1", "app"));
    assert!(!selection.selects(&selector(), "web-2", "app"));
    assert!(!selection.selects(&selector(), "web-1", "sidecar"));
}

#[test]
fn a_pod_whose_name_only_looks_like_a_replicas_is_not_selected() {
    let selection = Selection::new(&[pod("web", 1), pod("web-1", 1)]);
    assert!(selection.selects(&selector(), "web", "app"));
    assert!(!selection.selects(&selector(), "web-1", "app"));
}

#[test]
fn the_timeout_ends_a_scenario_that_never_started() {
    let mut lifecycle = Lifecycle::new(&scenario(watching(1_000, None, 0), Vec::new()), 0);
    lifecycle.next(0, Event::Begin);
    assert_eq!(lifecycle.next(60_000, Event::Tick), [Operation::TearDown]);
    assert_eq!(lifecycle.next(60_010, Event::TornDown), [Operation::Finish(Ending::TimedOut)]);
}

#[test]
fn whatever_happens_everything_is_torn_down_exactly_once_and_then_nothing_follows() {
    for ender in [Event::Interrupted, Event::Failed("no cgroup".into())] {
        let mut lifecycle = started(&scenario(watching(1_000, None, 0), Vec::new()));
        assert_eq!(lifecycle.next(150, ender), [Operation::TearDown]);
        for event in [Event::Interrupted, Event::Tick, ended(0), Event::Failed("again".into())] {
            assert_eq!(lifecycle.next(160, event), []);
        }
        assert!(matches!(lifecycle.next(170, Event::TornDown)[..], [Operation::Finish(_)]));
        assert_eq!(lifecycle.next(180, Event::Tick), []);
    }
}
