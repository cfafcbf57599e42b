//! `children`: a parent that outlives, replaces or follows its workers.

use std::process::{Command, Stdio};

use exit137_workload::{Children, Hog, Then, Workload};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::clock;
use crate::report;

/// Between the death of a worker and the start of the one that replaces it.
const RESPAWN_MS: u64 = 200;

pub fn run(children: &Children) -> Result<u8, String> {
    let hog = Hog { size: Some(children.size), rate: children.rate, then_exit: Some(0), ..Hog::default() };
    let worker = serde_json::to_string(&Workload::hog(hog)).map_err(|error| error.to_string())?;
    let mut left = children.count;
    while left > 0 {
        let at_once = if children.together { left } else { 1 };
        let mut running = (0..at_once).map(|_| start(&worker)).collect::<Result<Vec<_>, _>>()?;
        left -= at_once;
        while !running.is_empty() {
            let (pid, status) = wait()?;
            // As PID 1 of a namespace it is handed others' orphans too.
            let Some(at) = running.iter().position(|worker| *worker == pid) else { continue };
            running.swap_remove(at);
            report::event("worker", &described(status));
            if status.exit_status() == Some(0) {
                continue;
            }
            match children.then {
                Then::Survive => {}
                Then::Propagate => return Ok(code_of(status)),
                Then::Respawn => {
                    clock::sleep_ms(RESPAWN_MS);
                    running.push(start(&worker)?);
                }
            }
        }
    }
    let Some(after) = children.exit_after else { return clock::sleep_for_ever() };
    clock::sleep_ms(after.ms);
    Ok(children.exit_code.unwrap_or(0))
}

/// A worker is this same program: by `/proc/self/exe`, since its path may lie in another root.
fn start(worker: &str) -> Result<Pid, String> {
    let parent = rustix::process::getpid().to_string();
    let child = Command::new("/proc/self/exe")
        .args(["--parent", &parent, "--spec", worker])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start a worker from /proc/self/exe: {error}"))?;
    Ok(Pid::from_child(&child))
}

/// Waits until any child has ended: the first to die decides, not the first that was started.
fn wait() -> Result<(Pid, WaitStatus), String> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("cannot wait for a worker: {error}")),
        }
    }
}

fn described(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => format!("wait status {:#x}", status.as_raw()),
    }
}

/// As a shell says it: 128 and the signal.
fn code_of(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
