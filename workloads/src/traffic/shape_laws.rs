//! The laws of a load.

use proptest::prelude::*;

use super::*;

fn stages() -> impl Strategy<Value = Vec<LoadStage>> {
    let target = prop_oneof![Just(0), 0..50_u64, 0..1_000_000_u64];
    let ms = prop_oneof![Just(0), 1..5_000_u64, 1..90_000_000_u64];
    proptest::collection::vec((target, ms).prop_map(|(target, ms)| LoadStage { target, ms }), 1..5)
}

fn arrivals() -> impl Strategy<Value = Load> {
    let unit = prop_oneof![Just(1000), Just(60_000), 1..5000_u64];
    (0..1_000_000_u64, stages(), unit).prop_map(|(start, stages, time_unit_ms)| Load::ArrivalRate {
        start,
        stages,
        time_unit_ms,
        max_vus: 1,
    })
}

fn vus() -> impl Strategy<Value = Load> {
    (0..300_u32, stages()).prop_map(|(start, mut stages)| {
        for stage in &mut stages {
            stage.target %= 1000;
        }
        Load::Vus { start, stages }
    })
}

fn share() -> impl Strategy<Value = Share> {
    (1..8_u32).prop_flat_map(|of| (0..of).prop_map(move |index| Share { index, of }))
}

fn constant(rate: u64, ms: u64) -> Load {
    let stages = vec![LoadStage { target: rate, ms }];
    Load::ArrivalRate { start: rate, stages, time_unit_ms: 1000, max_vus: 1 }
}

proptest! {
    #[test]
    fn an_iteration_is_due_exactly_from_its_own_moment_on(load in arrivals(), share in 0.0..1.0_f64) {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any")]
        let n = (load.due_by(u64::MAX) as f64 * share) as u64;
        if let Some(at) = load.nth(n) {
            prop_assert!(at < load.end_ns());
            prop_assert!(load.due_by(at) > n);
            prop_assert!(at == 0 || load.due_by(at - 1) <= n);
            prop_assert!(load.nth(n + 1).is_none_or(|next| next >= at));
        } else {
            prop_assert_eq!(load.due_by(u64::MAX), n);
        }
    }

    #[test]
    fn all_that_are_due_are_the_integral_of_the_rate(load in arrivals()) {
        let Load::ArrivalRate { start, stages, time_unit_ms, .. } = &load else { unreachable!() };
        let (mut from, mut twice) = (*start, 0_u128);
        for stage in stages {
            twice += u128::from(from + stage.target) * u128::from(stage.ms);
            from = stage.target;
        }
        let all = load.due_by(load.end_ns());
        prop_assert_eq!(u128::from(all), twice.div_ceil(2 * u128::from(*time_unit_ms)));
        prop_assert_eq!(load.nth(all), None);
        prop_assert!(all == 0 || load.nth(all - 1).is_some());
    }

    #[test]
    fn what_is_due_never_falls(load in arrivals(), at in 0..10_000_000_000_000_u64, more in 0..1_000_000_000_000_u64) {
        prop_assert!(load.due_by(at) <= load.due_by(at + more));
    }

    #[test]
    fn shares_are_a_partition(total in 0..1_000_000_u64, of in 1..8_u32, inner in share()) {
        let shares: Vec<_> = (0..of).map(|index| Share { index, of }).collect();
        prop_assert_eq!(shares.iter().map(|share| share.part_of(total)).sum::<u64>(), total);
        for share in shares {
            let part = share.part_of(total);
            prop_assert!(part == 0 || share.number(part - 1) < total);
            prop_assert!(share.number(part) >= total);
            let parts = (0..inner.of).map(|index| share.divided(Share { index, of: inner.of }));
            prop_assert_eq!(parts.map(|one| one.part_of(total)).sum::<u64>(), part);
        }
    }

    #[test]
    fn vus_change_when_it_is_said_and_not_before(load in vus(), at in 0..100_000_000_000_000_u64) {
        let now = load.vus_at(at);
        if let Some(change) = load.vus_change_after(at) {
            prop_assert!(change > at);
            prop_assert_ne!(load.vus_at(change), now);
            for between in [at, at + (change - at) / 2, change - 1] {
                prop_assert_eq!(load.vus_at(between), now);
            }
        } else {
            prop_assert_eq!(now, load.vus_at(at.max(load.end_ns())));
        }
        prop_assert!(now <= load.most_vus());
    }

    #[test]
    fn a_stage_ends_where_the_next_one_begins(load in arrivals()) {
        let ends: Vec<u64> = load.stage_ends_ns().collect();
        for (stage, (end, next)) in ends.iter().zip(ends.iter().skip(1).chain([&u64::MAX])).enumerate() {
            let expected = u32::try_from(stage).unwrap() + 1;
            if end < next {
                prop_assert_eq!(load.stage_at(*end), expected);
            }
            prop_assert!(*end == 0 || load.stage_at(end - 1) < expected);
        }
    }
}

#[test]
fn a_constant_rate_sends_at_once_and_then_in_equal_steps() {
    let load = constant(10, 1000);
    let times: Vec<_> = (0..11).map(|n| load.nth(n)).collect();
    let expected: Vec<_> = (0..10).map(|n| Some(n * 100_000_000)).chain([None]).collect();
    assert_eq!(times, expected);
    assert_eq!((load.due_by(0), load.due_by(99_999_999), load.due_by(100_000_000)), (1, 1, 2));
}

#[test]
fn a_rate_that_divides_nothing_does_not_drift_over_a_day() {
    let day = 86_400_000;
    let load = constant(7_777, day);
    assert_eq!(load.due_by(u64::MAX), 7_777 * 86_400);
    let last = load.nth(7_777 * 86_400 - 1).unwrap();
    assert_eq!(last, (7_777_u64 * 86_400 - 1) * 1_000_000_000 / 7_777);
}

#[test]
fn a_ramp_from_nothing_sends_where_its_triangle_reaches_whole_numbers() {
    // 0 to 10 per second in 2 s: t² × 2.5 iterations by t.
    let stages = vec![LoadStage { target: 0, ms: 500 }, LoadStage { target: 10, ms: 2000 }];
    let load = Load::ArrivalRate { start: 0, stages, time_unit_ms: 1000, max_vus: 1 };
    assert_eq!(load.nth(0), Some(500_000_000));
    assert_eq!(load.nth(9), Some(500_000_000 + 1_897_366_596));
    assert_eq!(load.due_by(u64::MAX), 10);
}

#[test]
fn vus_step_and_ramp() {
    let stages = vec![
        LoadStage { target: 4, ms: 1000 },
        LoadStage { target: 10, ms: 0 },
        LoadStage { target: 10, ms: 1000 },
    ];
    let load = Load::Vus { start: 2, stages };
    let at = |ms: u64| load.vus_at(ms * 1_000_000);
    assert_eq!([at(0), at(249), at(250), at(750), at(1000), at(1999), at(2000)], [2, 2, 3, 4, 10, 10, 0]);
    assert_eq!(load.vus_change_after(0), Some(250_000_000));
    assert_eq!(load.vus_change_after(1_500_000_000), Some(2_000_000_000));
    assert_eq!(load.vus_change_after(2_000_000_000), None);
}
