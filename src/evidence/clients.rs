//! What the clients of traffic state: a generator's beginning, its windows, its end.

use exit137_workload::traffic::{Done, Window};
use serde::{Deserialize, Serialize};

use super::End;

/// One of the generators that share a traffic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GeneratorRef {
    /// The traffic's name.
    pub traffic: String,
    /// Which, from 0.
    pub generator: u32,
}

/// A generator was told when to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStarted {
    /// Which.
    pub of: GeneratorRef,
    /// How many share the traffic.
    pub generators: u32,
    /// The pods that it goes to.
    pub pods: Vec<String>,
    /// The name before the number of each pod that a controller makes in their place, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The container in them.
    pub container: String,
    /// Its port.
    pub port: u16,
    /// The load's zero, in nanoseconds of `CLOCK_BOOTTIME`.
    pub zero_ns: u64,
}

/// What a generator's clients saw in a stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficWindow {
    /// Whose.
    pub of: GeneratorRef,
    /// What.
    pub window: Box<Window>,
}

/// A generator is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficEnded {
    /// Which.
    pub of: GeneratorRef,
    /// How.
    pub end: GeneratorEnd,
}

/// How a generator ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GeneratorEnd {
    /// It said so.
    Done(Done),
    /// It was gone before it had said so.
    Died {
        /// How its process ended, where that is known.
        end: Option<End>,
        /// What else is known of it.
        why: String,
    },
}

impl TrafficStarted {
    /// Whether it goes to this container of this pod.
    pub fn goes_to(&self, pod: &str, container: &str) -> bool {
        let numbered = |base: &String| {
            let number = pod.strip_prefix(base.as_str()).and_then(|rest| rest.strip_prefix('-'));
            number
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        self.container == container
            && (self.pods.iter().any(|known| known == pod) || self.controller.as_ref().is_some_and(numbered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_goes_to_the_pods_that_it_names_and_to_those_that_their_controller_numbers() {
        let started = |controller: Option<&str>| TrafficStarted {
            of: GeneratorRef { traffic: "main".into(), generator: 0 },
            generators: 1,
            pods: vec!["web-0".into(), "web-1".into()],
            controller: controller.map(str::to_owned),
            container: "app".into(),
            port: 80,
            zero_ns: 0,
        };
        let alone = started(None);
        assert!(alone.goes_to("web-1", "app") && !alone.goes_to("web-1", "side"));
        assert!(!alone.goes_to("web-2", "app"), "it is another pod, only called so");
        let replaced = started(Some("web"));
        assert!(replaced.goes_to("web-2", "app"));
        assert!(["web", "web-", "web-a", "webs-2"].iter().all(|pod| !replaced.goes_to(pod, "app")));
    }
}
