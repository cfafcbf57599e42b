//! Users' own manifests: what is taken of them, and where their problems are.

use exit137::scenario::manifest::ManifestFile;
use exit137::scenario::problem::Problem;
use exit137::scenario::{PodKind, Scenario, read_with};

const DEPLOY: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
# the service
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {selector: {app: checkout}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: checkout}}
  template:
    metadata: {labels: {app: checkout}}
    spec:
      containers:
      - name: proxy
        image: proxy:1
        resources: {limits: {memory: 32Mi}}
      - name: app
        image: checkout:1
        resources: {limits: {memory: 1Gi}}
";

fn with(entry: &str, manifest: &str) -> Result<Scenario, Vec<Problem>> {
    let text = format!(
        "apiVersion: exit137/v1\nkind: Scenario\nmetadata: {{name: s}}\npods:\n- name: web\n  manifest: deploy.yaml\n  {entry}\nobserve: {{for: 5s}}\nexpect: {{nothingDies: true}}\n"
    );
    read_with("s.yaml", &text, &mut |named| {
        let path = format!("k8s/{named}");
        if named == "deploy.yaml" {
            Ok(ManifestFile { path, text: manifest.to_owned() })
        } else {
            Err("is not there".into())
        }
    })
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "what is told of a bad manifest is the test's subject")]
fn said(entry: &str, manifest: &str, parts: &[&str]) {
    let problems: Vec<String> = with(entry, manifest).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for part in parts {
        assert!(problems[0].contains(part), "{part:?} is not in: {}", problems[0]);
    }
}

#[test]
fn the_limits_of_a_manifest_are_patched_and_the_rest_is_kept() {
    let patch = "patch: {containers: [{name: app, resources: {limits: {memory: 256Mi}}}]}";
    let scenario = with(patch, DEPLOY).unwrap();
    let pod = &scenario.pods[0];
    assert_eq!((pod.kind, pod.replicas, pod.api_name()), (PodKind::Deployment, 2, "checkout"));
    let limits: Vec<_> = pod.containers.iter().map(|container| container.limit).collect();
    assert_eq!(limits, [Some(32 << 20), Some(256 << 20)]);
    assert_eq!(pod.spec.containers[1].image.as_deref(), Some("checkout:1"));
    let objects: Vec<String> = scenario.objects.iter().map(ToString::to_string).collect();
    assert_eq!(objects, ["Service checkout"], "the namespace is the trial's");
}

#[test]
fn a_problem_is_shown_where_it_is_written() {
    let unlimited = DEPLOY.replace("        resources: {limits: {memory: 1Gi}}\n", "");
    said("replicas: 2", &unlimited, &["k8s/deploy.yaml:24:", "no memory limit"]);
    let slip = DEPLOY.replace("image: proxy:1", "imagee: proxy:1");
    said("replicas: 2", &slip, &["k8s/deploy.yaml:22:", "unknown key", "did you mean image?"]);
    let patch = "patch: {containers: [{name: app, resources: {limits: {memory: 256Mi}}}, {name: proxy, imagePolicy: x}]}";
    said(patch, DEPLOY, &["s.yaml:7:", "pods[0].patch.containers[1].imagePolicy", "unknown key"]);
    said(
        "replicas: 2",
        &DEPLOY.replace("kind: Service", "kind: ClusterRole"),
        &["k8s/deploy.yaml:7:", "whole cluster"],
    );
    said("replicas: 2", &DEPLOY.replace("  replicas: 2", "  replicas: [2"), &["k8s/deploy.yaml:"]);
}

#[test]
fn which_object_is_meant_must_be_clear() {
    let two = format!(
        "{DEPLOY}---\n{}",
        DEPLOY.split("---\n").last().unwrap().replace("name: checkout", "name: other")
    );
    said("replicas: 1", &two, &["several", "object: Deployment/checkout"]);
    let scenario = with("object: Deployment/other", &two).unwrap();
    assert_eq!(scenario.pods[0].api_name(), "other");
    assert_eq!(scenario.objects.len(), 2, "the other Deployment is applied as it is");
    said(
        "object: Job/other",
        &two,
        &["pods[0].object", "has no Job/other", "Deployment/checkout, Deployment/other"],
    );
    said(
        "replicas: 1",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
        &["nothing that an entry of pods can be about"],
    );
    said("spec: {containers: []}", DEPLOY, &["beside a manifest"]);
}
