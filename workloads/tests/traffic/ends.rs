//! How it begins and how it ends.

use exit137_workload::traffic::{Control, DoneWhy, Generator, Histogram, Line};
use rustix::process::Signal;

use crate::generator::{Running, boot_ns, constant_rate, endpoint, generator, run, unix_ns};
use crate::servers::{Connection, answering, nobody, serve, status};

const MINUTE: u64 = 60_000;

/// It sends for a minute, unless something ends it.
fn sending() -> Running {
    let mut running = Running::start(&generator(constant_rate(200, MINUTE, 50)));
    running.begin(&[endpoint(answering(|_| status(200)))]);
    running.window(|window| window.outcomes.success > 0);
    running
}

/// Its last lines: a window, and that it was stopped.
fn is_stopped(running: &Running) {
    let last: Vec<Line> = std::iter::from_fn(|| running.next()).collect();
    let [.., Line::Window(window), Line::Done(done)] = &last[..] else { panic!("{last:?}") };
    assert_eq!(done.why, DoneWhy::Stopped);
    assert_eq!(done.windows, window.sequence + 1);
    assert!(boot_ns() - window.to_ns < 5_000_000_000);
}

#[test]
fn stop_ends_it_at_once() {
    let mut running = sending();
    running.tell(&Control::Stop);
    is_stopped(&running);
}

#[test]
fn sigterm_ends_it_at_once() {
    let running = sending();
    running.signal(Signal::TERM);
    is_stopped(&running);
}

#[test]
fn the_end_of_its_input_ends_it_at_once() {
    let mut running = sending();
    running.close_stdin();
    is_stopped(&running);
}

#[test]
fn nothing_is_lost_by_a_stop() {
    let mut running = Running::start(&generator(constant_rate(2000, MINUTE, 5)));
    running.begin(&[endpoint(serve(Connection::wait))]);
    running.tell(&Control::Stop);
    let told = running.end();
    assert_eq!(told.done.why, DoneWhy::Stopped);
}

#[test]
fn the_end_of_its_input_is_nothing_to_it_where_it_does_not_follow_it() {
    let load = constant_rate(50, 300, 10);
    let mut running = Running::start(&Generator { follow_stdin: false, ..generator(load) });
    running.begin(&[endpoint(answering(|_| status(200)))]);
    running.close_stdin();
    let told = running.end();
    assert_eq!((told.done.why, told.whole().outcomes.success), (DoneWhy::Complete, 15));
}

#[test]
fn a_stop_before_the_start_leaves_nothing_to_say() {
    let mut running = Running::start(&generator(constant_rate(50, MINUTE, 10)));
    running.tell(&Control::Stop);
    let told = running.end();
    assert!(told.windows.is_empty());
    assert_eq!((told.done.why, told.done.lateness), (DoneWhy::Stopped, Histogram::default()));
}

#[test]
fn a_reader_that_is_gone_ends_it() {
    let running = sending();
    let (code, problem) = running.without_a_reader();
    assert_eq!(code, Some(1));
    assert!(problem.contains("nobody reads standard output"), "{problem}");
}

#[test]
fn a_line_that_it_does_not_know_ends_it_and_is_told() {
    let mut running = Running::start(&generator(constant_rate(50, MINUTE, 10)));
    running.write("{\"begin\": 1}\n");
    let (code, problem) = running.end_and_problem();
    assert_eq!(code, Some(1));
    assert!(problem.contains("begin") && problem.contains("start-at"), "{problem}");
}

#[test]
fn an_endpoint_that_is_no_address_is_told() {
    let mut running = Running::start(&generator(constant_rate(50, MINUTE, 10)));
    running.write("{\"endpoints\": [{\"address\": \"web:8080\"}]}\n");
    let (code, problem) = running.end_and_problem();
    assert_eq!(code, Some(1));
    assert!(problem.contains("\"web:8080\" is not an IP address with a port"), "{problem}");
}

#[test]
fn it_starts_when_it_is_told_to() {
    let mut running = Running::start(&generator(constant_rate(100, 200, 10)));
    running.tell(&Control::Endpoints(vec![endpoint(answering(|_| status(200)))]));
    let zero = boot_ns() + 300_000_000;
    running.tell(&Control::StartAt(unix_ns() + 300_000_000));
    let told = running.end();
    let first = &told.windows[0];
    assert!(first.from_ns.abs_diff(zero) < 20_000_000);
    assert!(first.first_good_ns.unwrap() >= first.from_ns);
    assert_eq!(told.whole().outcomes.success, 20);
}

#[test]
fn what_was_due_before_it_heard_of_the_start_is_dropped_and_counted() {
    let mut running = Running::start(&generator(constant_rate(100, 3000, 10)));
    running.tell(&Control::Endpoints(vec![endpoint(answering(|_| status(200)))]));
    running.tell(&Control::StartAt(unix_ns() - 2_500_000_000));
    let told = running.end();
    let whole = told.whole();
    assert_eq!(whole.due, 300);
    assert!((250..280).contains(&whole.dropped), "{}", whole.dropped);
    assert_eq!((told.windows[0].dropped, told.windows[1].dropped), (100, 100));
    assert_eq!(whole.outcomes.success, 300 - whole.dropped);
}

#[test]
fn requests_in_flight_at_the_end_have_the_graceful_stop_and_no_longer() {
    let load = constant_rate(50, 200, 50);
    let generator = Generator { graceful_stop_ms: 300, ..generator(load) };
    let told = run(&generator, serve(Connection::wait));
    let (first, last) = (&told.windows[0], told.windows.last().unwrap());
    assert_eq!((last.in_flight, last.stage, told.done.why), (10, 1, DoneWhy::Complete));
    let took = last.to_ns - first.from_ns;
    assert!((500_000_000..1_500_000_000).contains(&took), "{took}");
}

#[test]
fn it_has_a_name_of_its_own() {
    let running = Running::start(&generator(constant_rate(50, MINUTE, 10)));
    let name = std::fs::read_to_string(format!("/proc/{}/comm", running.pid())).unwrap();
    assert_eq!(name, "exit137-traffic\n");
}

#[test]
fn what_is_due_is_a_pure_function_of_time_wherever_it_ends() {
    let load = constant_rate(777, 1234, 50);
    let due = load.due_by(u64::MAX);
    assert_eq!(run(&generator(load), nobody()).whole().due, due);
}
