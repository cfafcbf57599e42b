//! HTTP/1.1: one request at a time on a connection.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use exit137_workload::traffic::Outcome;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::exchange::{Broken, LONGEST_HEAD, Payload, Seen, Watched};
use crate::clock;

/// A connection. No task of its own drives it: whoever waits for an answer does, and so is woken once for it, not twice.
pub struct Http1 {
    sender: SendRequest<Payload>,
    connection: Connection<TokioIo<Watched>, Payload>,
    seen: Rc<Seen>,
    /// It has come to its end.
    over: bool,
}

/// Why there is no answer.
pub enum Unanswered {
    /// The connection had ended before: nothing was sent.
    Unsent,
    /// It broke.
    Broken(Broken),
}

/// What has come of an answer.
enum Answer {
    Nothing,
    Head(u16, Incoming),
    Whole(u16),
}

impl Http1 {
    pub async fn open(stream: Watched) -> Result<Self, Broken> {
        let seen = Rc::clone(&stream.seen);
        // A buffer holds a head, or a part of a body.
        let opened = Builder::new().max_buf_size(LONGEST_HEAD).handshake(stream.io()).await;
        let (sender, connection) = opened.map_err(|_| Broken::now(Outcome::NotSent))?;
        Ok(Self { sender, connection, seen, over: false })
    }

    /// Whether another request may follow.
    pub fn reusable(&mut self) -> bool {
        // It may have to notice first that the answer is over.
        if !self.over && !self.sender.is_ready() {
            self.drive(&mut Context::from_waker(Waker::noop()));
        }
        !self.over && self.sender.is_ready()
    }

    /// Sends a request and reads past its whole answer; tells the status.
    pub async fn send(&mut self, request: Request<Payload>) -> Result<u16, Unanswered> {
        let before = self.seen.read.get();
        let mut head = pin!(self.sender.try_send_request(request));
        let mut answer = Answer::Nothing;
        let (connection, over, seen) = (&mut self.connection, &mut self.over, &self.seen);
        poll_fn(|cx| {
            loop {
                if !*over {
                    *over = Pin::new(&mut *connection).poll(cx).is_ready();
                }
                // Nothing comes but from the connection, which is driven here: no need to be woken for it.
                let mut unwoken = Context::from_waker(Waker::noop());
                let before_it = std::mem::replace(&mut answer, Answer::Nothing);
                let moved = match before_it {
                    Answer::Nothing => match head.as_mut().poll(&mut unwoken) {
                        Poll::Ready(Ok(response)) => {
                            let status = response.status().as_u16();
                            let body = response.into_body();
                            answer = if body.is_end_stream() {
                                Answer::Whole(status)
                            } else {
                                Answer::Head(status, body)
                            };
                            true
                        }
                        Poll::Ready(Err(mut error)) => {
                            let unsent = error.take_message().is_some() && seen.read.get() == before;
                            return Poll::Ready(Err(if unsent {
                                Unanswered::Unsent
                            } else {
                                Unanswered::Broken(broken(error.error(), seen, before))
                            }));
                        }
                        Poll::Pending => false,
                    },
                    Answer::Head(status, mut body) => match read_past(&mut body, &mut unwoken) {
                        Poll::Ready(Ok(true)) => {
                            answer = Answer::Whole(status);
                            true
                        }
                        Poll::Ready(Ok(false)) => {
                            answer = Answer::Head(status, body);
                            true
                        }
                        Poll::Ready(Err(_)) => {
                            return Poll::Ready(Err(Unanswered::Broken(seen.broken_since(before))));
                        }
                        Poll::Pending => {
                            answer = Answer::Head(status, body);
                            false
                        }
                    },
                    Answer::Whole(status) => return Poll::Ready(Ok(status)),
                };
                if !moved {
                    if *over {
                        return Poll::Ready(Err(Unanswered::Broken(seen.broken_since(before))));
                    }
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        self.over = Pin::new(&mut self.connection).poll(cx).is_ready();
    }
}

/// Reads past what there is of a body: whether that was the end of it, or pending if there was nothing.
fn read_past(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<hyper::Result<bool>> {
    let mut read = false;
    loop {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(_))) if body.is_end_stream() => return Poll::Ready(Ok(true)),
            Poll::Ready(Some(Ok(_))) => read = true,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => return Poll::Ready(Ok(true)),
            Poll::Pending if read => return Poll::Ready(Ok(false)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// How it broke before the head of the answer was there.
fn broken(error: &hyper::Error, seen: &Seen, before: u64) -> Broken {
    let of_the_socket = error.source().is_some_and(|source| source.is::<std::io::Error>());
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
