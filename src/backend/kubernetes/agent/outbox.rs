//! What an agent has to say and has not written yet. A reader who does not read must not keep an observer from looking, so there
//! is an end to what waits: samples go first, and a fact that found no room is missed by its sequence number.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::evidence::record::{Emitter, encode};
use crate::evidence::stream::{Beat, Line};
use crate::evidence::{Fact, Observation, Sample, Source, SourceState, sample};

/// So many facts may wait: a few MiB.
const FACTS: usize = 8192;
/// So many samples may wait.
const SAMPLES: usize = 4096;
/// So many bytes of samples a second are written, on the average and at once. A kubelet keeps 10 MiB of a container's log
/// (`containerLogMaxSize`) before it begins a new file: even at this pace that takes minutes, and whoever follows reads faster.
const SAMPLE_BYTES: u64 = 48 << 10;
const SAMPLE_BYTES_AT_ONCE: u64 = 512 << 10;

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Outbox {
    emitter: Emitter,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    facts: VecDeque<Waiting>,
    samples: VecDeque<Sample>,
    next: u64,
    sources: BTreeMap<Source, SourceState>,
    dropped_samples: u64,
    allowed: u64,
    allowed_at: u64,
    closed: bool,
}

/// A beat keeps its place among the facts: it speaks of those before it.
#[derive(Debug)]
enum Waiting {
    Fact(Box<Observation>),
    Beat(Beat),
}

enum Next {
    Line(Waiting),
    Sample(Sample),
}

impl Outbox {
    pub(super) fn new(emitter: Emitter) -> Self {
        let state = State { allowed: SAMPLE_BYTES_AT_ONCE, ..State::default() };
        Self { emitter, state: Mutex::new(state), news: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a fact, in the order of their sequence numbers.
    pub(super) fn fact(&self, observation: Observation) {
        let mut state = self.lock();
        state.next = observation.sequence + 1;
        if let Fact::Source(source) = &observation.fact
            && !matches!(source, SourceState::Gap { .. })
        {
            state.sources.insert(source.of(), source.clone());
        }
        if state.facts.len() >= FACTS {
            return;
        }
        state.facts.push_back(Waiting::Fact(Box::new(observation)));
        drop(state);
        self.news.notify_one();
    }

    /// Takes a sample, if there is room and it is not too much.
    pub(super) fn sample(&self, sample: Sample) {
        let mut state = self.lock();
        if state.samples.len() >= SAMPLES || !state.allows(&sample) {
            state.dropped_samples += 1;
            return;
        }
        state.samples.push_back(sample);
        drop(state);
        self.news.notify_one();
    }

    /// Takes a beat: `about` with how far the facts and the sources are by now. One that finds no room is left out: the next
    /// comes in a second.
    pub(super) fn beat(&self, about: &Beat, silent: &[Source]) {
        let mut state = self.lock();
        let state_of = |(of, state): (&Source, &SourceState)| {
            let reason = "its reader does not answer".to_owned();
            if silent.contains(of) { SourceState::Lost { of: *of, reason } } else { state.clone() }
        };
        let beat = Beat {
            epoch: self.emitter.epoch.clone(),
            boot_id: self.emitter.boot_id.clone(),
            next: state.next,
            sources: state.sources.iter().map(state_of).collect(),
            dropped_samples: state.dropped_samples,
            ..about.clone()
        };
        if state.facts.len() < FACTS {
            state.facts.push_back(Waiting::Beat(beat));
        }
        drop(state);
        self.news.notify_one();
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Writes what comes until it is closed and all is written: facts before samples.
    pub(super) fn write(&self, mut out: impl Write) -> io::Result<()> {
        while let Some(next) = self.next() {
            let line = match next {
                Next::Line(Waiting::Fact(observation)) => encode(&observation, &self.emitter)?,
                Next::Line(Waiting::Beat(beat)) => Line::beat(&beat)?,
                Next::Sample(sample) => sample::encode(&sample),
            };
            // One write for each line: the runtime stamps what it reads.
            out.write_all(format!("{line}\n").as_bytes())?;
        }
        out.flush()
    }

    fn next(&self) -> Option<Next> {
        let mut state = self.lock();
        loop {
            if let Some(waiting) = state.facts.pop_front() {
                return Some(Next::Line(waiting));
            }
            if let Some(sample) = state.samples.pop_front() {
                return Some(Next::Sample(sample));
            }
            if state.closed {
                return None;
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    /// Whether this sample may be written, by what the last ones took.
    fn allows(&mut self, sample: &Sample) -> bool {
        let since = sample.at.saturating_sub(self.allowed_at);
        self.allowed_at = self.allowed_at.max(sample.at);
        let grown = SAMPLE_BYTES.saturating_mul(since / 1000) / 1_000_000;
        self.allowed = self.allowed.saturating_add(grown).min(SAMPLE_BYTES_AT_ONCE);
        let cost = u64::try_from(sample.cgroup.len()).unwrap_or(u64::MAX).saturating_add(120);
        let allows = self.allowed >= cost;
        if allows {
            self.allowed -= cost;
        }
        allows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Moment;

    fn outbox() -> Outbox {
        Outbox::new(Emitter { epoch: "e".into(), boot_id: "b".into() })
    }

    fn fact(sequence: u64) -> Observation {
        let fact = Fact::OomGroup { cgroup: "/x".into() };
        Observation { sequence, source: Source::Kmsg, moment: Moment::exactly(5), raw: None, fact }
    }

    fn sample(at: u64) -> Sample {
        Sample { at, cgroup: "/x".into(), usage: 4096, breakdown: None }
    }

    fn written(outbox: &Outbox) -> Vec<Line> {
        outbox.close();
        let mut out = Vec::new();
        outbox.write(&mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| Line::read(line).unwrap()).collect()
    }

    #[test]
    fn facts_come_before_samples_and_a_beat_after_the_facts_that_it_speaks_of() {
        let outbox = outbox();
        outbox.sample(sample(1));
        outbox.fact(fact(0));
        outbox.beat(&Beat { until: 9, ..Beat::default() }, &[]);
        outbox.fact(fact(1));
        let lines = written(&outbox);
        assert!(matches!(&lines[0], Line::Fact(entry) if entry.sequence == 0));
        assert!(matches!(&lines[1], Line::Beat(beat) if (beat.next, beat.until) == (1, 9)));
        assert!(matches!(&lines[2], Line::Fact(entry) if entry.sequence == 1));
        assert_eq!(lines[3], Line::Sample(sample(1)));
    }

    #[test]
    fn where_nobody_reads_facts_are_dropped_and_the_sequence_says_so() {
        let outbox = outbox();
        let many = u64::try_from(FACTS).unwrap() + 10;
        (0..many).for_each(|sequence| outbox.fact(fact(sequence)));
        let first = outbox.next();
        assert!(matches!(first, Some(Next::Line(Waiting::Fact(_)))));
        outbox.beat(&Beat::default(), &[]);
        let lines = written(&outbox);
        assert!(matches!(lines.last(), Some(Line::Beat(beat)) if beat.next == many));
        assert_eq!(lines.len(), FACTS);
    }

    #[test]
    fn samples_that_would_outrun_a_log_are_left_out_and_counted() {
        let outbox = outbox();
        (0..100_000).for_each(|at| outbox.sample(sample(at)));
        outbox.beat(&Beat::default(), &[]);
        let lines = written(&outbox);
        let samples = lines.iter().filter(|line| matches!(line, Line::Sample(_))).count();
        let dropped = lines
            .iter()
            .find_map(|line| if let Line::Beat(beat) = line { Some(beat.dropped_samples) } else { None });
        assert_eq!(u64::try_from(samples).unwrap() + dropped.unwrap(), 100_000);
        assert!(samples < 6000);
    }

    #[test]
    fn a_source_that_does_not_answer_is_lost_in_the_beat() {
        let outbox = outbox();
        let present = Fact::Source(SourceState::Present { of: Source::Kmsg });
        outbox.fact(Observation { fact: present, ..fact(0) });
        outbox.beat(&Beat::default(), &[Source::Kmsg]);
        let lines = written(&outbox);
        let Line::Beat(beat) = &lines[1] else { panic!("a beat") };
        assert!(matches!(beat.sources[..], [SourceState::Lost { of: Source::Kmsg, .. }]));
    }
}
