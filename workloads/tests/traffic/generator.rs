//! The generator under test, running; what it says is held to what every generator must keep to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use exit137_workload::traffic::{
    Control, Done, DoneWhy, Endpoint, Generator, HttpVersion, Line, Load, LoadStage, Request, Share, Window,
};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// How long anything may take. Nothing waits for it unless something is wrong.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    load: Load,
}

/// All that it said.
#[derive(Debug)]
pub struct Told {
    pub windows: Vec<Window>,
    pub done: Done,
}

/// So many iterations per second for so long.
pub fn constant_rate(rate: u64, ms: u64, max_vus: u32) -> Load {
    let stages = vec![LoadStage { target: rate, ms }];
    Load::ArrivalRate { start: rate, stages, time_unit_ms: 1000, max_vus }
}

/// So many users for so long.
pub fn constant_vus(vus: u32, ms: u64) -> Load {
    Load::Vus { start: vus, stages: vec![LoadStage { target: vus.into(), ms }] }
}

pub fn get(path: &str) -> Request {
    Request {
        method: "GET".into(),
        path: path.into(),
        headers: [].into(),
        body: String::new(),
        weight: 1,
        timeout_ms: 10_000,
    }
}

/// `GET /` in this load, with nothing special about it.
pub fn generator(load: Load) -> Generator {
    Generator {
        load,
        share: Share { index: 0, of: 1 },
        requests: vec![get("/")],
        http: HttpVersion::Http1,
        retries: 0,
        retry_after_ms: 0,
        graceful_stop_ms: 10_000,
        follow_stdin: true,
    }
}

/// As [`generator`], with a time limit for requests.
pub fn impatient(load: Load, timeout_ms: u64) -> Generator {
    Generator { requests: vec![Request { timeout_ms, ..get("/") }], ..generator(load) }
}

pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address: address.to_string(), network: None }
}

/// Runs it against this server from now on, to its end.
pub fn run(generator: &Generator, address: SocketAddr) -> Told {
    let mut running = Running::start(generator);
    running.begin(&[endpoint(address)]);
    running.end()
}

impl Running {
    /// Starts it; it is ready.
    pub fn start(generator: &Generator) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_exit137-workload")), generator)
    }

    pub fn start_by(mut command: Command, generator: &Generator) -> Self {
        command.args(["traffic", "--spec", &serde_json::to_string(generator).unwrap()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            lines.map(|line| serde_json::from_str(&line).unwrap()).try_for_each(|line| said.send(line))
        });
        let running = Self { stdin: child.stdin.take(), child, lines, load: generator.load.clone() };
        assert!(matches!(running.next(), Some(Line::Ready(_))));
        running
    }

    pub fn tell(&mut self, control: &Control) {
        let line = serde_json::to_string(control).unwrap() + "\n";
        self.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    pub fn write(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// Where to, and from when on: so soon that it hears of it before.
    pub fn begin(&mut self, endpoints: &[Endpoint]) {
        self.tell(&Control::Endpoints(endpoints.to_vec()));
        self.tell(&Control::StartAt(unix_ns() + 100_000_000));
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says something, or ends.
    pub fn next(&self) -> Option<Line> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it said nothing within {DEADLINE:?}"),
        }
    }

    /// Waits for a window that is so.
    pub fn window(&self, so: impl Fn(&Window) -> bool) -> Window {
        loop {
            match self.next() {
                Some(Line::Window(window)) if so(&window) => return *window,
                Some(Line::Window(_)) => {}
                other => panic!("no such window, but {other:?}"),
            }
        }
    }

    /// Waits for its end, which is a good one.
    pub fn end(mut self) -> Told {
        let mut windows = Vec::new();
        let done = loop {
            match self.next() {
                Some(Line::Window(window)) => windows.push(*window),
                Some(Line::Done(done)) => break done,
                other => panic!("no window and not done, but {other:?}"),
            }
        };
        assert!(self.next().is_none(), "done is the last line");
        assert!(self.child.wait().unwrap().success());
        let told = Told { windows, done };
        told.keeps_to_what_all_keep_to(&self.load);
        told
    }

    /// As [`Self::end_and_problem`], and nobody reads what it says from now on.
    pub fn without_a_reader(mut self) -> (Option<i32>, String) {
        // Whoever reads for this end stops at the next line, which it can hand on to nobody.
        self.lines = channel().1;
        self.end_and_problem()
    }

    /// Waits for its end; tells the exit code and what it wrote to standard error.
    pub fn end_and_problem(mut self) -> (Option<i32>, String) {
        while self.next().is_some() {}
        let mut problem = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut problem).unwrap();
        (self.child.wait().unwrap().code(), problem)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Told {
    /// All windows as one.
    pub fn whole(&self) -> Window {
        let mut whole = self.windows[0].clone();
        self.windows[1..].iter().for_each(|window| whole.absorb(window));
        whole
    }

    fn keeps_to_what_all_keep_to(&self, load: &Load) {
        let windows = &self.windows;
        assert_eq!(self.done.windows, windows.len() as u64);
        for (number, window) in windows.iter().enumerate() {
            assert_eq!(window.sequence, number as u64);
            assert!(window.to_ns - window.from_ns <= 1_000_000_000, "{window:?}");
            let with_latency = window.outcomes.total()
                - window.outcomes.refused
                - window.outcomes.reset
                - window.outcomes.not_sent
                - window.outcomes.not_http;
            assert_eq!(window.latency.count(), with_latency, "{window:?}");
            assert_eq!(window.first_failed.is_some(), window.outcomes.failed() > 0);
            assert_eq!(window.last_failed.is_some(), window.outcomes.failed() > 0);
            assert_eq!(window.first_good_ns.is_some(), window.outcomes.good() > 0);
        }
        for pair in windows.windows(2) {
            assert_eq!(pair[0].to_ns, pair[1].from_ns);
            let ended = pair[1].outcomes.total();
            assert_eq!(pair[0].in_flight + pair[1].sent, pair[1].in_flight + ended);
        }
        let Some(first) = windows.first() else { return };
        for end in load.stage_ends_ns().map(|end| first.from_ns + end) {
            assert!(!windows.iter().any(|window| window.from_ns < end && end < window.to_ns));
        }
        let whole = self.whole();
        assert_eq!(whole.due, whole.dropped + whole.sent - whole.retried, "{whole:?}");
        assert_eq!(whole.sent, whole.outcomes.total() + windows.last().unwrap().in_flight);
        if self.done.why == DoneWhy::Complete {
            assert!(windows.last().unwrap().to_ns >= first.from_ns + load.end_ns());
        }
    }
}

pub fn unix_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

pub fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
