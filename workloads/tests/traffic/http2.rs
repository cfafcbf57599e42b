//! The same over HTTP/2.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exit137_workload::traffic::{Generator, HttpVersion, Load};
use h2::server::SendResponse;
use hyper::body::Bytes;
use hyper::{Request, Response};
use tokio::net::TcpListener;

use crate::generator::{constant_rate, constant_vus, generator, impatient, run};
use crate::servers::{Connection, answering, nobody, serve, status};

type Answer = fn(&Request<h2::RecvStream>, SendResponse<Bytes>);

/// A server that answers each request so, and how many connections it has had.
fn server(answer: Answer) -> (SocketAddr, Arc<AtomicU64>) {
    let connections = Arc::new(AtomicU64::new(0));
    let (count, runtime) = (Arc::clone(&connections), tokio::runtime::Builder::new_current_thread());
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = runtime;
        runtime.enable_all().build().unwrap().block_on(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        answer(&request, respond);
                    }
                });
            }
        });
    });
    (address.recv().unwrap(), connections)
}

fn respond(mut to: SendResponse<Bytes>, status: u16) {
    let head = Response::builder().status(status).body(()).unwrap();
    if let Ok(mut body) = to.send_response(head, false) {
        let _ = body.send_data("ok".into(), true);
    }
}

fn by_http2(load: Load) -> Generator {
    Generator { http: HttpVersion::Http2, ..generator(load) }
}

#[test]
fn many_requests_share_a_connection() {
    let (server, connections) = server(|request, to| {
        let known = request.uri().authority().is_some() && request.uri().path() == "/";
        respond(to, if known { 200 } else { 400 });
    });
    let told = run(&by_http2(constant_vus(10, 300)), server);
    let outcomes = told.whole().outcomes;
    assert!(outcomes.success > 20, "{outcomes:?}");
    assert_eq!((outcomes.failed(), connections.load(Ordering::SeqCst)), (0, 1));
}

#[test]
fn a_stream_that_is_reset_before_its_answer_is_a_reset() {
    let (server, _) = server(|_, mut to| to.send_reset(h2::Reason::INTERNAL_ERROR));
    let outcomes = run(&by_http2(constant_rate(100, 100, 10)), server).whole().outcomes;
    assert_eq!((outcomes.reset, outcomes.total()), (10, 10), "{outcomes:?}");
}

#[test]
fn a_connection_that_ends_in_the_middle_of_an_answer_cuts_it() {
    let server = serve(|connection| {
        connection.say(SETTINGS);
        wait_for_a_request(connection);
        // HEADERS of stream 1, of which more is to come: `:status: 200` (RFC 7541, appendix A, entry 8).
        connection.bytes(b"\0\0\x01\x01\x04\0\0\0\x01\x88");
    });
    let outcomes = run(&by_http2(constant_rate(20, 500, 1)), server).whole().outcomes;
    assert!(outcomes.cut > 0, "{outcomes:?}");
    assert_eq!(outcomes.cut, outcomes.total(), "{outcomes:?}");
}

/// An empty SETTINGS frame.
const SETTINGS: &str = "\0\0\0\u{4}\0\0\0\0\0";

/// Reads the preface and frames up to a HEADERS frame (RFC 9113, sections 3.4 and 4.1).
fn wait_for_a_request(connection: &mut Connection) {
    connection.read(24);
    loop {
        let head = connection.read(9);
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        connection.read(length);
        if head[3] == 1 {
            return;
        }
    }
}

#[test]
fn a_connection_that_ends_takes_its_requests_with_it() {
    // It speaks as far as its settings, and goes when it is asked for something.
    let server = serve(|connection| {
        connection.say(SETTINGS);
        wait_for_a_request(connection);
    });
    let outcomes = run(&by_http2(constant_rate(100, 100, 10)), server).whole().outcomes;
    assert_eq!((outcomes.reset, outcomes.total()), (10, 10), "{outcomes:?}");
}

#[test]
fn a_server_that_speaks_http1_only_speaks_no_http_here() {
    let outcomes = run(&by_http2(constant_rate(100, 100, 10)), answering(|_| status(400))).whole().outcomes;
    assert_eq!(outcomes.total(), 10);
    assert_eq!(outcomes.not_http, 10, "{outcomes:?}");
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    assert_eq!(run(&by_http2(constant_rate(100, 100, 10)), nobody()).whole().outcomes.refused, 10);
}

#[test]
fn an_answer_that_never_comes_times_out_and_the_connection_is_not_used_again() {
    let (server, connections) = server(|_, to| {
        tokio::spawn(async move {
            let mut to = to;
            let _ = poll_fn(|cx| to.poll_reset(cx)).await;
        });
    });
    let patience = Generator { http: HttpVersion::Http2, ..impatient(constant_rate(20, 500, 1), 100) };
    let whole = run(&patience, server).whole();
    assert_eq!(whole.outcomes.timed_out, whole.sent, "{whole:?}");
    assert!(connections.load(Ordering::SeqCst) >= 1);
}
