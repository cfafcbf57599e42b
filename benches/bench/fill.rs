//! How fast `hog` fills memory, beside a bare loop and stress-ng.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};

use exit137::backend::local::cgroup::{Cgroup, Hierarchy, Version};
use exit137::clock;

use crate::table::{Row, percentile};
use crate::{Measured, peers};

/// What each of them holds, and the limit that it runs in: nothing is allocated without one.
const SIZE: u64 = 512 << 20;
const LIMIT: u64 = 640 << 20;
const ROUNDS: u32 = 15;
/// No fill takes longer; one that does is none.
const PATIENCE_NS: u64 = 10_000_000_000;

pub fn measure() -> Measured<Vec<Row>> {
    let base = Hierarchy::find()?.base()?;
    let cgroup = base.make_child(&format!("exit137-bench-{}", std::process::id()))?;
    let outcome = cgroup.set_limit(LIMIT).map_err(Into::into).and_then(|()| all_rounds(&cgroup));
    cgroup.kill()?;
    cgroup.remove()?;
    outcome
}

fn all_rounds(cgroup: &Cgroup) -> Measured<Vec<Row>> {
    let workload = peers::workload()?.to_string_lossy().into_owned();
    let hog = vec![workload, "hog".into(), "--size".into(), format!("{}Mi", SIZE >> 20)];
    let touch = peers::ours("touch").map(|path| vec![path.to_string_lossy().into_owned(), SIZE.to_string()]);
    let stress = peers::installed("stress-ng").map(|path| {
        let words = ["--vm", "1", "--vm-keep", "--vm-populate", "--vm-bytes"].map(str::to_owned);
        let mut command = vec![path.to_string_lossy().into_owned()];
        command.extend(words);
        command.push(SIZE.to_string());
        command
    });
    // In turns, so that what else the machine does falls on all of them alike.
    let (mut ours, mut bare, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(rate(cgroup, &hog)?);
        bare.extend(touch.as_ref().map(|touch| rate(cgroup, touch)).transpose()?);
        theirs.extend(stress.as_ref().map(|stress| rate(cgroup, stress)).transpose()?);
    }
    let row = |against: &str| {
        let median = percentile(&ours, 0.5);
        Row::new(format!("fill rate of hog, against {against}"), format!("{median:.2} GiB/s"))
    };
    let beside = |row: Row, name: &str, peer: &[f64]| {
        let ratios: Vec<f64> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
        let ratio = percentile(&ratios, 0.5);
        (row.peer(format!("{name} {:.2} GiB/s", percentile(peer, 0.5)), ratio), ratio)
    };
    let bare_row = row("a loop that touches pages");
    let bare_row = if touch.is_some() {
        let (row, ratio) = beside(bare_row, "bare C loop", &bare);
        row.aim("ratio >= 0.9", ratio >= 0.9)
    } else {
        bare_row.no_peer(peers::NO_COMPILER)
    };
    let stress_row = row("stress-ng --vm");
    let stress_row = if stress.is_some() {
        beside(stress_row, "stress-ng --vm-populate", &theirs).0
    } else {
        stress_row.no_peer("no stress-ng: not measured")
    };
    Ok(vec![bare_row, stress_row])
}

/// How fast the cgroup grows from a tenth to nine tenths of the size while this runs in it, in GiB/s.
fn rate(cgroup: &Cgroup, command: &[String]) -> Measured<f64> {
    let usage = fs::File::open(cgroup.directory.join(match cgroup.version {
        Version::V1 => "memory.usage_in_bytes",
        Version::V2 => "memory.current",
    }))?;
    // What the one before held is being freed until then; pages of the page cache may stay.
    passes(&usage, |held| held < SIZE / 10)?;
    // The shell enters the cgroup before it becomes the program.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
        .arg(cgroup.directory.join("cgroup.procs"))
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let grown = growth(&usage);
    cgroup.kill()?;
    child.wait()?;
    grown
}

#[expect(clippy::cast_precision_loss, reason = "less than 2^52 bytes and nanoseconds")]
fn growth(usage: &fs::File) -> Measured<f64> {
    let (low, from) = passes(usage, |held| held >= SIZE / 10)?;
    let (high, to) = passes(usage, |held| held >= SIZE / 10 * 9)?;
    Ok((high - low) as f64 / f64::from(1 << 30) / ((to - from) as f64 / 1e9))
}

/// Waits, looking all the time, until the size is so; answers it and when that was.
fn passes(usage: &fs::File, so: impl Fn(u64) -> bool) -> Measured<(u64, u64)> {
    let deadline = clock::boot_ns() + PATIENCE_NS;
    let mut text = [0; 32];
    loop {
        let read = usage.read_at(&mut text, 0)?;
        let now = clock::boot_ns();
        let held = std::str::from_utf8(text.get(..read).unwrap_or_default())?.trim().parse()?;
        if so(held) {
            return Ok((held, now));
        }
        if now > deadline {
            return Err(format!("a fill stayed at {held} bytes for 10 s").into());
        }
    }
}
