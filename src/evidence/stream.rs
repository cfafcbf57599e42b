//! What an agent writes, and how it is taken up again where it broke: the record's envelopes, memory samples, and beats, each a
//! line of its own.

use serde::{Deserialize, Serialize};

use super::record::{self, Entry};
use super::{Observation, Sample, SourceState, sample};

/// What a beat's line begins with.
const BEAT: &str = "beat ";

/// An agent's sign of life: how far it has read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Beat {
    /// Which start of the agent it is.
    pub epoch: String,
    /// Which boot of which machine.
    pub boot_id: String,
    /// Everything that happened before this boot-time nanosecond has been stated.
    pub until: u64,
    /// The sequence number of the next fact: those below it have been written, or dropped.
    pub next: u64,
    /// Whether the PIDs that the agent sees are the kernel's.
    pub initial_pid_namespace: bool,
    /// 1 or 2: the hierarchy that has the memory controller.
    pub cgroup_version: u8,
    /// Whether the cgroup paths that it states are those that the kernel prints. In a container with a cgroup namespace of
    /// its own, such as a kind node on cgroup v2, what lies above it is not to be seen.
    pub kernel_paths: bool,
    /// How its sources are doing.
    pub sources: Vec<SourceState>,
    /// So many samples found no room. They are the first to go.
    pub dropped_samples: u64,
}

/// A line that an agent wrote.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A fact.
    Fact(Box<Entry>),
    /// A memory sample.
    Sample(Sample),
    /// A beat.
    Beat(Beat),
}

impl Line {
    /// A beat's line, without its newline.
    pub fn beat(beat: &Beat) -> Result<String, serde_json::Error> {
        Ok(format!("{BEAT}{}", serde_json::to_string(beat)?))
    }

    /// Reads a line; `None` for what is nothing of these: a word of the program's log, or a line that was cut.
    pub fn read(line: &str) -> Option<Self> {
        if let Some(beat) = line.strip_prefix(BEAT) {
            return serde_json::from_str(beat).ok().map(Self::Beat);
        }
        if line.starts_with('{') {
            return record::decode_line(line.as_bytes(), 1).ok().map(|entry| Self::Fact(Box::new(entry)));
        }
        sample::decode(line).map(Self::Sample)
    }
}

/// What is new in a line.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A fact.
    Fact(Box<Observation>),
    /// A memory sample; one may come twice.
    Sample(Sample),
    /// It has read so far.
    Beat(Beat),
    /// So many facts will never be heard. Everything before `since` had been.
    Lost {
        /// How many.
        facts: u64,
        /// Boot-time nanoseconds of the last beat before.
        since: u64,
    },
    /// Another start of the agent goes on; what happened since that nanosecond and before its first beat, nobody watched.
    Restarted {
        /// Boot-time nanoseconds of the last beat before.
        since: u64,
    },
}

/// One agent's lines, each of which counts once, in whatever pieces and how often they arrive.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    epoch: Option<String>,
    past: Vec<String>,
    next: u64,
    until: u64,
}

impl Stream {
    /// Takes a line; answers what is new in it.
    pub fn take(&mut self, line: Line) -> Vec<News> {
        let (epoch, sequence) = match &line {
            Line::Sample(sample) => return vec![News::Sample(sample.clone())],
            Line::Fact(entry) => (&entry.emitter.epoch, entry.sequence),
            Line::Beat(beat) => (&beat.epoch, beat.next),
        };
        let Some(mut news) = self.turn_to(epoch, sequence) else { return Vec::new() };
        let late = match &line {
            Line::Fact(_) | Line::Sample(_) => sequence < self.next,
            Line::Beat(beat) => beat.until <= self.until || sequence < self.next,
        };
        if late {
            return news;
        }
        if sequence > self.next {
            news.push(News::Lost { facts: sequence - self.next, since: self.until });
        }
        match line {
            Line::Fact(entry) => {
                self.next = sequence + 1;
                news.extend(entry.observation.map(|observation| News::Fact(Box::new(observation))));
            }
            Line::Beat(beat) => {
                self.next = sequence;
                self.until = beat.until;
                news.push(News::Beat(beat));
            }
            Line::Sample(_) => {}
        }
        news
    }

    /// Boot-time nanoseconds of the last beat.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// Goes over to another start of the agent where the line is that one's; `None` for what an earlier one had left.
    fn turn_to(&mut self, epoch: &str, sequence: u64) -> Option<Vec<News>> {
        if self.epoch.as_deref() == Some(epoch) {
            return Some(Vec::new());
        }
        if self.past.iter().any(|past| past == epoch) {
            return None;
        }
        let before = self.epoch.replace(epoch.to_owned());
        // The first that is heard of a start may be in its middle: what was before it concerns nobody who joins now.
        self.next = sequence;
        let news = before.map(|before| {
            self.past.push(before);
            // The machine may have been started anew, and its clock with it.
            News::Restarted { since: std::mem::take(&mut self.until) }
        });
        Some(news.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::record::{Emitter, encode};
    use crate::evidence::{Fact, Moment, Source};

    fn fact(epoch: &str, sequence: u64) -> String {
        let observation = Observation {
            sequence,
            source: Source::Kmsg,
            moment: Moment::exactly(sequence),
            raw: None,
            fact: Fact::OomGroup { cgroup: "/x".into() },
        };
        encode(&observation, &Emitter { epoch: epoch.into(), boot_id: "b".into() }).unwrap()
    }

    fn beat(epoch: &str, next: u64, until: u64) -> String {
        Line::beat(&Beat { epoch: epoch.into(), next, until, ..Beat::default() }).unwrap()
    }

    fn hear(stream: &mut Stream, lines: &[String]) -> Vec<String> {
        let tell = |news| match news {
            News::Fact(observation) => observation.sequence.to_string(),
            News::Sample(sample) => format!("sample {}", sample.at),
            News::Beat(beat) => format!("beat {}", beat.until),
            News::Lost { facts, since } => format!("lost {facts} since {since}"),
            News::Restarted { since } => format!("restarted since {since}"),
        };
        lines
            .iter()
            .filter_map(|line| Line::read(line))
            .flat_map(|line| stream.take(line))
            .map(tell)
            .collect()
    }

    #[test]
    fn who_joins_in_the_middle_misses_nothing() {
        let heard = hear(&mut Stream::default(), &[fact("e", 7), beat("e", 8, 100), fact("e", 8)]);
        assert_eq!(heard, ["7", "beat 100", "8"]);
    }

    #[test]
    fn what_was_dropped_is_said_by_the_next_fact_or_beat() {
        let mut stream = Stream::default();
        let heard = hear(&mut stream, &[beat("e", 0, 10), fact("e", 2), beat("e", 5, 20)]);
        assert_eq!(heard, ["beat 10", "lost 2 since 10", "2", "lost 2 since 10", "beat 20"]);
    }

    #[test]
    fn another_start_goes_on_and_what_the_earlier_one_left_is_passed_over() {
        let mut stream = Stream::default();
        let heard = hear(&mut stream, &[beat("e", 1, 10), fact("f", 0), fact("e", 1), beat("f", 1, 20)]);
        assert_eq!(heard, ["beat 10", "restarted since 10", "0", "beat 20"]);
    }

    #[test]
    fn a_word_of_the_log_and_a_cut_line_are_nothing() {
        assert_eq!(Line::read("WARN something"), None);
        assert_eq!(Line::read(&fact("e", 1)[..30]), None);
        assert!(matches!(Line::read("5,/a,4096,,,,,,,,"), Some(Line::Sample(_))));
    }
}
