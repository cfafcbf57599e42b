//! Which runs are alive on this host: each holds a lock on a file of its own, which the kernel lets go when it dies.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

/// A live run's file, locked for as long as this lives.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    _file: File,
}

/// A run that holds its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRun {
    /// Its name.
    pub name: String,
    /// What it may take, in bytes.
    pub promised: u64,
}

/// Where the files lie: for root one folder for the host, otherwise one for the user.
pub fn directory() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/run/exit137".into();
    }
    let user = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    user.join(format!("exit137-{}", rustix::process::geteuid().as_raw()))
}

impl RunLock {
    /// Says that this run lives and what it may take.
    pub fn take(run: &str, promised: u64) -> io::Result<Self> {
        fs::create_dir_all(directory())?;
        // Until it is locked, the file looks like a dead run's; so nobody looks before that.
        let _whole = hold(FlockOperation::LockExclusive)?;
        let path = directory().join(run);
        let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        file.write_all(promised.to_string().as_bytes())?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // A file that stays is taken for a dead run's, and removed as such.
        let _ = fs::remove_file(&self.path);
    }
}

/// The runs that are alive.
pub fn live_runs() -> Vec<LiveRun> {
    files().into_iter().filter(|(_, alive)| *alive).map(|(run, _)| run).collect()
}

/// The runs that died without removing their files.
pub fn dead_runs() -> Vec<String> {
    files().into_iter().filter(|(_, alive)| !alive).map(|(run, _)| run.name).collect()
}

/// Forgets a dead run.
pub fn forget(run: &str) -> io::Result<()> {
    fs::remove_file(directory().join(run))
}

/// The folder itself, locked for as long as this lives: against files that are half made.
fn hold(how: FlockOperation) -> io::Result<File> {
    let folder = File::open(directory())?;
    flock(&folder, how)?;
    Ok(folder)
}

fn files() -> Vec<(LiveRun, bool)> {
    let Ok(_whole) = hold(FlockOperation::LockShared) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(directory()) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let mut file = File::open(entry.path()).ok()?;
            let alive = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            let name = entry.file_name().into_string().ok()?;
            Some((LiveRun { name, promised: text.trim().parse().unwrap_or(0) }, alive))
        })
        .collect()
}
