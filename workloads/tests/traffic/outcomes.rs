//! How requests end: each way has its type, and none of them hangs.

use std::process::Command;

use exit137_workload::traffic::{Generator, Outcome, Outcomes, Request};

use crate::generator::{
    Running, Told, constant_rate, constant_vus, endpoint, generator, get, impatient, run,
};
use crate::servers::{Connection, answering, nobody, serve, status};

/// All of twenty requests ended so.
fn all_twenty(told: &Told, outcome: Outcome) {
    let mut expected = Outcomes::default();
    (0..20).for_each(|_| expected.count(outcome));
    assert_eq!(told.whole().outcomes, expected, "{told:?}");
}

fn twenty() -> Generator {
    generator(constant_rate(100, 200, 20))
}

fn twenty_within(timeout_ms: u64) -> Generator {
    impatient(constant_rate(100, 200, 20), timeout_ms)
}

#[test]
fn answers_are_counted_by_the_class_of_their_status() {
    let server = answering(|asked| status(asked.line.split(['/', ' ']).nth(2).unwrap().parse().unwrap()));
    let weighted = |path: &str, weight| Request { weight, ..get(path) };
    let requests = vec![weighted("/201", 5), weighted("/302", 3), weighted("/404", 2), weighted("/503", 10)];
    let told = run(&Generator { requests, ..twenty() }, server);
    let expected =
        Outcomes { success: 5, redirect: 3, client_error: 2, server_error: 10, ..Outcomes::default() };
    assert_eq!(told.whole().outcomes, expected);
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    all_twenty(&run(&twenty(), nobody()), Outcome::Refused);
}

#[test]
fn before_any_endpoint_is_known_requests_are_refused() {
    let mut running = Running::start(&twenty());
    running.begin(&[]);
    all_twenty(&running.end(), Outcome::Refused);
}

#[test]
fn a_connection_closed_before_the_answer_is_a_reset() {
    let server = serve(|connection| drop(connection.asked()));
    let told = run(&twenty(), server);
    all_twenty(&told, Outcome::Reset);
    assert_eq!(told.whole().first_reset_ns, told.whole().first_failed.map(|failure| failure.at_ns));
}

#[test]
fn a_connection_reset_before_the_answer_is_a_reset() {
    all_twenty(&run(&twenty(), serve(Connection::leave_unread)), Outcome::Reset);
}

#[test]
fn a_connection_closed_in_the_middle_of_the_answer_is_a_cut() {
    for half in ["HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"] {
        let server = serve(move |connection| {
            connection.asked();
            connection.say(half);
        });
        let told = run(&twenty(), server);
        all_twenty(&told, Outcome::Cut);
        assert!(told.whole().first_reset_ns.is_some());
    }
}

#[test]
fn an_answer_that_never_comes_times_out_and_its_latency_is_the_time_limit() {
    let told = run(&twenty_within(300), serve(Connection::wait));
    all_twenty(&told, Outcome::TimedOut);
    let least = told.whole().latency.quantile(0.0).unwrap();
    assert!((300_000..600_000).contains(&least), "{least}");
}

#[test]
fn an_answer_that_never_ends_times_out() {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let server = serve(move |connection| {
        connection.asked();
        connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while connection.say(&chunk) {}
    });
    let mut running = Running::start(&twenty_within(500));
    running.begin(&[endpoint(server)]);
    running.window(|window| window.in_flight > 0 || window.outcomes.timed_out > 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 24 * 1024, "{peak} KiB while it reads what never ends");
    let rest: Vec<_> = std::iter::from_fn(|| running.next()).collect();
    assert!(matches!(rest.last(), Some(exit137_workload::traffic::Line::Done(_))), "{rest:?}");
}

#[test]
fn headers_without_an_end_are_cut_off() {
    let server = serve(|connection| {
        connection.asked();
        connection.say("HTTP/1.1 200 OK\r\n");
        while connection.say(&format!("X-More: {}\r\n", "x".repeat(1000))) {}
    });
    all_twenty(&run(&twenty(), server), Outcome::Cut);
}

#[test]
fn headers_that_trickle_time_out() {
    let server = serve(|connection| {
        connection.asked();
        connection.say("HTTP/1.1 200 OK\r\nX-More: ");
        connection.wait();
    });
    all_twenty(&run(&twenty_within(300), server), Outcome::TimedOut);
}

#[test]
fn what_is_no_http_is_told_as_that() {
    let server = serve(|connection| {
        connection.say("SSH-2.0-OpenSSH_9.6\r\n");
        connection.wait();
    });
    all_twenty(&run(&twenty(), server), Outcome::NotHttp);
}

#[test]
fn without_a_descriptor_nothing_is_sent_and_that_is_said() {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 18; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_exit137-workload")]);
    let mut running = Running::start_by(limited, &twenty_within(300));
    running.begin(&[endpoint(serve(Connection::wait))]);
    let outcomes = running.end().whole().outcomes;
    assert!(outcomes.not_sent > 0 && outcomes.timed_out > 0, "{outcomes:?}");
    assert_eq!(outcomes.not_sent + outcomes.timed_out, 20);
}

#[test]
fn a_connection_that_the_server_closed_while_it_was_idle_is_no_failure() {
    // Nothing says that it will be closed.
    let server = serve(|connection| {
        connection.asked();
        connection.say(&status(200));
    });
    all_twenty(&run(&twenty(), server), Outcome::Success);
}

#[test]
fn connections_are_kept_and_used_again() {
    let server = serve(|connection| {
        let answer = if connection.number == 0 { 200 } else { 500 };
        while connection.asked().is_some() {
            connection.say(&status(answer));
        }
    });
    let told = run(&generator(constant_vus(1, 200)), server);
    let outcomes = told.whole().outcomes;
    assert!(outcomes.success > 20, "{outcomes:?}");
    assert_eq!(outcomes.failed(), 0);
}
