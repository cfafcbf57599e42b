//! Traffic and thresholds: what they mean, and what is said of what is wrong with them.

use exit137::scenario::{Aggregate, Metric, Operator, Over};
use exit137_workload::traffic::{HttpVersion, Load, LoadStage};

use super::{APP, around, problems, read, refused};

/// A scenario with this traffic, and this expected of it.
fn with(traffic: &str, expected: &str) -> String {
    let expected = if expected.is_empty() { "nothingDies: true" } else { expected };
    around(APP, &format!("traffic:\n- {{{traffic}}}\nobserve: {{for: 10s}}\nexpect: {{{expected}}}"))
}

const MAIN: &str = "name: main, to: web/app, port: 8080";

fn rate(more: &str) -> String {
    format!("{MAIN}, executor: constant-arrival-rate, rate: 50, duration: 5s, maxVUs: 10{more}")
}

fn expects(expected: &str) -> String {
    with(&rate(""), &format!("traffic: [{{of: main, {expected}}}]"))
}

#[test]
fn each_executor_is_a_load() {
    let load = |traffic: &str| read(&with(&format!("{MAIN}, {traffic}"), "")).traffic[0].load.clone();
    let stage = |target, ms| LoadStage { target, ms };
    let arrival =
        |start, stages, time_unit_ms| Load::ArrivalRate { start, stages, time_unit_ms, max_vus: 10 };
    assert_eq!(
        load("executor: constant-arrival-rate, rate: 50, duration: 5s, maxVUs: 10"),
        arrival(50, vec![stage(50, 5_000)], 1_000)
    );
    assert_eq!(
        load(
            "executor: ramping-arrival-rate, timeUnit: 1m, preAllocatedVUs: 10, stages: [{target: 600, duration: 2s}, {target: 0, duration: 0s}]"
        ),
        arrival(0, vec![stage(600, 2_000), stage(0, 0)], 60_000)
    );
    assert_eq!(
        load("executor: constant-vus, vus: 3, duration: 1s"),
        Load::Vus { start: 3, stages: vec![stage(3, 1_000)] }
    );
    assert_eq!(
        load("executor: ramping-vus, stages: [{target: 9, duration: 1s}]"),
        Load::Vus { start: 1, stages: vec![stage(9, 1_000)] }
    );
}

#[test]
fn what_is_not_said_of_a_traffic_has_a_default() {
    let traffic = &read(&with(&rate(""), "")).traffic[0];
    assert_eq!((traffic.start_ms, traffic.graceful_stop_ms, traffic.generators), (0, 2_000, 1));
    assert_eq!((traffic.http, traffic.retries, traffic.retry_after_ms), (HttpVersion::Http1, 0, 100));
    let request = &traffic.requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/"));
    assert_eq!((request.weight, request.timeout_ms, request.body.as_str()), (1, 5_000, ""));
    let said = ", startTime: 1s, http: '2', generators: 3, retries: 2, retryAfter: 50ms, requests: [{method: POST, path: '/a?b', headers: {x-a: b}, body: hi, weight: 3, timeout: 1s}]";
    let traffic = &read(&with(&rate(said), "")).traffic[0];
    assert_eq!((traffic.start_ms, traffic.http, traffic.end_ms()), (1_000, HttpVersion::Http2, 6_000));
    let generator = traffic.generator(2);
    assert_eq!((generator.share.index, generator.share.of, generator.follow_stdin), (2, 3, true));
    assert_eq!(generator.requests[0].headers["x-a"], "b");
}

#[test]
fn a_connection_for_each_request_is_asked_of_the_server_and_is_for_http_1() {
    let traffic = &read(&with(&rate(", noConnectionReuse: true"), "")).traffic[0];
    assert_eq!(traffic.generator(0).requests[0].headers["connection"], "close");
    refused(&with(&rate(", noConnectionReuse: true, http: '2'"), ""), &["noConnectionReuse: is HTTP/1.1's"]);
}

#[test]
fn what_cannot_come_true_of_traffic_is_refused() {
    let around = "nothingDies: true, traffic: [{of: main, over: {around: web/app, before: 1s, after: 1s}, http_reqs: count>1}]";
    refused(&with(&rate(""), around), &["traffic: contradicts nothingDies"]);
    let two = with(&rate(", http: '2'"), "").replace("idle: {}", "serve: {port: 8080, cap: 8Mi}");
    refused(&two, &["http: is \"2\", and serve speaks HTTP/1.1"]);
    refused(&with(&rate(", http: 2"), ""), &["2 is not known here", "write it in quotes: \"2\""]);
}

#[test]
fn a_key_of_another_executor_is_refused_and_a_missing_one_is_named() {
    let executor = |rest: &str| with(&format!("{MAIN}, executor: {rest}"), "");
    refused(
        &executor("constant-vus, vus: 1, duration: 1s, rate: 5"),
        &["traffic[0].rate: is no key of constant-vus", "executor: constant-arrival-rate"],
    );
    refused(&executor("constant-vus, duration: 1s"), &["constant-vus needs vus", "say vus: 10"]);
    refused(&executor("constant-arrival-rate, rate: 5, duration: 1s"), &["needs maxVUs", "say maxVUs: 100"]);
    refused(&executor("ramping-arrival-rate, maxVUs: 5"), &["needs stages", "[{target: 200"]);
    refused(&executor("constant-arival-rate, rate: 5"), &["did you mean constant-arrival-rate?"]);
    refused(&with(&rate("").replace("maxVUs", "maxVus"), ""), &["unknown key", "did you mean maxVUs?"]);
}

#[test]
fn all_that_is_wrong_with_a_traffic_is_said_at_once() {
    let text = with(
        "name: main, to: web/ap, port: 8080, executor: constant-arrival-rate, rate: 0, duration: 20s, maxVUs: 0, timeUnit: 0s, gracefulStop: 5m, retryAfter: 1s, requests: [{method: get, path: a, headers: {host: x, 'a b': c}, timeout: 0s}]",
        "",
    );
    let said = problems(&text).join("\n");
    for part in [
        "did you mean app?",
        "sends nothing",
        "maxVUs: is 0",
        "timeUnit: is no time at all",
        "gracefulStop: is longer than a minute",
        "retryAfter: is said, and nothing is retried",
        "\"get\" is no method",
        "\"a\" is no path of a request",
        "written by the generator itself",
        "no name of a header field",
        "timeout: is no time at all",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn a_traffic_ends_within_the_observation_and_within_bounds() {
    refused(
        &with(&rate(", startTime: 6s"), ""),
        &["ends after 11s, and the observation after 10s", "say observe.for: 11s"],
    );
    let bounded = |traffic: &str, part: &str| refused(&with(&format!("{MAIN}, {traffic}"), ""), &[part]);
    bounded(
        "executor: constant-arrival-rate, rate: 200000, duration: 1s, maxVUs: 10",
        "asks for 200000 a second",
    );
    bounded(
        "executor: constant-arrival-rate, rate: 200, timeUnit: 1ms, duration: 1s, maxVUs: 10",
        "200000 a second",
    );
    bounded("executor: constant-vus, vus: 10001, duration: 1s", "asks for 10001 VUs");
    refused(&with(&rate(", generators: 17"), ""), &["is 17, more than 16"]);
    let long = "x".repeat(130_000);
    refused(&with(&rate(&format!(", requests: [{{body: {long}}}]")), ""), &["has requests of 130"]);
    let two = with(&rate(""), "").replace("observe:", &format!("- {{{}}}\nobserve:", rate("")));
    refused(&two, &["is the name of one before it, too"]);
}

#[test]
fn thresholds_are_k6s() {
    let parsed = |expected: &str| {
        let scenario = read(&expects(expected));
        let threshold = scenario.expect.traffic[0].thresholds[0].clone();
        (threshold.metric, threshold.aggregate, threshold.operator, threshold.value)
    };
    for (text, metric, aggregate, operator, value) in [
        ("http_req_failed: rate<0.01", Metric::Failed, Aggregate::Rate, Operator::Less, 0.01),
        ("http_req_failed: count <= 5", Metric::Failed, Aggregate::Count, Operator::AtMost, 5.0),
        (
            "http_req_duration: p(99)<200ms",
            Metric::Duration,
            Aggregate::Percentile(99.0),
            Operator::Less,
            200.0,
        ),
        (
            "http_req_duration: p(99.9) < 200",
            Metric::Duration,
            Aggregate::Percentile(99.9),
            Operator::Less,
            200.0,
        ),
        ("http_req_duration: med<1s", Metric::Duration, Aggregate::Percentile(50.0), Operator::Less, 1_000.0),
        ("http_req_duration: avg<1.5", Metric::Duration, Aggregate::Average, Operator::Less, 1.5),
        ("http_reqs: count>=100", Metric::Requests, Aggregate::Count, Operator::AtLeast, 100.0),
        ("dropped_iterations: rate<1", Metric::Dropped, Aggregate::Rate, Operator::Less, 1.0),
    ] {
        assert_eq!(parsed(text), (metric, aggregate, operator, value), "{text}");
    }
    let several = read(&expects("http_req_duration: [p(99)<200ms, max<1s], http_reqs: rate>1"));
    assert_eq!(several.expect.traffic[0].thresholds.len(), 3);
}

#[test]
fn a_threshold_that_is_none_says_how_to_write_one() {
    for (text, parts) in [
        ("http_req_failed: p(99)<5", ["no threshold of http_req_failed", "write rate<0.01"]),
        ("http_req_failed: rate==0", ["no threshold of http_req_failed", "write rate<0.01"]),
        ("http_req_failed: rate<5", ["is more than all of them", "a rate of 1 is all"]),
        ("http_req_failed: count<0", ["is true of nothing", "write <= for none at all"]),
        ("http_req_duration: p(101)<5ms", ["no threshold of http_req_duration", "write p(99)<200ms"]),
        ("http_req_duration: p(99)<5parsec", ["no threshold of http_req_duration", "write p(99)<200ms"]),
        ("recovery: <5s", ["is measured from the end of a container", "over: {around: web/app"]),
        ("over: run", ["expects nothing", "http_req_failed: rate<0.01"]),
        ("over: {stage: 1}, http_reqs: rate>1", ["is 1, and 0 is the first of 1", "say at most 0"]),
        (
            "over: {stage: 0, around: web/app}, http_reqs: rate>1",
            ["both stage and around", "make an expectation of each"],
        ),
        ("over: {before: 1s}, http_reqs: rate>1", ["neither stage nor around", "leave it out"]),
        ("over: {arround: web/app}, http_reqs: rate>1", ["unknown key", "did you mean around?"]),
        ("over: always, http_reqs: rate>1", ["\"always\" is not known here", "say one of run"]),
        ("over: {around: web/ap}, http_reqs: rate>1", ["no container \"ap\"", "did you mean app?"]),
    ] {
        refused(&expects(text), &parts);
    }
    let other = with(&rate(""), "traffic: [{of: maim, http_reqs: rate>1}]");
    refused(&other, &["there is no traffic \"maim\"", "did you mean main?"]);
}

#[test]
fn a_part_of_a_run_is_a_stage_or_the_time_around_an_end() {
    let over =
        |text: &str| read(&expects(&format!("{text}http_reqs: rate>1"))).expect.traffic[0].over.clone();
    assert_eq!(over(""), Over::Run);
    assert_eq!(over("over: run, "), Over::Run);
    assert_eq!(over("over: {stage: 0}, "), Over::Stage(0));
    let Over::Around { container, before_ms, after_ms } = over("over: {around: web/app, before: 2s}, ")
    else {
        unreachable!("it is around something")
    };
    assert_eq!((container.to_string().as_str(), before_ms, after_ms), ("web/app", 2_000, 5_000));
}
