//! The samples' file: CSV, at full resolution around kills and thinned elsewhere.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use crate::artifacts::write_whole;
use crate::evidence::{Sample, sample};

/// So many readings of a cgroup are kept back: a second's worth.
const KEPT: usize = 100;
/// Elsewhere, one in so many nanoseconds.
const THINNED: u64 = 100_000_000;
/// So long after a kill everything is written.
const AFTERMATH: u64 = 500_000_000;

/// Where a scenario's samples go.
#[derive(Debug)]
pub(super) struct SampleFile {
    out: BufWriter<File>,
    cgroups: HashMap<String, Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    kept: VecDeque<Sample>,
    written_at: u64,
    written_usage: Option<u64>,
    everything_until: u64,
}

impl SampleFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut out = BufWriter::new(file);
        writeln!(out, "{}", sample::HEADER)?;
        Ok(Self { out, cgroups: HashMap::new() })
    }

    /// Takes a reading; writes it now, later if a kill makes it matter, or never.
    pub(super) fn push(&mut self, sample: Sample) -> io::Result<()> {
        let recent = self.cgroups.entry(sample.cgroup.clone()).or_default();
        let changed = recent.written_usage != Some(sample.usage);
        let due = sample.at >= recent.written_at + THINNED || sample.at < recent.everything_until;
        if recent.written_usage.is_none() || sample.breakdown.is_some() || (changed && due) {
            recent.written_at = sample.at;
            recent.written_usage = Some(sample.usage);
            return writeln!(self.out, "{}", sample::encode(&sample));
        }
        if changed {
            if recent.kept.len() == KEPT {
                recent.kept.pop_front();
            }
            recent.kept.push_back(sample);
        }
        Ok(())
    }

    /// Something was killed there: what was kept back is written, and for a while everything.
    pub(super) fn kill(&mut self, cgroup: &str, now: u64) -> io::Result<()> {
        let Some(recent) = self.cgroups.get_mut(cgroup) else { return Ok(()) };
        recent.everything_until = now + AFTERMATH;
        for sample in recent.kept.drain(..) {
            writeln!(self.out, "{}", sample::encode(&sample))?;
        }
        self.out.flush()
    }

    /// Nothing more comes from there.
    pub(super) fn end(&mut self, cgroup: &str, now: u64) -> io::Result<()> {
        self.kill(cgroup, now)?;
        self.cgroups.remove(cgroup);
        Ok(())
    }

    /// Nothing more comes at all: brings the file into the order of time, which what a kill made worth writing had left.
    pub(super) fn finish(&mut self, path: &Path) -> io::Result<()> {
        self.out.flush()?;
        let text = fs::read_to_string(path)?;
        let mut samples: Vec<&str> = text.lines().skip(1).collect();
        samples.sort_by_key(|line| sample::decode(line).map(|sample| sample.at));
        write_whole(path, &format!("{}\n{}\n", sample::HEADER, samples.join("\n")))
    }
}
