//! What a pod states of its resources, as the kubelet sums it up: its quality of service and its share of memory.

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::{Container, Pod, QosClass, Role, quantity};

/// What counts for the quality of service.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// Request and limit of one resource in thousandths; as for Kubernetes here, 0 is as good as nothing.
#[derive(Clone, Copy, Default)]
struct Stated {
    request: u128,
    limit: u128,
}

impl Pod {
    /// A pod's quality of service (`pkg/apis/core/v1/helper/qos/qos.go:ComputePodQOS`).
    pub fn qos_class(&self) -> QosClass {
        let (mut nothing, mut guaranteed) = (true, true);
        for name in COUNTED {
            let (sum, every_limited) = if self.has_own_resources() {
                let own = self.own(name);
                (own, own.limit > 0)
            } else {
                let each: Vec<Stated> =
                    self.containers.iter().map(|c| stated(self.resources_of(c), name)).collect();
                let sum = each.iter().fold(Stated::default(), |sum, one| Stated {
                    request: sum.request + one.request,
                    limit: sum.limit + one.limit,
                });
                (sum, each.iter().all(|one| one.limit > 0))
            };
            nothing &= sum.request == 0 && sum.limit == 0;
            guaranteed &= every_limited && sum.request == sum.limit;
        }
        match (nothing, guaranteed) {
            (true, _) => QosClass::BestEffort,
            (false, true) => QosClass::Guaranteed,
            (false, false) => QosClass::Burstable,
        }
    }

    /// What each container gets of the memory that the pod requests beyond its containers' requests
    /// (`pkg/kubelet/qos/policy.go:remainingPodMemReqPerContainer`).
    pub fn shared_request(&self) -> u64 {
        if !self.has_own_resources() {
            return 0;
        }
        let own = u64::try_from(self.own("memory").request / 1000).unwrap_or(u64::MAX);
        let of_containers = self.at_once(|container| container.request.unwrap_or(0));
        own.saturating_sub(of_containers) / u64::try_from(self.containers.len().max(1)).unwrap_or(u64::MAX)
    }

    /// The most of something that its containers have at once, in the order in which they run: a plain init container runs
    /// beside the sidecars before it (`k8s.io/component-helpers/resource/helpers.go:AggregateContainerRequests`).
    pub fn at_once(&self, of: impl Fn(&Container) -> u64) -> u64 {
        let (mut running, mut most) = (0_u64, 0_u64);
        for container in &self.containers {
            let with = running.saturating_add(of(container));
            most = most.max(with);
            match container.role {
                Role::Init => {}
                Role::Sidecar | Role::Main => running = with,
            }
        }
        most
    }

    fn has_own_resources(&self) -> bool {
        let own = self.spec.resources.as_ref();
        own.is_some_and(|own| {
            own.requests.iter().flatten().next().is_some() || own.limits.iter().flatten().next().is_some()
        })
    }

    /// What `spec.resources` states. A request that is not given is that of the containers, and where they have none, the
    /// limit (`pkg/apis/core/v1/defaults.go:setDefaultPodRequests`).
    fn own(&self, name: &str) -> Stated {
        let resources = self.spec.resources.as_ref();
        let own = stated(resources, name);
        let given = resources.and_then(|own| own.requests.as_ref()?.get(name)).is_some();
        let of_containers = self.at_once(|container| {
            u64::try_from(stated(self.resources_of(container), name).request).unwrap_or(u64::MAX)
        });
        if given || of_containers == 0 { own } else { Stated { request: of_containers.into(), ..own } }
    }

    fn resources_of(&self, container: &Container) -> Option<&ResourceRequirements> {
        let all = self.spec.init_containers.iter().flatten().chain(&self.spec.containers);
        all.into_iter().find(|found| found.name == container.name)?.resources.as_ref()
    }
}

/// What is stated of a resource; a limit without a request is the request too.
fn stated(resources: Option<&ResourceRequirements>, name: &str) -> Stated {
    let Some(resources) = resources else { return Stated::default() };
    let read = |quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>| {
        quantity.map(|quantity| {
            quantity::parse(&quantity.0).and_then(|found| u128::try_from(found.milli).ok()).unwrap_or(0)
        })
    };
    let limit = read(resources.limits.as_ref().and_then(|limits| limits.get(name)));
    let request = read(resources.requests.as_ref().and_then(|requests| requests.get(name)));
    Stated { request: request.or(limit).unwrap_or(0), limit: limit.unwrap_or(0) }
}
