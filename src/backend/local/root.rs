//! A pod's view of the file system: the host's, with mount points wherever they are needed, and nothing seen on the host.
//!
//! A mount point must exist, and the host's directories are not ours to add to. So a directory that lacks one is covered
//! by a tmpfs that has everything it had, bound there, and the mount point beside.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};

use super::protocol::{VolumeSource, VolumeSpec};

/// Where, in a pod, our own things lie.
pub const OURS: &str = "/exit137";

/// An entry of a directory, held so that it can be put elsewhere.
enum Entry {
    Mount { name: PathBuf, tree: OwnedFd, directory: bool },
    Link { name: PathBuf, target: PathBuf },
}

/// Builds the pod's root, in this process's own mount namespace, and makes it the root.
pub fn build(workload: &Path, volumes: &[VolumeSpec]) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let ours = Path::new("/tmp").join(OURS.trim_start_matches('/'));
    let workload = clone_tree(workload)?;
    let sources =
        volumes.iter().map(|volume| Ok((&volume.name, source(volume)?))).collect::<io::Result<Vec<_>>>()?;
    let entries = entries_of(Path::new("/"))?;

    // Staged over /tmp, whose own content has been taken into the entries already.
    attach(&tmpfs(None, "0755")?, Path::new("/tmp"))?;
    put(entries, Path::new("/tmp"))?;
    fs::create_dir_all(ours.join("volumes"))?;
    fs::write(ours.join("exit137-workload"), "")?;
    attach(&workload, &ours.join("exit137-workload"))?;
    for (name, tree) in sources {
        let target = ours.join("volumes").join(name);
        fs::create_dir(&target)?;
        attach(&tree, &target)?;
    }
    std::env::set_current_dir("/tmp")?;
    // pivot_root(2): both may be ".": the old root then lies on top and is taken away.
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    if Path::new("/dev/shm").is_dir() {
        // Kubernetes' default for a sandbox (containerd `internal/cri/server/podsandbox/sandbox_run_linux.go`).
        attach(&tmpfs(Some(64 << 20), "1777")?, Path::new("/dev/shm"))?;
    }
    Ok(())
}

/// Mounts a pod's volume at a path of a container.
pub fn mount_volume(name: &str, path: &Path, read_only: bool) -> io::Result<()> {
    make_mount_point(path)?;
    let volume = Path::new(OURS).join("volumes").join(name);
    attach(&clone_tree(&volume)?, path)?;
    if read_only {
        rustix::mount::mount_remount(
            path,
            rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY,
            "",
        )?;
    }
    Ok(())
}

/// Makes sure that there is a directory at `path`.
fn make_mount_point(path: &Path) -> io::Result<()> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(io::Error::other(format!(
            "mountPath {} must be absolute and without ..",
            path.display()
        )));
    }
    if path.is_dir() {
        return Ok(());
    }
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/"));
    if existing != Path::new("/") {
        let entries = entries_of(existing)?;
        attach(&tmpfs(None, "0755")?, existing)?;
        put(entries, existing)?;
    }
    fs::create_dir_all(path)
}

fn entries_of(directory: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, PathBuf::from(entry.file_name()));
        if kind.is_symlink() {
            entries.push(Entry::Link { name, target: fs::read_link(entry.path())? });
        } else {
            entries.push(Entry::Mount { name, tree: clone_tree(&entry.path())?, directory: kind.is_dir() });
        }
    }
    Ok(entries)
}

fn put(entries: Vec<Entry>, into: &Path) -> io::Result<()> {
    for entry in entries {
        match entry {
            Entry::Link { name, target } => std::os::unix::fs::symlink(target, into.join(name))?,
            Entry::Mount { name, tree, directory } => {
                let target = into.join(name);
                if directory {
                    fs::create_dir(&target)?;
                } else {
                    fs::write(&target, "")?;
                }
                attach(&tree, &target)?;
            }
        }
    }
    Ok(())
}

fn source(volume: &VolumeSpec) -> io::Result<OwnedFd> {
    match &volume.source {
        VolumeSource::Tmpfs(size) => tmpfs(*size, "1777"),
        VolumeSource::Directory(path) => clone_tree(path),
    }
}

fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
        .map_err(|error| io::Error::other(format!("open_tree {}: {error}", path.display())))
}

fn tmpfs(size: Option<u64>, mode: &str) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(size) = size {
        fsconfig_set_string(&context, "size", size.to_string())?;
    }
    fsconfig_set_string(&context, "mode", mode)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| io::Error::other(format!("mount at {}: {error}", target.display())))
}
