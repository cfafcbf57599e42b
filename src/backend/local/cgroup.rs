//! Memory cgroups, v1 and v2: where ours may be made, their limits, and their end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::backend::BackendError;

/// Which hierarchy has the memory controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy of its own.
    V1,
    /// The unified hierarchy.
    V2,
}

impl Version {
    /// 1 or 2.
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// Where the memory controller is mounted and where this process is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its version.
    pub version: Version,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// This process's cgroup, below the mount.
    pub own: String,
}

/// A memory cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its version.
    pub version: Version,
    /// Its directory.
    pub directory: PathBuf,
    /// Its path as the kernel prints it.
    pub path: String,
}

/// The cgroup that this process moves into where its own is to have children.
pub const HARNESS_LEAF: &str = "exit137-harness";

/// How often an end that takes time is looked for, and for how long.
const RETRIES: u32 = 200;
const RETRY: std::time::Duration = std::time::Duration::from_millis(5);

impl Hierarchy {
    /// Finds the hierarchy that has the memory controller.
    pub fn find() -> Result<Self, BackendError> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|e| BackendError::doing("read /proc/self/mountinfo", e))?;
        let own = fs::read_to_string("/proc/self/cgroup")
            .map_err(|e| BackendError::doing("read /proc/self/cgroup", e))?;
        Self::from_proc(&mounts, &own).ok_or_else(|| {
            BackendError("no memory cgroup is mounted here; mount cgroup2 at /sys/fs/cgroup, or run on a host that has it".into())
        })
    }

    fn from_proc(mountinfo: &str, own: &str) -> Option<Self> {
        let mounts = || {
            mountinfo.lines().filter_map(|line| {
                let (left, right) = line.split_once(" - ")?;
                let target = left.split(' ').nth(4)?;
                let mut right = right.split(' ');
                Some((PathBuf::from(target), right.next()?, right.nth(1)?))
            })
        };
        let of_controller = |wanted: &str| {
            own.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                controllers.split(',').any(|controller| controller == wanted).then(|| path.to_owned())
            })
        };
        if let Some((mount, ..)) = mounts().find(|(_, kind, options)| {
            *kind == "cgroup" && options.split(',').any(|option| option == "memory")
        }) {
            return Some(Self { version: Version::V1, mount, own: of_controller("memory")? });
        }
        let (mount, ..) = mounts().find(|(_, kind, _)| *kind == "cgroup2")?;
        Some(Self { version: Version::V2, mount, own: of_controller("")? })
    }

    /// The cgroup below which a run's may be made: on v1 this process's own, on v2 the nearest ancestor that can delegate
    /// the memory controller (a cgroup with processes in it cannot: cgroup-v2.rst, "No Internal Process Constraint").
    pub fn base(&self) -> Result<Cgroup, BackendError> {
        match self.version {
            Version::V1 => Ok(self.at(&self.own)),
            Version::V2 => self.base_v2(),
        }
    }

    fn base_v2(&self) -> Result<Cgroup, BackendError> {
        let own = self.without_leaf();
        let mut path = own;
        loop {
            let cgroup = self.at(path);
            if cgroup.delegate_memory().is_ok() {
                return Ok(cgroup);
            }
            if path == own && cgroup.make_room().is_ok() && cgroup.delegate_memory().is_ok() {
                return Ok(cgroup);
            }
            path = match path.rsplit_once('/') {
                Some(("", "")) | None => break,
                Some(("", _)) => "/",
                Some((parent, _)) => parent,
            };
        }
        Err(BackendError(format!(
            "no cgroup above {} lets this user make memory cgroups; run as root, or as\n  systemd-run --user --scope -p Delegate=yes exit137 run",
            self.own
        )))
    }

    /// Where this process was before it made room for others' cgroups.
    fn without_leaf(&self) -> &str {
        let parent = self.own.strip_suffix(HARNESS_LEAF).and_then(|path| path.strip_suffix('/'));
        parent.map_or(self.own.as_str(), |path| if path.is_empty() { "/" } else { path })
    }

    /// Goes back to where this process was before it made room, if it did, and removes the leaf.
    pub fn leave_room(&self) -> io::Result<()> {
        let (before, leaf) = (self.at(self.without_leaf()), self.at(&self.own));
        if before == leaf || leaf.processes()? != [std::process::id()] {
            return Ok(());
        }
        // A cgroup with processes in it cannot delegate; another run below it keeps it from being taken back.
        fs::write(before.directory.join("cgroup.subtree_control"), "-memory")?;
        fs::write(before.directory.join("cgroup.procs"), "0")?;
        leaf.remove()
    }

    fn at(&self, path: &str) -> Cgroup {
        let relative = path.trim_start_matches('/');
        Cgroup {
            version: self.version,
            directory: if relative.is_empty() { self.mount.clone() } else { self.mount.join(relative) },
            path: path.trim_end_matches('/').to_owned(),
        }
    }
}

impl Cgroup {
    /// Makes a cgroup below this one.
    pub fn make_child(&self, name: &str) -> io::Result<Self> {
        let child = Self {
            version: self.version,
            directory: self.directory.join(name),
            path: format!("{}/{name}", self.path),
        };
        fs::create_dir(&child.directory)?;
        Ok(child)
    }

    /// Lets the cgroups below have memory limits of their own.
    pub fn delegate_memory(&self) -> io::Result<()> {
        match self.version {
            Version::V1 => Ok(()),
            Version::V2 => {
                let file = self.directory.join("cgroup.subtree_control");
                if fs::read_to_string(&file)?
                    .split_ascii_whitespace()
                    .any(|controller| controller == "memory")
                {
                    // Enabled already; whether we may make cgroups here is what the directory's mode says.
                    return Ok(rustix::fs::access(&self.directory, rustix::fs::Access::WRITE_OK)?);
                }
                fs::write(&file, "+memory")
            }
        }
    }

    /// Moves this process, if it is alone here, into a leaf of its own, so that the controller can be delegated.
    fn make_room(&self) -> io::Result<()> {
        if self.processes()? != [std::process::id()] {
            return Err(io::Error::other("other processes are here too"));
        }
        let leaf = self.make_child(HARNESS_LEAF)?;
        fs::write(leaf.directory.join("cgroup.procs"), "0")
    }

    /// Limits memory, swap included: what the kubelet does by default (`NoSwap`).
    pub fn set_limit(&self, bytes: u64) -> io::Result<()> {
        let (limit, swap, swap_bytes) = match self.version {
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes),
            Version::V2 => ("memory.max", "memory.swap.max", 0),
        };
        fs::write(self.directory.join(limit), bytes.to_string())?;
        let swap = self.directory.join(swap);
        if swap.exists() { fs::write(swap, swap_bytes.to_string()) } else { Ok(()) }
    }

    /// The files that a change of the limit writes, in the order in which the kernel takes them: v1 wants the limit of
    /// memory and swap never to be less than that of memory alone (`memcontrol.c:mem_cgroup_resize_max`).
    pub fn limit_writes(&self, bytes: u64) -> Vec<(PathBuf, u64)> {
        let mut files = vec![self.directory.join(self.limit_file())];
        let memsw = self.directory.join("memory.memsw.limit_in_bytes");
        if self.version == Version::V1 && memsw.exists() {
            let raised = self.limit().is_some_and(|limit| limit < bytes);
            files.insert(usize::from(!raised), memsw);
        }
        files.into_iter().map(|file| (file, bytes)).collect()
    }

    /// The limit as the kernel has it.
    pub fn limit(&self) -> Option<u64> {
        let text = fs::read_to_string(self.directory.join(self.limit_file())).ok()?;
        // v1 writes "no limit" as the largest multiple of a page below 2^63.
        text.trim().parse().ok().filter(|bytes| *bytes < 1 << 62)
    }

    /// The file that holds the limit.
    pub fn limit_file(&self) -> &'static str {
        match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        }
    }

    /// Sets `memory.oom.group`, as the kubelet does for containers on v2 unless `singleProcessOOMKill` says otherwise
    /// (`kuberuntime_container_linux.go:calculateLinuxResources`), and reads it back.
    pub fn set_oom_group(&self, group: bool) -> Option<bool> {
        let file = self.directory.join("memory.oom.group");
        // Read back, whatever became of the write.
        let _ = fs::write(&file, if group { "1" } else { "0" });
        Some(fs::read_to_string(file).ok()?.trim() == "1")
    }

    /// The processes in it.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let text = fs::read_to_string(self.directory.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Kills everything in it and below it.
    pub fn kill(&self) -> io::Result<()> {
        if self.version == Version::V2 && fs::write(self.directory.join("cgroup.kill"), "1").is_ok() {
            return Ok(());
        }
        for _ in 0..RETRIES {
            let mut alive = 0;
            for directory in self.tree()? {
                alive += kill_members(&directory.join("cgroup.procs"))?;
            }
            if alive == 0 {
                return Ok(());
            }
            std::thread::sleep(RETRY);
        }
        Err(io::Error::other("processes in it do not die"))
    }

    /// Removes it and everything below it; waits for what is dying in it.
    pub fn remove(&self) -> io::Result<()> {
        let mut tree = self.tree()?;
        while let Some(directory) = tree.pop() {
            let mut left = RETRIES;
            loop {
                match fs::remove_dir(&directory) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if left == 0 => return Err(error),
                    Err(_) => std::thread::sleep(RETRY),
                }
                left -= 1;
            }
        }
        Ok(())
    }

    /// Its directory and those below it, each before what lies in it.
    fn tree(&self) -> io::Result<Vec<PathBuf>> {
        let mut tree = Vec::new();
        let mut todo = vec![self.directory.clone()];
        while let Some(directory) = todo.pop() {
            match fs::read_dir(&directory) {
                Ok(entries) => {
                    for entry in entries {
                        let entry = entry?;
                        if entry.file_type()?.is_dir() {
                            todo.push(entry.path());
                        }
                    }
                    tree.push(directory);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tree)
    }
}

/// Kills each process that is listed here, by a pidfd that was opened while it still was: a PID alone may have been reused.
fn kill_members(procs: &Path) -> io::Result<usize> {
    let list = || -> io::Result<Vec<i32>> {
        match fs::read_to_string(procs) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if matches!(error.raw_os_error(), Some(2 | 19)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    let members = list()?;
    for member in &members {
        let Some(pid) = Pid::from_raw(*member) else { continue };
        if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
            && list()?.contains(member)
        {
            // It may have died in between, which is what is wanted.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
    }
    Ok(members.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_controller_is_found_on_v1_and_on_v2() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = Hierarchy::from_proc(v1, "4:memory:/a/b\n0::/\n").unwrap();
        assert_eq!(
            found,
            Hierarchy { version: Version::V1, mount: "/sys/fs/cgroup/memory".into(), own: "/a/b".into() }
        );
        let v2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchy::from_proc(v2, "0::/user.slice/x.scope\n").unwrap();
        assert_eq!((found.version, found.own.as_str()), (Version::V2, "/user.slice/x.scope"));
        assert_eq!(Hierarchy::from_proc("", "0::/\n"), None);
    }

    #[test]
    fn a_process_that_has_made_room_still_belongs_where_it_was() {
        let at =
            |own: &str| Hierarchy { version: Version::V2, mount: "/sys/fs/cgroup".into(), own: own.into() };
        assert_eq!(at("/user/exit137-harness").without_leaf(), "/user");
        assert_eq!(at("/exit137-harness").without_leaf(), "/");
        assert_eq!(at("/user").without_leaf(), "/user");
    }

    #[test]
    fn on_v1_the_limit_that_counts_swap_is_raised_first_and_lowered_last() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] {
            fs::write(folder.path().join(file), "8192\n").unwrap();
        }
        let cgroup =
            Cgroup { version: Version::V1, directory: folder.path().to_path_buf(), path: "/a".into() };
        let files = |bytes| -> Vec<String> {
            let name = |file: &Path| file.file_name().unwrap().to_string_lossy().into_owned();
            cgroup.limit_writes(bytes).iter().map(|(file, _)| name(file)).collect()
        };
        assert_eq!(files(12288), ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]);
        assert_eq!(files(4096), ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]);
    }

    #[test]
    fn the_root_has_an_empty_path_so_that_children_begin_with_one_slash() {
        let hierarchy = Hierarchy { version: Version::V2, mount: "/sys/fs/cgroup".into(), own: "/".into() };
        assert_eq!(hierarchy.at("/").path, "");
        assert_eq!(hierarchy.at("/a/b").directory, Path::new("/sys/fs/cgroup/a/b"));
    }
}
