//! HTTP/1.1: one request at a time on a connection.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use exit137_workload::traffic::Outcome;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::exchange::{Broken, LONGEST_HEAD, Payload, Seen, Watched};
use crate::clock;

/// A connection. No task of its own drives it: whoever waits for an answer does, and so is woken once for it, not twice.
pub struct Http1 {
    sender: SendRequest<Payload>,
    /// None once it has come to its end. Only when it is gone does hyper let go of a request that it has not sent.
    connection: Option<Connection<TokioIo<Watched>, Payload>>,
    seen: Rc<Seen>,
}

/// Why there is no answer.
pub enum Unanswered {
    /// The connection had ended before: nothing was sent. It may have said something without being asked.
    Unsent { spoke: bool },
    /// It broke.
    Broken(Broken),
}

impl Http1 {
    pub async fn open(stream: Watched) -> Result<Self, Broken> {
        let seen = Rc::clone(&stream.seen);
        // A buffer holds a head, or a part of a body. Requests are small: written as one piece they need no vector.
        let opened = Builder::new().max_buf_size(LONGEST_HEAD).writev(false).handshake(stream.io()).await;
        let (sender, connection) = opened.map_err(|_| Broken::now(Outcome::NotSent))?;
        Ok(Self { sender, connection: Some(connection), seen })
    }

    /// Whether another request may follow.
    pub fn reusable(&mut self) -> bool {
        // It may have to notice first that the answer is over.
        if !self.sender.is_ready() {
            drive(&mut self.connection, &mut Context::from_waker(Waker::noop()));
        }
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request and reads past its whole answer; tells the status.
    pub async fn send(&mut self, request: Request<Payload>) -> Result<u16, Unanswered> {
        let before = self.seen.read.get();
        let mut head = pin!(self.sender.try_send_request(request));
        let mut answer = None;
        let (connection, seen) = (&mut self.connection, &self.seen);
        let mut first = true;
        poll_fn(|cx| {
            // hyper tells the connection of what happens at this end by waking it. Here it is driven anyway, so it is polled
            // without a waker until nothing more happens, and only then so as to be woken by the socket.
            let mut quiet = Context::from_waker(Waker::noop());
            let mut to_be_woken = std::mem::take(&mut first);
            loop {
                drive(connection, if to_be_woken { &mut *cx } else { &mut quiet });
                if answer.is_none()
                    && let Poll::Ready(came) = head.as_mut().poll(&mut quiet)
                {
                    match came {
                        Ok(response) => {
                            answer = Some((response.status().as_u16(), response.into_body()));
                            to_be_woken = false;
                        }
                        Err(mut error) => return Poll::Ready(Err(unanswered(&mut error, seen, before))),
                    }
                    // Asked for before the connection is driven again, so that it hands over what it has.
                }
                if let Some((status, body)) = &mut answer {
                    match read_past(body, &mut quiet) {
                        Poll::Ready(Ok(())) => return Poll::Ready(Ok(*status)),
                        Poll::Ready(Err(_)) => {
                            return Poll::Ready(Err(Unanswered::Broken(seen.broken_since(before))));
                        }
                        Poll::Pending => {}
                    }
                }
                if to_be_woken {
                    return match connection {
                        Some(_) => Poll::Pending,
                        None => Poll::Ready(Err(Unanswered::Broken(seen.broken_since(before)))),
                    };
                }
                to_be_woken = true;
            }
        })
        .await
    }
}

fn drive(connection: &mut Option<Connection<TokioIo<Watched>, Payload>>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|open| Pin::new(open).poll(cx).is_ready()) {
        *connection = None;
    }
}

/// Reads past what there is of a body, up to its end.
fn read_past(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
    while !body.is_end_stream() {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => break,
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(()))
}

fn unanswered(error: &mut TrySendError<Request<Payload>>, seen: &Seen, before: u64) -> Unanswered {
    if error.take_message().is_some() {
        Unanswered::Unsent { spoke: seen.read.get() > before }
    } else {
        Unanswered::Broken(broken(error.error(), seen, before))
    }
}

/// How it broke before the head of the answer was there.
fn broken(error: &hyper::Error, seen: &Seen, before: u64) -> Broken {
    let of_the_socket = error.source().is_some_and(<dyn Error>::is::<io::Error>);
    let closed = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    if closed || of_the_socket || error.is_body_write_aborted() || error.is_shutdown() {
        return seen.broken_since(before);
    }
    let at = clock::boot_ns();
    // A head without an end fills the buffer.
    if seen.read.get() - before >= LONGEST_HEAD as u64 {
        return Broken { outcome: Outcome::Cut, at };
    }
    let outcome = if error.is_user() { Outcome::NotSent } else { Outcome::NotHttp };
    Broken { outcome, at }
}
