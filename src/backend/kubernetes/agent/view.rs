//! What an agent's container sees of its node: the node's cgroups, mounted at a place of its own.

use std::path::{Path, PathBuf};

use crate::backend::BackendError;
use crate::backend::kubernetes::node::LocalNode;
use crate::backend::local::cgroup::Version;

/// Where the node's `/sys/fs/cgroup` is in an agent's container.
pub(super) const MOUNT: &str = "/host/sys/fs/cgroup";

/// The node as it is seen.
#[derive(Debug)]
pub(super) struct View {
    pub(super) node: LocalNode,
    /// What the kernel prints before a path that is seen here.
    pub(super) above: Option<String>,
}

/// Finds the memory hierarchy below the node's mounts.
pub(super) fn find(name: &str) -> Result<View, BackendError> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| BackendError::doing("read /proc/self/mountinfo", error))?;
    let found = memory_mount(&mounts, Path::new(MOUNT));
    let (mount, version, root) = found.ok_or_else(|| {
        BackendError(format!(
            "no memory cgroup is mounted below {MOUNT}; is the node's /sys/fs/cgroup mounted there?"
        ))
    })?;
    let above = match version {
        // The mount's root is told as the reader's cgroup namespace has it (cgroup_show_path).
        Version::V1 => in_initial_cgroup_namespace().then(|| root.trim_end_matches('/').to_owned()),
        // Only the root of them all is no cgroup that could be switched between domain and threaded (cgroup_base_files).
        Version::V2 => (!mount.join("cgroup.type").exists()).then(String::new),
    };
    Ok(View { node: LocalNode { name: name.to_owned(), cgroup: String::new(), mount, version }, above })
}

/// It has a fixed inode (`include/linux/proc_ns.h`, `PROC_CGROUP_INIT_INO`).
fn in_initial_cgroup_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/cgroup").is_ok_and(|link| link.as_os_str() == "cgroup:[4026531835]")
}

/// The outermost mount of the memory hierarchy at or below `host`: where, which version, and what of the hierarchy is there.
fn memory_mount(mountinfo: &str, host: &Path) -> Option<(PathBuf, Version, String)> {
    let mut found: Vec<(PathBuf, Version, String)> = mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
            let (root, target) = (left.next()?, PathBuf::from(left.next()?));
            let (kind, options) = (right.next()?, right.nth(1)?);
            let version = match kind {
                "cgroup" if options.split(',').any(|option| option == "memory") => Version::V1,
                "cgroup2" => Version::V2,
                _ => return None,
            };
            target.starts_with(host).then(|| (target, version, root.to_owned()))
        })
        .collect();
    // In a hybrid hierarchy v2 is there too, without the memory controller.
    found.sort_by_key(|(target, version, _)| (version.number(), target.components().count()));
    found.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_hierarchy_is_found_on_v1_and_on_v2() {
        let v1 = "40 30 0:27 / /host/sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                  41 40 0:31 /docker/ab /host/sys/fs/cgroup/memory/docker/ab rw shared:1 - cgroup cgroup rw,memory\n\
                  42 40 0:31 /docker/ab /host/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  43 40 0:32 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  44 40 0:33 / /host/sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let host = Path::new(MOUNT);
        let found = memory_mount(v1, host).unwrap();
        assert_eq!(found, ("/host/sys/fs/cgroup/memory".into(), Version::V1, "/docker/ab".to_owned()));
        let v2 = "44 40 0:33 /../.. /host/sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(memory_mount(v2, host).unwrap(), (MOUNT.into(), Version::V2, "/../..".to_owned()));
        assert_eq!(memory_mount("", host), None);
    }
}
