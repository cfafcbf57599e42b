//! Which pods traffic goes to: those that a Service would, whose containers are all ready and that are not being deleted.

use std::collections::{BTreeMap, BTreeSet};

use exit137_workload::traffic::Endpoint;
use tokio::sync::watch;

use super::network::POD_ADDRESS;

/// The pods of a scenario, as far as they can be sent to.
#[derive(Debug, Default)]
pub struct Endpoints(watch::Sender<BTreeMap<String, Pod>>);

#[derive(Debug)]
struct Pod {
    pause_pid: u32,
    unready: BTreeSet<String>,
    leaves: bool,
}

impl Endpoints {
    /// A pod is there whose containers are not yet.
    pub fn add(&self, pod: &str, pause_pid: u32, containers: impl Iterator<Item = String>) {
        let new = Pod { pause_pid, unready: containers.collect(), leaves: false };
        self.0.send_modify(|pods| drop(pods.insert(pod.to_owned(), new)));
    }

    /// A container can be sent to from now on, or cannot any more.
    pub fn set_ready(&self, pod: &str, container: &str, ready: bool) {
        self.0.send_if_modified(|pods| {
            let Some(pod) = pods.get_mut(pod) else { return false };
            if ready { pod.unready.remove(container) } else { pod.unready.insert(container.to_owned()) }
        });
    }

    /// A pod is being deleted: nothing new is sent to it, whatever it does until it ends.
    pub fn leaves(&self, pod: &str) {
        self.0.send_if_modified(|pods| {
            pods.get_mut(pod).is_some_and(|pod| !std::mem::replace(&mut pod.leaves, true))
        });
    }

    /// Told whenever anything of it changes.
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.0.subscribe()
    }

    /// Where requests to this port of these pods go now.
    pub fn of(&self, pods: &[String], port: u16) -> Vec<Endpoint> {
        let known = self.0.borrow();
        let ready = pods.iter().filter_map(|name| known.get(name));
        ready
            .filter(|pod| pod.unready.is_empty() && !pod.leaves)
            .map(|pod| Endpoint {
                address: format!("{POD_ADDRESS}:{port}"),
                network: Some(format!("/proc/{}/ns/net", pod.pause_pid)),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_sent_to_while_all_its_containers_are_ready_and_nobody_deletes_it() {
        let endpoints = Endpoints::default();
        let there = |pods: &[&str]| {
            let pods: Vec<String> = pods.iter().map(ToString::to_string).collect();
            endpoints.of(&pods, 80).into_iter().filter_map(|to| to.network).collect::<Vec<_>>()
        };
        endpoints.add("web-0", 7, ["app".to_owned(), "side".to_owned()].into_iter());
        endpoints.add("web-1", 8, ["app".to_owned()].into_iter());
        endpoints.set_ready("web-0", "app", true);
        endpoints.set_ready("web-1", "app", true);
        assert_eq!(there(&["web-0", "web-1"]), ["/proc/8/ns/net"], "one of its containers is not ready");
        endpoints.set_ready("web-0", "side", true);
        assert_eq!(there(&["web-0", "web-1"]), ["/proc/7/ns/net", "/proc/8/ns/net"]);
        endpoints.set_ready("web-1", "app", false);
        endpoints.leaves("web-0");
        assert_eq!(there(&["web-0", "web-1"]), Vec::<String>::new());
        endpoints.set_ready("web-1", "app", true);
        assert_eq!(there(&["web-0", "web-1"]), ["/proc/8/ns/net"], "it runs again");
    }
}
