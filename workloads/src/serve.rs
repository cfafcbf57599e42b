//! `serve`: a small HTTP/1.1 server that takes memory per request.

use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exit137_workload::Serve;

use crate::clock;
use crate::memory::{Memory, page_ceil, page_floor};
use crate::report::{self, Level, STEP};

mod http;

/// Connections served at the same time; more are closed at once.
const CONNECTIONS: u64 = 256;

struct Server {
    settings: Serve,
    began: u64,
    connections: AtomicU64,
    books: Mutex<Books>,
}

/// What all requests together take, in bytes.
struct Books {
    /// Promised to requests in flight, to the page.
    promised: u64,
    /// Of that, so much is there already.
    held: u64,
    /// Leaked by the requests so far, to the byte: many that leak less than a page share one.
    leaked: u64,
    leak: Memory,
    said: Level,
}

pub fn run(serve: &Serve) -> Result<u8, String> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, serve.port))
        .map_err(|error| format!("cannot listen on port {}: {error}", serve.port))?;
    report::event("listening", &serve.port.to_string());
    let books = Books { promised: 0, held: 0, leaked: 0, leak: Memory::new()?, said: Level::default() };
    let server = Arc::new(Server {
        settings: serve.clone(),
        began: clock::now_ns(),
        connections: AtomicU64::new(0),
        books: Mutex::new(books),
    });
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if server.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            server.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let serving = Arc::clone(&server);
        let spawned = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
            // A client that breaks off is no reason to stop serving the others.
            let _ = serving.connection(&stream);
            serving.connections.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            // Under a limit of processes: this connection is closed, the others are served.
            server.connections.fetch_sub(1, Ordering::Relaxed);
            report::problem(&format!("cannot start a thread for a connection: {error}"));
        }
    }
    Ok(0)
}

impl Server {
    fn connection(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = http::read(&mut reader)? {
            let (status, body) =
                request.path.as_deref().map_or(("400 Bad Request", "not HTTP\n"), |path| self.answer(path));
            stream.write_all(http::response(&request, status, body).as_bytes())?;
            if !request.keep_alive {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, path: &str) -> (&'static str, &'static str) {
        if path == "/healthz" {
            let age = (clock::now_ns() - self.began) / 1_000_000;
            let unhealthy = self.settings.unhealthy_after.is_some_and(|after| age >= after.ms);
            return if unhealthy { ("500 Internal Server Error", "unhealthy\n") } else { ("200 OK", "ok\n") };
        }
        let hold = page_ceil(self.settings.hold_per_request.0);
        if !self.books().admit(hold, self.settings.leak_per_request.0, self.settings.cap.0) {
            return ("503 Service Unavailable", "the cap is reached\n");
        }
        let worked = self.work(hold);
        self.books().promised -= hold;
        match worked {
            Ok(()) => ("200 OK", "done\n"),
            Err(problem) => {
                report::problem(&problem);
                ("500 Internal Server Error", "no memory\n")
            }
        }
    }

    /// Leaks, takes, waits and gives back, as one request does.
    fn work(&self, hold: u64) -> Result<(), String> {
        self.books().leak()?;
        let mut in_flight = Memory::new()?;
        let taken = self.take(&mut in_flight, hold);
        if taken.is_ok() {
            clock::sleep_ms(self.settings.hold_for.ms);
        }
        let given_back = in_flight.held();
        drop(in_flight);
        self.books().changed(given_back, 0);
        taken
    }

    fn take(&self, in_flight: &mut Memory, hold: u64) -> Result<(), String> {
        while in_flight.held() < hold {
            let before = in_flight.held();
            let taken = in_flight.resize(hold.min(before + STEP));
            self.books().changed(before, in_flight.held());
            taken?;
        }
        Ok(())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Whether a request may take so much more, and if so, promises it.
    fn admit(&mut self, hold: u64, leak: u64, cap: u64) -> bool {
        let leaked = self.leaked.saturating_add(leak);
        let admitted =
            self.promised.saturating_add(hold).saturating_add(page_ceil(leaked)) <= page_floor(cap);
        if admitted {
            (self.promised, self.leaked) = (self.promised + hold, leaked);
        }
        admitted
    }

    /// Takes what has been leaked so far.
    fn leak(&mut self) -> Result<(), String> {
        self.leak.resize(self.leaked)?;
        self.changed(0, 0);
        Ok(())
    }

    /// A request holds `after` instead of `before`.
    fn changed(&mut self, before: u64, after: u64) {
        self.held = self.held - before + after;
        self.said.now(self.held + self.leak.held());
    }
}
