//! `tmpfs` and `page-cache`: memory that belongs to files.

use std::fs::{File, remove_file};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::path::Path;

use exit137_workload::{PageCache, Schedule, Tmpfs};
use rustix::fs::FsWord;

use crate::clock;
use crate::memory::{CHUNK, stamped};
use crate::report;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` (statfs(2)).
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];

pub fn fill_tmpfs(tmpfs: &Tmpfs) -> Result<u8, String> {
    let path = Path::new(&tmpfs.path).join(format!("exit137-{}", clock::now_ns()));
    let mut file = create(&path)?;
    let schedule = Schedule::ramp(tmpfs.size.0, tmpfs.rate.map_or(0, |rate| rate.per_second));
    match write_by(&mut file, &schedule) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            report::event("full", "ENOSPC: the tmpfs's own size was reached");
        }
        Err(error) => return Err(format!("cannot write {}: {error}", path.display())),
    }
    clock::sleep_for_ever()
}

pub fn page_cache(cache: &PageCache) -> Result<u8, String> {
    let directory = Path::new(&cache.path);
    let stat =
        rustix::fs::statfs(directory).map_err(|error| format!("cannot look at {}: {error}", cache.path))?;
    if IN_MEMORY.contains(&stat.f_type) {
        return Err(format!(
            "{} is a tmpfs, whose pages cannot be dropped; give pageCache a directory on a disk",
            cache.path
        ));
    }
    let path = directory.join(format!("exit137-{}", clock::now_ns()));
    let mut file = create(&path)?;
    // Open files outlive their names, so nothing is left on the disk however this ends.
    remove_file(&path).map_err(|error| format!("cannot unlink {}: {error}", path.display()))?;
    let io = |error: std::io::Error| format!("cannot use {}: {error}", path.display());
    write_by(&mut file, &Schedule::ramp(cache.size.0, 0)).map_err(io)?;
    file.sync_all().map_err(io)?;
    report::event("written", &cache.size.to_string());
    let mut buffer = vec![0; 256 * 1024];
    let mut pass = 0_u64;
    while cache.passes.is_none_or(|passes| pass < u64::from(passes)) {
        file.rewind().map_err(io)?;
        while file.read(&mut buffer).map_err(io)? > 0 {}
        pass += 1;
        report::event("pass", &pass.to_string());
    }
    clock::sleep_for_ever()
}

fn create(path: &Path) -> Result<File, String> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| format!("cannot create {}: {error}", path.display()))
}

/// Appends unique pages as the schedule makes them due.
fn write_by(file: &mut File, schedule: &Schedule) -> std::io::Result<()> {
    let mut page = vec![0; 4096];
    rustix::rand::getrandom(&mut page, rustix::rand::GetRandomFlags::empty())?;
    let (began, mut written) = (clock::now_ns(), 0);
    while written < schedule.peak() {
        if written >= schedule.level_at(clock::now_ns() - began) {
            clock::sleep_ms(2);
            continue;
        }
        stamped(&mut page, written);
        file.write_all(&page)?;
        written += page.len() as u64;
        if written % CHUNK == 0 {
            report::allocated(written);
        }
    }
    Ok(())
}
