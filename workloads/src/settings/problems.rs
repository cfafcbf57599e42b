//! What is wrong with settings that each can be read.

use super::{Children, Cpu, Hog, Kind, Leak, OnTerm, PageCache, Tmpfs, Workload};
use crate::units::Rate;

impl Workload {
    /// Everything that is wrong with it, each with a hint.
    pub fn problems(&self) -> Vec<String> {
        let kind = match self.kind() {
            Ok(kind) => kind,
            Err(problem) => return vec![problem],
        };
        let mut problems = match kind {
            Kind::Hog(hog) => hog.problems(),
            Kind::Leak(leak) => leak.problems(),
            Kind::Children(children) => children.problems(),
            Kind::Tmpfs(Tmpfs { rate, .. }) => never_grows("tmpfs", *rate),
            Kind::PageCache(PageCache { passes: Some(0), .. }) => {
                vec![
                    "pageCache.passes is 0; say at least 1, or leave it out to read until it is stopped"
                        .to_owned(),
                ]
            }
            Kind::Serve(serve) => serve.problems(),
            Kind::Cpu(cpu) => cpu.problems(),
            Kind::PageCache(_) | Kind::IgnoreTerm(_) | Kind::Exit(_) | Kind::Idle => Vec::new(),
        };
        if self.ignore_term.is_some() && (self.on_term.is_some() || self.term_code.is_some()) {
            problems.push("ignoreTerm already says what SIGTERM does; remove onTerm and termCode".to_owned());
        } else if self.term_code.is_some() && !matches!(self.on_term, None | Some(OnTerm::Exit)) {
            problems.push(
                "termCode has no effect unless SIGTERM makes it exit; remove it, or say onTerm: exit"
                    .to_owned(),
            );
        }
        problems
    }
}

fn never_grows(kind: &str, rate: Option<Rate>) -> Vec<String> {
    let stands_still = rate.is_some_and(|rate| rate.per_second == 0);
    let problem = || format!("{kind}.rate is 0: it would never grow; say for example 8Mi/s");
    stands_still.then(problem).into_iter().collect()
}

impl Hog {
    fn problems(&self) -> Vec<String> {
        let mut problems = never_grows("hog", self.rate);
        match (self.size, self.stages.is_empty()) {
            (None, true) => problems.push("hog says no size; say size: 64Mi, or stages".to_owned()),
            (Some(_), false) => problems.push("hog has both size and stages; keep one of them".to_owned()),
            (Some(_), true) | (None, false) => {}
        }
        if self.rate.is_some() && !self.stages.is_empty() {
            problems.push(
                "hog.rate has no effect on stages, which say how long each takes; remove it".to_owned(),
            );
        }
        if self.repeat.is_some() && self.stages.is_empty() {
            problems.push("hog.repeat has no effect without stages; remove it".to_owned());
        }
        if self.repeat == Some(0) {
            problems.push("hog.repeat is 0; say at least 1".to_owned());
        }
        problems
    }
}

impl Leak {
    fn problems(&self) -> Vec<String> {
        never_grows("leak", Some(self.rate))
    }
}

impl Children {
    fn problems(&self) -> Vec<String> {
        let mut problems = never_grows("children", self.rate);
        if self.count == 0 {
            problems.push("children.count is 0; say at least 1".to_owned());
        }
        if self.exit_code.is_some() && self.exit_after.is_none() {
            problems.push("children.exitCode needs exitAfter: say when the parent exits".to_owned());
        }
        problems
    }
}

impl Cpu {
    fn problems(&self) -> Vec<String> {
        let uneven = self.rlimit_cpu.is_some_and(|limit| limit.ms == 0 || limit.ms % 1000 != 0);
        let problem =
            || "cpu.rlimitCpu must be whole seconds, at least 1s: the kernel counts no finer".to_owned();
        uneven.then(problem).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(json: &str) -> Result<Workload, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn a_workload_does_exactly_one_thing() {
        assert!(from("{}").unwrap().problems()[0].contains("says nothing to do"));
        let two = from(r#"{"idle": {}, "hog": {"size": "1Mi"}}"#).unwrap();
        assert!(two.problems()[0].contains("more than one"));
        assert_eq!(from(r#"{"hog": {"size": "1Mi"}}"#).unwrap().problems(), Vec::<String>::new());
    }

    #[test]
    fn settings_that_contradict_each_other_are_all_reported() {
        let hog = from(
            r#"{"hog": {"size": "1Mi", "stages": [{"to": "2Mi", "over": "1s"}], "rate": "1Mi/s"}, "onTerm": "ignore", "termCode": 3}"#,
        );
        assert_eq!(hog.unwrap().problems().len(), 3);
    }

    #[test]
    fn settings_that_could_never_work_are_refused() {
        for (json, key) in [
            (r#"{"leak": {"rate": "0B/s", "cap": "1Mi"}}"#, "leak.rate"),
            (r#"{"hog": {"size": "1Mi", "rate": "0B/s"}}"#, "hog.rate"),
            (r#"{"children": {"size": "1Mi", "count": 0}}"#, "children.count"),
            (r#"{"children": {"size": "1Mi", "exitCode": 3}}"#, "exitAfter"),
            (r#"{"pageCache": {"path": "/", "size": "1Mi", "passes": 0}}"#, "pageCache.passes"),
            (r#"{"serve": {"port": 0, "cap": "1Mi"}}"#, "serve.port"),
            (r#"{"serve": {"port": 1, "cap": "1Mi", "holdPerRequest": "2Mi"}}"#, "serve.cap"),
            (r#"{"cpu": {"rlimitCpu": "1500ms"}}"#, "rlimitCpu"),
            (r#"{"ignoreTerm": {}, "termCode": 3}"#, "ignoreTerm"),
        ] {
            let problems = from(json).unwrap().problems();
            assert!(problems.len() == 1 && problems[0].contains(key), "{json}: {problems:?}");
        }
    }
}
