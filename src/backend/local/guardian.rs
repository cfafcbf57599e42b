//! The guardian: a process that outlives the harness to clean up after it, and that stops everything before the host's
//! memory runs short.

use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, getppid, pidfd_open};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::admission;
use super::cgroup::{Cgroup, Hierarchy, Version};
use super::gc;
use super::helper::Helper;
use crate::backend::BackendError;

/// How often the host's memory is looked at.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What the harness says when it has cleaned up itself.
const FAREWELL: &str = "farewell";

#[derive(Serialize, Deserialize)]
struct Spec {
    run: String,
    v2: bool,
    directory: PathBuf,
    path: String,
    reserve: u64,
}

/// The harness's end of it.
#[derive(Debug)]
pub struct Guardian {
    stdin: tokio::process::ChildStdin,
    child: tokio::process::Child,
    listener: tokio::task::JoinHandle<()>,
    /// Why everything is to stop, once it is.
    pub alarm: watch::Receiver<Option<String>>,
}

impl Guardian {
    /// Starts the guardian of a run.
    pub async fn start(run: &str, cgroup: &Cgroup, reserve: u64) -> Result<Self, BackendError> {
        let v2 = cgroup.version == Version::V2;
        let Cgroup { directory, path, .. } = cgroup.clone();
        let spec = Spec { run: run.to_owned(), v2, directory, path, reserve };
        let doing = |error| BackendError::doing("start the guardian", error);
        let mut helper = Helper::start("__guardian", &spec).await.map_err(doing)?;
        helper.stdout.next_line().await.map_err(doing)?;
        let (sender, alarm) = watch::channel(None);
        let Helper { child, stdin, mut stdout } = helper;
        let listener = tokio::spawn(async move {
            let why = match stdout.next_line().await {
                Ok(Some(line)) => line,
                Ok(None) | Err(_) => {
                    "the guardian process died; nothing would clean up after a kill -9".to_owned()
                }
            };
            sender.send_replace(Some(why));
        });
        Ok(Self { stdin, child, listener, alarm })
    }

    /// Lets it go: everything has been cleaned up.
    pub async fn dismiss(mut self) {
        use tokio::io::AsyncWriteExt as _;
        // That it ends now is no alarm.
        self.listener.abort();
        // If it is gone already, so be it.
        let _ = self.stdin.write_all(format!("{FAREWELL}\n").as_bytes()).await;
        drop(self.stdin);
        let _ = self.child.wait().await;
    }
}

/// `exit137 __guardian`.
pub fn main() -> ExitCode {
    match guard() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "exit137 guardian: {error}");
            ExitCode::FAILURE
        }
    }
}

fn guard() -> io::Result<()> {
    // Signals that end the harness from a terminal must not end its guardian, which has a process group of its own.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, std::sync::Arc::default())?;
    }
    rustix::thread::set_name(c"exit137-guard")?;
    let harness = getppid().ok_or_else(|| io::Error::other("the harness is gone already"))?;
    let harness = pidfd_open(harness, PidfdFlags::empty())?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let spec: Spec = serde_json::from_str(&line)?;
    let version = if spec.v2 { Version::V2 } else { Version::V1 };
    let cgroup = Cgroup { version, directory: spec.directory, path: spec.path };
    say("ready");
    loop {
        let stdin = io::stdin();
        let mut fds = [PollFd::new(&harness, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
        // Interrupted by a signal: look again.
        let ready = poll(&mut fds, Some(&LOOK)).unwrap_or(0) > 0;
        if ready {
            let mut said = String::new();
            // What was said before the end is still there to be read.
            stdin.lock().read_line(&mut said)?;
            if said.trim_end() != FAREWELL {
                gc::reclaim(&spec.run, &cgroup);
                // It was started from within the harness's own cgroup, and is now alone in it.
                let _ = Hierarchy::find().map(|hierarchy| hierarchy.leave_room());
            }
            return Ok(());
        }
        let available = admission::available(&cgroup).unwrap_or(u64::MAX);
        if available < spec.reserve {
            let outcome = cgroup.kill();
            say(&format!(
                "only {} MiB of the host's memory were left, less than the reserve of {} MiB, so every container was killed{}",
                available >> 20,
                spec.reserve >> 20,
                outcome.err().map(|error| format!(" (failed: {error})")).unwrap_or_default()
            ));
        }
    }
}

fn say(what: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}
