//! What is sent when, and how that is counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exit137_workload::traffic::{Generator, Load, LoadStage, Request, Share};

use crate::generator::{boot_ns, constant_rate, constant_vus, generator, get, impatient, run};
use crate::servers::{Connection, answering, serve, status};

#[test]
fn an_open_load_sends_on_schedule_though_no_answer_comes() {
    let told = run(&impatient(constant_rate(300, 1000, 1000), 1500), serve(Connection::wait));
    let whole = told.whole();
    assert_eq!((whole.due, whole.sent, whole.dropped), (300, 300, 0));
    assert_eq!(told.windows[0].in_flight, 300);
    assert_eq!(told.done.lateness.count(), 300);
}

#[test]
fn an_iteration_that_finds_no_idle_vu_is_dropped_not_delayed() {
    let load = constant_rate(100, 1000, 3);
    let told = run(&Generator { graceful_stop_ms: 0, ..generator(load) }, serve(Connection::wait));
    let whole = told.whole();
    assert_eq!((whole.due, whole.sent, whole.dropped), (100, 3, 97));
    assert_eq!(told.windows.last().unwrap().in_flight, 3);
}

#[test]
fn while_the_server_freezes_latency_counts_from_when_each_was_to_be_sent() {
    // The first request freezes it for a second; so the ones due within it wait for what is left of it.
    let frozen_until = Arc::new(AtomicU64::new(0));
    let server = answering(move |_| {
        let until = boot_ns() + 1_000_000_000;
        let until = frozen_until
            .compare_exchange(0, until, Ordering::SeqCst, Ordering::SeqCst)
            .unwrap_or_else(|already| already);
        std::thread::sleep(Duration::from_nanos(until.saturating_sub(boot_ns())));
        status(200)
    });
    let told = run(&generator(constant_rate(200, 2000, 500)), server);
    let whole = told.whole();
    assert_eq!((whole.outcomes.success, whole.dropped), (400, 0));
    // 400 requests, of which 200 wait for 1000, 995, 990… ms: a quarter for more than half a second.
    let at = |share| whole.latency.quantile(share).unwrap();
    assert!((450_000..560_000).contains(&at(0.75)), "{}", at(0.75));
    assert!((930_000..1_100_000).contains(&at(0.99)), "{}", at(0.99));
    assert!(at(0.45) < 100_000, "{}", at(0.45));
}

#[test]
fn each_stage_has_exactly_its_part_of_the_load() {
    let stages = vec![
        LoadStage { target: 100, ms: 700 },
        LoadStage { target: 100, ms: 500 },
        LoadStage { target: 0, ms: 300 },
    ];
    let load = Load::ArrivalRate { start: 0, stages, time_unit_ms: 1000, max_vus: 50 };
    let told = run(&generator(load), answering(|_| status(200)));
    let due = |stage| told.windows.iter().filter(|window| window.stage == stage).map(|w| w.due).sum::<u64>();
    assert_eq!([due(0), due(1), due(2), due(3)], [35, 50, 15, 0]);
    assert_eq!(told.whole().outcomes.success, 100);
}

#[test]
fn shares_of_a_load_add_up_to_it() {
    let server = answering(|_| status(200));
    let share =
        |index| Generator { share: Share { index, of: 3 }, ..generator(constant_rate(100, 1000, 50)) };
    let due: Vec<u64> = (0..3).map(|index| run(&share(index), server).whole().due).collect();
    assert_eq!(due, [34, 33, 33]);
}

#[test]
fn a_fast_load_is_divided_among_threads_and_counted_as_one() {
    let told = run(
        &generator(constant_rate(30_000, 600, 400)),
        serve(|connection| {
            while connection.asked().is_some() {
                connection.say(&status(200));
            }
        }),
    );
    assert_eq!(told.whole().due, 18_000);
}

#[test]
fn users_of_a_closed_load_send_when_the_answer_before_has_come() {
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&most);
    let server = answering(move |_| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        now.fetch_sub(1, Ordering::SeqCst);
        status(200)
    });
    let stages = vec![LoadStage { target: 3, ms: 0 }, LoadStage { target: 3, ms: 500 }];
    let told = run(&generator(Load::Vus { start: 0, stages }), server);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    let sent = told.whole().sent;
    assert!((20..=75).contains(&sent), "{sent}");
    assert_eq!(told.whole().due, sent);
}

#[test]
fn users_of_a_closed_load_do_not_spin_where_nobody_listens() {
    let told = run(&generator(constant_vus(2, 500)), crate::servers::nobody());
    let refused = told.whole().outcomes.refused;
    assert!((10..=110).contains(&refused), "{refused}");
}

#[test]
fn a_request_that_failed_is_sent_again_and_is_no_further_iteration() {
    let count = AtomicU64::new(0);
    let server =
        answering(move |_| status(if count.fetch_add(1, Ordering::SeqCst) % 3 == 2 { 200 } else { 503 }));
    let load = constant_rate(20, 500, 1);
    let told = run(&Generator { retries: 5, retry_after_ms: 2, ..generator(load) }, server);
    let whole = told.whole();
    assert_eq!((whole.due, whole.sent, whole.retried), (10, 30, 20));
    assert_eq!((whole.outcomes.success, whole.outcomes.server_error), (10, 20));
}

#[test]
fn what_is_sent_is_what_was_said() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let server = answering(move |request| {
        seen.lock().unwrap().push((request.line.clone(), request.headers.clone(), request.body.clone()));
        status(200)
    });
    let request = Request {
        method: "POST".into(),
        headers: [("x-exit137".to_owned(), "yes".to_owned())].into(),
        body: "hello".into(),
        ..get("/a?b=c")
    };
    run(&Generator { requests: vec![request], ..generator(constant_rate(10, 100, 1)) }, server);
    let asked = asked.lock().unwrap();
    let [(line, headers, body)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((line.as_str(), body.as_str()), ("POST /a?b=c HTTP/1.1", "hello"));
    let mut headers = headers.clone();
    headers.sort();
    assert_eq!(headers, ["content-length: 5".to_owned(), format!("host: {server}"), "x-exit137: yes".into()]);
}

#[test]
fn a_window_ends_where_answers_turn_from_good_to_failed_and_back() {
    let count = AtomicU64::new(0);
    // Ten good ones, ten bad ones, and so on.
    let server = answering(move |_| {
        status(if (count.fetch_add(1, Ordering::SeqCst) / 10).is_multiple_of(2) { 200 } else { 500 })
    });
    let told = run(&generator(constant_rate(50, 1000, 1)), server);
    for window in &told.windows {
        let (good, failed) = (window.outcomes.good(), window.outcomes.failed());
        assert!(good == 0 || failed == 0, "{window:?}");
        assert!(good + failed <= 10);
    }
    let turn = told.windows.iter().find(|window| window.outcomes.failed() > 0).unwrap();
    assert_eq!(turn.from_ns, turn.first_failed.unwrap().at_ns);
}

#[test]
fn answers_that_turn_all_the_time_end_twenty_windows_in_a_second_at_most() {
    let count = AtomicU64::new(0);
    let server = answering(move |_| {
        status(if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { 200 } else { 500 })
    });
    let told = run(&generator(constant_rate(200, 1000, 10)), server);
    assert!((20..=23).contains(&told.windows.len()), "{}", told.windows.len());
    assert_eq!(told.whole().outcomes.total(), 200);
}
