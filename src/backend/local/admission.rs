//! Whether a run may begin: what it can take at most, against what is really available.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{Cgroup, Version};
use super::lock;

/// What this host has, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The least of MemAvailable and what every ancestor cgroup has left.
    pub available: u64,
    /// What is never touched: the larger of 1 GiB and a tenth of MemTotal.
    pub reserve: u64,
    /// What other live runs may take.
    pub promised: u64,
}

impl Room {
    /// What a run may take.
    pub fn free(self) -> u64 {
        self.available.saturating_sub(self.reserve).saturating_sub(self.promised)
    }
}

/// Looks at the host. Runs that are alive, `own` excepted, have been promised what they asked for.
pub fn look(base: &Cgroup, own: &str) -> Room {
    let total = meminfo("MemTotal").unwrap_or(0);
    Room {
        available: available(base).unwrap_or(0),
        reserve: reserve(total),
        promised: lock::live_runs().into_iter().filter(|run| run.name != own).map(|run| run.promised).sum(),
    }
}

/// The least of MemAvailable and what this cgroup and every one above it has left.
pub fn available(base: &Cgroup) -> Option<u64> {
    let left = ancestors(base).into_iter().filter_map(|directory| left_in(&directory, base.version));
    left.chain(meminfo("MemAvailable")).min()
}

/// What is never touched of a host with so much memory. Set `EXIT137_RESERVE` (bytes) in a throw-away machine only.
pub fn reserve(total: u64) -> u64 {
    let asked = std::env::var("EXIT137_RESERVE").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| (1 << 30).max(total / 10))
}

/// A line of `/proc/meminfo`, in bytes.
pub fn meminfo(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

fn ancestors(base: &Cgroup) -> Vec<PathBuf> {
    let depth = base.path.matches('/').count();
    base.directory.ancestors().take(depth + 1).map(Path::to_path_buf).collect()
}

fn left_in(directory: &Path, version: Version) -> Option<u64> {
    let (limit, usage) = match version {
        Version::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        Version::V2 => ("memory.max", "memory.current"),
    };
    let read = |file: &str| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = read(limit).filter(|limit| *limit < 1 << 62)?;
    Some(limit.saturating_sub(read(usage)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_may_take_what_is_left_beyond_the_reserve_and_the_promises() {
        let room = Room { available: 10 << 30, reserve: 2 << 30, promised: 3 << 30 };
        assert_eq!(room.free(), 5 << 30);
        assert_eq!(Room { available: 1 << 30, ..room }.free(), 0);
    }

    #[test]
    fn no_more_is_available_than_what_a_cgroup_above_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("above/run");
        fs::create_dir_all(&run).unwrap();
        let above = folder.path().join("above");
        fs::write(above.join("memory.max"), "4194304\n").unwrap();
        fs::write(above.join("memory.current"), "3145728\n").unwrap();
        let cgroup = Cgroup { version: Version::V2, directory: run, path: "/above/run".into() };
        assert_eq!(available(&cgroup), Some(1 << 20));
    }

    #[test]
    fn the_reserve_is_a_tenth_but_at_least_a_gibibyte() {
        assert_eq!(reserve(4 << 30), 1 << 30);
        assert_eq!(reserve(40 << 30), 4 << 30);
    }
}
