//! Where requests go.

use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exit137_workload::traffic::{Control, Endpoint, Outcome};

use crate::generator::{Running, constant_rate, endpoint, generator};
use crate::servers::{answering, nobody, status};

/// A server, and how often it was asked.
fn counting() -> (Endpoint, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let server = answering(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        status(200)
    });
    (endpoint(server), count)
}

#[test]
fn endpoints_are_asked_in_turn() {
    let ((one, asked_one), (two, asked_two)) = (counting(), counting());
    let mut running = Running::start(&generator(constant_rate(100, 500, 10)));
    running.begin(&[one, two]);
    assert_eq!(running.end().whole().outcomes.success, 50);
    assert_eq!((asked_one.load(Ordering::SeqCst), asked_two.load(Ordering::SeqCst)), (25, 25));
}

#[test]
fn an_endpoint_that_has_left_the_list_is_asked_no_more() {
    let ((one, asked_one), (two, asked_two)) = (counting(), counting());
    let mut running = Running::start(&generator(constant_rate(200, 3000, 10)));
    running.begin(&[one]);
    running.window(|window| window.outcomes.success > 0);
    running.tell(&Control::Endpoints(vec![two]));
    running.window(|_| asked_two.load(Ordering::SeqCst) > 0);
    let asked = asked_one.load(Ordering::SeqCst);
    running.window(|window| window.outcomes.success > 100);
    assert_eq!(asked_one.load(Ordering::SeqCst), asked);
}

#[test]
fn with_one_of_two_gone_every_other_request_fails() {
    let mut running = Running::start(&generator(constant_rate(100, 500, 10)));
    running.begin(&[endpoint(nobody()), counting().0]);
    let outcomes = running.end().whole().outcomes;
    assert_eq!((outcomes.success, outcomes.refused), (25, 25));
}

/// A process in a network namespace of its own that serves there; none where that needs rights that are missing here.
struct Elsewhere(Child);

impl Elsewhere {
    fn start() -> Option<Self> {
        let server = format!(
            "ip link set lo up && exec {} serve --port 8080 --cap 1Mi",
            env!("CARGO_BIN_EXE_exit137-workload")
        );
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", &server])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        let elsewhere = Self(child);
        line.contains("listening").then_some(elsewhere)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { address: "127.0.0.1:8080".into(), network: Some(format!("/proc/{}/ns/net", self.0.id())) }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sockets_are_made_in_the_network_namespace_of_the_endpoint() {
    let (Some(one), Some(two)) = (Elsewhere::start(), Elsewhere::start()) else {
        // Nothing to be shown without the right to make one (CAP_SYS_ADMIN) and `ip`.
        return;
    };
    let mut running = Running::start(&generator(constant_rate(100, 500, 10)));
    running.begin(&[one.endpoint(), two.endpoint()]);
    assert_eq!(running.end().whole().outcomes.success, 50);
}

#[test]
fn a_network_namespace_that_is_gone_refuses() {
    let mut running = Running::start(&generator(constant_rate(100, 100, 10)));
    running.begin(&[Endpoint { address: "127.0.0.1:8080".into(), network: Some("/proc/0/ns/net".into()) }]);
    let told = running.end();
    assert_eq!(told.whole().outcomes.refused, 10);
    assert_eq!(told.whole().first_failed.unwrap().outcome, Outcome::Refused);
}
