//! A memory cgroup's files, kept open: each reading is one `pread(2)`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::evidence::{Breakdown, Counters, memcg};

/// The files of one cgroup. Those that a kernel does not have are absent.
#[derive(Debug)]
pub(super) enum Files {
    V1(V1),
    V2(V2),
}

#[derive(Debug)]
pub(super) struct V1 {
    usage: File,
    pub(super) oom_control: File,
    failcnt: Option<File>,
    memsw_failcnt: Option<File>,
    peak: Option<File>,
    stat: Option<File>,
    kernel: Option<File>,
}

#[derive(Debug)]
pub(super) struct V2 {
    usage: File,
    pub(super) events: File,
    events_local: Option<File>,
    peak: Option<File>,
    stat: Option<File>,
    pressure: Option<File>,
}

impl V1 {
    /// A charge is counted against memory and swap together first (`memcontrol.c:try_charge_memcg`), so where both have
    /// the same limit it fails there, and `memory.failcnt` stays 0.
    fn limit_hits(&self) -> Option<u64> {
        let of_memory = number(self.failcnt.as_ref());
        let with_swap = number(self.memsw_failcnt.as_ref());
        of_memory.map(|hits| hits + with_swap.unwrap_or(0))
    }
}

impl Files {
    pub(super) fn open(directory: &Path) -> std::io::Result<Self> {
        let optional = |name: &str| File::open(directory.join(name)).ok();
        if directory.join("memory.usage_in_bytes").exists() {
            return Ok(Self::V1(V1 {
                usage: File::open(directory.join("memory.usage_in_bytes"))?,
                oom_control: File::open(directory.join("memory.oom_control"))?,
                failcnt: optional("memory.failcnt"),
                memsw_failcnt: optional("memory.memsw.failcnt"),
                peak: optional("memory.max_usage_in_bytes"),
                stat: optional("memory.stat"),
                kernel: optional("memory.kmem.usage_in_bytes"),
            }));
        }
        Ok(Self::V2(V2 {
            usage: File::open(directory.join("memory.current"))?,
            events: File::open(directory.join("memory.events"))?,
            events_local: optional("memory.events.local"),
            peak: optional("memory.peak"),
            stat: optional("memory.stat"),
            pressure: optional("memory.pressure"),
        }))
    }

    pub(super) fn usage(&self) -> Option<u64> {
        let file = match self {
            Self::V1(files) => &files.usage,
            Self::V2(files) => &files.usage,
        };
        number(Some(file))
    }

    /// Brings the counters up to date: those that tell of a kill always, the others in a full round.
    pub(super) fn counters(&self, counters: &mut Counters, full: bool) {
        match self {
            Self::V1(files) => {
                read(Some(&files.oom_control), |text| {
                    counters.oom_kill_local = memcg::value(text, "oom_kill");
                });
                if full {
                    counters.max = files.limit_hits();
                    counters.peak = number(files.peak.as_ref());
                }
            }
            Self::V2(files) => {
                read(Some(&files.events), |text| {
                    counters.oom_kill = memcg::value(text, "oom_kill");
                    counters.oom_group_kill = memcg::value(text, "oom_group_kill");
                    counters.max = memcg::value(text, "max");
                });
                read(files.events_local.as_ref(), |text| {
                    counters.oom_local = memcg::value(text, "oom");
                    counters.oom_kill_local = memcg::value(text, "oom_kill");
                });
                if full {
                    counters.peak = number(files.peak.as_ref());
                }
            }
        }
    }

    pub(super) fn breakdown(&self, usage: u64) -> Option<Breakdown> {
        match self {
            Self::V1(files) => {
                let kernel = number(files.kernel.as_ref());
                read(files.stat.as_ref(), |stat| memcg::breakdown_v1(usage, stat, kernel)).flatten()
            }
            Self::V2(files) => read(files.stat.as_ref(), |stat| {
                let breakdown =
                    read(files.pressure.as_ref(), |psi| memcg::breakdown_v2(usage, stat, Some(psi)));
                breakdown.unwrap_or_else(|| memcg::breakdown_v2(usage, stat, None))
            })
            .flatten(),
        }
    }
}

fn number(file: Option<&File>) -> Option<u64> {
    // Clearing a page of stack for twenty digits, some twenty thousand times a second, would cost more than reading them.
    let mut buffer = [0; 32];
    let read = file?.read_at(&mut buffer, 0).ok()?;
    buffer.get(..read).and_then(memcg::number)
}

/// Reads a file of lines from its start. One that is gone, because its cgroup is, has nothing to say.
fn read<T>(file: Option<&File>, parse: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let mut buffer = [0; 8192];
    let read = file?.read_at(&mut buffer, 0).ok()?;
    buffer.get(..read).map(parse)
}
