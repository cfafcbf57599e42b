//! What traffic is on a cluster: a Service in front of the pods that it goes to, and a Job for each generator.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use kube::api::ApiResource;
use serde_json::{Value, json};

use crate::backend::kubernetes::manifest::{ENTRY, NOBODY, POD, Place, WORKLOAD};
use crate::scenario::{Scenario, Traffic};

/// The label that a generator's pod bears: its Job's name.
pub(super) const GENERATOR: &str = "exit137.dev/generator";
/// The name of its container.
pub(super) const CONTAINER: &str = "generator";

/// What the Service of a traffic is called.
pub(super) fn service_name(traffic: &Traffic) -> String {
    format!("traffic-{}", traffic.name)
}

/// What the Job of one of its generators is called.
pub(super) fn job_name(traffic: &Traffic, generator: u32) -> String {
    format!("traffic-{}-{generator}", traffic.name)
}

pub(super) fn services() -> ApiResource {
    ApiResource::erase::<Service>(&())
}

pub(super) fn jobs() -> ApiResource {
    ApiResource::erase::<Job>(&())
}

/// One address for all pods that are ready, as users' own clients have it.
pub(super) fn service(scenario: &Scenario, traffic: &Traffic, place: &Place) -> Value {
    let to = &traffic.to.pod;
    // A whole entry of `pods`, or one of its replicas.
    let label = if scenario.pods.iter().any(|pod| pod.name == *to) { ENTRY } else { POD };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service_name(traffic), "namespace": place.namespace},
        "spec": {
            "selector": {label: to},
            "ports": [{"name": "http", "protocol": "TCP", "port": traffic.port, "targetPort": traffic.port}],
        },
    })
}

/// A generator: it waits on its standard input for what it is told, and is not started again.
pub(super) fn job(traffic: &Traffic, generator: u32, place: &Place) -> Value {
    let mut spec = traffic.generator(generator);
    // Nobody holds it on a cluster: who started it may come and go.
    spec.follow_stdin = false;
    let spec = serde_json::to_string(&spec).unwrap_or_default().replace('$', "$$");
    let name = job_name(traffic, generator);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": place.namespace},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {GENERATOR: name}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 2,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "securityContext": {
                        "runAsUser": NOBODY, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": CONTAINER,
                        "image": place.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": [WORKLOAD],
                        "args": ["traffic", "--spec", spec],
                        "stdin": true,
                        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use exit137_workload::traffic::Generator;
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;
    use crate::backend::kubernetes::manifest::standard::beyond_restricted;
    use crate::scenario;

    #[test]
    fn a_generator_is_as_restricted_as_a_workload_and_a_service_selects_an_entry_or_a_replica() {
        let text = include_str!("../../../../scenarios/traffic-spike.yaml");
        let mut scenario = scenario::read("traffic-spike.yaml", text).unwrap();
        let place = Place { namespace: "ns".into(), run: "r0".into(), image: "ours:1".into() };
        let job = job(&scenario.traffic[0], 0, &place);
        let spec = &job["spec"]["template"]["spec"];
        assert_eq!(beyond_restricted(&serde_json::from_value::<PodSpec>(spec.clone()).unwrap()), None);
        let told = spec["containers"][0]["args"][2].as_str().unwrap();
        assert!(!serde_json::from_str::<Generator>(told).unwrap().follow_stdin);
        let selector = |scenario: &Scenario, traffic: &Traffic| {
            service(scenario, traffic, &place)["spec"]["selector"].clone()
        };
        let mut traffic = scenario.traffic[0].clone();
        assert_eq!(selector(&scenario, &traffic), json!({ENTRY: traffic.to.pod}));
        scenario.pods[0].replicas = 2;
        traffic.to.pod += "-1";
        assert_eq!(selector(&scenario, &traffic), json!({POD: traffic.to.pod}));
    }
}
