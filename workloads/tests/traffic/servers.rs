//! Servers of every kind.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// A server's end of a connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// Which one it is, from 0.
    pub number: usize,
}

/// What was asked for.
pub struct Asked {
    pub line: String,
    pub headers: Vec<String>,
    pub body: String,
}

/// Serves each connection so, in a thread of its own; a connection is closed when that is done with it.
pub fn serve(handle: impl Fn(&mut Connection) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                handle(&mut Connection { stream: BufReader::new(stream), number });
            });
        }
    });
    address
}

/// Answers each request so, until the client goes.
pub fn answering(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> SocketAddr {
    serve(move |connection| {
        while let Some(asked) = connection.asked() {
            connection.say(&answer(&asked));
        }
    })
}

/// An answer with a status.
pub fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 2\r\n\r\nok")
}

/// Where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Connection {
    /// Waits for a request; none if there comes no more.
    pub fn asked(&mut self) -> Option<Asked> {
        let mut line = String::new();
        let mut headers = Vec::new();
        self.stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut length = 0;
        loop {
            let mut header = String::new();
            self.stream.read_line(&mut header).ok().filter(|read| *read > 0)?;
            let header = header.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            headers.push(header.to_owned());
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Asked { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).unwrap() })
    }

    /// Waits for so many bytes.
    pub fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.stream.read_exact(&mut read).unwrap();
        read
    }

    /// Says this; tells whether the client is still there.
    pub fn say(&mut self, text: &str) -> bool {
        self.bytes(text.as_bytes())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Says nothing until the client goes.
    pub fn wait(&mut self) {
        let _ = std::io::copy(&mut self.stream, &mut std::io::sink());
    }

    /// Waits until something has come, which is not read: closing the socket then resets it (RFC 1122, 4.2.2.13).
    pub fn leave_unread(&mut self) {
        let _ = self.stream.get_mut().peek(&mut [0]);
    }
}
