//! Hostile input for the parser of the kernel log and for the reader of records: whatever comes, nothing panics, nothing
//! hangs, and memory stays within a small multiple of the input. `EXIT137_FUZZ_ITERATIONS` says how many rounds.
#![expect(clippy::unwrap_used, reason = "a test's helper may fail it")]

use std::fs;
use std::path::Path;

use exit137::diagnosis::Diagnosis;
use exit137::evidence::kmsg::{Assembler, parse_record, parse_text};
use exit137::evidence::{memcg, record, sample, trace};

/// A small generator of reproducible randomness (xorshift64*): a failing round can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % bound.max(1)
    }

    /// A seed with a few bytes changed, removed, doubled or taken from another seed.
    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        const NASTY: [&[u8]; 12] = [
            b"18446744073709551616",
            b"-1",
            b"\xff\xfe",
            b"\0",
            b"\\x0a",
            b"{",
            b"\"",
            b",",
            b";",
            b"=",
            b"9223372036854775807",
            b"18446744073709551615",
        ];
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(40)).min(bytes.len());
            match self.below(5) {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(at..end, NASTY[self.below(NASTY.len())].iter().copied())),
                2 => {
                    let part = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, part));
                }
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    let part = other[from..(from + 60).min(other.len())].to_vec();
                    drop(bytes.splice(at..end, part));
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = u8::try_from(self.below(256)).unwrap();
                    }
                }
            }
        }
        bytes
    }
}

fn rounds() -> usize {
    std::env::var("EXIT137_FUZZ_ITERATIONS").map_or(5_000, |text| text.parse().unwrap())
}

fn kernel_log_lines() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/kubernetes-1.36");
    let mut lines = Vec::new();
    let kernel_log = |path: &Path| path.to_string_lossy().ends_with(".kmsg.txt");
    for path in
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| kernel_log(path))
    {
        let text = fs::read_to_string(path).unwrap();
        lines.extend(text.lines().map(|line| line.as_bytes().to_vec()));
    }
    assert!(lines.len() > 50);
    lines
}

/// A record as a run writes it, made here so that it always has today's format.
fn record_lines() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.jsonl");
    let (listener, _heard) = tokio::sync::mpsc::unbounded_channel();
    let recorder = exit137::recorder::Recorder::create(&path, "boot", listener).unwrap();
    for line in kernel_log_lines() {
        let parsed = parse_record(&line).unwrap();
        if let Some(fact) = parse_text(&parsed.text) {
            let at = exit137::evidence::Moment::between(parsed.stamp_us * 1000, parsed.stamp_us * 1000 + 10);
            recorder.record(exit137::evidence::Source::Kmsg, at, Some(parsed.text), fact);
        }
    }
    drop(recorder);
    let bytes = fs::read(path).unwrap();
    assert!(bytes.len() > 5_000);
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn the_kernel_log_parser_survives_whatever_is_logged() {
    let seeds = kernel_log_lines();
    let mut random = Random(137);
    let mut assembler = Assembler::default();
    let mut facts = 0;
    for _ in 0..rounds() {
        let line = random.mutate(&seeds);
        let Some(parsed) = parse_record(&line) else { continue };
        for complete in assembler.push(parsed).0 {
            assert!(complete.text.len() <= 64 * 1024 + line.len());
            facts += usize::from(parse_text(&complete.text).is_some());
        }
    }
    assert!(facts > 0, "the mutations must not break everything, or nothing is tested");
}

#[test]
fn user_space_cannot_forge_a_line_of_the_kernel() {
    let mut random = Random(9);
    let seeds = kernel_log_lines();
    for _ in 0..rounds().min(20_000) {
        let text = random.mutate(&seeds);
        // What a process writes to /dev/kmsg has a facility of at least 1 (Documentation/ABI/testing/dev-kmsg).
        let forged = [b"12,7,1000,-;".to_vec(), text].concat();
        if let Some(parsed) = parse_record(&forged) {
            assert_ne!(parsed.facility, 0);
        }
    }
}

#[test]
fn the_record_reader_and_the_diagnosis_survive_any_record() {
    let seeds = record_lines();
    let mut random = Random(731);
    let mut read = 0;
    for _ in 0..rounds() {
        let lines: Vec<u8> = (0..=random.below(8)).flat_map(|_| random.mutate(&seeds)).collect();
        let Ok(kept) = record::decode(&lines) else { continue };
        read += kept.observations.len();
        let mut diagnosis = Diagnosis::default();
        for observation in &kept.observations {
            diagnosis.observe(observation);
        }
        let _ = diagnosis.finish();
    }
    assert!(read > 0);
}

#[test]
fn the_small_parsers_survive_any_text() {
    let seeds: Vec<Vec<u8>> = [
        "exit137-hog-14467   [000] d..2.   636.836200: signal_generate: sig=9 errno=0 code=128 comm=exit137-hog pid=14467 grp=1 res=0",
        "exit137-hog-14467   [000] .N.1.   636.836278: mark_victim: pid=14467 comm=exit137-hog total-vm=133700kB anon-rss=64768kB",
        "CPU:0 [LOST 12 EVENTS]",
        "anon 1234\nfile 5678\nkernel 99\nslab 12\ninactive_file 7\n",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=0\n",
        "123,/a/b,4096,0,0,0,0,0,0,0",
    ]
    .iter()
    .map(|seed| seed.as_bytes().to_vec())
    .collect();
    let mut random = Random(42);
    for _ in 0..rounds() {
        let bytes = random.mutate(&seeds);
        let text = String::from_utf8_lossy(&bytes);
        let _ = trace::parse_line(&text).and_then(|line| line.event.into_fact());
        let _ = trace::parse_lost(&text);
        let _ = sample::decode(&text);
        let _ = memcg::number(&bytes);
        let _ = memcg::pressure(&bytes, "full");
        let _ = memcg::breakdown_v1(1 << 20, &bytes, None);
        let _ = memcg::breakdown_v2(1 << 20, &bytes, Some(&bytes));
    }
}
