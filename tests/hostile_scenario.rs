//! Hostile scenarios: whatever is read, nothing panics, nothing hangs, and what it answers stays short.

use exit137::{loader, scenario};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// What mutations put in: words of the grammar, values at its edges, and YAML's own traps.
const SNIPPETS: &[&str] = &[
    "-1",
    "0",
    "18446744073709551616",
    "1e999",
    ".inf",
    ".nan",
    "~",
    "true",
    "\"\"",
    "''",
    "[]",
    "{}",
    "[[[[",
    "}}",
    "? ",
    ": ",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary x",
    "!!int ",
    "!x ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "|\n",
    ">-\n",
    "\t",
    "\u{feff}",
    "\0",
    "\u{202e}",
    "9223372036854775807",
    "8Ei",
    "1e-30",
    "400m",
    "999999999h",
    "9999999999999999Ti",
    "99999999999999999999999999999999999999Ti",
    "web/app",
    "/",
    "web-0",
    "spec",
    "containers",
    "workload",
    "hog",
    "stages: [{to: 1Mi, over: 0s}]",
    "replicas: 100",
    "kind: Job",
    "sizeLimit",
    "memory",
    "requires: [cluster]",
    "limits: {memory: 1023Ti}",
    "peak < 80% of limit",
    "> 5%",
    "within: {from: 9s, to: 1s}",
];

fn rounds() -> u32 {
    std::env::var("EXIT137_FUZZ_ITERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

fn digest(text: &str) -> Result<(), TestCaseError> {
    match scenario::read("hostile.yaml", text) {
        Ok(scenario) => {
            let _ = scenario.bound();
            for pod in &scenario.pods {
                let _ = (pod.cgroup_limit(), pod.replica_names().len());
            }
        }
        Err(problems) => {
            prop_assert!(!problems.is_empty());
            let said: usize = problems.iter().map(|problem| problem.to_string().len()).sum();
            prop_assert!(said < 100_000, "{said} bytes of problems");
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Mutation {
    Cut(prop::sample::Index, usize),
    Double(prop::sample::Index, usize),
    Insert(prop::sample::Index, &'static str),
    Replace(prop::sample::Index, usize, &'static str),
    Flip(prop::sample::Index, char),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    let snippet = || prop::sample::select(SNIPPETS);
    prop_oneof![
        (at(), 1..200_usize).prop_map(|(at, length)| Mutation::Cut(at, length)),
        (at(), 1..200_usize).prop_map(|(at, length)| Mutation::Double(at, length)),
        (at(), snippet()).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (at(), 1..12_usize, snippet()).prop_map(|(at, length, text)| Mutation::Replace(at, length, text)),
        (at(), any::<char>()).prop_map(|(at, letter)| Mutation::Flip(at, letter)),
    ]
}

fn mutate(text: &str, mutation: &Mutation) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let length = letters.len();
    let place = |at: &prop::sample::Index| at.index(length + 1);
    let end = |from: usize, count: usize| (from + count).min(length);
    match mutation {
        Mutation::Cut(at, count) => drop(letters.drain(place(at)..end(place(at), *count))),
        Mutation::Double(at, count) => {
            let part: Vec<char> = letters[place(at)..end(place(at), *count)].to_vec();
            letters.splice(place(at)..place(at), part);
        }
        Mutation::Insert(at, text) => drop(letters.splice(place(at)..place(at), text.chars())),
        Mutation::Replace(at, count, text) => {
            drop(letters.splice(place(at)..end(place(at), *count), text.chars()));
        }
        Mutation::Flip(at, letter) => drop(letters.splice(place(at)..end(place(at), 1), [*letter])),
    }
    letters.into_iter().collect()
}

#[test]
fn mutated_scenarios_are_read_or_refused_and_never_panic() {
    let corpus: Vec<String> = loader::load(&[]).unwrap().into_iter().map(|loaded| loaded.text).collect();
    let config = Config { cases: rounds(), failure_persistence: None, ..Config::default() };
    let strategy = (prop::sample::select(corpus), prop::collection::vec(mutation(), 1..8));
    TestRunner::new(config)
        .run(&strategy, |(seed, mutations)| {
            digest(&mutations.iter().fold(seed, |text, step| mutate(&text, step)))
        })
        .unwrap();
}

#[test]
fn what_grows_when_it_is_read_is_refused() {
    let long = "x".repeat(1 << 19);
    for text in [
        format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(1000)),
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n".to_owned(),
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "{a: ".repeat(50_000),
        "? ".repeat(50_000),
        "a:\n".repeat(100_000),
        format!("{}: 1\n", "k".repeat(1000)).repeat(500),
        (0..90_000).map(|number| format!("k{number}: 1\n")).collect(),
        format!("? {long}\n: 1\n"),
        format!("apiVersion: {long}\n"),
        "\"".repeat(100_000),
        "---\n".repeat(100_000),
        "#\n".repeat(500_000),
        "!".repeat(100_000),
    ] {
        digest(&text).unwrap();
        assert!(scenario::read("hostile.yaml", &text).is_err(), "{}", &text[..40.min(text.len())]);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    assert!(peak.unwrap() < 256 << 10, "{peak:?} KiB at most");
}
