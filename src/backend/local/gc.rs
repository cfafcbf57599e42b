//! Removing what a dead run left behind, and nothing that belongs to a live one.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{Cgroup, Hierarchy};
use super::lock;
use crate::observe::trace;

/// How the names of all that a run makes begin.
const PREFIX: &str = "exit137-";

/// How deep below the hierarchy's root cgroups of ours are looked for.
const DEPTH: usize = 12;

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub struct Removed {
    /// Gone now.
    pub gone: Vec<String>,
    /// Still there, and why.
    pub failed: Vec<String>,
}

/// A new run's name. Everything that it makes is called `exit137-` and this.
pub fn new_run_name() -> String {
    // Two that begin in the same microsecond have different PIDs.
    let pid = u64::from(std::process::id()) << 24;
    format!("r{:012x}", ((crate::clock::unix_ns() / 1000) ^ pid) % (1 << 48))
}

/// Where a run's disk volumes lie.
pub fn scratch(run: &str) -> PathBuf {
    Path::new("/var/tmp").join(format!("{PREFIX}{run}"))
}

/// Removes everything of runs that are not alive.
pub fn collect() -> Removed {
    let mut removed = Removed::default();
    let Ok(hierarchy) = Hierarchy::find() else { return removed };
    // Asked anew of each that is found: a run takes its lock before it makes anything, so what was there is dead only if it
    // still is not locked.
    let dead =
        |name: &str| run_of(name).is_some_and(|run| !lock::live_runs().iter().any(|live| live.name == run));
    let mut cgroups = Vec::new();
    find(&hierarchy.mount, DEPTH, &dead, &mut cgroups);
    for directory in cgroups {
        let path = directory.display().to_string();
        let cgroup = Cgroup { version: hierarchy.version, directory, path: String::new() };
        let outcome = cgroup.kill().and_then(|()| cgroup.remove());
        removed.note(&format!("cgroup {path}"), outcome);
    }
    for entry in fs::read_dir("/var/tmp").into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(dead) {
            removed.note(&format!("directory {}", entry.path().display()), fs::remove_dir_all(entry.path()));
        }
    }
    for name in trace::instances().unwrap_or_default().into_iter().filter(|name| dead(name)) {
        let outcome = trace::remove_instance(&name);
        removed.note(&format!("trace instance {name}"), outcome);
    }
    for run in lock::dead_runs() {
        let outcome = lock::forget(&run);
        removed.note(&format!("lock of run {run}"), outcome);
    }
    removed
}

/// Removes everything of one run, whether it is alive or not: for its own guardian.
pub fn reclaim(run: &str, cgroup: &Cgroup) -> Removed {
    let mut removed = Removed::default();
    let outcome = cgroup.kill().and_then(|()| cgroup.remove());
    removed.note(&format!("cgroup {}", cgroup.directory.display()), outcome);
    if scratch(run).exists() {
        removed.note(&format!("directory {}", scratch(run).display()), fs::remove_dir_all(scratch(run)));
    }
    let instance = format!("{PREFIX}{run}");
    if trace::instances().is_ok_and(|all| all.contains(&instance)) {
        removed.note(&format!("trace instance {instance}"), trace::remove_instance(&instance));
    }
    // The lock's file is the harness's; it is there only if the harness was killed.
    let _ = lock::forget(run);
    removed
}

impl Removed {
    fn note(&mut self, what: &str, outcome: std::io::Result<()>) {
        match outcome {
            Ok(()) => self.gone.push(what.to_owned()),
            // Its own run, which was just ending, has removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {}
            Err(error) => self.failed.push(format!("{what}: {error}")),
        }
    }
}

/// The run that a name of ours belongs to.
pub fn run_of(name: &str) -> Option<String> {
    let run = name.strip_prefix(PREFIX)?;
    let digits = run.strip_prefix('r')?;
    (digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| run.to_owned())
}

fn find(directory: &Path, depth: usize, wanted: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_str().is_some_and(wanted) {
            found.push(entry.path());
        } else if depth > 0 {
            find(&entry.path(), depth - 1, wanted, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_run_gives_are_ours() {
        assert_eq!(run_of(&format!("exit137-{}", new_run_name())).map(|run| run.len()), Some(13));
        for foreign in
            ["exit137-harness", "exit137-r12", "exit137-rzzzzzzzzzzzz", "my-exit137-r000000000000", "exit137"]
        {
            assert_eq!(run_of(foreign), None, "{foreign}");
        }
    }
}
