//! What `doctor` looks at, one function each.

use std::fs;
use std::process::Command;

use rustix::thread::{CapabilitySet, capabilities};

use super::Check;
use crate::backend::kubernetes::kind::Kind;
use crate::backend::kubernetes::preflight::{self, Finding, Severity};
use crate::backend::local::cgroup::{Hierarchy, Version};
use crate::backend::local::{admission, in_initial_pid_namespace, lock, program};
use crate::command::block_on;
use crate::observe::{kmsg, trace};

/// All of them, in the order in which they matter.
pub(super) fn all() -> Vec<Check> {
    let mut checks = vec![kernel(), cgroup(), place(), workload(), memory()];
    checks.extend([kmsg(), tracefs(), pid_namespace(), swap(), oom_score_adj(), systemd(), psi(), live()]);
    checks
}

/// What bears on clusters, where kind is here.
pub(super) fn clusters() -> Vec<Check> {
    // Nobody who has no kind misses it.
    if Command::new("kind").arg("version").output().is_err() {
        return Vec::new();
    }
    match block_on(Kind::find()) {
        Ok(kind) => {
            let found = block_on(async { Ok(preflight::look(&kind, None).await) });
            found.unwrap_or_default().into_iter().map(Check::from).collect()
        }
        Err(why) => vec![Check::lacking(
            "kind",
            why,
            "nothing can run with --on kind",
            "mend what it says, or use --on cluster",
        )],
    }
}

impl From<Finding> for Check {
    fn from(finding: Finding) -> Self {
        let Finding { name, severity, found, costs, mend } = finding;
        match severity {
            Severity::Fine => Self::ok(name, found),
            // This host's own scenarios run without any cluster.
            Severity::Warning | Severity::Error => Self::lacking(name, found, costs, mend),
        }
    }
}

fn kernel() -> Check {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    Check::ok("kernel", release)
}

fn cgroup() -> Check {
    match Hierarchy::find() {
        Ok(Hierarchy { version: Version::V2, mount, .. }) => {
            let controllers = read(&format!("{}/cgroup.controllers", mount.display())).unwrap_or_default();
            Check::ok("cgroup", format!("v2 at {} with {controllers}", mount.display()))
        }
        Ok(Hierarchy { version: Version::V1, mount, .. }) => Check::lacking(
            "cgroup",
            format!("memory is on v1, at {}", mount.display()),
            "scenarios that need memory.oom.group, PSI per container or resize-oom are skipped",
            "boot with systemd.unified_cgroup_hierarchy=1, or run `make test-vm`, which has v2 in a VM",
        ),
        Err(error) => Check::blocking(
            "cgroup",
            error.to_string(),
            "nothing can be limited, so nothing runs",
            "mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

/// Whether cgroups of ours can be made: by making one.
fn place() -> Check {
    const NAME: &str = "permission";
    let tried = Hierarchy::find()
        .and_then(|hierarchy| hierarchy.base())
        .map_err(|error| error.to_string())
        .and_then(|base| {
            let name = format!("exit137-doctor-{}", std::process::id());
            let made =
                base.make_child(&name).map_err(|error| format!("{}: {error}", base.directory.display()))?;
            made.remove().map_err(|error| format!("{}: {error}", made.directory.display()))?;
            Ok(base.directory)
        });
    // What could not be taken back is what the next run uses.
    let _ = Hierarchy::find().map(|hierarchy| hierarchy.leave_room());
    match tried {
        Ok(directory) => Check::ok(NAME, format!("cgroups can be made in {}", directory.display())),
        Err(why) => Check::blocking(
            NAME,
            format!("no cgroup can be made: {why}"),
            "nothing can be limited, so nothing runs",
            "run as root, or in a delegated cgroup: systemd-run --user --scope -p Delegate=yes exit137 run",
        ),
    }
}

fn workload() -> Check {
    match program::find_workload() {
        Ok(path) => Check::ok("workload", path.display().to_string()),
        Err(error) => Check::blocking(
            "workload",
            error.to_string(),
            "built-in behaviours cannot run",
            "make install, or name the program in EXIT137_WORKLOAD",
        ),
    }
}

fn memory() -> Check {
    const NAME: &str = "memory";
    let Ok(base) = Hierarchy::find().and_then(|hierarchy| hierarchy.base()) else {
        return Check::lacking(
            NAME,
            "unknown without a cgroup",
            "scenarios cannot be admitted",
            "see permission",
        );
    };
    let room = admission::look(&base, "");
    let found = format!(
        "{} MiB available, {} MiB kept in reserve, {} MiB promised to live runs: {} MiB free for scenarios",
        room.available >> 20,
        room.reserve >> 20,
        room.promised >> 20,
        room.free() >> 20
    );
    if room.free() < 512 << 20 {
        return Check::lacking(
            NAME,
            found,
            "scenarios run one at a time, or are refused",
            "free some memory",
        );
    }
    Check::ok(NAME, found)
}

fn kmsg() -> Check {
    match kmsg::probe() {
        Ok(()) => Check::ok("kernel log", "/dev/kmsg can be read"),
        Err(error) => Check::lacking(
            "kernel log",
            format!("/dev/kmsg cannot be read: {error}"),
            "the kernel's own account of an OOM is missing; without tracefs too, causes rest on counters (high at best)",
            "run as root with CAP_SYSLOG, or set kernel.dmesg_restrict=0",
        ),
    }
}

fn tracefs() -> Check {
    match trace::probe() {
        Ok(()) => Check::ok("tracefs", "an instance of our own can be made"),
        Err(error) => Check::lacking(
            "tracefs",
            format!("no tracepoints: {error}"),
            "nobody can say who sent a SIGKILL: a kill from outside stays undetermined",
            "run as root on a kernel with tracefs (CONFIG_FTRACE), not locked down",
        ),
    }
}

fn pid_namespace() -> Check {
    if in_initial_pid_namespace() {
        return Check::ok("PID namespace", "the initial one");
    }
    Check::lacking(
        "PID namespace",
        "not the initial one",
        "PIDs from the kernel name other processes here, so kernel log and tracepoints are matched by cgroup only",
        "run on the host itself, or with --pid=host",
    )
}

fn swap() -> Check {
    let total = admission::meminfo("SwapTotal").unwrap_or(0);
    if total == 0 {
        return Check::ok("swap", "none");
    }
    let hierarchy =
        Hierarchy::find().and_then(|hierarchy| Ok((hierarchy.version, hierarchy.base()?.directory)));
    let accounted = hierarchy.is_ok_and(|(version, directory)| match version {
        Version::V1 => directory.join("memory.memsw.limit_in_bytes").exists(),
        // The file is not in the root; a child has it where the kernel accounts for swap.
        Version::V2 => {
            directory.join("memory.swap.max").exists() || std::path::Path::new("/proc/swaps").exists()
        }
    });
    if accounted {
        return Check::ok("swap", format!("{} MiB, kept away from containers", total >> 20));
    }
    Check::lacking(
        "swap",
        format!("{} MiB, and containers' use of it cannot be limited", total >> 20),
        "a container may swap at its limit instead of being OOM-killed",
        "swapoff -a, or boot with swapaccount=1",
    )
}

fn oom_score_adj() -> Check {
    const NAME: &str = "CAP_SYS_RESOURCE";
    let has = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
    if has {
        return Check::ok(NAME, "held: every oom_score_adj can be set");
    }
    Check::lacking(
        NAME,
        "missing: oom_score_adj cannot be lowered",
        "Guaranteed pods and pause processes run with 0 instead of -997 and -998; the kernel may choose another victim",
        "run as root in the initial user namespace with all capabilities",
    )
}

/// systemd before 253 stops a whole scope when the kernel OOM-kills anything in it (causes.md C23).
fn systemd() -> Check {
    const NAME: &str = "systemd OOM policy";
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        return Check::ok(NAME, "systemd does not run here");
    }
    let version = Command::new("systemctl").arg("--version").output().ok().and_then(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()
    });
    match version {
        Some(version) if version >= 253 => {
            Check::ok(NAME, format!("systemd {version} leaves delegated scopes alone"))
        }
        Some(version) => Check::lacking(
            NAME,
            format!("systemd {version} stops a whole scope after an OOM kill in it"),
            "an OOM kill in a scope's own cgroup ends everything in that scope; exit137's victims are in cgroups beside it",
            "start it with systemd-run --scope -p OOMPolicy=continue, or update systemd to 253",
        ),
        None => Check::lacking(
            NAME,
            "systemd runs, and its version is not known",
            "before 253 it stops a whole scope after an OOM kill in it",
            "start it with systemd-run --scope -p OOMPolicy=continue",
        ),
    }
}

fn psi() -> Check {
    if std::path::Path::new("/proc/pressure/memory").exists() {
        return Check::ok("PSI", "the kernel measures pressure");
    }
    Check::lacking(
        "PSI",
        "the kernel does not measure pressure",
        "bounds on pressure are inconclusive",
        "boot with psi=1 (CONFIG_PSI)",
    )
}

fn live() -> Check {
    let (live, dead) = (lock::live_runs().len(), lock::dead_runs().len());
    if dead == 0 {
        return Check::ok("other runs", format!("{live} live, nothing left behind"));
    }
    Check::lacking(
        "other runs",
        format!("{live} live, {dead} dead"),
        "what the dead ones left takes memory",
        "exit137 gc",
    )
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
