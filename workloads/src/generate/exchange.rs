//! A request and its answer, whatever the version of HTTP, and how it breaks.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use exit137_workload::traffic::{HttpVersion, Outcome};
use hyper::Request;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::endpoints::{Place, Template};
use super::http1::{Http1, Unanswered};
use super::http2::Http2;
use super::socket::own_fault;
use crate::clock;

/// The head of an answer may be so long: a server that never ends it is cut off.
pub const LONGEST_HEAD: usize = 64 * 1024;

/// How and when an exchange broke.
pub struct Broken {
    pub outcome: Outcome,
    pub at: u64,
}

impl Broken {
    pub fn now(outcome: Outcome) -> Self {
        Self { outcome, at: clock::boot_ns() }
    }
}

/// An endpoint, and this thread's connections to it.
pub struct Target {
    pub place: Arc<Place>,
    http: HttpVersion,
    /// Idle, the one used last at the end.
    #[expect(clippy::vec_box, reason = "it is large, and goes in and out for every request")]
    idle: RefCell<Vec<Box<Http1>>>,
    shared: RefCell<Vec<Rc<Http2>>>,
    /// One at a time makes a connection that others will share.
    connecting: Mutex<()>,
    gone: Cell<bool>,
}

impl Target {
    pub fn new(place: Arc<Place>, http: HttpVersion) -> Self {
        Self {
            place,
            http,
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: Mutex::new(()),
            gone: Cell::new(false),
        }
    }

    /// It is on the list no more: no connection to it is used again.
    pub fn leave(&self) {
        self.gone.set(true);
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }

    /// Sends a request and reads its whole answer; tells the status.
    pub async fn exchange(&self, template: &Template) -> Result<u16, Broken> {
        match self.http {
            HttpVersion::Http1 => self.by_http1(template).await,
            HttpVersion::Http2 => {
                let connection = self.shared_connection().await?;
                let status = connection.send(template.request()).await;
                if !connection.usable() {
                    self.shared.borrow_mut().retain(|other| !Rc::ptr_eq(other, &connection));
                }
                status
            }
        }
    }

    async fn by_http1(&self, template: &Template) -> Result<u16, Broken> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let used = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => Box::new(Http1::open(self.connect().await?).await?),
            };
            match connection.send(template.request()).await {
                Ok(status) => {
                    if !self.gone.get() && connection.reusable() {
                        self.idle.borrow_mut().push(connection);
                    }
                    return Ok(status);
                }
                // The server closed it while it was idle, which is its right: nothing of this request was sent.
                Err(Unanswered::Unsent { .. }) if used => {}
                Err(Unanswered::Unsent { spoke: true }) => return Err(Broken::now(Outcome::NotHttp)),
                Err(Unanswered::Unsent { spoke: false }) => return Err(Broken::now(Outcome::Reset)),
                Err(Unanswered::Broken(broken)) => return Err(broken),
            }
        }
    }

    async fn shared_connection(&self) -> Result<Rc<Http2>, Broken> {
        let with_room = || self.shared.borrow().iter().find(|connection| connection.has_room()).cloned();
        if let Some(connection) = with_room() {
            return Ok(connection);
        }
        let _alone = self.connecting.lock().await;
        if let Some(connection) = with_room() {
            return Ok(connection);
        }
        let connection = Rc::new(Http2::open(self.connect().await?).await?);
        if !self.gone.get() {
            let mut shared = self.shared.borrow_mut();
            shared.retain(|connection| connection.usable());
            shared.push(Rc::clone(&connection));
        }
        Ok(connection)
    }

    async fn connect(&self) -> Result<Watched, Broken> {
        let connected = self.place.sockets.connect(self.place.address).await;
        connected.map(Watched::new).map_err(|error| {
            let kind = error.kind();
            Broken::now(if own_fault(&error) {
                Outcome::NotSent
            } else if kind == io::ErrorKind::TimedOut {
                Outcome::TimedOut
            } else if kind == io::ErrorKind::ConnectionReset {
                Outcome::Reset
            } else {
                Outcome::Refused
            })
        })
    }
}

impl Template {
    fn request(&self) -> Request<Payload> {
        let mut request = Request::new(Payload(Some(self.body.clone()).filter(|body| !body.is_empty())));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// The body of a request: all of it at once, or none.
pub struct Payload(Option<Bytes>);

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// What a connection has seen.
#[derive(Default)]
pub struct Seen {
    /// So many bytes have come.
    pub read: Cell<u64>,
    /// When it was closed or reset by the other side, read just after the socket said so.
    pub broken: Cell<Option<u64>>,
}

impl Seen {
    fn note(&self, polled: &Poll<io::Result<()>>, read: usize) {
        match polled {
            Poll::Ready(Ok(())) if read > 0 => self.read.set(self.read.get() + read as u64),
            Poll::Ready(Ok(()) | Err(_)) => self.broke(),
            Poll::Pending => {}
        }
    }

    fn broke(&self) {
        if self.broken.get().is_none() {
            self.broken.set(Some(clock::boot_ns()));
        }
    }

    /// How an exchange broke that began when so much had been read.
    pub fn broken_since(&self, read: u64) -> Broken {
        let outcome = if self.read.get() > read { Outcome::Cut } else { Outcome::Reset };
        Broken { outcome, at: self.broken.get().unwrap_or_else(clock::boot_ns) }
    }
}

/// A connection whose every read is noted.
pub struct Watched {
    stream: TcpStream,
    pub seen: Rc<Seen>,
}

impl Watched {
    fn new(stream: TcpStream) -> Self {
        Self { stream, seen: Rc::default() }
    }

    /// As hyper wants it.
    pub fn io(self) -> TokioIo<Self> {
        TokioIo::new(self)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.seen.note(&polled, buf.filled().len() - before);
        polled
    }
}

impl Watched {
    fn wrote<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = polled {
            self.seen.broke();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
