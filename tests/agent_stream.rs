//! An agent's log, cut and taken up again: whatever arrives how often and in whatever pieces, each fact counts once, and what is
//! missing is said.
#![expect(clippy::unwrap_used, reason = "a test's helper may fail it")]

use exit137::evidence::record::{Emitter, encode};
use exit137::evidence::stream::{Beat, Line, News, Stream};
use exit137::evidence::{Fact, Moment, Observation, Source};
use proptest::prelude::*;
use proptest::sample::Index;

/// What one start of an agent wrote.
fn written(epoch: &str, facts: u64, beats_every: u64, dropped: &[u64]) -> Vec<String> {
    let emitter = Emitter { epoch: epoch.to_owned(), boot_id: "b".to_owned() };
    let mut lines = vec![beat(epoch, 0, 1)];
    for sequence in 0..facts {
        if !dropped.contains(&sequence) {
            let observation = Observation {
                sequence,
                source: Source::Kmsg,
                moment: Moment::exactly(sequence),
                raw: None,
                fact: Fact::OomGroup { cgroup: epoch.to_owned() },
            };
            lines.push(encode(&observation, &emitter).unwrap());
        }
        if sequence % beats_every == 0 {
            lines.push(beat(epoch, sequence + 1, sequence + 2));
        }
    }
    lines.push(beat(epoch, facts, facts + 2));
    lines
}

fn beat(epoch: &str, next: u64, until: u64) -> String {
    Line::beat(&Beat { epoch: epoch.to_owned(), next, until, ..Beat::default() }).unwrap()
}

/// Reads the lines as a follower gets them: broken off at each cut, in the middle of a line, and begun again so many lines before.
fn delivered(lines: &[String], cuts: &[(Index, usize)]) -> Vec<String> {
    let mut places: Vec<(usize, usize)> =
        cuts.iter().map(|(at, back)| (at.index(lines.len()), *back)).collect();
    places.sort_unstable();
    let (mut from, mut pieces) = (0, Vec::new());
    for (at, back) in places {
        pieces.extend(lines[from.min(at)..at].iter().cloned());
        let torn = &lines[at];
        pieces.push(torn[..torn.len() / 2].to_owned());
        from = at.saturating_sub(back);
    }
    pieces.extend(lines[from..].iter().cloned());
    pieces
}

/// The facts that were heard, and how many are said to be lost.
fn heard(lines: &[String]) -> (Vec<(String, u64)>, u64, u64) {
    let (mut stream, mut facts, mut lost, mut restarts) = (Stream::default(), Vec::new(), 0, 0);
    for line in lines.iter().filter_map(|line| Line::read(line)) {
        for news in stream.take(line) {
            match news {
                News::Fact(observation) => {
                    let Fact::OomGroup { cgroup } = &observation.fact else { continue };
                    facts.push((cgroup.clone(), observation.sequence));
                }
                News::Lost { facts, .. } => lost += facts,
                News::Restarted { .. } => restarts += 1,
                News::Sample(_) | News::Beat(_) => {}
            }
        }
    }
    (facts, lost, restarts)
}

proptest! {
    #[test]
    fn a_log_that_is_cut_and_resumed_is_heard_once_and_whole(
        facts in 1_u64..60,
        beats_every in 1_u64..9,
        dropped in proptest::collection::vec(0_u64..60, 0..6),
        cuts in proptest::collection::vec((any::<Index>(), 0_usize..20), 0..8),
    ) {
        let lines = written("e", facts, beats_every, &dropped);
        let (facts_heard, lost, restarts) = heard(&delivered(&lines, &cuts));
        let expected: Vec<(String, u64)> =
            (0..facts).filter(|n| !dropped.contains(n)).map(|n| ("e".to_owned(), n)).collect();
        prop_assert_eq!(&facts_heard, &expected);
        prop_assert_eq!(lost, facts - u64::try_from(expected.len()).unwrap());
        prop_assert_eq!(restarts, 0);
    }

    #[test]
    fn another_start_of_the_agent_goes_on_whatever_is_left_of_the_first(
        facts in 1_u64..30,
        kept in any::<Index>(),
        again in 0_usize..30,
        cuts in proptest::collection::vec((any::<Index>(), 0_usize..20), 0..5),
    ) {
        let (first, second) = (written("e", facts, 3, &[]), written("f", facts, 3, &[]));
        let kept = kept.index(first.len()) + 1;
        let mut lines: Vec<String> = first[..kept].to_vec();
        lines.extend(delivered(&second, &cuts));
        // The first one's log is given again, as by a server that had kept it.
        lines.extend(first[kept.saturating_sub(again)..].iter().cloned());
        let (facts_heard, lost, restarts) = heard(&lines);
        let of = |epoch: &str| facts_heard.iter().filter(|(own, _)| own == epoch).map(|(_, n)| *n).collect::<Vec<_>>();
        prop_assert_eq!(of("f"), (0..facts).collect::<Vec<_>>());
        let firsts = of("e");
        prop_assert_eq!(&firsts, &(0..u64::try_from(firsts.len()).unwrap()).collect::<Vec<_>>());
        prop_assert_eq!((lost, restarts), (0, 1));
    }

    #[test]
    fn who_joins_at_any_line_misses_nothing_from_there_on(facts in 1_u64..60, at in any::<Index>()) {
        let lines = written("e", facts, 4, &[]);
        let at = at.index(lines.len());
        let (facts_heard, lost, _) = heard(&lines[at..]);
        let first = facts - u64::try_from(facts_heard.len()).unwrap();
        let expected: Vec<u64> = (first..facts).collect();
        prop_assert_eq!(facts_heard.iter().map(|(_, n)| *n).collect::<Vec<_>>(), expected);
        prop_assert_eq!(lost, 0);
    }

    #[test]
    fn a_hostile_line_is_read_or_passed_over(line in ".{0,300}") {
        let _ = Line::read(&line).map(|line| Stream::default().take(line));
    }
}
