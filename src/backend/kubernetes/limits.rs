//! Limits that others change while containers run: a resize of a pod, an autoscaler's.

use std::collections::HashMap;

use crate::backend::local::cgroup::Cgroup;
use crate::evidence::{LimitChanged, Moment};

/// The limits that were read last, by path.
#[derive(Debug, Default)]
pub(super) struct Limits(HashMap<String, Known>);

#[derive(Debug)]
struct Known {
    cgroup: Cgroup,
    bytes: u64,
    read_at: u64,
}

impl Limits {
    /// From now on, changes of this cgroup's limit are told. What a runtime writes before the container's own program runs is no
    /// change. A limit that is given to who has none, no resize may give.
    pub(super) fn know(&mut self, cgroup: Cgroup, now: u64) {
        if let Some(bytes) = cgroup.limit() {
            self.0.entry(cgroup.path.clone()).or_insert(Known { cgroup, bytes, read_at: now });
        }
    }

    /// What has changed since it was last asked, and between which moments.
    pub(super) fn changes(&mut self, now: impl Fn() -> u64) -> Vec<(Moment, LimitChanged)> {
        let mut changes = Vec::new();
        self.0.retain(|path, known| {
            let read = known.cgroup.limit();
            let (from, since) = (known.bytes, known.read_at);
            known.read_at = now();
            // Removed, or without a limit: nothing runs out of it any more.
            let Some(to) = read else { return false };
            if to != from {
                known.bytes = to;
                let cgroup = path.clone();
                let changed = LimitChanged { cgroup, from: Some(from), to, writer: None, refused: None };
                changes.push((Moment::between(since, known.read_at), changed));
            }
            true
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::local::cgroup::Version;

    #[test]
    fn a_limit_that_changes_is_told_once_and_between_which_looks() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory.max");
        let cgroup = Cgroup { version: Version::V2, directory: directory.path().into(), path: "/a".into() };
        let mut limits = Limits::default();
        std::fs::write(&file, "max\n").unwrap();
        limits.know(cgroup.clone(), 1);
        std::fs::write(&file, "4096\n").unwrap();
        assert_eq!(limits.changes(|| 2), []);
        limits.know(cgroup.clone(), 3);
        limits.know(cgroup, 4);
        assert_eq!(limits.changes(|| 5), []);
        std::fs::write(&file, "8192\n").unwrap();
        let told = limits.changes(|| 6);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].0, told[0].1.from, told[0].1.to), (Moment::between(5, 6), Some(4096), 8192));
        assert_eq!(limits.changes(|| 7), []);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(limits.changes(|| 8), []);
    }
}
