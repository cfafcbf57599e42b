//! Memory over time: samples lie in a file of their own beside the record.

use serde::{Deserialize, Serialize};

/// One reading of a memory cgroup's sizes, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Boot-time nanoseconds.
    pub at: u64,
    /// The cgroup, as the kernel prints its path.
    pub cgroup: String,
    /// Everything charged (v1 `memory.usage_in_bytes`, v2 `memory.current`).
    pub usage: u64,
    /// The breakdown, read less often than the usage.
    pub breakdown: Option<Breakdown>,
}

/// What the memory is, from `memory.stat` and `memory.pressure`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Breakdown {
    /// Usage less inactive file pages, floored at 0: the kubelet's working set (cadvisor `handler.go:setMemoryStats`).
    pub working_set: u64,
    /// Anonymous memory.
    pub anon: u64,
    /// Page cache, tmpfs included.
    pub file: u64,
    /// tmpfs and shared memory.
    pub shmem: u64,
    /// Kernel memory; cgroup v1 tells it only as `memory.kmem.usage_in_bytes`.
    pub kernel: Option<u64>,
    /// Pages read back after having been evicted, since the cgroup was made.
    pub refaults: Option<u64>,
    /// PSI `some avg10` in percent (v2).
    pub pressure_some: Option<f64>,
    /// PSI `full avg10` in percent (v2).
    pub pressure_full: Option<f64>,
}

/// The first line of a file of samples.
pub const HEADER: &str =
    "at_ns,cgroup,usage,working_set,anon,file,shmem,kernel,refaults,pressure_some,pressure_full";

/// One line of a file of samples, without its newline. A cgroup's name never holds a comma: we make them.
pub fn encode(sample: &Sample) -> String {
    let mut line = format!("{},{},{}", sample.at, sample.cgroup, sample.usage);
    let Some(b) = &sample.breakdown else {
        line.push_str(",,,,,,,,");
        return line;
    };
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let percent = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for field in [
        b.working_set.to_string(),
        b.anon.to_string(),
        b.file.to_string(),
        b.shmem.to_string(),
        number(b.kernel),
        number(b.refaults),
        percent(b.pressure_some),
        percent(b.pressure_full),
    ] {
        line.push(',');
        line.push_str(&field);
    }
    line
}

/// Reads a line; `None` for the header and for a line that was torn.
pub fn decode(line: &str) -> Option<Sample> {
    let fields: Vec<&str> = line.trim_end().split(',').collect();
    let [at, cgroup, usage, working_set, anon, file, shmem, kernel, refaults, some, full] = fields[..] else {
        return None;
    };
    let breakdown = if working_set.is_empty() {
        None
    } else {
        Some(Breakdown {
            working_set: working_set.parse().ok()?,
            anon: anon.parse().ok()?,
            file: file.parse().ok()?,
            shmem: shmem.parse().ok()?,
            kernel: kernel.parse().ok(),
            refaults: refaults.parse().ok(),
            pressure_some: some.parse().ok(),
            pressure_full: full.parse().ok(),
        })
    };
    Some(Sample { at: at.parse().ok()?, cgroup: cgroup.to_owned(), usage: usage.parse().ok()?, breakdown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_read_back_as_it_was_written() {
        let bare = Sample { at: 5, cgroup: "/a/b".into(), usage: 4096, breakdown: None };
        let breakdown =
            Breakdown { working_set: 1, kernel: Some(3), pressure_some: Some(0.25), ..Breakdown::default() };
        let full = Sample { breakdown: Some(breakdown), ..bare.clone() };
        for sample in [bare, full] {
            assert_eq!(decode(&encode(&sample)), Some(sample));
        }
        assert_eq!(decode(HEADER), None);
        assert_eq!(decode("5,/a/b,40"), None);
    }
}
