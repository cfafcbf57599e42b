//! The samples: at full resolution around kills and thinned elsewhere, into a file or on to whoever keeps them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::artifacts::write_whole;
use crate::evidence::{Sample, sample};

/// So many readings of a cgroup are kept back: a second's worth.
const KEPT: usize = 100;
/// Elsewhere, one in so many nanoseconds.
const THINNED: u64 = 100_000_000;
/// So long after a kill everything is written.
const AFTERMATH: u64 = 500_000_000;

/// A scenario's samples: CSV.
#[derive(Debug)]
pub struct SampleFile {
    out: BufWriter<File>,
    path: PathBuf,
}

/// Who takes samples that somebody else keeps.
pub type Relay = Box<dyn FnMut(&Sample) + Send>;

enum Out {
    File(SampleFile),
    Relay(Relay),
}

/// Which readings are worth keeping, and where they go.
#[derive(Debug)]
pub(super) struct Samples {
    out: Out,
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
    /// Begins a new file.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut out = BufWriter::new(File::options().append(true).create_new(true).open(path)?);
        writeln!(out, "{}", sample::HEADER)?;
        Ok(Self { out, path: path.to_owned() })
    }

    /// Writes a sample, in any order.
    pub fn write(&mut self, sample: &Sample) -> io::Result<()> {
        writeln!(self.out, "{}", sample::encode(sample))
    }

    /// Nothing more comes: brings the file into the order of time, which what a kill made worth writing had left. What an
    /// agent's log told twice is told once.
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let text = fs::read_to_string(&self.path)?;
        let mut samples: Vec<&str> = text.lines().skip(1).collect();
        samples.sort_by_key(|line| (sample::decode(line).map(|sample| sample.at), *line));
        samples.dedup();
        write_whole(&self.path, &format!("{}\n{}\n", sample::HEADER, samples.join("\n")))
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Relay(_) => "Relay",
        })
    }
}

impl Out {
    fn write(&mut self, sample: &Sample) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(sample),
            Self::Relay(relay) => {
                relay(sample);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.out.flush(),
            Self::Relay(_) => Ok(()),
        }
    }
}

impl Samples {
    pub(super) fn into_file(path: &Path) -> io::Result<Self> {
        Ok(Self { out: Out::File(SampleFile::create(path)?), cgroups: HashMap::new() })
    }

    pub(super) fn to(relay: Relay) -> Self {
        Self { out: Out::Relay(relay), cgroups: HashMap::new() }
    }

    /// Takes a reading; writes it now, later if a kill makes it matter, or never.
    pub(super) fn push(&mut self, sample: Sample) -> io::Result<()> {
        let recent = self.cgroups.entry(sample.cgroup.clone()).or_default();
        let changed = recent.written_usage != Some(sample.usage);
        let due = sample.at >= recent.written_at + THINNED || sample.at < recent.everything_until;
        if recent.written_usage.is_none() || sample.breakdown.is_some() || (changed && due) {
            recent.written_at = sample.at;
            recent.written_usage = Some(sample.usage);
            return self.out.write(&sample);
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
            self.out.write(&sample)?;
        }
        self.out.flush()
    }

    /// Nothing more comes from there.
    pub(super) fn end(&mut self, cgroup: &str, now: u64) -> io::Result<()> {
        self.kill(cgroup, now)?;
        self.cgroups.remove(cgroup);
        Ok(())
    }

    /// Nothing more comes at all.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::File(file) => file.finish(),
            Out::Relay(_) => Ok(()),
        }
    }
}
