//! The record's format: one observation a line, in JSON, in an envelope that says who emitted it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fact, Moment, Observation, Source};

/// The version of the format that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// The longest line that is read; a longer one is damage.
pub const LONGEST_LINE: usize = 1 << 20;

/// Who emits: one process's time of life on one boot of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitter {
    /// Which start of the emitter it is.
    pub epoch: String,
    /// Moments of two boots cannot be compared.
    pub boot_id: String,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u32,
    seq: u64,
    source: Value,
    epoch: String,
    boot: String,
    clock: Clock,
    at: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    fact: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Clock {
    Boottime,
}

/// One line of a record, without its newline.
pub fn encode(observation: &Observation, emitter: &Emitter) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Envelope {
        v: VERSION,
        seq: observation.sequence,
        source: serde_json::to_value(observation.source)?,
        epoch: emitter.epoch.clone(),
        boot: emitter.boot_id.clone(),
        clock: Clock::Boottime,
        at: observation.moment,
        raw: observation.raw.clone(),
        fact: serde_json::to_value(&observation.fact)?,
    })
}

/// A whole record, read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What it states.
    pub observations: Vec<Observation>,
    /// Facts of kinds that this program does not know: a newer one wrote them.
    pub unknown: u64,
    /// Sequence numbers that are missing.
    pub missing: u64,
    /// Whether the last line was torn, as by a `kill -9` in the middle of a write.
    pub torn: bool,
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A line that is not what this program writes.
    #[error("line {line}: {problem}; the record was damaged after it was written")]
    Damaged {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Written by a newer program.
    #[error("line {line}: format version {version}, but this exit137 reads up to {VERSION}; use a newer one")]
    TooNew {
        /// Counted from 1.
        line: usize,
        /// Its format's version.
        version: u64,
    },
}

/// Reads a whole record.
pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    let mut record = Record::default();
    let mut expected = 0;
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(complete) = line.strip_suffix(b"\n") else {
            record.torn = true;
            break;
        };
        let entry = decode_line(complete, index + 1)?;
        record.missing += entry.sequence.saturating_sub(expected);
        expected = entry.sequence + 1;
        match entry.observation {
            Some(observation) => record.observations.push(observation),
            None => record.unknown += 1,
        }
    }
    Ok(record)
}

/// One line of a record, read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who wrote it.
    pub emitter: Emitter,
    /// Its place among what that one wrote.
    pub sequence: u64,
    /// What it states; `None` for a kind of fact, or a source, that this program does not know.
    pub observation: Option<Observation>,
}

/// Reads the line with this number, without its newline.
pub fn decode_line(line: &[u8], number: usize) -> Result<Entry, RecordError> {
    let damaged = |problem: String| RecordError::Damaged { line: number, problem };
    if line.len() > LONGEST_LINE {
        return Err(damaged(format!("{} bytes long, the longest is {LONGEST_LINE}", line.len())));
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))?;
    if let Some(version) = value.get("v").and_then(Value::as_u64)
        && version > u64::from(VERSION)
    {
        return Err(RecordError::TooNew { line: number, version });
    }
    let envelope: Envelope = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    let known = Source::deserialize(&envelope.source).ok().zip(Fact::deserialize(&envelope.fact).ok());
    let observation = known.map(|(source, fact)| Observation {
        sequence: envelope.seq,
        source,
        moment: envelope.at,
        raw: envelope.raw,
        fact,
    });
    let emitter = Emitter { epoch: envelope.epoch, boot_id: envelope.boot };
    Ok(Entry { emitter, sequence: envelope.seq, observation })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitter() -> Emitter {
        Emitter { epoch: "e".into(), boot_id: "b".into() }
    }

    fn line(sequence: u64) -> String {
        let observation = Observation {
            sequence,
            source: Source::Kmsg,
            moment: Moment::between(5, 9),
            raw: Some("raw".into()),
            fact: Fact::OomGroup { cgroup: "/x".into() },
        };
        encode(&observation, &emitter()).unwrap() + "\n"
    }

    #[test]
    fn what_was_written_is_read_back_and_gaps_show() {
        let record = decode((line(0) + &line(3)).as_bytes()).unwrap();
        assert_eq!((record.observations.len(), record.missing, record.torn), (2, 2, false));
        assert_eq!(record.observations[1].moment, Moment::between(5, 9));
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_said() {
        let text = line(0) + &line(1)[..20];
        let record = decode(text.as_bytes()).unwrap();
        assert_eq!((record.observations.len(), record.torn), (1, true));
    }

    #[test]
    fn a_fact_of_a_newer_agent_is_counted_and_a_newer_format_is_refused() {
        let newer_fact = line(0).replace("oom-group", "something-new");
        assert_eq!(decode(newer_fact.as_bytes()).unwrap().unknown, 1);
        let newer_source = line(0).replace("\"kmsg\"", "\"telepathy\"");
        assert_eq!(decode(newer_source.as_bytes()).unwrap().unknown, 1);
        let newer_format = line(0).replace("\"v\":1", "\"v\":2");
        assert_eq!(decode(newer_format.as_bytes()), Err(RecordError::TooNew { line: 1, version: 2 }));
    }

    #[test]
    fn damage_is_an_error_that_names_its_line() {
        let text = line(0) + "{\"v\":1}\n";
        assert!(matches!(decode(text.as_bytes()), Err(RecordError::Damaged { line: 2, .. })));
    }
}
