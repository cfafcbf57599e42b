//! `serve`: HTTP over the loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{JoinHandle, spawn};

use rustix::process::Signal;

use crate::running::{End, MIB, Running, eventually};

/// Threads that have served leave some heap behind.
const MARGIN: u64 = 512 * 1024;

/// Started on a port that was free a moment ago; on another where it has been taken since.
fn serving(settings: &str) -> (Running, u16) {
    let try_one = || {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let server = Running::start(&format!("serve --port {port} {settings}"));
        let listening = server.next_or_end()?["listening"].as_str() == Some(&port.to_string());
        listening.then_some((server, port))
    };
    std::iter::repeat_with(try_one).take(5).flatten().next().unwrap()
}

/// A connection that may carry several requests.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn to(port: u16) -> Self {
        Self(BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()))
    }

    /// The status and the body.
    fn ask(&mut self, request: &str) -> (u16, String) {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        while line.trim() != "" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            length = line.strip_prefix("Content-Length: ").map_or(length, |n| n.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

fn get(port: u16, path: &str) -> (u16, String) {
    Connection::to(port).ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

fn in_background(port: u16) -> JoinHandle<u16> {
    spawn(move || get(port, "/").0)
}

#[test]
fn it_is_healthy_until_it_is_told_not_to_be() {
    let (_server, port) = serving("--cap 1Mi");
    assert_eq!(get(port, "/healthz"), (200, "ok\n".into()));
    let (_sick, port) = serving("--cap 1Mi --unhealthy-after 200ms");
    eventually("unhealthy", || get(port, "/healthz") == (500, "unhealthy\n".into()));
}

#[test]
fn one_connection_carries_many_requests_and_what_is_not_http_takes_nothing() {
    let (server, port) = serving("--cap 8Mi --leak-per-request 4Mi");
    let mut connection = Connection::to(port);
    for _ in 0..3 {
        let request = "POST /healthz?deep HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(connection.ask(request).0, 200);
    }
    assert_eq!(Connection::to(port).ask("what is this?\r\n").0, 400);
    assert!(server.counted("Anonymous") < MIB);
}

#[test]
fn what_a_request_holds_is_there_while_it_lasts_and_gone_afterwards() {
    let (server, port) = serving("--cap 10Mi --hold-per-request 8Mi --hold-for 400ms");
    let base = server.counted("Anonymous");
    let request = in_background(port);
    eventually("it is held", || server.counted("Anonymous") >= base + 8 * MIB);
    assert_eq!(get(port, "/").0, 503, "a second one is more than the cap");
    assert_eq!(get(port, "/healthz").0, 200);
    assert_eq!(request.join().unwrap(), 200);
    eventually("it is given back", || server.counted("Anonymous") <= base + MARGIN);
    assert!(server.peak() <= server.counted("Rss") + 8 * MIB + MARGIN);
    assert_eq!(get(port, "/").0, 200, "the cap is free again");
}

#[test]
fn what_requests_leak_adds_up_to_the_cap_and_no_further() {
    let (server, port) = serving("--cap 7Mi --leak-per-request 2Mi");
    let base = server.counted("Anonymous");
    let answers: Vec<_> = (0..5).map(|_| get(port, "/leak").0).collect();
    assert_eq!(answers, [200, 200, 200, 503, 503]);
    server.says_it_holds(6 * MIB);
    let leaked = server.counted("Anonymous") - base;
    assert!(leaked.abs_diff(6 * MIB) <= MARGIN, "{leaked}");
}

#[test]
fn leaks_of_less_than_a_page_share_pages() {
    let (server, port) = serving("--cap 64Ki --leak-per-request 100B");
    let mut connection = Connection::to(port);
    let answered = (0..1000).filter(|_| connection.ask("GET / HTTP/1.1\r\n\r\n").0 == 200).count();
    assert_eq!(answered, 64 * 1024 / 100);
    assert!(server.counted("Anonymous") < MIB);
}

#[test]
fn many_requests_at_once_stay_below_the_cap_together() {
    let (server, port) = serving("--cap 20Mi --hold-per-request 3Mi --hold-for 300ms");
    let base = server.counted("Rss");
    let requests: Vec<_> = (0..16).map(|_| in_background(port)).collect();
    let statuses: Vec<_> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    // Each thread has an arena of its own.
    assert!(server.peak() <= base + 20 * MIB + 4 * MIB, "{} above {base}", server.peak());
}

#[test]
fn sigterm_ends_it_and_a_port_in_use_is_told() {
    let (server, port) = serving("--cap 1Mi");
    let (end, problem) = Running::start(&format!("serve --port {port} --cap 1Mi")).end_and_problem();
    assert!(end == End::Code(1) && problem.contains(&port.to_string()), "{end:?} {problem}");
    server.signal(Signal::TERM);
    assert_eq!(server.end(), End::Code(143));
}
