//! What clients saw: around each end, and against thresholds.

use exit137::cause::{Cause, Confidence};
use exit137::diagnosis::{Findings, Verdict};
use exit137::evidence::{
    End, Fact, GeneratorEnd, GeneratorRef, Moment, Observation, Source, TrafficEnded, TrafficStarted,
    TrafficWindow,
};
use exit137::scenario::{Aggregate, Expect, ExpectedTraffic, Metric, Operator, Over, Threshold};
use exit137_workload::traffic::{Done, DoneWhy, Failure, Histogram, Outcome, Window};
use proptest::prelude::*;

use crate::canned::Canned;
use crate::laws::judge;
use crate::stream::{At, Log, Plan, Stream};
use crate::verdicts::{app, ends_by, expecting, passes};

const MS: u64 = 1_000_000;

/// A generator's part of a stream.
struct Sends {
    of: GeneratorRef,
    zero: u64,
    told: u64,
}

impl Sends {
    /// Generator 0 of `main`, which goes to `web/app`, begins now.
    fn begin(stream: &mut Stream) -> Self {
        let of = GeneratorRef { traffic: "main".to_owned(), generator: 0 };
        let zero = stream.now();
        let started = TrafficStarted {
            of: of.clone(),
            generators: 1,
            pods: vec!["web".to_owned()],
            controller: None,
            container: "app".to_owned(),
            port: 8080,
            zero_ns: zero,
        };
        stream.see(Source::Clients, Fact::TrafficStarted(started));
        Self { of, zero, told: 0 }
    }

    /// So many good answers and so many resets, spread over a window of these milliseconds after the zero.
    fn window(
        &mut self,
        stream: &mut Stream,
        from: u64,
        to: u64,
        good: u64,
        resets: u64,
        change: impl FnOnce(&mut Window),
    ) {
        let at = |ms: u64| self.zero + ms * MS;
        let failure = |at_ns| Failure { at_ns, due_ns: at_ns, outcome: Outcome::Reset };
        let mut window = Window {
            sequence: self.told,
            from_ns: at(from),
            to_ns: at(to),
            due: good + resets,
            sent: good + resets,
            ..Window::default()
        };
        if good > 0 {
            window.outcomes.success = good;
            window.latency = Histogram(vec![(1_000, good)]);
            (window.first_good_ns, window.last_good_ns) = (Some(at(from) + 1), Some(at(to)));
        }
        if resets > 0 {
            window.outcomes.reset = resets;
            window.first_reset_ns = Some(at(from) + 1);
            (window.first_failed, window.last_failed) = (Some(failure(at(from) + 1)), Some(failure(at(to))));
        }
        change(&mut window);
        self.told += 1;
        let moment = Moment::between(window.from_ns, window.to_ns);
        let fact = TrafficWindow { of: self.of.clone(), window: Box::new(window) };
        stream.at(Source::Clients, moment, Fact::TrafficWindow(fact));
    }

    fn end(&self, stream: &mut Stream, end: GeneratorEnd) {
        stream.see(Source::Clients, Fact::TrafficEnded(TrafficEnded { of: self.of.clone(), end }));
    }

    fn done(&self) -> GeneratorEnd {
        GeneratorEnd::Done(Done {
            why: DoneWhy::Complete,
            windows: self.told,
            lateness: Histogram(vec![(50, 9)]),
        })
    }
}

/// A container that is OOM-killed a second after the traffic's zero, refuses for 200 ms, and answers again. `end` makes the generator's.
fn killed_under_traffic(end: impl FnOnce(&Sends) -> Option<GeneratorEnd>) -> Vec<Observation> {
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan::default());
    let mut sends = Sends::begin(&mut stream);
    let s = &mut stream;
    sends.window(s, 0, 900, 90, 0, |_| {});
    sends.window(s, 900, 1_002, 10, 0, |window| window.latency = Histogram(vec![(2_000, 9), (90_000, 1)]));
    sends.window(s, 1_002, 1_200, 0, 20, |window| {
        window.dropped = 3;
        window.outcomes.reset = 2;
        window.outcomes.refused = 18;
    });
    sends.window(s, 1_200, 1_700, 50, 0, |window| window.stage = 1);
    sends.window(s, 1_700, 2_700, 100, 0, |window| window.stage = 1);
    stream.wait(1_000);
    stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
    stream.end(&run, End::Signaled(9));
    stream.wait(100);
    let again = stream.start_instance("web", "app", 1, Plan::default());
    stream.wait(1_000);
    if let Some(end) = end(&sends) {
        sends.end(&mut stream, end);
    }
    stream.finish(&[&again])
}

pub fn canned() -> Canned {
    Canned {
        name: "container's limit under traffic",
        observations: killed_under_traffic(|sends| Some(sends.done())),
        ends: vec![Some((Cause::ContainerOom, None, Confidence::Certain))],
        hidden_kills: 0,
    }
}

fn findings() -> Findings {
    judge(&killed_under_traffic(|sends| Some(sends.done())))
}

#[test]
fn an_end_carries_what_clients_saw_before_it_until_it_was_got_over_and_after() {
    let findings = findings();
    let [seen] = &findings.terminations[0].clients[..] else { panic!("{findings:#?}") };
    let since = |at: Option<u64>| at.map(|at| (at - seen.killed_ns) / MS);
    assert_eq!((since(seen.first_failed_ns), since(seen.last_failed_ns)), (Some(1), Some(199)));
    assert_eq!((since(seen.first_reset_ns), since(seen.good_again_ns)), (Some(1), Some(199)));
    let of = |tally: &exit137::diagnosis::Tally| (tally.requests(), tally.failed(), tally.dropped);
    assert_eq!(
        [of(&seen.before), of(&seen.during), of(&seen.after)],
        [(100, 0, 0), (20, 20, 3), (150, 0, 0)]
    );
    assert_eq!((seen.before.percentile(50.0), seen.before.percentile(99.9)), (Some(1.0), Some(90.0)));
    assert_eq!(seen.during.percentile(50.0), None, "nothing was answered");
    assert_eq!((seen.during.outcomes.reset, seen.during.outcomes.refused), (2, 18));
}

#[test]
fn what_clients_saw_in_all_is_told_where_nothing_dies_too() {
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan::default());
    let mut sends = Sends::begin(&mut stream);
    sends.window(&mut stream, 0, 1_000, 40, 0, |_| {});
    let end = sends.done();
    sends.end(&mut stream, end);
    let findings = judge(&stream.finish(&[&run]));
    let traffic = &findings.traffic[0];
    assert_eq!((traffic.name.as_str(), traffic.whole.requests(), traffic.doubts.len()), ("main", 40, 0));
    assert_eq!(traffic.late_p99_ms, Some(0.05));
    assert!(findings.terminations.is_empty());
}

#[test]
fn failures_soon_after_a_good_answer_are_of_the_same_outage_and_later_ones_are_not() {
    let again = |second: u64| {
        let mut stream = Stream::on(2);
        let run = stream.start("web", "app", Plan::default());
        let mut sends = Sends::begin(&mut stream);
        stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
        sends.window(&mut stream, 10, 20, 0, 1, |_| {});
        sends.window(&mut stream, 20, second, 9, 0, |_| {});
        sends.window(&mut stream, second, second + 10, 0, 1, |_| {});
        sends.window(&mut stream, second + 10, second + 2_000, 9, 0, |_| {});
        stream.end(&run, End::Signaled(9));
        let findings = judge(&stream.finish(&[]));
        let seen = &findings.terminations[0].clients[0];
        seen.good_again_ns.map(|at| (at - sends.zero) / MS)
    };
    assert_eq!(again(900), Some(910));
    assert_eq!(again(1_500), Some(20));
}

#[test]
fn answers_that_are_not_good_again_before_the_next_end_are_not_good_again() {
    let mut stream = Stream::on(2);
    let mut sends = None;
    for instance in 0..2 {
        let run = stream.start_instance("web", "app", instance, Plan::default());
        let sends = sends.get_or_insert_with(|| Sends::begin(&mut stream));
        let now = (stream.now() - sends.zero) / MS;
        stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
        let good = u64::from(instance) * 5;
        sends.window(&mut stream, now + 5, now + 1_000, 0, 4, |_| {});
        sends.window(&mut stream, now + 1_000, now + 1_020, good, 0, |_| {});
        stream.end(&run, End::Signaled(9));
    }
    let findings = judge(&stream.finish(&[]));
    let again: Vec<bool> =
        findings.terminations.iter().map(|end| end.clients[0].good_again_ns.is_some()).collect();
    assert_eq!(again, [false, true]);
}

#[test]
fn where_another_replica_answers_all_the_time_answers_stay_good() {
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan::default());
    let mut sends = Sends::begin(&mut stream);
    sends.window(&mut stream, 0, 900, 90, 0, |_| {});
    stream.wait(400);
    stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
    sends.window(&mut stream, 900, 1_900, 90, 0, |_| {});
    stream.end(&run, End::Signaled(9));
    let findings = judge(&stream.finish(&[]));
    let seen = &findings.terminations[0].clients[0];
    assert_eq!((seen.good_again_ns, seen.first_failed_ns), (Some(seen.killed_ns), None));
    assert_eq!((seen.before.requests(), seen.during.requests(), seen.after.requests()), (90, 0, 90));
}

fn threshold(metric: Metric, aggregate: Aggregate, operator: Operator, value: f64) -> Threshold {
    Threshold { metric, aggregate, operator, value, text: "the threshold".to_owned() }
}

/// That the container dies, and this of what clients see.
fn expect(over: Over, threshold: Threshold) -> Expect {
    let traffic = vec![ExpectedTraffic { of: "main".to_owned(), over, thresholds: vec![threshold] }];
    Expect { traffic, ..expecting(ends_by(Cause::ContainerOom, (1, 1))) }
}

fn around(before_ms: u64, after_ms: u64) -> Over {
    Over::Around { container: app(), before_ms, after_ms }
}

#[test]
fn thresholds_are_held_against_the_part_that_they_are_about() {
    use Aggregate::{Average, Count, Maximum, Percentile, Rate, Value};
    use Metric::{Dropped, Duration, Failed, Recovery, Requests};
    use Operator::{AtLeast, AtMost, Less};
    let observations = killed_under_traffic(|sends| Some(sends.done()));
    for (over, metric, aggregate, operator, value, holds) in [
        (Over::Run, Failed, Count, AtMost, 20.0, true),
        (Over::Run, Failed, Count, Less, 20.0, false),
        (Over::Run, Failed, Rate, Less, 0.08, true),
        (Over::Run, Failed, Rate, Less, 0.07, false),
        (Over::Run, Requests, Count, AtLeast, 270.0, true),
        (Over::Run, Requests, Rate, AtLeast, 100.0, true),
        (Over::Run, Requests, Rate, AtLeast, 101.0, false),
        (Over::Run, Dropped, Count, Less, 3.0, false),
        (Over::Run, Duration, Percentile(99.0), AtMost, 2.0, true),
        (Over::Run, Duration, Maximum, Less, 90.0, false),
        (Over::Run, Duration, Average, Less, 2.0, true),
        (Over::Stage(1), Failed, Count, AtMost, 0.0, true),
        (Over::Stage(0), Failed, Count, AtMost, 0.0, false),
        (Over::Stage(2), Duration, Maximum, Less, 1e9, false),
        (around(0, 100), Duration, Maximum, Less, 90.0, false),
        (around(0, 5_000), Recovery, Value, Less, 250.0, true),
        (around(0, 5_000), Recovery, Value, Less, 100.0, false),
        (around(0, 5_000), Failed, Rate, Less, 0.5, true),
        (around(0, 50), Failed, Rate, Less, 0.5, false),
    ] {
        let verdict =
            passes(&expect(over.clone(), threshold(metric, aggregate, operator, value)), &observations);
        let fails = matches!(&verdict, Verdict::Fail { mismatches, .. } if mismatches[0].what.contains(metric.as_str()));
        assert!(
            if holds { verdict == Verdict::Pass } else { fails },
            "{over}, {metric:?} {aggregate:?} {value}: {verdict:?}"
        );
    }
}

#[test]
fn a_threshold_without_data_fails_as_having_none() {
    let actual = |observations: &[Observation], over: Over, metric| {
        let threshold = threshold(metric, Aggregate::Rate, Operator::AtMost, 1e9);
        let mut expect = expect(over, threshold);
        expect.terminations.clear();
        match passes(&expect, observations) {
            Verdict::Fail { mismatches, .. } => mismatches[0].actual.clone(),
            other => panic!("{other:?}"),
        }
    };
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan::default());
    let sends = Sends::begin(&mut stream);
    sends.end(&mut stream, sends.done());
    let silent = stream.finish(&[&run]);
    for metric in [Metric::Failed, Metric::Requests, Metric::Dropped, Metric::Duration] {
        assert_eq!(actual(&silent, Over::Run, metric), "no data", "{metric:?}");
    }
    assert_eq!(actual(&silent, around(1, 1), Metric::Failed), "no data: it did not end");
}

#[test]
fn a_generator_that_was_not_done_or_windows_that_are_missing_leave_it_open() {
    let generous = threshold(Metric::Failed, Aggregate::Rate, Operator::AtMost, 1.0);
    let reasons =
        |observations: &[Observation]| match passes(&expect(Over::Run, generous.clone()), observations) {
            Verdict::Inconclusive { reasons } => reasons.join("\n"),
            other => panic!("{other:?}"),
        };
    let died = GeneratorEnd::Died { end: Some(End::Signaled(9)), why: String::new() };
    let killed = reasons(&killed_under_traffic(|_| Some(died)));
    assert!(killed.contains("traffic main: what clients saw is not all known: generator 0 ended before it was done, killed by signal 9"), "{killed}");
    assert!(reasons(&killed_under_traffic(|_| None)).contains("the record ends before generator 0 was done"));
    let whole = killed_under_traffic(|sends| Some(sends.done()));
    assert_eq!(passes(&expect(Over::Run, generous.clone()), &whole), Verdict::Pass);
    for lost in 0..5 {
        let is_it = |seen: &Observation| matches!(&seen.fact, Fact::TrafficWindow(window) if window.window.sequence == lost);
        let less: Vec<Observation> = whole.iter().filter(|seen| !is_it(seen)).cloned().collect();
        assert!(reasons(&less).contains("1 windows of generator 0 are missing"), "{lost}");
    }
    let nobody: Vec<Observation> = whole.into_iter().filter(|seen| seen.source != Source::Clients).collect();
    assert!(reasons(&nobody).contains("traffic main did not begin"));
}

#[test]
fn a_window_that_is_told_twice_counts_once() {
    let once = killed_under_traffic(|sends| Some(sends.done()));
    let mut twice = once.clone();
    twice.extend(once.iter().filter(|seen| matches!(seen.fact, Fact::TrafficWindow(_))).cloned());
    assert_eq!(judge(&twice), judge(&once));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Nothing is counted twice and nothing is lost, whatever was killed when.
    #[test]
    fn every_window_counts_in_exactly_one_part(
        windows in prop::collection::vec((1_u64..1_500, 0_u64..4, 0_u64..4), 1..30),
        kills in prop::collection::vec(1_u64..20_000, 1..5),
    ) {
        let mut stream = Stream::on(2);
        let mut sends = Sends::begin(&mut stream);
        let mut from = 0;
        for (length, good, resets) in windows {
            sends.window(&mut stream, from, from + length, good, resets, |_| {});
            from += length;
        }
        let mut kills = kills;
        kills.sort_unstable();
        kills.dedup();
        for (instance, at) in kills.iter().enumerate() {
            let run = stream.make("web", "app", u32::try_from(instance).unwrap(), Plan::default());
            let ended = exit137::evidence::ContainerEnded {
                container: run.container,
                end: End::Exited(1),
                reason: None,
                invented: None,
                cpu_ms: None,
            };
            stream.at(Source::Runtime, Moment::exactly(sends.zero + at * MS), Fact::Ended(ended));
        }
        let findings = judge(&stream.finish(&[]));
        let whole = &findings.traffic[0].whole;
        let seen: Vec<_> = findings.terminations.iter().map(|end| &end.clients[0]).collect();
        prop_assert_eq!(seen.len(), kills.len());
        let parts = || std::iter::once(&seen[0].before).chain(seen.iter().flat_map(|seen| [&seen.during, &seen.after]));
        prop_assert_eq!(parts().map(exit137::diagnosis::Tally::requests).sum::<u64>(), whole.requests());
        prop_assert_eq!(parts().map(exit137::diagnosis::Tally::failed).sum::<u64>(), whole.failed());
        prop_assert_eq!(parts().map(|part| part.due).sum::<u64>(), whole.due);
        for pair in seen.windows(2) {
            prop_assert_eq!(&pair[0].after, &pair[1].before);
        }
    }
}
