//! What must be right on this machine before a kind cluster is made or used, looked at before anything is.

use std::path::Path;
use std::process::Command;

use super::kind::Kind;
use crate::backend::BackendError;
use crate::backend::local::admission;
use crate::backend::local::cgroup::Hierarchy;

/// A control plane and a worker that do nothing use this much.
const LEAST_MEMORY: u64 = 1 << 30;
/// What scenarios take beside it.
const ENOUGH_MEMORY: u64 = 4 << 30;
/// A node's own files.
const LEAST_DISK: u64 = 2 << 30;
/// With a node image to be unpacked.
const ENOUGH_DISK: u64 = 8 << 30;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well.
    Fine,
    /// Something is lost.
    Warning,
    /// A cluster would not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What it costs, unless all is well.
    pub costs: &'static str,
    /// What to do, unless all is well.
    pub mend: &'static str,
}

impl Finding {
    fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, severity: Severity::Fine, found: found.into(), costs: "", mend: "" }
    }
}

/// Looks at this machine. `node_image` is that of clusters to be made, where it is not kind's own.
pub async fn look(kind: &Kind, node_image: Option<&str>) -> Vec<Finding> {
    let engine = &kind.engine_facts;
    let engine_found =
        format!("{} {}, {} cgroup driver", kind.engine_name(), engine.version, engine.cgroup_driver);
    let version = (engine.cgroup_driver == "systemd").then(systemd_version).flatten();
    let mut findings = vec![
        Finding::fine("kind's engine", engine_found),
        oom_policy(version),
        cgroup(Hierarchy::find().ok().map(|hierarchy| hierarchy.version.number())),
        memory(admission::meminfo("MemAvailable")),
        swap(admission::meminfo("SwapTotal").unwrap_or(0)),
    ];
    findings.extend(free_disk(&engine.root).map(disk));
    if let Some(image) = node_image {
        findings.push(self::node_image(image, kind.has_image(image).await));
    }
    findings
}

/// Warns of what is found, and refuses to go on with what cannot work.
pub async fn check(kind: &Kind, node_image: Option<&str>) -> Result<(), BackendError> {
    let mut errors = String::new();
    for Finding { name, severity, found, costs, mend } in look(kind, node_image).await {
        match severity {
            Severity::Fine => tracing::info!("{name}: {found}"),
            Severity::Warning => tracing::warn!("{name}: {found}: {costs}; {mend}"),
            Severity::Error => errors.push_str(&format!("\n{name}: {found}: {costs}; {mend}")),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(BackendError(format!("no cluster would work here:{errors}"))) }
}

/// systemd 243 to 252 stops a whole scope after any OOM kill in it or below it, and the node is such a scope where the engine
/// lets systemd make it (kind#3169, systemd#25376). Some distributions have the mending of 253 in an older one.
fn oom_policy(systemd: Option<u32>) -> Finding {
    const NAME: &str = "kind's OOM policy";
    match systemd {
        Some(version) if (243..253).contains(&version) => Finding {
            name: NAME,
            severity: Severity::Warning,
            found: format!("the nodes are scopes of systemd {version}"),
            costs: "it may stop a whole node after an OOM kill in it (kind#3169)",
            mend: "set the engine's cgroup driver to cgroupfs (native.cgroupdriver=cgroupfs), or update systemd to 253",
        },
        Some(version) => Finding::fine(NAME, format!("systemd {version} leaves the nodes' scopes alone")),
        None => Finding::fine(NAME, "the nodes are no scopes of systemd"),
    }
}

fn systemd_version() -> Option<u32> {
    let output = Command::new("systemctl").arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_ascii_whitespace().nth(1)?.parse().ok()
}

fn cgroup(version: Option<u8>) -> Finding {
    const NAME: &str = "kind's cgroups";
    match version {
        // What that costs, the check of the host's own cgroups says.
        Some(1) => Finding::fine(
            NAME,
            "nodes have cgroup v1; Kubernetes 1.35 is told to start there (failCgroupV1: false)",
        ),
        Some(version) => Finding::fine(NAME, format!("nodes have cgroup v{version}")),
        None => Finding::fine(NAME, "the engine is not on this host"),
    }
}

fn memory(available: Option<u64>) -> Finding {
    const NAME: &str = "kind's memory";
    let found =
        available.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB are free", bytes >> 20));
    let severity = match available {
        Some(bytes) if bytes < LEAST_MEMORY => Severity::Error,
        Some(bytes) if bytes < ENOUGH_MEMORY => Severity::Warning,
        Some(_) | None => return Finding::fine(NAME, found),
    };
    let costs = "a cluster takes about 1 GiB before any scenario";
    Finding {
        name: NAME,
        severity,
        found,
        costs,
        mend: "free some memory, or run fewer scenarios at a time (--jobs)",
    }
}

fn swap(total: u64) -> Finding {
    const NAME: &str = "kind's swap";
    if total == 0 {
        return Finding::fine(NAME, "none");
    }
    Finding {
        name: NAME,
        severity: Severity::Warning,
        found: format!("{} MiB", total >> 20),
        costs: "a kubelet before 1.30 lets containers swap instead of being killed at their limits, and 1.20 does not start",
        mend: "swapoff -a",
    }
}

fn free_disk(root: &str) -> Option<u64> {
    let found = rustix::fs::statvfs(Path::new(root)).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn disk(free: u64) -> Finding {
    const NAME: &str = "kind's disk";
    let found = format!("{} MiB are free for the engine's images", free >> 20);
    let severity = match free {
        free if free < LEAST_DISK => Severity::Error,
        free if free < ENOUGH_DISK => Severity::Warning,
        _ => return Finding::fine(NAME, found),
    };
    let costs = "a node image takes 1 GiB, and a node that is short of disk evicts pods";
    Finding { name: NAME, severity, found, costs, mend: "free some disk space: docker system prune" }
}

fn node_image(image: &str, there: bool) -> Finding {
    const NAME: &str = "node image";
    if there {
        return Finding::fine(NAME, format!("{image} is here"));
    }
    Finding {
        name: NAME,
        severity: Severity::Warning,
        found: format!("{image} is not here"),
        costs: "kind pulls it first, if there is a registry that has it",
        mend: "pull it or load it into the engine before",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_that_are_scopes_of_an_old_systemd_may_be_stopped_with_their_pods() {
        assert_eq!(oom_policy(Some(252)).severity, Severity::Warning);
        for fine in [None, Some(241), Some(253)] {
            assert_eq!(oom_policy(fine).severity, Severity::Fine, "{fine:?}");
        }
    }

    #[test]
    fn what_is_too_little_is_an_error_and_what_is_tight_a_warning() {
        for (bytes, severity) in
            [(1 << 29, Severity::Error), (3 << 30, Severity::Warning), (16 << 30, Severity::Fine)]
        {
            assert_eq!(memory(Some(bytes)).severity, severity, "{bytes}");
            assert_eq!(disk(bytes).severity, severity, "{bytes}");
        }
        assert_eq!(memory(None).severity, Severity::Fine);
    }

    #[test]
    fn whatever_is_not_fine_says_what_it_costs_and_what_to_do() {
        for finding in [oom_policy(Some(250)), memory(Some(0)), swap(1), disk(0), node_image("x", false)] {
            assert!(finding.severity > Severity::Fine, "{finding:?}");
            assert!(!finding.costs.is_empty() && !finding.mend.is_empty(), "{finding:?}");
        }
    }
}
