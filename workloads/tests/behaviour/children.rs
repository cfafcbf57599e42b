//! `children`: a parent that outlives, replaces or follows its workers, and workers that never outlive it.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::running::{End, Running, eventually};

/// A size that takes a worker longer than any test.
const SLOWLY: &str = "--size 40Mi --rate 32Ki/s";

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Started, with so many workers that are named already, so past their own beginning.
fn with_workers(line: &str, count: usize) -> (Running, Vec<i32>) {
    let parent = Running::start(line);
    let at_work = |pid: &i32| name_of(*pid).is_some_and(|name| name == "exit137-hog");
    eventually("the workers work", || {
        parent.children().len() == count && parent.children().iter().all(at_work)
    });
    let workers = parent.children();
    (parent, workers)
}

fn name_of(pid: i32) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

#[test]
fn workers_grow_to_their_size_one_after_the_other_and_then_the_parent_exits() {
    let parent = Running::start("children --size 2Mi --count 3 --exit-after 50ms --exit-code 9");
    let said = parent.rest();
    let full = said.iter().filter(|line| line["allocated"] == 2 << 20).count();
    let ended: Vec<_> = said.iter().filter_map(|line| line["worker"].as_str()).collect();
    assert_eq!((full, ended), (3, vec!["exit code 0"; 3]));
    assert_eq!(parent.end(), End::Code(9));
}

#[test]
fn a_parent_survives_a_worker_that_is_killed() {
    let (parent, workers) = with_workers(&format!("children {SLOWLY} --exit-after 0ms --exit-code 3"), 1);
    kill(workers[0]);
    assert_eq!(parent.says("worker"), "signal 9");
    assert_eq!(parent.end(), End::Code(3));
}

#[test]
fn without_exit_after_the_parent_stays() {
    let (parent, workers) = with_workers(&format!("children {SLOWLY}"), 1);
    kill(workers[0]);
    assert_eq!(parent.says("worker"), "signal 9");
    parent.signal(Signal::TERM);
    assert_eq!(parent.end(), End::Code(143));
}

#[test]
fn a_parent_that_respawns_starts_another_each_time() {
    let (parent, workers) = with_workers(&format!("children {SLOWLY} --then respawn"), 1);
    let mut last = workers[0];
    for _ in 0..2 {
        kill(last);
        assert_eq!(parent.says("worker"), "signal 9");
        eventually("another worker", || parent.children().first().is_some_and(|worker| *worker != last));
        last = parent.children()[0];
    }
}

#[test]
fn a_parent_that_propagates_exits_with_137_whichever_worker_was_killed() {
    for victim in [0, 1] {
        let line = format!("children {SLOWLY} --count 2 --together --then propagate");
        let (parent, workers) = with_workers(&line, 2);
        kill(workers[victim]);
        // The end of standard output is the end of the other worker too.
        assert_eq!(parent.end(), End::Code(137));
        let other = workers[1 - victim];
        eventually("the other worker is gone", || !Path::new(&format!("/proc/{other}")).exists());
    }
}

#[test]
fn no_worker_outlives_a_killed_parent() {
    let (parent, workers) = with_workers(&format!("children {SLOWLY} --count 3 --together"), 3);
    parent.signal(Signal::KILL);
    assert_eq!(parent.end(), End::Signal(9));
    for worker in workers {
        eventually("the worker is gone", || !Path::new(&format!("/proc/{worker}")).exists());
    }
}
