//! The program under test, running.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// How long anything may take. Nothing waits for it unless something is wrong.
const DEADLINE: Duration = Duration::from_secs(30);

pub const MIB: u64 = 1 << 20;

/// A started program. It is killed when this is dropped, with all that it started.
pub struct Running {
    child: Child,
    /// Its process ID, once it has been waited for, may be another's.
    reaped: bool,
    lines: Receiver<String>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
}

impl Running {
    /// Starts it with these words as its arguments.
    pub fn start(line: &str) -> Self {
        // A group of its own, so that no worker outlives a test that fails.
        let mut child =
            command(line).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = channel();
        // Ends with the last process that has this standard output, workers included.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Self { child, reaped: false, lines }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says something with this key and returns the value.
    pub fn says(&self, key: &str) -> Value {
        loop {
            let line = self.next();
            if let Some(value) = line.get(key) {
                return value.clone();
            }
        }
    }

    /// Waits until it says that it holds so much.
    pub fn says_it_holds(&self, bytes: u64) {
        while self.says("allocated") != bytes {}
    }

    /// All that it says from now on until no process of it is left.
    pub fn rest(&self) -> Vec<Value> {
        let until = now_ns() + u64::try_from(DEADLINE.as_nanos()).unwrap();
        let said = std::iter::from_fn(|| self.next_or_end());
        said.inspect(|line| assert!(now_ns() < until, "it still says {line} after {DEADLINE:?}")).collect()
    }

    /// Waits until it says something.
    pub fn next(&self) -> Value {
        self.next_or_end().unwrap_or_else(|| panic!("it ended, and was to say more"))
    }

    /// Waits until it says something, or ends.
    pub fn next_or_end(&self) -> Option<Value> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(serde_json::from_str(&line).unwrap()),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("it neither said anything nor ended within {DEADLINE:?}")
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it and all that it started have ended.
    pub fn end(mut self) -> End {
        self.rest();
        let status = self.child.wait().unwrap();
        self.reaped = true;
        status.code().map_or_else(|| End::Signal(status.signal().unwrap()), End::Code)
    }

    /// As [`Self::end`], with what it wrote to standard error.
    pub fn end_and_problem(mut self) -> (End, String) {
        let mut problem = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        self.rest();
        stderr.read_to_string(&mut problem).unwrap();
        (self.end(), problem)
    }

    /// A file below its `/proc/PID`.
    pub fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap()
    }

    /// What the kernel counts for it, in bytes: `Rss`, `Anonymous`, `AnonHugePages`...
    pub fn counted(&self, what: &str) -> u64 {
        kib(&self.proc("smaps_rollup"), &format!("{what}:"))
    }

    /// The most that was ever resident, in bytes.
    pub fn peak(&self) -> u64 {
        kib(&self.proc("status"), "VmHWM:")
    }

    /// The processes that it has started, oldest first.
    pub fn children(&self) -> Vec<i32> {
        let children = self.proc(&format!("task/{}/children", self.pid()));
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, which the program's lines are stamped with.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// The program with these arguments.
pub fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137-workload"));
    command.args(line.split_whitespace());
    command
}

/// An `exit137-workload idle`, to compare with: what the program takes by itself.
pub fn idle() -> Running {
    let idle = Running::start("idle");
    eventually("idle sleeps", || catches_sigterm(&idle));
    idle
}

/// Whether SIGTERM is handled already (`proc_pid_status(5)`: the set of signals caught).
pub fn catches_sigterm(running: &Running) -> bool {
    signals(running, "SigCgt") & (1 << (Signal::TERM.as_raw() - 1)) != 0
}

/// A set of signals of its main thread.
pub fn signals(running: &Running, set: &str) -> u64 {
    let status = running.proc("status");
    let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

/// Polls until it is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..DEADLINE.as_millis() / 5 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not within {DEADLINE:?}: {what}");
}

fn kib(text: &str, what: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
