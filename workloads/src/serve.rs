//! `serve`: a small HTTP/1.1 server that takes memory per request. A thread for each connection.

use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exit137_workload::Serve;

use crate::clock;
use crate::memory::Memory;
use crate::report::{self, STEP};

mod books;
mod cache;
mod http;
mod queue;

use books::{Books, Refused};
use queue::Queue;

/// Connections that the kernel has made and nobody has accepted yet (it takes `net.core.somaxconn` where that is less): a
/// whole crowd that comes back at once waits there, and not for its first packet to be sent again a second later.
const BACKLOG: i32 = 4096;
/// A request's head is read through this; a longer one takes several rounds.
const BUFFER: usize = 1024;

const OK: &str = "200 OK";
const FAILED: &str = "500 Internal Server Error";
const UNAVAILABLE: &str = "503 Service Unavailable";

/// A status and a body.
type Answer = (&'static str, &'static str);

struct Server {
    settings: Serve,
    began: u64,
    connections: AtomicU32,
    books: Mutex<Books>,
    queue: Queue,
}

pub fn run(serve: &Serve) -> Result<u8, String> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, serve.port))
        .map_err(|error| format!("cannot listen on port {}: {error}", serve.port))?;
    rustix::net::listen(&listener, BACKLOG)
        .map_err(|error| format!("cannot listen on port {}: {error}", serve.port))?;
    report::event("listening", &serve.port.to_string());
    let server = Arc::new(Server {
        settings: serve.clone(),
        began: clock::now_ns(),
        connections: AtomicU32::new(0),
        books: Mutex::new(Books::new(serve)?),
        queue: Queue::new(serve.workers, serve.queue_max),
    });
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if server.connections.fetch_add(1, Ordering::Relaxed) >= serve.connections() {
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
        let mut reader = BufReader::with_capacity(BUFFER, stream);
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

    fn answer(&self, path: &str) -> Answer {
        match path {
            "/healthz" => self.health(),
            "/readyz" if self.age_ms() < self.settings.ready_after.ms => (UNAVAILABLE, "not ready yet\n"),
            "/readyz" => (OK, "ready\n"),
            _ => self.request(path),
        }
    }

    fn health(&self) -> Answer {
        if self.settings.healthz_queued {
            let Some(mut place) = self.queue.join() else { return (UNAVAILABLE, "the queue is full\n") };
            place.wait();
        }
        if self.settings.collect_for.ms > 0 {
            // During a collection nothing is answered.
            drop(self.books());
        }
        let unhealthy = self.settings.unhealthy_after.is_some_and(|after| self.age_ms() >= after.ms);
        if unhealthy { (FAILED, "unhealthy\n") } else { (OK, "ok\n") }
    }

    fn request(&self, path: &str) -> Answer {
        let Some(mut place) = self.queue.join() else { return (UNAVAILABLE, "the queue is full\n") };
        match self.books().admit(path) {
            Ok(()) => {}
            Err(Refused::Cap) => return (UNAVAILABLE, "the cap is reached\n"),
            Err(Refused::Heap) => return (FAILED, "the heap is full\n"),
        }
        let worked = self.work(|| place.wait());
        self.books().over();
        match worked {
            Ok(()) => (OK, "done\n"),
            Err(problem) => {
                report::problem(&problem);
                (FAILED, "no memory\n")
            }
        }
    }

    /// Takes, waits for a worker, works, and gives back, as one request does.
    fn work(&self, wait: impl FnOnce()) -> Result<(), String> {
        let mut in_flight = Memory::new()?;
        let taken = self.hold(&mut in_flight);
        wait();
        let taken = taken.and_then(|()| self.books().take());
        if taken.is_ok() {
            clock::sleep_ms(self.settings.hold_for.ms);
        }
        let given_back = in_flight.held();
        drop(in_flight);
        self.books().changed(given_back, 0);
        taken
    }

    fn hold(&self, in_flight: &mut Memory) -> Result<(), String> {
        let hold = self.books().hold();
        while in_flight.held() < hold {
            let before = in_flight.held();
            let taken = in_flight.resize(hold.min(before + STEP));
            self.books().changed(before, in_flight.held());
            taken?;
        }
        Ok(())
    }

    fn age_ms(&self) -> u64 {
        (clock::now_ns() - self.began) / 1_000_000
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
