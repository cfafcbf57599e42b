//! `children`: a parent that outlives, replaces or follows its workers.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use exit137_workload::{Children, Hog, Then, Workload};

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
        while let Some(mut child) = running.pop() {
            let status = child.wait().map_err(|error| format!("cannot wait for a worker: {error}"))?;
            report::event("worker", &status.to_string());
            if status.success() {
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
    let code = children.exit_code.unwrap_or(0);
    u8::try_from(code).map_err(|_| format!("exitCode must be 0 to 255, not {code}"))
}

/// A worker is this same program: by `/proc/self/exe`, since its path may lie in another root.
fn start(worker: &str) -> Result<Child, String> {
    Command::new("/proc/self/exe")
        .args(["--spec", worker])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start a worker from /proc/self/exe: {error}"))
}

/// As a shell says it: 128 and the signal.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
