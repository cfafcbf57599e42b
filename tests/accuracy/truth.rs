//! The committed table of what each shipped scenario brings about.

use std::collections::BTreeMap;

use exit137::cause::{Cause, Detail};
use serde::Deserialize;

/// What a scenario brings about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Induced {
    ends: Vec<End>,
    hidden: Vec<Hidden>,
}

/// How a container's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `None`: it exited by itself, and there is nothing to explain.
    pub cause: Option<Cause>,
    pub detail: Option<Detail>,
    pub exit_code: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct End {
    container: String,
    cause: Option<Cause>,
    detail: Option<Detail>,
    exit_code: Option<i32>,
    #[serde(default = "one")]
    times: usize,
    replicas: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hidden {
    container: String,
    #[serde(default = "one")]
    times: usize,
}

fn one() -> usize {
    1
}

impl Induced {
    /// For each container (`pod/container`) the ends of its runs.
    pub fn ends(&self) -> BTreeMap<String, Vec<Expected>> {
        let mut ends: BTreeMap<String, Vec<Expected>> = BTreeMap::new();
        for end in &self.ends {
            let expected = Expected { cause: end.cause, detail: end.detail, exit_code: end.exit_code };
            for name in replicas(&end.container, end.replicas) {
                ends.entry(name).or_default().extend(vec![expected; end.times]);
            }
        }
        ends
    }

    /// For each container how many OOM kills its status does not show.
    pub fn hidden(&self) -> BTreeMap<String, usize> {
        let mut hidden = BTreeMap::new();
        for kill in &self.hidden {
            *hidden.entry(kill.container.clone()).or_default() += kill.times;
        }
        hidden
    }
}

fn replicas(container: &str, count: Option<usize>) -> Vec<String> {
    let Some(count) = count else { return vec![container.to_owned()] };
    let (pod, name) = container.split_once('/').unwrap();
    (0..count).map(|index| format!("{pod}-{index}/{name}")).collect()
}

/// Reads the table.
pub fn read() -> BTreeMap<String, Induced> {
    serde_saphyr::from_str(include_str!("truth.yaml")).unwrap()
}
