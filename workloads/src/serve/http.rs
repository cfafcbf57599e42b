//! As much of HTTP/1.1 as probes and load generators speak.

use std::io::{BufRead, Read as _};

/// The longest request head that is read.
const LONGEST_HEAD: u64 = 16 * 1024;
/// The longest request body that is read past; after a longer one the connection is closed.
const LONGEST_BODY: u64 = 1 << 20;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Without the query; none if this was not HTTP.
    pub path: Option<String>,
    /// Whether another request may follow on this connection.
    pub keep_alive: bool,
    /// Whether it wants the head of the answer only.
    pub head_only: bool,
}

/// Reads a request and past its body; none when the client has closed the connection.
pub fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(LONGEST_HEAD);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.trim_end().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next().unwrap_or_default());
    if !version.starts_with("HTTP/1.") {
        return Ok(Some(Request { path: None, keep_alive: false, head_only: false }));
    }
    let path = target.map(|target| target.split('?').next().unwrap_or_default().to_owned());
    let head_only = method == Some("HEAD");
    let (mut length, mut keep_alive) = (0, version != "HTTP/1.0");
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(Some(Request { path: None, keep_alive: false, head_only }));
        }
        if line.trim_end().is_empty() {
            break;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(u64::MAX),
            // Where such a body ends is not known here.
            "transfer-encoding" => length = u64::MAX,
            "connection" => keep_alive = value.trim().eq_ignore_ascii_case("keep-alive"),
            _ => {}
        }
    }
    if length > LONGEST_BODY {
        keep_alive = false;
    } else {
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    }
    Ok(Some(Request { path, keep_alive, head_only }))
}

/// The whole answer.
pub fn response(request: &Request, status: &str, body: &str) -> String {
    let connection = if request.keep_alive { "keep-alive" } else { "close" };
    let sent = if request.head_only { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{sent}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Option<Request> {
        read(&mut text.as_bytes()).unwrap()
    }

    #[test]
    fn requests_follow_each_other_past_their_bodies() {
        let mut two =
            "POST /a?b=c HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyzHEAD /d HTTP/1.0\r\n\r\n".as_bytes();
        let first = read(&mut two).unwrap().unwrap();
        assert_eq!((first.path.as_deref(), first.keep_alive, first.head_only), (Some("/a"), true, false));
        let second = read(&mut two).unwrap().unwrap();
        assert_eq!((second.path.as_deref(), second.keep_alive, second.head_only), (Some("/d"), false, true));
        assert_eq!(read(&mut two).unwrap(), None);
    }

    #[test]
    fn what_is_not_http_takes_no_memory_and_ends_the_connection() {
        for text in
            ["\u{16}\u{3}\u{1}\r\n", "GET /\r\n", "GET / HTTP/1.1\r\nHost: cut off", &"x".repeat(40_000)]
        {
            let request = request(text).unwrap();
            assert!(request.path.is_none() && !request.keep_alive, "{text:?}");
        }
    }

    #[test]
    fn after_a_body_of_unknown_length_the_connection_is_closed() {
        for header in ["Transfer-Encoding: chunked", "Content-Length: 99999999999", "Content-Length: -1"] {
            let request = request(&format!("POST / HTTP/1.1\r\n{header}\r\n\r\n")).unwrap();
            assert!(request.path.is_some() && !request.keep_alive, "{header}");
        }
    }
}
