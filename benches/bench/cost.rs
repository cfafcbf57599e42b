//! What a scenario costs beyond its own events: a container that exits after 300 ms.

use exit137::clock;
use exit137::evidence::{CgroupOwner, Fact, Observation, SourceState};

use crate::Measured;
use crate::runs::{Run, when};
use crate::table::{Row, percentile};

const TRIALS: u32 = 21;
const EVENTS_MS: f64 = 300.0;

const SCENARIO: &str = "apiVersion: exit137/v1
kind: Scenario
metadata: {name: bench-cost}
pods:
- name: web
  spec:
    restartPolicy: Never
    containers:
    - name: app
      workload: {exit: {code: 0, after: 300ms}}
      resources: {limits: {memory: 32Mi}}
observe: {for: 5s, settle: 0s, until: {allEnded: true}}
expect:
  terminations:
  - {container: web/app, exitCode: 0}
";

pub fn measure() -> Measured<Vec<Row>> {
    let once = timed(1)?.0;
    let (all, records) = timed(TRIALS)?;
    let cost = (all - once) / f64::from(TRIALS - 1) - EVENTS_MS;
    let mut rows = vec![
        Row::new(
            format!("cost of a scenario beyond its events, {TRIALS} trials in a row"),
            format!("{cost:.1} ms each"),
        )
        .aim("< 50 ms", cost < 50.0),
    ];
    // Each part from the one before it; what lies between a trial's last fact and the next one's first is judging it.
    let marks: Vec<[Option<u64>; 7]> = records.iter().map(|record| marks(record)).collect();
    let names = [
        "cgroups and pause process",
        "start of the container",
        "its events",
        "tear-down of the pod",
        "drain of the observers",
        "end of the record",
    ];
    for (index, name) in names.iter().enumerate() {
        let parts: Vec<f64> =
            marks.iter().filter_map(|marks| ms(*marks.get(index)?, *marks.get(index + 1)?)).collect();
        rows.push(Row::new(format!("  {name}"), format!("p50 {:.1} ms", percentile(&parts, 0.5))));
    }
    let between: Vec<f64> =
        marks.windows(2).filter_map(|pair| ms(*pair.first()?.last()?, *pair.get(1)?.first()?)).collect();
    rows.push(Row::new(
        "  judging it, and beginning the next",
        format!("p50 {:.1} ms", percentile(&between, 0.5)),
    ));
    rows.push(Row::new(
        "cost of a whole run of one trial, beyond the trial",
        format!("{:.1} ms", once - cost - EVENTS_MS),
    ));
    Ok(rows)
}

/// How long a run of so many trials took, in milliseconds, and what it recorded.
fn timed(trials: u32) -> Measured<(f64, Vec<Vec<Observation>>)> {
    let run = Run::new()?;
    let began = clock::boot_ns();
    let mut harness = run.start(SCENARIO, &["--jobs", "1", "--repeat", &trials.to_string()])?;
    Run::passed(&mut harness)?;
    let took = ms(Some(began), Some(clock::boot_ns())).unwrap_or_default();
    Ok((took, run.records("bench-cost")?))
}

/// Where a trial's phases begin and end.
fn marks(record: &[Observation]) -> [Option<u64>; 7] {
    let container =
        |fact: &Fact| matches!(fact, Fact::Cgroup(made) if matches!(made.owner, CgroupOwner::Container(_)));
    let complete = |fact: &Fact| matches!(fact, Fact::Source(SourceState::Complete { .. }));
    let last_reading = record
        .iter()
        .filter(|seen| matches!(&seen.fact, Fact::Counters(counters) if counters.last))
        .map(|seen| seen.moment.latest())
        .max();
    [
        when(record, |fact| matches!(fact, Fact::Host(_))),
        when(record, container),
        when(record, |fact| matches!(fact, Fact::Started(_))),
        when(record, |fact| matches!(fact, Fact::Ended(_))),
        last_reading,
        when(record, complete),
        when(record, |fact| matches!(fact, Fact::Finished(_))),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "seconds in nanoseconds")]
fn ms(from: Option<u64>, to: Option<u64>) -> Option<f64> {
    Some(to?.saturating_sub(from?) as f64 / 1e6)
}
