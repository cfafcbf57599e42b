//! `tmpfs` and `page-cache`: memory that belongs to files.

use std::fs::{File, read_to_string, remove_file};
use std::io::{ErrorKind, Read as _, Result as IoResult, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use exit137_workload::{Bytes, PageCache, Rate, Schedule, Tmpfs};
use rustix::fs::{Advice, FlockOperation, FsWord, fadvise, flock, statfs};

use crate::clock;
use crate::memory::{random_page, stamp};
use crate::report::{self, Level};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` (`statfs(2)`).
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];
/// Between two looks at the schedule.
const TICK_MS: u64 = 2;
/// A pass over a file that is all in memory takes next to no time; this keeps it from taking a whole CPU.
const PASS_NS: u64 = 100_000_000;

/// Writes a file that stays, as a program's own files would: a kill gives nothing of a tmpfs back.
pub fn fill_tmpfs(tmpfs: &Tmpfs) -> Result<u8, String> {
    let directory = Path::new(&tmpfs.path);
    if !in_memory(directory)? {
        return Err(format!("{} is no tmpfs; give tmpfs the path of one", tmpfs.path));
    }
    let (mut file, path) =
        take_over(directory).map_err(|error| format!("cannot create a file in {}: {error}", tmpfs.path))?;
    match fill(&mut file, tmpfs.size, tmpfs.rate) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            report::event("full", "ENOSPC: the tmpfs's own size was reached");
        }
        Err(error) => return Err(format!("cannot write {}: {error}", path.display())),
    }
    Ok(tmpfs.then_exit.unwrap_or_else(clock::sleep_for_ever))
}

/// The first `exit137-tmpfs-N` that no live process has, emptied. A restarted container thus takes the place of the one
/// before it, and they do not add up to more than one size.
fn take_over(directory: &Path) -> IoResult<(File, PathBuf)> {
    let mut number = 0_u32;
    loop {
        let path = directory.join(format!("exit137-tmpfs-{number}"));
        let file = File::options().write(true).create(true).truncate(false).open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return file.set_len(0).map(|()| (file, path)),
            Err(rustix::io::Errno::WOULDBLOCK) => number += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a file and reads it over and over.
pub fn page_cache(cache: &PageCache) -> Result<u8, String> {
    let directory = Path::new(&cache.path);
    let refused = || {
        Err(format!(
            "{} is not on a disk, so its pages cannot be dropped; give pageCache a directory on a disk",
            cache.path
        ))
    };
    if in_memory(directory)? {
        return refused();
    }
    let path = directory.join(format!("exit137-{}-{}", std::process::id(), clock::now_ns()));
    let io = |error: std::io::Error| format!("cannot use {}: {error}", path.display());
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).map_err(io)?;
    // Open files outlive their names, so nothing is left on the disk however this ends.
    remove_file(&path).map_err(io)?;
    if !on_a_disk(&mut file).map_err(io)? {
        return refused();
    }
    fill(&mut file, cache.size, None).map_err(io)?;
    file.sync_all().map_err(io)?;
    report::event("written", &cache.size.to_string());
    read_over_and_over(&mut file, cache.passes).map_err(io)?;
    clock::sleep_for_ever()
}

fn read_over_and_over(file: &mut File, passes: Option<u32>) -> IoResult<()> {
    let mut buffer = vec![0; 64 * 1024];
    let (mut pass, mut due) = (0_u64, clock::now_ns());
    while passes.is_none_or(|passes| pass < u64::from(passes)) {
        clock::sleep_until(due);
        due = clock::now_ns() + PASS_NS;
        file.rewind()?;
        while file.read(&mut buffer)? > 0 {}
        pass += 1;
        report::event("pass", &pass.to_string());
    }
    Ok(())
}

fn in_memory(directory: &Path) -> Result<bool, String> {
    let stat =
        statfs(directory).map_err(|error| format!("cannot look at {}: {error}", directory.display()))?;
    Ok(IN_MEMORY.contains(&stat.f_type))
}

/// Whether what is dropped from memory comes back from a disk. The type of a file system does not tell: an overlay may
/// lie on a tmpfs. Leaves the file empty.
fn on_a_disk(file: &mut File) -> IoResult<bool> {
    let mut buffer = vec![0; 64 * 1024];
    file.write_all(&buffer)?;
    let mut fetched = false;
    // Another process may hold a page for a moment, which keeps it from being dropped.
    for _ in 0..10 {
        file.sync_all()?;
        fadvise(&*file, 0, None, Advice::DontNeed)?;
        file.rewind()?;
        let Some(before) = read_from_disks() else { return Ok(true) };
        file.read_exact(&mut buffer)?;
        fetched = read_from_disks().is_some_and(|after| after > before);
        if fetched {
            break;
        }
        clock::sleep_ms(10);
    }
    file.rewind()?;
    file.set_len(0)?;
    Ok(fetched)
}

/// How many bytes this process has had fetched from disks (`proc_pid_io(5)`), where the kernel counts them.
fn read_from_disks() -> Option<u64> {
    let io = read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("read_bytes: "))?.parse().ok()
}

/// Writes `size` bytes of unique pages as they become due.
fn fill(file: &mut File, size: Bytes, rate: Option<Rate>) -> IoResult<()> {
    let schedule = Schedule::ramp(size.0, rate.map_or(0, |rate| rate.per_second));
    let mut page = random_page().map_err(std::io::Error::other)?;
    let (began, mut written, mut number) = (clock::now_ns(), 0, 0);
    let mut said = Level::default();
    said.now(0);
    while written < size.0 {
        if written >= schedule.level_at(clock::now_ns() - began) {
            clock::sleep_ms(TICK_MS);
            continue;
        }
        stamp(&mut page, number);
        let wanted = page.len().min(usize::try_from(size.0 - written).unwrap_or(usize::MAX));
        if let Err(error) = file.write_all(page.get(..wanted).unwrap_or_default()) {
            said.settled(written);
            return Err(error);
        }
        number += 1;
        written += wanted as u64;
        said.now(written);
    }
    said.settled(written);
    Ok(())
}
