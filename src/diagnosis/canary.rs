//! What a cluster's sources can see, shown by a canary: a container that is let run into its limit before any scenario is.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Diagnosis, Missing, SourceHealth};
use crate::evidence::{CgroupOwner, ContainerRef, Ending, Fact, Observation, Source};

/// The canary's pod, which its kubelet is to tell events of.
pub const POD: &str = "canary";

/// Those that can see a kill, nearest to it first.
const SOURCES: [Source; 6] =
    [Source::Kmsg, Source::Trace, Source::Memcg, Source::Exits, Source::Runtime, Source::Kubelet];

/// Reasons of the events that a kubelet sends of any container (`pkg/kubelet/events/event.go`). None tells of a kill at a
/// container's limit: that these come through is all that can be shown of it.
const OF_ANY_CONTAINER: [&str; 3] = ["Pulled", "Created", "Started"];

/// Which sources saw the canary die.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sight {
    /// Those that did.
    pub sees: Vec<Source>,
    /// Those that did not, and why.
    pub blind: Vec<Missing>,
}

/// Judges a canary's record. One that was not OOM-killed says nothing of the sources; the error says what to do.
pub fn judge(observations: &[Observation]) -> Result<Sight, String> {
    let mut diagnosis = Diagnosis::default();
    for observation in observations {
        diagnosis.observe(observation);
    }
    let canary = Canary::of(observations);
    Canary::died(observations)?;
    let mut sight = Sight::default();
    let health = diagnosis.finish().sources;
    for source in SOURCES {
        let of_it = observations.iter().filter(|seen| seen.source == source);
        if of_it.map(|seen| &seen.fact).any(|fact| canary.is_in(source, fact)) {
            sight.sees.push(source);
        } else {
            let why = blindness(health.iter().find(|health| health.source == source));
            sight.blind.push(Missing { source, why });
        }
    }
    Ok(sight)
}

fn blindness(health: Option<&SourceHealth>) -> String {
    let reason = health.and_then(|health| health.reason.clone());
    reason.unwrap_or_else(|| match health {
        Some(health) if health.present => "it watched, and saw nothing of the canary's OOM kill".to_owned(),
        Some(_) | None => "it is absent".to_owned(),
    })
}

/// By what the canary is known.
struct Canary {
    cgroups: BTreeSet<String>,
    pids: BTreeSet<u32>,
}

impl Canary {
    fn of(observations: &[Observation]) -> Self {
        let (mut cgroups, mut pids) = (BTreeSet::new(), BTreeSet::new());
        for fact in observations.iter().map(|seen| &seen.fact) {
            if let Fact::Cgroup(made) = fact
                && let CgroupOwner::Container(container) = &made.owner
                && is_canary(container)
            {
                cgroups.insert(made.path.clone());
            } else if let Fact::Started(started) = fact
                && is_canary(&started.container)
            {
                pids.extend(started.pid);
            } else if let Fact::Process(process) = fact
                && is_canary(&process.container)
            {
                pids.insert(process.pid);
            }
        }
        // Where the processes were not seen, the kernel's own line says which was in its cgroup.
        pids.extend(observations.iter().filter_map(|seen| {
            let Fact::OomSummary(summary) = &seen.fact else { return None };
            cgroups.contains(&summary.task_memcg).then_some(summary.pid)
        }));
        Self { cgroups, pids }
    }

    /// Whether this fact is how this source tells of the canary's kill.
    fn is_in(&self, source: Source, fact: &Fact) -> bool {
        if let Fact::OomSummary(summary) = fact {
            self.cgroups.contains(&summary.task_memcg)
        } else if let Fact::KernelKilled(killed) = fact {
            self.pids.contains(&killed.pid)
        } else if let Fact::Victim(victim) = fact {
            self.pids.contains(&victim.pid)
        } else if let Fact::Signal(signal) = fact {
            signal.signal == 9 && signal.result == 0 && self.pids.contains(&signal.target_pid)
        } else if let Fact::Counters(counters) = fact {
            let kills = counters.oom_kill_local.or(counters.oom_kill).unwrap_or(0);
            kills > 0 && self.cgroups.contains(&counters.cgroup)
        } else if let Fact::Ended(ended) = fact {
            ended.end.exit_code() == 137 && is_canary(&ended.container)
        } else if let Fact::Noted(noted) = fact {
            source == Source::Kubelet
                && noted.object == format!("pod/{POD}")
                && OF_ANY_CONTAINER.contains(&noted.reason.as_str())
        } else {
            false
        }
    }

    /// Whether it came to the end that it was made for.
    fn died(observations: &[Observation]) -> Result<(), String> {
        let (mut failed, mut code, mut began, mut swaps) = (None, None, false, false);
        for fact in observations.iter().map(|seen| &seen.fact) {
            if let Fact::Finished(Ending::Failed { why }) = fact {
                failed = Some(why.as_str());
            } else if let Fact::StartFailed(start) = fact {
                failed = Some(start.message.as_str());
            } else if let Fact::Ended(ended) = fact
                && is_canary(&ended.container)
            {
                code = Some(ended.end.exit_code());
            } else if let Fact::Started(started) = fact {
                began |= is_canary(&started.container);
            } else if let Fact::Host(host) = fact {
                swaps = host.swap_total > 0;
            }
        }
        match (failed, code) {
            (None, Some(137)) => Ok(()),
            (Some(why), _) => Err(format!("the canary could not run, so no scenario could: {why}")),
            (None, Some(code)) => Err(format!(
                "the canary was to be OOM-killed and ended with {code}: does something else in the cluster stop or change pods?"
            )),
            (None, None) if !began => Err(
                "the canary's container never started: is the node's runtime well (crictl ps -a, journalctl -u containerd)?"
                    .to_owned(),
            ),
            (None, None) => {
                let hint = if swaps {
                    "the nodes swap instead (kind#2848); swapoff -a"
                } else {
                    "do the nodes swap (kind#2848), and have they the memory controller?"
                };
                Err(format!("the canary took twice its limit and was not OOM-killed: {hint}"))
            }
        }
    }
}

fn is_canary(container: &ContainerRef) -> bool {
    container.pod == POD
}
