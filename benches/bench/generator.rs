//! Our generator as a bench drives it: the program, told by lines and telling by lines.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use exit137::clock;
use exit137_workload::traffic::{
    Control, Done, Endpoint, Generator, HttpVersion, Line, Load, LoadStage, Request, Share, Window,
};

use crate::Measured;

/// A generator that runs; it is killed when this is dropped.
pub struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// So many iterations per second.
pub fn constant_rate(rate: u64, seconds: u64, max_vus: u32) -> Load {
    let stages = vec![LoadStage { target: rate, ms: seconds * 1000 }];
    Load::ArrivalRate { start: rate, stages, time_unit_ms: 1000, max_vus }
}

/// So many users, each of which sends when the answer before has come.
pub fn constant_vus(vus: u32, seconds: u64) -> Load {
    Load::Vus { start: vus, stages: vec![LoadStage { target: vus.into(), ms: seconds * 1000 }] }
}

fn generator(load: Load) -> Generator {
    let request = Request {
        method: "GET".into(),
        path: "/".into(),
        headers: [].into(),
        body: String::new(),
        weight: 1,
        timeout_ms: 30_000,
    };
    Generator {
        load,
        share: Share { index: 0, of: 1 },
        requests: vec![request],
        http: HttpVersion::Http1,
        retries: 0,
        retry_after_ms: 0,
        graceful_stop_ms: 10_000,
        follow_stdin: true,
    }
}

impl Running {
    /// Starts to send this to the port on the loopback; `command` ends where the generator's own arguments begin.
    pub fn start(mut command: Command, load: Load, port: u16) -> Measured<Self> {
        command.args(["traffic", "--spec", &serde_json::to_string(&generator(load))?]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut running = Self { child, stdin, lines };
        running.tell(&Control::Endpoints(vec![Endpoint {
            address: format!("127.0.0.1:{port}"),
            network: None,
        }]))?;
        running.tell(&Control::StartAt(clock::unix_ns() + 100_000_000))?;
        Ok(running)
    }

    pub fn tell(&mut self, control: &Control) -> Measured<()> {
        let line = serde_json::to_string(control)? + "\n";
        Ok(self.stdin.write_all(line.as_bytes())?)
    }

    /// What it says next that is no mere `ready`.
    pub fn next(&mut self) -> Measured<Line> {
        loop {
            let line = self.lines.next().ok_or("the generator ended before it was done")??;
            match serde_json::from_str(&line)? {
                Line::Ready(_) => {}
                line @ (Line::Window(_) | Line::Done(_)) => return Ok(line),
            }
        }
    }

    /// All that it says until it is done: its windows as one, and its last word.
    pub fn end(mut self) -> Measured<(Window, Done)> {
        let mut whole = Window::default();
        loop {
            match self.next()? {
                Line::Window(window) => whole.absorb(&window),
                Line::Done(done) => return Ok((whole, done)),
                Line::Ready(_) => {}
            }
        }
    }

    /// A line of its `/proc/PID/status`, in MiB.
    pub fn memory(&self, key: &str) -> Measured<f64> {
        let status =
            std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
        Ok(kib.ok_or_else(|| format!("no {key} in /proc/PID/status"))?.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, but where something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
