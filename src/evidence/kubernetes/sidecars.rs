//! Sidecars (init containers with `restartPolicy: Always`, since Kubernetes 1.29): the kubelet stops them when all else of their
//! pod is done (KEP-753), which no event of it says.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::pod::{PodReader, Received, granted_ms};
use super::{Statement, instance};
use crate::evidence::{ContainerRef, Fact, Source, StopReason, Stopping};

impl PodReader {
    /// The sidecars that still run when every container of the pod has ended for good are stopped from the last end on.
    pub(super) fn sidecars(&mut self, object: &Pod, received: Received<'_>, statements: &mut Vec<Statement>) {
        let Some(last) = self.done(object).and_then(|end| end.finished_at.clone()) else { return };
        let at = received.wall.second(last.0);
        let status = object.status.as_ref();
        let init = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
        for sidecar in init.filter(|status| is_running(status)) {
            let run = instance(sidecar);
            let container =
                ContainerRef { pod: self.pod.clone(), container: sidecar.name.clone(), instance: run };
            if self.news(format!("pod completed {container}")) {
                let grace_ms = granted_ms(self.grace_seconds());
                let stop = Stopping { container, reason: StopReason::PodCompleted, grace_ms };
                let raw = Some("every container of the pod has ended".to_owned());
                let fact = Fact::Stopping(stop);
                statements.push(Statement { source: Source::Kubelet, moment: at, raw, fact });
            }
        }
    }

    /// The last end of a pod whose containers have all ended and are not restarted.
    fn done<'a>(&self, object: &'a Pod) -> Option<&'a ContainerStateTerminated> {
        let main = object.status.as_ref()?.container_statuses.as_ref()?;
        let ends: Vec<_> = main.iter().map_while(ended).collect();
        let restarts = |end: &&ContainerStateTerminated| match self.spec.restart_policy.as_deref() {
            Some("Never") => false,
            Some("OnFailure") => end.exit_code != 0,
            Some(_) | None => true,
        };
        let all = !main.is_empty() && ends.len() == main.len() && main.len() == self.spec.containers.len();
        let done = all && !ends.iter().any(restarts);
        ends.into_iter().filter(|_| done).max_by_key(|end| end.finished_at.as_ref().map(|time| time.0))
    }
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}
