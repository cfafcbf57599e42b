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
