//! stub
use crate::scenario::*;
use std::path::{Path, PathBuf};
/// x
#[derive(Debug)]
pub struct Loaded {
    /// p
    pub path: PathBuf,
    /// t
    pub text: String,
    /// s
    pub scenario: Scenario,
}
fn hard(name: &str) -> Scenario {
    let w: exit137_workload::Workload = serde_json::from_str(match name {
        "limit" => r#"{"hog":{"size":"100Mi","rate":"100Mi/s"}}"#,
        "exit" => r#"{"exit":{"code":137,"after":"300ms"}}"#,
        "child" => r#"{"children":{"size":"100Mi","count":1}}"#,
        _ => r#"{"idle":{}}"#,
    })
    .unwrap();
    let c = Container {
        name: "app".into(),
        role: Role::Main,
        program: Program::Workload(Box::new(w)),
        env: vec![],
        working_dir: None,
        request: Some(32 << 20),
        limit: Some(64 << 20),
        cpu_guaranteed: false,
        liveness: None,
        startup: None,
        pre_stop: None,
        mounts: vec![],
        run_as_user: None,
        allow_privilege_escalation: false,
    };
    let sel = ContainerSelector { pod: "web".into(), container: "app".into() };
    Scenario {
        name: name.into(),
        description: None,
        hash: "x".into(),
        requires: vec![],
        node: Node::default(),
        pods: vec![Pod {
            name: "web".into(),
            kind: PodKind::Pod,
            replicas: 1,
            containers: vec![c],
            volumes: vec![],
            restart_policy: RestartPolicy::Never,
            grace_seconds: 30,
            pod_limit: None,
            pod_request: None,
            node_critical: false,
            spec: Box::default(),
        }],
        actions: if name == "kill" {
            vec![Action {
                at: Trigger::Time(300),
                act: Act::Kill { container: sel.clone(), signal: 9, child: false },
            }]
        } else {
            vec![]
        },
        observe: Observe {
            for_ms: 3000,
            until: if name == "child" {
                Some(Until::Event(RunEvent::OomKill(sel)))
            } else {
                Some(Until::AllEnded)
            },
            settle_ms: 200,
        },
        expect: Expect::default(),
        timeout_ms: 10000,
        back_off_scale: 0.01,
        without_effect: vec![],
    }
}
/// x
pub fn load(_: &[PathBuf]) -> Result<Vec<Loaded>, Vec<String>> {
    Ok(["limit", "exit", "child", "kill", "idle"]
        .iter()
        .map(|n| Loaded { path: n.into(), text: String::new(), scenario: hard(n) })
        .collect())
}
/// x
pub fn load_kept(p: &Path) -> Result<Scenario, String> {
    Ok(hard(p.parent().unwrap().file_name().unwrap().to_str().unwrap()))
}
