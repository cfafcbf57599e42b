//! What SIGTERM does.

use rustix::process::Signal;

use crate::running::{End, Running, catches_sigterm, eventually, signals};

/// Started, and SIGTERM sent once it is handled.
fn terminated(line: &str) -> Running {
    let running = Running::start(line);
    eventually("SIGTERM is handled", || catches_sigterm(&running));
    running.signal(Signal::TERM);
    running
}

/// Waits until the signal has been delivered and every thread sleeps again: all that it does has been done. The handler
/// runs in the main thread, which wakes the other before it sleeps, so the main thread is looked at first.
fn has_settled(running: &Running) {
    eventually("the signal is dealt with", || {
        let pending = signals(running, "SigPnd") | signals(running, "ShdPnd");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap();
        let mut tasks: Vec<u32> =
            tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        tasks.sort_unstable();
        pending == 0 && tasks.iter().all(|task| running.proc(&format!("task/{task}/stat")).contains(") S "))
    });
}

#[test]
fn sigterm_ends_it_with_143_or_the_code_that_is_given() {
    assert_eq!(terminated("idle").end(), End::Code(143));
    assert_eq!(terminated("idle --term-code 0").end(), End::Code(0));
    assert_eq!(terminated("hog --size 1Mi --on-term exit --term-code 77").end(), End::Code(77));
    assert_eq!(terminated("cpu").end(), End::Code(143));
    assert_eq!(terminated("idle --start-after 1h").end(), End::Code(143));
}

#[test]
fn ignore_term_holds_its_memory_on_until_it_is_killed() {
    let ignoring = terminated("ignore-term --size 4Mi");
    has_settled(&ignoring);
    ignoring.signal(Signal::TERM);
    has_settled(&ignoring);
    assert!(ignoring.counted("Anonymous") >= 4 << 20);
    ignoring.signal(Signal::KILL);
    assert_eq!(ignoring.end(), End::Signal(9));
}

#[test]
fn a_leak_that_ignores_sigterm_goes_on() {
    let leak = terminated("leak --rate 4Mi/s --cap 3Mi --on-term ignore");
    leak.says_it_holds(3 << 20);
    has_settled(&leak);
    leak.signal(Signal::KILL);
    assert_eq!(leak.end(), End::Signal(9));
}

#[test]
fn with_on_term_start_it_begins_only_then() {
    let waiting = Running::start("hog --size 2Mi --then-exit 5 --on-term start");
    eventually("SIGTERM is handled", || catches_sigterm(&waiting));
    has_settled(&waiting);
    assert!(waiting.counted("Anonymous") < 1 << 20);
    waiting.signal(Signal::TERM);
    waiting.says_it_holds(2 << 20);
    assert_eq!(waiting.end(), End::Code(5));
}
