//! HTTP/2 with prior knowledge: many requests at a time on a connection.

use std::cell::Cell;
use std::error::Error as _;
use std::future::Future;
use std::rc::Rc;

use exit137_workload::traffic::Outcome;
use hyper::Request;
use hyper::body::Body as _;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;

use super::exchange::{Broken, LONGEST_HEAD, Payload, Seen, Watched};
use crate::clock;

/// Requests at a time on one connection: what servers commonly allow (RFC 9113, section 6.5.2: no fewer than 100). For more of them
/// there is another connection.
const STREAMS: u32 = 100;

/// A connection, driven by a task of its own.
pub struct Http2 {
    sender: SendRequest<Payload>,
    seen: Rc<Seen>,
    streams: Cell<u32>,
    /// Nothing came on it while a request ran out of time.
    dead: Cell<bool>,
}

/// A request on its way: its place on the connection is given back however it ends.
struct Stream<'a> {
    connection: &'a Http2,
    read_before: u64,
    ended: bool,
}

/// Tasks of this thread.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output = ()> + 'static> Executor<F> for Here {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

impl Http2 {
    pub async fn open(stream: Watched) -> Result<Self, Broken> {
        let seen = Rc::clone(&stream.seen);
        let head = u32::try_from(LONGEST_HEAD).unwrap_or(u32::MAX);
        let opened = Builder::new(Here).max_header_list_size(head).handshake(stream.io()).await;
        let (sender, connection) = opened.map_err(|error| broken(&error, &seen, 0, false))?;
        tokio::task::spawn_local(async move {
            // Whoever waits for an answer on it hears of its end.
            let _ = connection.await;
        });
        Ok(Self { sender, seen, streams: Cell::new(0), dead: Cell::new(false) })
    }

    pub fn usable(&self) -> bool {
        !self.dead.get() && !self.sender.is_closed()
    }

    pub fn has_room(&self) -> bool {
        self.usable() && self.streams.get() < STREAMS
    }

    /// Sends a request and reads past its whole answer; tells the status.
    pub async fn send(&self, request: Request<Payload>) -> Result<u16, Broken> {
        self.streams.set(self.streams.get() + 1);
        let before = self.seen.read.get();
        let mut stream = Stream { connection: self, read_before: before, ended: false };
        let answer = self.sender.clone().send_request(request).await;
        let status = match answer {
            Ok(response) => {
                let status = response.status().as_u16();
                let mut body = response.into_body();
                loop {
                    let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
                    match frame {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break Err(broken(&error, &self.seen, before, true)),
                        None => break Ok(status),
                    }
                }
            }
            Err(error) => Err(broken(&error, &self.seen, before, false)),
        };
        stream.ended = true;
        status
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let connection = self.connection;
        connection.streams.set(connection.streams.get().saturating_sub(1));
        // Given up before its end: where nothing at all came meanwhile, nobody may be there any more.
        if !self.ended && connection.seen.read.get() == self.read_before {
            connection.dead.set(true);
        }
    }
}

/// How it broke, before its answer began or in the middle of it.
fn broken(error: &hyper::Error, seen: &Seen, _read: u64, began: bool) -> Broken {
    let at = seen.broken.get().unwrap_or_else(clock::boot_ns);
    let of_h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    let outcome = match of_h2 {
        _ if began => Outcome::Cut,
        // This side ended it, because of what came.
        Some(error) if error.is_library() => Outcome::NotHttp,
        Some(_) | None if error.is_user() => Outcome::NotSent,
        Some(_) | None => Outcome::Reset,
    };
    Broken { outcome, at }
}
