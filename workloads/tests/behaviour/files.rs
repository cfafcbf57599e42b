//! `tmpfs` and `page-cache`.

use std::fs::{create_dir, metadata, read_dir, read_link, remove_dir_all};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::running::{End, MIB, Running, eventually, now_ns};

/// A directory that goes when this does.
struct Directory(PathBuf);

impl Directory {
    fn new(parent: &str, name: &str) -> Self {
        let path = Path::new(parent).join(format!("exit137-test-{}-{name}", std::process::id()));
        create_dir(&path).unwrap();
        Self(path)
    }

    /// The sizes of its files.
    fn sizes(&self) -> Vec<u64> {
        read_dir(&self.0).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}

const DISK: &str = env!("CARGO_TARGET_TMPDIR");
const TMPFS: &str = "/dev/shm";

#[test]
fn a_tmpfs_is_filled_to_the_byte_and_stays_full_after_a_kill() {
    let directory = Directory::new(TMPFS, "filled");
    let tmpfs = Running::start(&format!("tmpfs --path {} --size 3000001B", directory.0.display()));
    tmpfs.says_it_holds(3_000_001);
    assert_eq!(directory.sizes(), [3_000_001]);
    assert!(tmpfs.counted("Anonymous") < MIB / 2, "it is the file that takes the memory");
    tmpfs.signal(Signal::KILL);
    assert_eq!(tmpfs.end(), End::Signal(9));
    assert_eq!(directory.sizes(), [3_000_001]);
}

#[test]
fn the_next_run_takes_the_place_of_a_dead_one_and_not_of_a_live_one() {
    let directory = Directory::new(TMPFS, "again");
    let start = || {
        let running = Running::start(&format!("tmpfs --path {} --size 2Mi", directory.0.display()));
        running.says_it_holds(2 * MIB);
        running
    };
    let (first, second) = (start(), start());
    assert_eq!(directory.sizes(), [2 * MIB, 2 * MIB]);
    drop(first);
    let third = start();
    assert_eq!(directory.sizes(), [2 * MIB, 2 * MIB]);
    drop((second, third));
}

#[test]
fn a_tmpfs_is_filled_at_a_rate() {
    let directory = Directory::new(TMPFS, "rate");
    let before = now_ns();
    let tmpfs = Running::start(&format!("tmpfs --path {} --size 2Mi --rate 8Mi/s", directory.0.display()));
    tmpfs.says_it_holds(2 * MIB);
    assert!(now_ns() - before >= 250_000_000, "2Mi at 8Mi/s took {} ns", now_ns() - before);
}

#[test]
fn tmpfs_refuses_a_disk_and_page_cache_refuses_a_tmpfs() {
    let directory = Directory::new(DISK, "refused");
    let (end, problem) =
        Running::start(&format!("tmpfs --path {} --size 1Mi", directory.0.display())).end_and_problem();
    assert!(end == End::Code(1) && problem.contains("is no tmpfs"), "{end:?} {problem}");
    let (end, problem) = Running::start("page-cache --path /dev/shm --size 1Mi").end_and_problem();
    assert!(end == End::Code(1) && problem.contains("not on a disk"), "{end:?} {problem}");
    let (end, problem) = Running::start("page-cache --path /no/such --size 1Mi").end_and_problem();
    assert!(end == End::Code(1) && problem.contains("/no/such"), "{end:?} {problem}");
}

#[test]
fn page_cache_reads_a_file_of_its_size_that_has_no_name() {
    let directory = Directory::new(DISK, "cache");
    let cache =
        Running::start(&format!("page-cache --path {} --size 5000001B --passes 3", directory.0.display()));
    assert_eq!(cache.says("written"), "5000001B");
    for pass in ["1", "2", "3"] {
        assert_eq!(cache.says("pass"), pass);
    }
    assert_eq!(directory.sizes(), [0; 0], "nothing is left whatever happens");
    assert_eq!(unnamed_files(&cache), [5_000_001]);
    assert!(cache.counted("Anonymous") < MIB / 2, "it is the file that takes the memory");
    assert!(io(&cache, "rchar") >= 3 * 5_000_001);
}

#[test]
fn without_passes_it_reads_on() {
    let directory = Directory::new(DISK, "on");
    let cache = Running::start(&format!("page-cache --path {} --size 1Mi", directory.0.display()));
    while cache.says("pass") != "5" {}
    let read = io(&cache, "rchar");
    eventually("it reads more", || io(&cache, "rchar") >= read + MIB);
}

fn io(running: &Running, counter: &str) -> u64 {
    let io = running.proc("io");
    io.lines().find_map(|line| line.strip_prefix(counter)).unwrap()[2..].parse().unwrap()
}

/// The sizes of the open files that have been unlinked.
fn unnamed_files(running: &Running) -> Vec<u64> {
    let open = read_dir(format!("/proc/{}/fd", running.pid())).unwrap().map(|entry| entry.unwrap().path());
    let unnamed = open.filter(|path| read_link(path).unwrap().to_string_lossy().ends_with("(deleted)"));
    unnamed.map(|path| metadata(path).unwrap().len()).collect()
}
