//! The memory cgroup's files, v1 and v2, read without allocating: they are read a hundred times a second.

use super::sample::Breakdown;

/// A file that holds one number; `max` counts as none.
pub fn number(text: &[u8]) -> Option<u64> {
    digits(text.trim_ascii())
}

/// The value of `key` in a file of `key value` lines (`memory.events`, `memory.stat`, `memory.oom_control`).
pub fn value(text: &[u8], key: &str) -> Option<u64> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(key.as_bytes())?;
        digits(rest.strip_prefix(b" ")?.trim_ascii())
    })
}

/// PSI's `some avg10=0.00 avg60=…`: the average over ten seconds of this line, in percent.
pub fn pressure(text: &[u8], line: &str) -> Option<f64> {
    let line = text.split(|byte| *byte == b'\n').find_map(|l| l.strip_prefix(line.as_bytes()))?;
    let line = std::str::from_utf8(line).ok()?;
    line.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10=")?.parse().ok())
}

/// The breakdown from v1's `memory.stat` and `memory.kmem.usage_in_bytes`. The `total_` lines include what is below.
pub fn breakdown_v1(usage: u64, stat: &[u8], kernel: Option<u64>) -> Option<Breakdown> {
    let refaults = value(stat, "total_workingset_refault_file")
        .zip(value(stat, "total_workingset_refault_anon"))
        .map(|(file, anon)| file + anon);
    Some(Breakdown {
        working_set: usage.saturating_sub(value(stat, "total_inactive_file")?),
        anon: value(stat, "total_rss")?,
        file: value(stat, "total_cache")?,
        shmem: value(stat, "total_shmem").unwrap_or(0),
        kernel,
        refaults,
        pressure_some: None,
        pressure_full: None,
    })
}

/// The breakdown from v2's `memory.stat` and `memory.pressure`.
pub fn breakdown_v2(usage: u64, stat: &[u8], psi: Option<&[u8]>) -> Option<Breakdown> {
    let refaults = value(stat, "workingset_refault_file")
        .zip(value(stat, "workingset_refault_anon"))
        .map(|(file, anon)| file + anon);
    Some(Breakdown {
        working_set: usage.saturating_sub(value(stat, "inactive_file")?),
        anon: value(stat, "anon")?,
        file: value(stat, "file")?,
        shmem: value(stat, "shmem").unwrap_or(0),
        kernel: value(stat, "kernel"),
        refaults,
        pressure_some: psi.and_then(|text| pressure(text, "some")),
        pressure_full: psi.and_then(|text| pressure(text, "full")),
    })
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_matched_whole() {
        let text = b"oom 3\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(value(text, "oom"), Some(3));
        assert_eq!(value(text, "oom_kill"), Some(1));
        assert_eq!(value(text, "low"), None);
        assert_eq!(number(b"max\n"), None);
        assert_eq!(number(b"4096\n"), Some(4096));
    }

    #[test]
    fn pressure_is_the_ten_second_average_of_its_line() {
        let text = b"some avg10=1.50 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(pressure(text, "some"), Some(1.5));
        assert_eq!(pressure(text, "full"), Some(0.25));
    }

    #[test]
    fn the_working_set_is_usage_less_inactive_file_pages() {
        let stat = b"anon 100\nfile 900\nkernel 20\nshmem 0\ninactive_file 600\n";
        let breakdown = breakdown_v2(1020, stat, None).unwrap();
        assert_eq!((breakdown.working_set, breakdown.kernel), (420, Some(20)));
        assert_eq!(breakdown_v2(10, stat, None).unwrap().working_set, 0);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            number(&bytes);
            value(&bytes, "anon");
            pressure(&bytes, "some");
            breakdown_v1(1, &bytes, None);
            breakdown_v2(1, &bytes, Some(&bytes));
        }
    }
}
