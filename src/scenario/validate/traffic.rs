//! Traffic: that each executor has what it needs and nothing else, and that all of it can be sent.

use exit137_workload::Span;
use exit137_workload::traffic::{HttpVersion, Load, LoadStage, Request};

use crate::scenario::document::{self, Executor};
use crate::scenario::problem::KeyPath;
use crate::scenario::{Program, Traffic};

use super::Notes;
use super::selectors::Selectors;

/// The most iterations per second of one traffic.
const HIGHEST_RATE: u64 = 100_000;

/// The most VUs of one traffic: each may hold a connection.
const MOST_VUS: u64 = 10_000;

/// The most stages.
const MOST_STAGES: usize = 100;

/// The longest time for which the end of a run may wait for requests in flight.
const LONGEST_STOP_MS: u64 = 60_000;

/// A generator hears everything on its command line, of which the kernel lets one word be 128 KiB (`MAX_ARG_STRLEN`).
const LONGEST_SPEC: usize = 120_000;

/// All traffic of a document.
pub(super) fn traffic(
    documents: &[document::Traffic],
    selectors: &Selectors<'_>,
    for_ms: u64,
    notes: &mut Notes,
) -> Vec<Traffic> {
    let path = KeyPath::default().key("traffic");
    let mut all = Vec::new();
    for (index, found) in documents.iter().enumerate() {
        let path = path.index(index);
        if documents.iter().take(index).any(|other| other.name == found.name) {
            let what = format!("{:?} is the name of one before it, too", found.name);
            notes.problem(&path.key("name"), what, "give each its own name");
        }
        all.extend(one(found, selectors, for_ms, &path, notes));
    }
    all
}

fn one(
    found: &document::Traffic,
    selectors: &Selectors<'_>,
    for_ms: u64,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Traffic> {
    let to = selectors.select(&found.to, &path.key("to"), notes);
    out_of_place(found, path, notes);
    let load = load(found, path, notes);
    let time = |key: &str, span: Option<Span>, default: u64, notes: &mut Notes| {
        span.map_or(default, |span| notes.time(&path.key(key), span))
    };
    let start_ms = time("startTime", found.start_time, 0, notes);
    let graceful_stop_ms = time("gracefulStop", found.graceful_stop, 2_000, notes);
    if graceful_stop_ms > LONGEST_STOP_MS {
        notes.problem(&path.key("gracefulStop"), "is longer than a minute", "say at most 60s");
    }
    let retry_after_ms = time("retryAfter", found.retry_after, 100, notes);
    let retries = found.retries.unwrap_or(0);
    if found.retry_after.is_some() && retries == 0 {
        notes.problem(&path.key("retryAfter"), "is said, and nothing is retried", "say retries: 3, too");
    }
    let http = match found.http {
        None | Some(document::Http::One) => HttpVersion::Http1,
        Some(document::Http::Two) => HttpVersion::Http2,
    };
    let program = to.as_ref().and_then(|to| selectors.container(to)).map(|(_, container)| &container.program);
    let served = matches!(program, Some(Program::Workload(workload)) if workload.serve.is_some());
    if served && http == HttpVersion::Http2 {
        notes.problem(&path.key("http"), "is \"2\", and serve speaks HTTP/1.1", "leave it out");
    }
    let mut requests = requests(found.requests.as_deref(), path, notes);
    if found.no_connection_reuse == Some(true) {
        if http == HttpVersion::Http2 {
            let hint = "remove one of the two";
            notes.problem(&path.key("noConnectionReuse"), "is HTTP/1.1's, and http is \"2\"", hint);
        }
        // Each side then closes once the answer is over.
        for request in &mut requests {
            request.headers.insert("connection".into(), "close".into());
        }
    }
    let traffic = Traffic {
        name: found.name.clone(),
        to: to?,
        port: found.port,
        load: load?,
        start_ms,
        graceful_stop_ms,
        http,
        generators: found.generators.unwrap_or(1),
        retries,
        retry_after_ms,
        requests,
    };
    let end = Span { ms: traffic.end_ms() };
    if end.ms > for_ms {
        let what = format!("ends after {end}, and the observation after {}", Span { ms: for_ms });
        notes.problem(path, what, format!("say observe.for: {end}, or shorten it"));
    }
    let spec = serde_json::to_string(&traffic.generator(0)).unwrap_or_default();
    if spec.len() > LONGEST_SPEC {
        let what = format!("has requests of {} bytes altogether", spec.len());
        notes.problem(&path.key("requests"), what, format!("say at most {LONGEST_SPEC}: shorten the bodies"));
    }
    Some(traffic)
}

/// Keys that belong to other executors.
fn out_of_place(found: &document::Traffic, path: &KeyPath, notes: &mut Notes) {
    let (constant_rate, ramping_rate) = (Executor::ConstantArrivalRate, Executor::RampingArrivalRate);
    let (constant_vus, ramping_vus) = (Executor::ConstantVus, Executor::RampingVus);
    let keys: [(&str, bool, &[Executor]); 9] = [
        ("rate", found.rate.is_some(), &[constant_rate]),
        ("duration", found.duration.is_some(), &[constant_rate, constant_vus]),
        ("timeUnit", found.time_unit.is_some(), &[constant_rate, ramping_rate]),
        ("startRate", found.start_rate.is_some(), &[ramping_rate]),
        ("startVUs", found.start_vus.is_some(), &[ramping_vus]),
        ("vus", found.vus.is_some(), &[constant_vus]),
        ("stages", found.stages.is_some(), &[ramping_rate, ramping_vus]),
        ("maxVUs", found.max_vus.is_some(), &[constant_rate, ramping_rate]),
        ("preAllocatedVUs", found.pre_allocated_vus.is_some(), &[constant_rate, ramping_rate]),
    ];
    for (key, said, executors) in keys {
        if said && !executors.contains(&found.executor) {
            let of: Vec<&str> = executors.iter().map(|executor| word(*executor)).collect();
            let what = format!("is no key of {}", word(found.executor));
            notes.problem(&path.key(key), what, format!("remove it, or say executor: {}", of.join(" or ")));
        }
    }
}

fn word(executor: Executor) -> &'static str {
    match executor {
        Executor::ConstantArrivalRate => "constant-arrival-rate",
        Executor::RampingArrivalRate => "ramping-arrival-rate",
        Executor::ConstantVus => "constant-vus",
        Executor::RampingVus => "ramping-vus",
    }
}

fn load(found: &document::Traffic, path: &KeyPath, notes: &mut Notes) -> Option<Load> {
    match found.executor {
        Executor::ConstantArrivalRate => {
            let rate = needed(found.rate, "rate", "50", found.executor, path, notes);
            let stage = constant(rate, found, path, notes);
            arrival_rate(rate, stage.map(|stage| vec![stage]), found, path, notes)
        }
        Executor::RampingArrivalRate => {
            let stages = stages(found, path, notes);
            arrival_rate(Some(found.start_rate.unwrap_or(0)), stages, found, path, notes)
        }
        Executor::ConstantVus => {
            let count = needed(found.vus, "vus", "10", found.executor, path, notes);
            let stage = constant(count.map(u64::from), found, path, notes);
            vus(count, stage.map(|stage| vec![stage]), path, notes)
        }
        Executor::RampingVus => {
            let stages = stages(found, path, notes);
            vus(Some(found.start_vus.unwrap_or(1)), stages, path, notes)
        }
    }
}

fn needed<T>(
    value: Option<T>,
    key: &str,
    example: &str,
    executor: Executor,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<T> {
    if value.is_none() {
        notes.problem(path, format!("{} needs {key}", word(executor)), format!("say {key}: {example}"));
    }
    value
}

fn constant(
    target: Option<u64>,
    found: &document::Traffic,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<LoadStage> {
    let duration = needed(found.duration, "duration", "5s", found.executor, path, notes);
    let ms = duration.map(|duration| notes.time(&path.key("duration"), duration));
    if ms == Some(0) {
        notes.problem(&path.key("duration"), "is no time at all", "say how long: 5s");
    }
    Some(LoadStage { target: target?, ms: ms? })
}

fn stages(found: &document::Traffic, path: &KeyPath, notes: &mut Notes) -> Option<Vec<LoadStage>> {
    let example = "[{target: 200, duration: 5s}]";
    let stages = needed(found.stages.as_ref(), "stages", example, found.executor, path, notes)?;
    let path = path.key("stages");
    if stages.len() > MOST_STAGES {
        notes.problem(&path, format!("has {} stages", stages.len()), format!("say at most {MOST_STAGES}"));
    }
    let each = stages.iter().enumerate().map(|(index, stage)| LoadStage {
        target: stage.target,
        ms: notes.time(&path.index(index).key("duration"), stage.duration),
    });
    let made: Vec<LoadStage> = each.collect();
    if made.iter().all(|stage| stage.ms == 0) {
        notes.problem(&path, "takes no time at all", format!("say for example {example}"));
        return None;
    }
    Some(made)
}

fn arrival_rate(
    start: Option<u64>,
    stages: Option<Vec<LoadStage>>,
    found: &document::Traffic,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Load> {
    let unit = found.time_unit.unwrap_or(Span { ms: 1_000 });
    let time_unit_ms = notes.time(&path.key("timeUnit"), unit);
    if time_unit_ms == 0 {
        notes.problem(&path.key("timeUnit"), "is no time at all", "leave it out for a second, or say 1m");
    }
    let max_vus = found.max_vus.or(found.pre_allocated_vus);
    let max_vus = needed(max_vus, "maxVUs", "100", found.executor, path, notes);
    let key = if found.max_vus.is_some() { "maxVUs" } else { "preAllocatedVUs" };
    if let Some(most) = max_vus {
        at_most(u64::from(most), MOST_VUS, "VUs", &path.key(key), notes);
        if most == 0 {
            notes.problem(&path.key(key), "is 0, so nothing could be sent", "say at least 1");
        }
    }
    if let (Some(most), Some(allocated)) = (found.max_vus, found.pre_allocated_vus)
        && allocated > most
    {
        notes.problem(&path.key("preAllocatedVUs"), "is more than maxVUs", "leave it out");
    }
    let (start, stages) = (start?, stages?);
    let highest = stages.iter().map(|stage| stage.target).chain([start]).max().unwrap_or(0);
    if highest == 0 {
        notes.problem(path, "sends nothing", "say a rate above 0");
    }
    let per_second = highest.saturating_mul(1_000) / time_unit_ms.max(1);
    at_most(per_second, HIGHEST_RATE, "a second", path, notes);
    Some(Load::ArrivalRate { start, stages, time_unit_ms: time_unit_ms.max(1), max_vus: max_vus? })
}

fn vus(
    start: Option<u32>,
    stages: Option<Vec<LoadStage>>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Load> {
    let (start, stages) = (start?, stages?);
    let highest = stages.iter().map(|stage| stage.target).chain([u64::from(start)]).max().unwrap_or(0);
    if highest == 0 {
        notes.problem(path, "sends nothing", "say at least one VU");
    }
    at_most(highest, MOST_VUS, "VUs", path, notes);
    Some(Load::Vus { start, stages })
}

fn at_most(value: u64, most: u64, what: &str, path: &KeyPath, notes: &mut Notes) {
    if value > most {
        let hint = format!("say at most {most}, or spread it over several traffics");
        notes.problem(path, format!("asks for {value} {what}"), hint);
    }
}

fn requests(found: Option<&[document::Request]>, path: &KeyPath, notes: &mut Notes) -> Vec<Request> {
    let path = path.key("requests");
    let root = [document::Request::default()];
    let found = found.unwrap_or(&root);
    found.iter().enumerate().map(|(index, found)| request(found, &path.index(index), notes)).collect()
}

/// What a generator writes itself.
const ITS_OWN: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];

fn request(found: &document::Request, path: &KeyPath, notes: &mut Notes) -> Request {
    let method = found.method.clone().unwrap_or_else(|| "GET".to_owned());
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        let hint = format!("write for example {}", method.to_ascii_uppercase());
        notes.problem(&path.key("method"), format!("{method:?} is no method"), hint);
    }
    let target = found.path.clone().unwrap_or_else(|| "/".to_owned());
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains('#')
    {
        let hint = "begin with / and write %20 for a space: /search?q=a%20b";
        notes.problem(&path.key("path"), format!("{target:?} is no path of a request"), hint);
    }
    for (name, value) in &found.headers {
        let path = path.key("headers").key(name);
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            notes.problem(&path, "is no name of a header field", "write letters, digits and hyphens");
        } else if ITS_OWN.contains(&name.to_ascii_lowercase().as_str()) {
            notes.problem(&path, "is written by the generator itself", "remove it");
        }
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            notes.problem(&path, "has a control character", "write it on one line");
        }
    }
    let timeout = found.timeout.unwrap_or(Span { ms: 5_000 });
    let timeout_ms = notes.time(&path.key("timeout"), timeout);
    if timeout_ms == 0 {
        notes.problem(&path.key("timeout"), "is no time at all", "say for example 5s");
    }
    Request {
        method,
        path: target,
        headers: found.headers.clone(),
        body: found.body.clone().unwrap_or_default(),
        weight: found.weight.unwrap_or(1),
        timeout_ms,
    }
}
