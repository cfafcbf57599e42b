//! `size` against answers that scanning the whole grid has found: `make sizing` asks 20 times, `make sizing-truth` scans anew.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Desk, exit137, is_root};

struct Case {
    name: &'static str,
    path: &'static str,
    find: &'static str,
    /// In MiB.
    from: u32,
    to: u32,
    step: u32,
}

const LIMIT: &str = "pods.web.containers.app.resources.limits.memory";

const CASES: [Case; 3] = [
    Case { name: "level", path: LIMIT, find: "smallest", from: 16, to: 48, step: 1 },
    Case { name: "capped", path: LIMIT, find: "smallest", from: 20, to: 84, step: 2 },
    Case {
        name: "headroom",
        path: "pods.web.containers.app.workload.hog.size",
        find: "largest",
        from: 16,
        to: 39,
        step: 1,
    },
];

impl Case {
    fn file(&self, end: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/sizing").join(format!("{}.{end}", self.name))
    }

    fn values(&self) -> Vec<String> {
        (self.from..=self.to).step_by(self.step as usize).map(|mebibytes| format!("{mebibytes}Mi")).collect()
    }

    /// ceil(log2(range / step)) + 2.
    fn most(&self) -> usize {
        let steps = f64::from((self.to - self.from) / self.step);
        (0..32).find(|halvings| f64::from(1_u32 << *halvings) >= steps).unwrap() + 2
    }

    /// Scans the whole grid.
    fn scan(&self) {
        let desk = Desk::new();
        let set = format!("{}={}", self.path, self.values().join(","));
        let mut sweep = exit137();
        sweep.arg("sweep").arg(self.file("yaml")).args(["--set", &set, "--repeat", "3", "--jobs", "2"]);
        desk.ran(sweep.arg("--out").arg(desk.path("out")).output().unwrap()).exits(0);
        fs::copy(desk.path("out/sweep.csv"), self.file("csv")).unwrap();
    }

    /// What the committed scan says: the place of the answer among the values.
    fn truth(&self) -> usize {
        let csv = fs::read_to_string(self.file("csv")).unwrap();
        let holds: Vec<bool> = csv
            .lines()
            .skip(1)
            .map(|line| {
                let cells: Vec<&str> = line.split(',').collect();
                cells[1] == cells[2]
            })
            .collect();
        assert_eq!(holds.len(), self.values().len(), "the whole grid was scanned");
        if self.find == "smallest" {
            holds.iter().rposition(|holds| !holds).unwrap() + 1
        } else {
            holds.iter().position(|holds| !holds).unwrap() - 1
        }
    }

    /// Asks once; answers how many steps off it was, and how many values were tried.
    fn size(&self) -> (usize, usize) {
        let desk = Desk::new();
        let [from, to, step] = [self.from, self.to, self.step].map(|mebibytes| format!("{mebibytes}Mi"));
        let mut size = exit137();
        size.arg("size")
            .arg(self.file("yaml"))
            .args(["--set", self.path, "--find", self.find, "--repeat", "2"]);
        size.args(["--from", &from, "--to", &to, "--step", &step, "--out"]).arg(desk.path("out"));
        let ran = desk.ran(size.output().unwrap()).exits(0);
        let report: Value = serde_json::from_slice(&fs::read(ran.out.join("size.json")).unwrap()).unwrap();
        let answer = self.values().iter().position(|value| report["answer"] == *value);
        let answer = answer.unwrap_or_else(|| panic!("{report:#}"));
        (answer.abs_diff(self.truth()), report["candidates"].as_array().unwrap().len())
    }
}

#[test]
fn every_answer_lies_within_one_step_of_what_scanning_the_whole_grid_found() {
    if !is_root() {
        return;
    }
    if std::env::var_os("EXIT137_SCAN").is_some() {
        CASES.iter().for_each(Case::scan);
    }
    let rounds = std::env::var("ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for case in CASES {
        let truth = case.values()[case.truth()].clone();
        let asked: Vec<(usize, usize)> = (0..rounds).map(|_| case.size()).collect();
        let off = asked.iter().map(|(off, _)| *off).max().unwrap_or(0);
        let tried = asked.iter().map(|(_, tried)| *tried).max().unwrap_or(0);
        println!(
            "{}: the true answer is {truth}; asked {rounds} times, at most {off} steps off, at most {tried} of {} values tried",
            case.name,
            case.most()
        );
        assert!(off <= 1 && tried <= case.most());
    }
}
