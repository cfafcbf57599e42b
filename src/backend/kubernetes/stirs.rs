//! Hears of cgroups that are made and removed, so that nobody has to look for them all the time.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// Directories whose subdirectories come and go. cgroupfs tells of both like any file system (`fs/namei.c:vfs_mkdir`,
/// `vfs_rmdir`), whichever of its mounts they are made through: an inode is watched, not a path.
#[derive(Debug)]
pub(super) struct Stirs(Option<File>);

/// Who cannot hear has to look as often as a container that dies at once lives.
const DEAF: Duration = Duration::from_millis(4);

impl Stirs {
    /// Deaf where the host's users have no instance left (`fs.inotify.max_user_instances`, which many pods use up).
    pub(super) fn new() -> Self {
        let made = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        if let Err(error) = &made {
            tracing::info!(%error, "cgroups are looked for, since inotify cannot be had");
        }
        Self(made.ok().map(File::from))
    }

    /// Hears of this directory, too, if it is there. Said again of the same one it changes nothing.
    pub(super) fn watch(&mut self, directory: &Path) {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
        let added = self.0.as_ref().map(|file| inotify::add_watch(file, directory, flags));
        if matches!(added, Some(Err(Errno::NOSPC | Errno::NOMEM))) {
            tracing::info!("cgroups are looked for, since fs.inotify.max_user_watches is reached");
            self.0 = None;
        }
    }

    /// Waits until something may have come or gone, for so long at most; answers whether it may.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let Some(mut file) = self.0.as_ref() else {
            std::thread::sleep(patience.min(DEAF));
            return true;
        };
        let patience = Timespec::try_from(patience).unwrap_or_default();
        if !poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&patience)).is_ok_and(|ready| ready > 0) {
            return false;
        }
        let mut events = [0; 4096];
        while file.read(&mut events).is_ok_and(|read| read > 0) {}
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_below_a_directory_is_heard_and_heard_once() {
        let folder = std::env::temp_dir().join(format!("exit137-stirs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut stirs = Stirs::new();
        for directory in [&folder, &folder, &folder.join("absent")] {
            stirs.watch(directory);
        }
        assert!(!stirs.wait(Duration::ZERO));
        std::fs::create_dir(folder.join("a")).unwrap();
        assert!(stirs.wait(Duration::from_secs(5)));
        assert!(!stirs.wait(Duration::ZERO));
        std::fs::remove_dir(folder.join("a")).unwrap();
        assert!(stirs.wait(Duration::from_secs(5)));
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn who_is_deaf_always_looks() {
        let mut stirs = Stirs(None);
        stirs.watch(Path::new("/"));
        assert!(stirs.wait(Duration::from_secs(5)));
    }
}
