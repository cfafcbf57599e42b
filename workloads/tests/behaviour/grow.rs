//! `hog`, `leak`, `idle`: exact sizes, stages, rates, caps, and pages that count.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::process::Signal;

use crate::running::{End, MIB, Running, eventually, idle, now_ns};

/// What two runs of the same program may differ in by themselves: heap, stacks.
const MARGIN: u64 = 128 * 1024;

fn assert_about(what: &str, got: u64, wanted: u64, margin: u64) {
    assert!(got.abs_diff(wanted) <= margin, "{what}: {got} is not {wanted} give or take {margin}");
}

/// Anonymous memory beyond that of an idle one.
fn taken(running: &Running) -> u64 {
    running.counted("Anonymous").saturating_sub(idle().counted("Anonymous"))
}

#[test]
fn idle_takes_little() {
    let idle = idle();
    // Code that is not optimised is larger, and so are its tables, which are relocated as it starts. What is shipped takes less than
    // 2 MiB (`make build` optimises across crates): mostly code, and the kernel maps its surroundings too.
    let (anonymous, resident) =
        if cfg!(debug_assertions) { (MIB * 3 / 8, 5 * MIB) } else { (MIB / 4, 3 * MIB) };
    assert!(idle.counted("Anonymous") < anonymous, "{}", idle.proc("smaps_rollup"));
    assert!(idle.counted("Rss") < resident, "{}", idle.proc("smaps_rollup"));
}

#[test]
fn a_hog_holds_its_size_and_no_huge_page() {
    let hog = Running::start("hog --size 24Mi");
    hog.says_it_holds(24 * MIB);
    assert_about("anonymous memory", taken(&hog), 24 * MIB, MARGIN);
    assert_eq!(hog.counted("AnonHugePages"), 0);
    assert_about("the peak", hog.peak(), hog.counted("Rss"), MARGIN);
}

#[test]
fn a_size_is_rounded_up_to_a_page_and_a_cap_down() {
    let page = rustix::param::page_size() as u64;
    let hog = Running::start("hog --size 5000B --then-exit 0");
    assert_eq!(hog.rest().last().unwrap()["allocated"], 5000_u64.next_multiple_of(page));
    let capped = Running::start("hog --size 3Mi --cap 1048577B --then-exit 0");
    let said = capped.rest();
    assert_eq!(said.last().unwrap()["allocated"], MIB);
    assert!(said.iter().any(|line| line["capped"] == "1048577B"), "{said:?}");
}

#[test]
fn a_cap_is_never_outgrown() {
    let hog = Running::start("hog --stages 40Mi:0s,2Mi:0s,40Mi:100ms --cap 10Mi");
    for level in [10, 2, 10] {
        hog.says_it_holds(level * MIB);
    }
    assert_about("anonymous memory", taken(&hog), 10 * MIB, MARGIN);
    assert_about("the peak", hog.peak(), hog.counted("Rss"), MARGIN);
}

#[test]
fn every_stage_reaches_its_level_and_what_is_given_back_is_gone() {
    let hog = Running::start("hog --stages 12Mi:150ms,4Mi:0s,4Mi:50ms,9Mi:0s,3Mi:0s");
    for level in [12, 4, 9, 3] {
        hog.says_it_holds(level * MIB);
    }
    assert_about("anonymous memory", taken(&hog), 3 * MIB, MARGIN);
    assert!(hog.peak() >= 12 * MIB);
}

#[test]
fn a_sawtooth_comes_to_its_tip_each_time() {
    let saw = Running::start("hog --stages 3Mi:120ms,0B:0s --repeat 3 --then-exit 7");
    let said = saw.rest();
    let levels: Vec<_> = said.iter().filter_map(|line| line["allocated"].as_u64()).collect();
    assert_eq!(levels.iter().filter(|level| **level == 3 * MIB).count(), 3, "{levels:?}");
    assert_eq!(levels.last(), Some(&0));
    assert_eq!(saw.end(), End::Code(7));
}

#[test]
fn a_leak_is_never_ahead_of_its_rate_and_stops_at_its_cap() {
    let before = now_ns();
    let leak = Running::start("leak --rate 16Mi/s --cap 6Mi");
    let mut said = Vec::new();
    while said.last() != Some(&(6 * MIB)) {
        let line = leak.next();
        let (held, at) = (line["allocated"].as_u64().unwrap(), line["at_monotonic_ns"].as_u64().unwrap());
        let due = (at - before) * 16 * MIB / 1_000_000_000;
        assert!(held <= due + 4096, "{held} held when {due} were due");
        said.push(held);
    }
    assert!(said.len() >= 6, "every mebibyte is said: {said:?}");
    assert_about("anonymous memory", taken(&leak), 6 * MIB, MARGIN);
}

#[test]
fn what_was_said_last_is_what_was_held_at_the_end_give_or_take_a_mebibyte() {
    let idle = idle();
    for line in ["leak --rate 100Mi/s --cap 48Mi", "leak --rate 3Mi/s --cap 48Mi", "hog --size 48Mi"] {
        let running = Running::start(line);
        while running.says("allocated").as_u64().unwrap() < MIB {}
        running.signal(Signal::STOP);
        eventually("stopped", || running.proc("stat").contains(") T "));
        let held = running.counted("Anonymous") - idle.counted("Anonymous");
        running.signal(Signal::KILL);
        let rest = running.rest();
        let said = rest.iter().rev().find_map(|line| line["allocated"].as_u64()).unwrap_or(MIB);
        assert_about(line, said, held, MIB + MARGIN);
    }
}

#[test]
fn its_pages_are_unique_and_cannot_be_compressed() {
    let hog = Running::start("hog --size 8Mi");
    hog.says_it_holds(8 * MIB);
    let pages = anonymous_pages(&hog);
    let full: Vec<_> = pages.iter().filter(|page| distinct_bytes(page) > 240).collect();
    assert!(full.len() as u64 >= 8 * MIB / 4096, "{} pages look random", full.len());
    assert_eq!(full.iter().collect::<HashSet<_>>().len(), full.len());
}

/// Of 4096 random bytes, 256 different ones are expected; of text, pointers or counters, far fewer.
fn distinct_bytes(page: &[u8]) -> usize {
    page.iter().collect::<HashSet<_>>().len()
}

fn anonymous_pages(running: &Running) -> Vec<Vec<u8>> {
    let memory = File::open(format!("/proc/{}/mem", running.pid())).unwrap();
    let mut pages = Vec::new();
    for line in running.proc("maps").lines().filter(|line| line.contains(" rw-p 00000000 00:00 0")) {
        let (from, rest) = line.split_once('-').unwrap();
        let to = rest.split(' ').next().unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        for address in (from..to).step_by(4096) {
            let mut page = vec![0; 4096];
            memory.read_exact_at(&mut page, address).unwrap();
            pages.push(page);
        }
    }
    pages
}

#[test]
fn start_after_delays_it() {
    let before = now_ns();
    let hog = Running::start("hog --size 1Mi --start-after 250ms --then-exit 0");
    assert!(hog.next()["at_monotonic_ns"].as_u64().unwrap() >= before + 250_000_000);
    assert_eq!(hog.end(), End::Code(0));
}
