//! `serve`: a small HTTP/1.1 server that takes memory per request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exit137_workload::Serve;

use crate::clock;
use crate::memory::Memory;

/// Connections served at the same time; more are closed at once.
const CONNECTIONS: u64 = 256;
/// The longest request head that is read.
const LONGEST_HEAD: u64 = 16 * 1024;
/// The longest request body that is read past.
const LONGEST_BODY: u64 = 1 << 20;

struct Server {
    settings: Serve,
    began: u64,
    connections: AtomicU64,
    taken: AtomicU64,
    leaked: Mutex<Vec<Memory>>,
}

pub fn run(serve: &Serve) -> Result<u8, String> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, serve.port))
        .map_err(|error| format!("cannot listen on port {}: {error}", serve.port))?;
    let server = Arc::new(Server {
        settings: serve.clone(),
        began: clock::now_ns(),
        connections: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        leaked: Mutex::default(),
    });
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if server.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            server.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let server = Arc::clone(&server);
        let spawned = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
            // A client that breaks off is no reason to stop serving the others.
            let _ = server.connection(&stream);
            server.connections.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            return Err(format!("cannot start a thread for a connection: {error}"));
        }
    }
    Ok(0)
}

impl Server {
    fn connection(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.by_ref().take(LONGEST_HEAD).read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let (length, keep_alive) = headers(&mut reader)?;
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
            let (status, body) = self.answer(&path);
            let connection = if keep_alive { "keep-alive" } else { "close" };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
                body.len()
            );
            let mut stream = stream;
            stream.write_all((head + body).as_bytes())?;
            if !keep_alive {
                return Ok(());
            }
        }
    }

    fn answer(&self, path: &str) -> (&'static str, &'static str) {
        if path == "/healthz" {
            let age = (clock::now_ns() - self.began) / 1_000_000;
            let unhealthy = self.settings.unhealthy_after.is_some_and(|after| age >= after.ms);
            return if unhealthy { ("500 Internal Server Error", "unhealthy\n") } else { ("200 OK", "ok\n") };
        }
        let (hold, leak) = (self.settings.hold_per_request.0, self.settings.leak_per_request.0);
        if self.taken.fetch_add(hold + leak, Ordering::SeqCst) + hold + leak > self.settings.cap.0 {
            self.taken.fetch_sub(hold + leak, Ordering::SeqCst);
            return ("503 Service Unavailable", "the cap is reached\n");
        }
        let served = self.work(hold, leak);
        self.taken.fetch_sub(if served.is_ok() { hold } else { hold + leak }, Ordering::SeqCst);
        if served.is_ok() { ("200 OK", "done\n") } else { ("500 Internal Server Error", "no memory\n") }
    }

    fn work(&self, hold: u64, leak: u64) -> Result<(), String> {
        let mut in_flight = Memory::new()?;
        in_flight.resize(hold)?;
        if leak > 0 {
            let mut leaked = Memory::new()?;
            leaked.resize(leak)?;
            self.leaked.lock().unwrap_or_else(PoisonError::into_inner).push(leaked);
        }
        clock::sleep_ms(self.settings.hold_for.ms);
        Ok(())
    }
}

/// Reads the headers: how long the body is, and whether the connection stays.
fn headers(reader: &mut BufReader<&TcpStream>) -> std::io::Result<(u64, bool)> {
    let (mut length, mut keep_alive, mut left) = (0, true, LONGEST_HEAD);
    loop {
        let mut line = String::new();
        let read = reader.by_ref().take(left).read_line(&mut line)?;
        left = left.saturating_sub(read as u64);
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((length, keep_alive && left > 0));
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0).min(LONGEST_BODY);
        } else if name.eq_ignore_ascii_case("connection") {
            keep_alive = !value.trim().eq_ignore_ascii_case("close");
        }
    }
}
