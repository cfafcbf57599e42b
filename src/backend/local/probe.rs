//! Probes and hooks, with the kubelet's semantics (`pkg/kubelet/prober/worker.go:doProbe`).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::helper::Helper;
use super::network::POD_ADDRESS;
use super::protocol::{ExecSpec, ProcessSpec};
use crate::scenario::{Handler, Probe};

/// Where a container's probes and hooks act.
#[derive(Clone, Debug)]
pub struct Place {
    /// The container's main process.
    pub main_pid: u32,
    /// The pod's pause process, whose network namespace is the pod's.
    pub pause_pid: u32,
    /// How a process of the container is run; its command is replaced.
    pub process: ProcessSpec,
}

/// A probe failed so often in a row.
#[derive(Debug)]
pub struct Failure {
    /// What it said.
    pub message: String,
    /// How often.
    pub failures: u32,
}

/// Probes until it has failed as often as it may; tells each failure. A startup probe ends with `Ok` at its first success.
/// The initial delay counts from the container's start, however long another probe has held this one back.
pub async fn watch(
    place: &Place,
    probe: &Probe,
    started: Instant,
    until_success: bool,
    mut failed: impl FnMut(&Failure),
) -> Result<(), Failure> {
    sleep_until(started + Duration::from_secs(probe.initial_delay_seconds.into())).await;
    let mut next = Instant::now();
    let (mut failures, mut successes) = (0, 0);
    loop {
        match attempt(place, &probe.handler, probe.timeout_seconds).await {
            Ok(()) => {
                (failures, successes) = (0, successes + 1);
                if until_success && successes >= probe.success_threshold {
                    return Ok(());
                }
            }
            Err(message) => {
                (failures, successes) = (failures + 1, 0);
                let failure = Failure { message, failures };
                failed(&failure);
                if failures >= probe.failure_threshold {
                    return Err(failure);
                }
            }
        }
        turn(&mut next, probe).await;
    }
}

/// Probes for ever and tells whenever it has become ready or unready: it begins unready.
pub async fn readiness(place: &Place, probe: &Probe, started: Instant, mut tell: impl FnMut(bool)) {
    sleep_until(started + Duration::from_secs(probe.initial_delay_seconds.into())).await;
    let (mut ready, mut in_a_row) = (false, 0);
    let mut next = Instant::now();
    loop {
        let succeeded = attempt(place, &probe.handler, probe.timeout_seconds).await.is_ok();
        in_a_row = if succeeded == ready { 0 } else { in_a_row + 1 };
        let threshold = if ready { probe.failure_threshold } else { probe.success_threshold };
        if in_a_row >= threshold.max(1) {
            (ready, in_a_row) = (succeeded, 0);
            tell(ready);
        }
        turn(&mut next, probe).await;
    }
}

/// Waits for a probe's next turn; one that is missed is not made up for.
async fn turn(next: &mut Instant, probe: &Probe) {
    *next = (*next + Duration::from_secs(probe.period_seconds.into())).max(Instant::now());
    sleep_until(*next).await;
}

/// Does once what a probe or a hook says.
pub async fn attempt(place: &Place, handler: &Handler, timeout_seconds: u32) -> Result<(), String> {
    let limit = Duration::from_secs(timeout_seconds.into());
    match timeout(limit, act(place, handler)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {timeout_seconds} s")),
    }
}

async fn act(place: &Place, handler: &Handler) -> Result<(), String> {
    match handler {
        Handler::Exec(command) => exec(place, command).await,
        Handler::TcpSocket { host, port } => connect(place, host.as_deref(), *port).await.map(drop),
        Handler::HttpGet { host, port, path, headers } => {
            let stream = connect(place, host.as_deref(), *port).await?;
            let status =
                get(stream, host.as_deref(), path, headers).await.map_err(|error| error.to_string())?;
            // 200 to 399 (`pkg/probe/http/http.go`).
            if (200..400).contains(&status) {
                Ok(())
            } else {
                Err(format!("HTTP probe failed with statuscode: {status}"))
            }
        }
        Handler::Sleep(seconds) => {
            sleep(Duration::from_secs((*seconds).into())).await;
            Ok(())
        }
    }
}

async fn exec(place: &Place, command: &[String]) -> Result<(), String> {
    let process = ProcessSpec { command: command.to_vec(), ..place.process.clone() };
    let spec = ExecSpec { main_pid: place.main_pid, process };
    let run = async { Helper::start("__exec", &spec).await?.output_by_itself().await };
    match run.await {
        Ok((true, _)) => Ok(()),
        Ok((false, said)) => Err(format!("command failed: {}", said.trim())),
        Err(error) => Err(format!("command could not be run: {error}")),
    }
}

async fn connect(place: &Place, host: Option<&str>, port: u16) -> Result<TcpStream, String> {
    let address = match host {
        Some(host) => host
            .parse::<IpAddr>()
            .map_err(|_| format!("host {host:?} is not an IP address; names are not resolved here"))?,
        None => POD_ADDRESS.into(),
    };
    let pid = place.pause_pid;
    let socket = tokio::task::spawn_blocking(move || socket_in(pid, address))
        .await
        .map_err(|error| error.to_string())?;
    let socket = socket.map_err(|error| format!("no socket in the pod's network: {error}"))?;
    socket
        .connect(SocketAddr::new(address, port))
        .await
        .map_err(|error| format!("dial tcp {address}:{port}: {error}"))
}

/// A socket belongs to the network namespace that its thread was in when it was made. So a thread goes there, makes it, and
/// ends there.
fn socket_in(pid: u32, address: IpAddr) -> std::io::Result<TcpSocket> {
    let namespace = OwnedFd::from(std::fs::File::open(format!("/proc/{pid}/ns/net"))?);
    let made = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let domain = if address.is_ipv4() {
            rustix::net::AddressFamily::INET
        } else {
            rustix::net::AddressFamily::INET6
        };
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        Ok::<_, std::io::Error>(rustix::net::socket_with(
            domain,
            rustix::net::SocketType::STREAM,
            flags,
            None,
        )?)
    });
    let socket =
        made.join().map_err(|_| std::io::Error::other("the thread that makes sockets panicked"))??;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

async fn get(
    mut stream: TcpStream,
    host: Option<&str>,
    path: &str,
    headers: &[(String, String)],
) -> std::io::Result<u16> {
    let host = host.map_or_else(|| POD_ADDRESS.to_string(), str::to_owned);
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/exit137\r\nConnection: close\r\n"
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all((request + "\r\n").as_bytes()).await?;
    let mut answer = [0; 64];
    let mut read = 0;
    while read < 12 {
        let more = stream.read(answer.get_mut(read..).unwrap_or_default()).await?;
        if more == 0 {
            break;
        }
        read += more;
    }
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status
        .filter(|_| answer.starts_with(b"HTTP/1."))
        .ok_or_else(|| std::io::Error::other("malformed HTTP response"))
}
