//! The traffic generator beside `oha` and `wrk`, all against one and the same server.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use exit137::clock;
use exit137_workload::traffic::{Control, Line};
use rustix::process::{Pid, Signal, kill_process};

use crate::generator::{Running, constant_rate, constant_vus};
use crate::table::{Row, percentile};
use crate::{Measured, peers};

const CONNECTIONS: u32 = 50;
const ROUNDS: u32 = 7;
const SECONDS: u64 = 3;

/// The open model's rate, and for how long each time.
const RATE: u64 = 10_000;
const RATE_SECONDS: u64 = 5;

/// A server that freezes for so long, in so long a load of so many requests per second.
const FROZEN_S: u64 = 5;
const FREEZE_SECONDS: u64 = 20;
const FREEZE_RATE: u64 = 500;

/// So many requests, or as many as there are in so many seconds.
const MANY: u64 = 10_000_000;
const PATIENCE_SECONDS: u64 = 300;

pub fn measure() -> Measured<Vec<Row>> {
    let Some(program) = peers::ours("http-server") else {
        return Ok(vec![Row::new("traffic", peers::NO_COMPILER)]);
    };
    let mut rows = Vec::new();
    for apart in [true, false] {
        rows.extend(saturation(&program, apart)?);
    }
    rows.extend(freeze(&program)?);
    rows.push(memory(&program)?);
    Ok(rows)
}

/// The server, killed when this is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(mut command: Command) -> Measured<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        Ok(Self { child, port: line.trim().parse()? })
    }

    fn signal(&self, signal: Signal) -> Measured<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // There is nothing else to do with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, on one CPU alone where that is said.
fn on(cpu: Option<u32>, program: &Path) -> Command {
    let Some(cpu) = cpu else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &cpu.to_string()]).arg(program);
    command
}

/// Where `benches/run` puts it, or where it is installed.
fn oha() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/oha");
    if built.is_file() { Some(built) } else { peers::installed("oha") }
}

/// How many requests per second each makes as fast as it can; apart means each side on a CPU of its own, so that the figure is the
/// client's own and not what the scheduler makes of it.
fn saturation(program: &Path, apart: bool) -> Measured<Vec<Row>> {
    let where_it_runs = if apart { "client and server on a CPU each" } else { "on all CPUs" };
    if apart && peers::installed("taskset").is_none() {
        return Ok(vec![Row::new(format!("saturation, {where_it_runs}"), "not measured: no taskset")]);
    }
    let server = Server::start(on(apart.then_some(1), program))?;
    let client = apart.then_some(0);
    let (oha, wrk) = (oha(), peers::installed("wrk"));
    let (mut ours, mut of_oha, mut of_wrk) = (Vec::new(), Vec::new(), Vec::new());
    // In turns, so that what else the machine does falls on all of them alike.
    for _ in 0..ROUNDS {
        ours.push(our_rate(client, &server)?);
        of_oha.extend(oha.as_ref().map(|oha| oha_rate(client, oha, &server)).transpose()?);
        of_wrk.extend(wrk.as_ref().map(|wrk| wrk_rate(client, wrk, &server)).transpose()?);
    }
    let row = |name: &str, peer: &[f64], there: bool| {
        let row = Row::new(
            format!("saturation, {CONNECTIONS} connections, {where_it_runs}, against {name}"),
            format!("{:.0}/s", percentile(&ours, 0.5)),
        );
        if !there {
            return (row.no_peer(&format!("no {name}: not measured")), None);
        }
        let ratios: Vec<f64> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
        let ratio = percentile(&ratios, 0.5);
        (row.peer(format!("{name} {:.0}/s", percentile(peer, 0.5)), ratio), Some(ratio))
    };
    let (against_oha, ratio) = row("oha", &of_oha, oha.is_some());
    let against_oha = match ratio {
        Some(ratio) => against_oha.aim("ratio >= 1.2", ratio >= 1.2),
        None => against_oha,
    };
    Ok(vec![against_oha, row("wrk", &of_wrk, wrk.is_some()).0])
}

#[expect(clippy::cast_precision_loss, reason = "less than 2^52 requests")]
fn our_rate(cpu: Option<u32>, server: &Server) -> Measured<f64> {
    let command = on(cpu, &peers::workload()?);
    let load = constant_vus(CONNECTIONS, SECONDS);
    let (whole, _) = Running::start(command, load, server.port)?.end()?;
    if whole.outcomes.failed() > 0 {
        return Err(format!("requests failed: {:?}", whole.outcomes).into());
    }
    Ok(whole.outcomes.good() as f64 / SECONDS as f64)
}

fn oha_rate(cpu: Option<u32>, oha: &Path, server: &Server) -> Measured<f64> {
    let said = oha_says(on(cpu, oha), SECONDS, &[], server)?;
    Ok(said
        .pointer("/summary/requestsPerSec")
        .and_then(serde_json::Value::as_f64)
        .ok_or("oha says no rate")?)
}

fn oha_says(mut oha: Command, seconds: u64, args: &[&str], server: &Server) -> Measured<serde_json::Value> {
    let seconds = format!("{seconds}s");
    let connections = CONNECTIONS.to_string();
    oha.args(["--no-tui", "--output-format", "json", "-c", &connections, "-z", &seconds]);
    let output = oha.args(args).arg(server.url()).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn wrk_rate(cpu: Option<u32>, wrk: &Path, server: &Server) -> Measured<f64> {
    let threads = if cpu.is_some() { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let mut wrk = on(cpu, wrk);
    wrk.args(["-t", &threads.to_string(), "-c", &CONNECTIONS.to_string(), "-d", &SECONDS.to_string()]);
    let output = wrk.arg(server.url()).output()?;
    let said = String::from_utf8(output.stdout)?;
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).ok_or("wrk says no rate")?;
    Ok(rate.trim().parse()?)
}

/// How late the open model sends, beside how late a bare loop wakes that sleeps to the same times: in turns, and the median, for a
/// machine that others share stalls now and then.
pub fn scheduling() -> Measured<Vec<Row>> {
    let (Some(program), Some(sleeper)) = (peers::ours("http-server"), peers::ours("sleeper")) else {
        return Ok(vec![Row::new("scheduling error", peers::NO_COMPILER)]);
    };
    let server = Server::start(Command::new(program))?;
    let (mut half, mut late, mut most, mut bare, mut dropped) = (vec![], vec![], vec![], vec![], 0);
    for _ in 0..ROUNDS {
        let load = constant_rate(RATE, RATE_SECONDS, 1000);
        let (whole, done) = Running::start(Command::new(peers::workload()?), load, server.port)?.end()?;
        for (share, into) in [(0.5, &mut half), (0.99, &mut late), (1.0, &mut most)] {
            into.push(f64::from(u32::try_from(done.lateness.quantile(share).ok_or("nothing was sent")?)?));
        }
        dropped += whole.dropped;
        bare.push(bare_p99(&sleeper)?);
    }
    let p99 = percentile(&late, 0.5);
    let value = format!(
        "p50 {:.0} µs, p99 {p99:.0} µs ({:.0} to {:.0} in {ROUNDS} rounds), at most {:.0} µs, {dropped} dropped",
        percentile(&half, 0.5),
        percentile(&late, 0.0),
        percentile(&late, 1.0),
        percentile(&most, 1.0),
    );
    let floor = percentile(&bare, 0.5);
    Ok(vec![
        Row::new(format!("scheduling error at {RATE}/s"), value)
            .peer(format!("bare C sleeper p99 {floor:.0} µs"), p99 / floor)
            .aim("p99 < 500 µs, 0 dropped", p99 < 500.0 && dropped == 0),
    ])
}

fn bare_p99(sleeper: &Path) -> Measured<f64> {
    let output = Command::new(sleeper).args([RATE.to_string(), RATE_SECONDS.to_string()]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// What each says of a server that freezes. Of all requests the share that is due while it does waits for what is left of that.
fn freeze(program: &Path) -> Measured<Vec<Row>> {
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let (frozen, whole) = (FROZEN_S as f64, FREEZE_SECONDS as f64);
    let truth = frozen * (1.0 - 0.01 * whole / frozen);
    let what = format!("p99 of {FREEZE_RATE}/s for {whole} s, the server frozen for {frozen} s");
    let mut rows = Vec::new();
    let server = Server::start(Command::new(program))?;
    let load = constant_rate(FREEZE_RATE, FREEZE_SECONDS, 10_000);
    let running = Running::start(Command::new(peers::workload()?), load, server.port)?;
    let (window, _) = frozen_while(&server, || running.end())?;
    let p99 = window.latency.quantile(0.99).ok_or("nothing was answered")?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of seconds")]
    let p99 = p99 as f64 / 1e6;
    rows.push(
        Row::new(what.clone(), format!("{p99:.2} s, {} failed", window.outcomes.failed()))
            .peer(format!("arithmetic {truth:.2} s"), p99 / truth)
            .aim("within 5 %", (p99 / truth - 1.0).abs() < 0.05),
    );
    drop(server);
    for (name, more) in [("oha", None), ("oha --latency-correction", Some("--latency-correction"))] {
        let row = format!("  the same by {name}");
        let Some(oha) = oha() else {
            rows.push(Row::new(row, "no oha: not measured"));
            continue;
        };
        let server = Server::start(Command::new(program))?;
        let rate = FREEZE_RATE.to_string();
        let args: Vec<&str> = ["-q", &rate].into_iter().chain(more).collect();
        let said = frozen_while(&server, || oha_says(Command::new(oha), FREEZE_SECONDS, &args, &server))?;
        let p99 = said.pointer("/latencyPercentiles/p99").and_then(serde_json::Value::as_f64);
        let p99 = p99.ok_or("oha says no p99")?;
        rows.push(Row::new(row, format!("{p99:.2} s")).peer(format!("arithmetic {truth:.2} s"), p99 / truth));
    }
    Ok(rows)
}

/// Does this; a quarter into the load the server is stopped, and goes on later.
fn frozen_while<T>(server: &Server, run: impl FnOnce() -> Measured<T>) -> Measured<T> {
    std::thread::scope(|scope| {
        let freeze = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(FREEZE_SECONDS / 4));
            let stopped = server.signal(Signal::STOP).map_err(|error| error.to_string());
            std::thread::sleep(Duration::from_secs(FROZEN_S));
            stopped.and(server.signal(Signal::CONT).map_err(|error| error.to_string()))
        });
        let outcome = run();
        freeze.join().map_err(|_| "the thread that freezes the server panicked")??;
        outcome
    })
}

/// What is resident after ten million requests, as fast as it can.
fn memory(program: &Path) -> Measured<Row> {
    let server = Server::start(Command::new(program))?;
    let load = constant_vus(CONNECTIONS, PATIENCE_SECONDS);
    let mut running = Running::start(Command::new(peers::workload()?), load, server.port)?;
    let (mut sent, began) = (0, clock::boot_ns());
    while sent < MANY {
        match running.next()? {
            Line::Window(window) => sent += window.sent,
            Line::Done(_) => break,
            Line::Ready(_) => {}
        }
    }
    let (now, most) = (running.memory("VmRSS:"), running.memory("VmHWM:"));
    let took = (clock::boot_ns() - began) / 1_000_000_000;
    running.tell(&Control::Stop)?;
    running.end()?;
    let (now, most) = (now?, most?);
    let what = format!("memory of the generator after {:.1} million requests in {took} s", millions(sent));
    Ok(Row::new(what, format!("{now:.1} MiB resident, {most:.1} at most")).aim("< 30 MiB", most < 30.0))
}

#[expect(clippy::cast_precision_loss, reason = "less than 2^52 requests")]
fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}
