//! The generators of a scenario's traffic: child processes of the harness, outside of every pod's cgroup.
//!
//! Each hears the endpoints whenever they change and says windows, which become facts. It ends with its standard input: with the
//! harness, however that ends.

use std::convert::Infallible;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use exit137_workload::traffic::{Control, Line};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::endpoints::Endpoints;
use crate::backend::clients::{Generators, PATIENCE};
use crate::backend::{BackendError, clients};
use crate::evidence::{End, GeneratorRef};
use crate::recorder::Recorder;
use crate::scenario::{Scenario, Traffic};

/// All generators of a scenario.
#[derive(Debug)]
pub struct Clients {
    generators: Generators,
    kill: watch::Sender<bool>,
}

/// What is needed to start them.
#[derive(Debug)]
pub struct Start<'a> {
    /// The workload program.
    pub program: &'a Path,
    /// Where their standard error goes.
    pub logs: &'a Path,
    /// Takes what they say.
    pub recorder: &'a Recorder,
    /// Where requests go.
    pub endpoints: &'a Arc<Endpoints>,
}

impl Clients {
    /// Starts every generator of a scenario and waits until all are ready.
    pub async fn start(scenario: &Scenario, start: &Start<'_>) -> Result<Self, BackendError> {
        let generators = Generators::new(scenario, start.recorder);
        let mut clients = Self { generators, kill: watch::Sender::new(false) };
        for (index, traffic) in scenario.traffic.iter().enumerate() {
            for generator in 0..traffic.generators {
                let of = GeneratorRef { traffic: traffic.name.clone(), generator };
                clients.add(index, traffic, of, scenario, start).await?;
            }
        }
        Ok(clients)
    }

    async fn add(
        &mut self,
        index: usize,
        traffic: &Traffic,
        of: GeneratorRef,
        scenario: &Scenario,
        start: &Start<'_>,
    ) -> Result<(), BackendError> {
        let name = format!("{}-{}", of.traffic, of.generator);
        let doing = |error: std::io::Error| {
            BackendError::doing(format!("start generator {} of traffic {}", of.generator, of.traffic), error)
        };
        let log = start.logs.join(format!("traffic-{name}.log"));
        let mut process = Process::spawn(traffic, of.generator, start.program, &log).map_err(doing)?;
        // A busy machine gets long to start a process.
        let ready = timeout(PATIENCE, process.lines.next_line()).await;
        let ready = ready.ok().and_then(Result::ok).flatten();
        let ready = ready.and_then(|line| serde_json::from_str::<Line>(&line).ok());
        if !matches!(ready, Some(Line::Ready(_))) {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(doing(std::io::Error::other(format!("it did not get ready: {}", said.trim()))));
        }
        let pods = clients::pods_of(scenario, traffic);
        let (tell, told) = mpsc::unbounded_channel();
        let teller = Teller { endpoints: Arc::clone(start.endpoints), pods, port: traffic.port };
        let Process { child, stdin, lines } = process;
        let recorder = start.recorder.clone();
        let reader = Reader { recorder, of: of.clone(), child, lines, done: false };
        let kill = self.kill.subscribe();
        let hear = async move {
            // Who tells it anything is there as long as it is.
            tokio::select! {
                done = reader.read(kill) => done,
                never = teller.tell(stdin, told) => match never {},
            }
        };
        self.generators.add(index, clients::started(scenario, traffic, of), tell, hear);
        Ok(())
    }

    /// Has the traffic with this index begin at this nanosecond of `CLOCK_BOOTTIME`.
    pub fn begin(&self, index: usize, zero_ns: u64) {
        self.generators.begin(index, zero_ns);
    }

    /// Ends all traffic and hears it to its end.
    pub async fn stop(&self) {
        if self.generators.stop().await != Some(true) {
            self.kill.send_replace(true);
            let _ = self.generators.heard(PATIENCE).await;
        }
    }
}

/// A generator's process.
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn spawn(traffic: &Traffic, generator: u32, program: &Path, log: &Path) -> std::io::Result<Self> {
        let spec = serde_json::to_string(&traffic.generator(generator))?;
        let mut child = Command::new(program)
            .args(["traffic", "--spec", &spec])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            // Out of the terminal's foreground group: a Ctrl-C is the harness's to act on.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("it has no pipes"));
        };
        Ok(Self { child, stdin, lines: BufReader::new(stdout).lines() })
    }
}

/// Tells a generator where to send, and what else it is told.
struct Teller {
    endpoints: Arc<Endpoints>,
    pods: Vec<String>,
    port: u16,
}

impl Teller {
    /// Goes on as long as it is let.
    async fn tell(self, mut stdin: ChildStdin, mut told: mpsc::UnboundedReceiver<Control>) -> Infallible {
        let mut changes = self.endpoints.changes();
        let mut current = None;
        loop {
            let now = self.endpoints.of(&self.pods, self.port);
            if current.as_ref() != Some(&now) {
                say(&mut stdin, &Control::Endpoints(now.clone())).await;
                current = Some(now);
            }
            tokio::select! {
                control = told.recv() => match control {
                    Some(control) => say(&mut stdin, &control).await,
                    None => std::future::pending().await,
                },
                changed = changes.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }
}

/// One that does not hear any more is about to be found out by what it says.
async fn say(stdin: &mut ChildStdin, control: &Control) {
    if let Ok(line) = serde_json::to_string(control) {
        let _ = stdin.write_all((line + "\n").as_bytes()).await;
    }
}

/// Hears a generator.
struct Reader {
    recorder: Recorder,
    of: GeneratorRef,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    done: bool,
}

impl Reader {
    /// Hears it to its end; answers whether that was a good one.
    async fn read(mut self, mut kill: watch::Receiver<bool>) -> bool {
        let mut why = String::new();
        let mut killed = false;
        loop {
            let line = tokio::select! {
                line = self.lines.next_line() => line,
                _ = kill.wait_for(|kill| *kill), if !killed => {
                    killed = true;
                    "it went on after it was stopped, and was killed".clone_into(&mut why);
                    let _ = self.child.start_kill();
                    continue;
                }
            };
            match line {
                Ok(Some(line)) => {
                    if let Err(error) = self.take(&line) {
                        why = format!("it cannot be understood: {error}");
                        let _ = self.child.start_kill();
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    why = format!("it cannot be heard: {error}");
                    let _ = self.child.start_kill();
                    break;
                }
            }
        }
        let status = self.child.wait().await.ok();
        if !self.done {
            self.died(status, why);
        }
        self.done
    }

    fn take(&mut self, line: &str) -> Result<(), serde_json::Error> {
        self.done |= clients::record(&self.recorder, &self.of, serde_json::from_str(line)?);
        Ok(())
    }

    fn died(&self, status: Option<std::process::ExitStatus>, why: String) {
        use std::os::unix::process::ExitStatusExt as _;
        let end = status
            .and_then(|status| status.code().map(End::Exited).or_else(|| status.signal().map(End::Signaled)));
        clients::died(&self.recorder, &self.of, end, why);
    }
}
