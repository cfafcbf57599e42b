//! `serve`: HTTP over the loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{JoinHandle, spawn};

use rustix::process::Signal;

use crate::running::{End, MIB, Running, eventually, now_ns};

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

fn ms_since(ns: u64) -> u64 {
    (now_ns() - ns) / 1_000_000
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
fn a_cache_without_a_bound_grows_with_each_path_up_to_the_cap() {
    let (server, port) = serving("--cap 8Mi --cache-per-entry 2Mi");
    let base = server.counted("Anonymous");
    let ask = |path: &str| get(port, path).0;
    assert_eq!(["/a", "/a?again", "/b", "/c", "/d", "/a"].map(ask), [200; 6]);
    assert_eq!(ask("/e"), 503, "a fifth entry is more than the cap");
    let cached = server.counted("Anonymous") - base;
    assert!(cached.abs_diff(8 * MIB) <= MARGIN, "{cached}");
}

#[test]
fn a_cache_with_a_bound_serves_any_number_of_paths() {
    let (server, port) = serving("--cap 8Mi --cache-per-entry 1Mi --cache-max 4Mi");
    let base = server.counted("Anonymous");
    let mut connection = Connection::to(port);
    for number in 0..200 {
        assert_eq!(connection.ask(&format!("GET /{number} HTTP/1.1\r\n\r\n")).0, 200);
    }
    let cached = server.counted("Anonymous") - base;
    assert!(cached.abs_diff(4 * MIB) <= MARGIN, "{cached}");
}

#[test]
fn who_waits_for_a_worker_holds_its_memory_and_who_finds_the_queue_full_does_not() {
    let (server, port) =
        serving("--cap 32Mi --hold-per-request 2Mi --hold-for 400ms --workers 1 --queue-max 2");
    let base = server.counted("Anonymous");
    let began = now_ns();
    let requests: Vec<_> = (0..3).map(|_| in_background(port)).collect();
    eventually("three hold their memory", || server.counted("Anonymous") >= base + 6 * MIB);
    assert_eq!(get(port, "/"), (503, "the queue is full\n".into()));
    assert_eq!(get(port, "/healthz").0, 200, "health is answered beside the queue");
    assert!(ms_since(began) < 800, "and not after it");
    let statuses: Vec<_> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    assert_eq!(statuses, [200; 3]);
    assert!(ms_since(began) >= 1200, "one after the other");
    eventually("all is given back", || server.counted("Anonymous") <= base + MARGIN);
}

#[test]
fn health_may_wait_for_a_worker_like_any_request() {
    let (server, port) =
        serving("--cap 4Mi --hold-per-request 1Mi --hold-for 500ms --workers 1 --healthz-queued");
    let base = server.counted("Anonymous");
    let began = now_ns();
    let request = in_background(port);
    eventually("it is worked on", || server.counted("Anonymous") >= base + MIB);
    assert_eq!(get(port, "/healthz").0, 200);
    assert!(ms_since(began) >= 500, "{:?}", ms_since(began));
    assert_eq!(request.join().unwrap(), 200);
}

#[test]
fn the_heap_is_a_saw_tooth() {
    let (server, port) = serving("--cap 16Mi --garbage-per-request 2Mi --collect-at 8Mi");
    let mut connection = Connection::to(port);
    let mut said = Vec::new();
    for _ in 0..9 {
        assert_eq!(connection.ask("GET / HTTP/1.1\r\n\r\n").0, 200);
        said.push(server.says("allocated").as_u64().unwrap() / MIB);
        if said.last() == Some(&0) {
            // A collection is told, and so is what the request takes after it.
            said.push(server.says("allocated").as_u64().unwrap() / MIB);
        }
    }
    assert_eq!(said, [2, 4, 6, 8, 0, 2, 4, 6, 8, 0, 2]);
}

#[test]
fn nothing_is_answered_during_a_collection() {
    let (_server, port) =
        serving("--cap 16Mi --garbage-per-request 1Mi --collect-at 1Mi --collect-for 600ms");
    assert_eq!(get(port, "/").0, 200);
    let began = now_ns();
    let collecting = in_background(port);
    eventually("health is not answered at once", || {
        let asked = now_ns();
        get(port, "/healthz").0 == 200 && ms_since(asked) > 100
    });
    assert_eq!(collecting.join().unwrap(), 200);
    assert!(ms_since(began) >= 600);
}

#[test]
fn a_heap_that_is_full_of_what_cannot_be_collected_fails_requests() {
    let (server, port) = serving("--cap 16Mi --leak-per-request 2Mi --heap-max 6Mi");
    let answers: Vec<_> = (0..5).map(|_| get(port, "/").0).collect();
    assert_eq!(answers, [200, 200, 200, 500, 500]);
    server.says_it_holds(6 * MIB);
}

#[test]
fn it_is_ready_when_it_says_so() {
    let (_server, port) = serving("--cap 1Mi --ready-after 300ms");
    assert_eq!(get(port, "/readyz").0, 503);
    assert_eq!(get(port, "/healthz").0, 200);
    eventually("ready", || get(port, "/readyz") == (200, "ready\n".into()));
}

#[test]
fn so_many_connections_as_it_says_are_served_and_more_are_closed() {
    let (server, port) = serving("--cap 1Mi --connections 400");
    let mut connections: Vec<_> = (0..400).map(|_| Connection::to(port)).collect();
    for connection in &mut connections {
        assert_eq!(connection.ask("GET / HTTP/1.1\r\n\r\n").0, 200);
    }
    let mut one_more = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert_eq!(one_more.read(&mut [0]).unwrap(), 0, "it is closed");
    connections.pop();
    eventually("its place is free", || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let asked = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        asked.is_ok() && stream.read(&mut [0]).is_ok_and(|read| read == 1)
    });
    // The rest of what a connection is said to take at most (64 KiB) is the kernel's.
    assert!(server.peak() < 400 * 32 * 1024 + 4 * MIB, "{}", server.peak());
}

#[test]
fn sigterm_ends_it_and_a_port_in_use_is_told() {
    let (server, port) = serving("--cap 1Mi");
    let (end, problem) = Running::start(&format!("serve --port {port} --cap 1Mi")).end_and_problem();
    assert!(end == End::Code(1) && problem.contains(&port.to_string()), "{end:?} {problem}");
    server.signal(Signal::TERM);
    assert_eq!(server.end(), End::Code(143));
}
