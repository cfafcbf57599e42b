//! Ctrl-C and SIGTERM.

use rustix::process::Signal;

use crate::support::{Desk, Live, endless, is_root};

/// The milliseconds that something takes.
fn took<T>(what: impl FnOnce() -> T) -> (T, u64) {
    let began = exit137::clock::boot_ns();
    (what(), (exit137::clock::boot_ns() - began) / 1_000_000)
}

fn tidies_up_after(signal: Signal, status: i32) {
    if !is_root() {
        return;
    }
    let desk = Desk::with("endless", &endless());
    desk.scenario("waits", &endless());
    let live = Live::start(&desk, "endless", &["--jobs", "1"]);
    live.signal(signal);
    let ((ran, left), ms) = took(|| live.end());
    let ran = ran.exits(status);
    assert!(ms < 5000, "it took {ms} ms to tidy up");
    assert_eq!(left.now(), [""; 0]);
    assert!(ran.stderr.contains("interrupted by"), "{}", ran.stderr);
    let trial = ran.trial("endless");
    assert_eq!(trial["outcome"], "inconclusive");
    assert!(trial["reasons"].to_string().contains("cut short"), "{trial:#}");
}

#[test]
fn a_sigint_is_130_within_five_seconds_and_nothing_is_left_behind() {
    tidies_up_after(Signal::INT, 130);
}

#[test]
fn a_sigterm_is_143_within_five_seconds_and_nothing_is_left_behind() {
    tidies_up_after(Signal::TERM, 143);
}

#[test]
fn a_signal_to_the_whole_group_and_to_it_counts_once() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("endless", &endless());
    let live = Live::start(&desk, "endless", &[]);
    // As timeout(1) does it.
    live.signal(Signal::INT);
    std::thread::sleep(std::time::Duration::from_millis(5));
    live.signal(Signal::INT);
    let (ran, left) = live.end();
    let ran = ran.exits(130);
    assert_eq!(left.now(), [""; 0]);
    assert!(ran.stdout.contains("cut short"), "it did not tidy up: {}", ran.stdout);
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_guardian_cleans_up() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("endless", &endless());
    let live = Live::start(&desk, "endless", &[]);
    // Stopped, it finds both signals when it goes on.
    live.signal(Signal::STOP);
    live.signal(Signal::INT);
    live.signal(Signal::TERM);
    live.signal(Signal::CONT);
    let ((ran, left), ms) = took(|| live.end());
    assert!(matches!(ran.status, Some(130 | 143)), "{ran:#?}");
    assert!(ms < 1000, "it took {ms} ms to end at once");
    let ((), ms) = took(|| left.until_gone());
    assert!(ms < 1000, "the guardian took {ms} ms");
}
