//! What an observer sees whose PIDs are not the kernel log's (a pod on kind) or that may not trace: the kernel log by cgroup
//! path, the cgroups' counters and notices, how many processes there are, and the API. It yields the right cause or none.

use std::collections::{BTreeMap, BTreeSet};

use exit137::cause::{Cause, Confidence, Detail};
use exit137::diagnosis::{Findings, Termination};
use exit137::evidence::{
    CgroupOwner, ClusterFacts, ContainerRef, End, Fact, Moment, Observation, Source, StopReason,
};

use crate::ablation::without;
use crate::canned::all;
use crate::laws::judge;
use crate::recorded::recorded_on_kind;
use crate::stream::{At, Log, Plan, Run, Stream};

const SECOND: u64 = 1_000_000_000;

/// The record as it would be had the run waited for the API to tell of every end that the node saw.
pub fn as_the_api_tells(observations: &[Observation]) -> Vec<Observation> {
    let told = |container: &ContainerRef| {
        observations.iter().any(|seen| match &seen.fact {
            Fact::Ended(ended) => seen.source == Source::Runtime && ended.container == *container,
            _ => false,
        })
    };
    // What the tear-down ends comes in a later second than its decision (backend/kubernetes/running.rs).
    let torn_down = observations.iter().find_map(|seen| match &seen.fact {
        Fact::Stopping(stop) if stop.reason == StopReason::TearDown => Some(seen.moment.latest()),
        _ => None,
    });
    let mut all = observations.to_vec();
    for seen in observations {
        if let Fact::Ended(ended) = &seen.fact
            && seen.source == Source::Exits
            && !told(&ended.container)
            && torn_down.is_none_or(|torn| torn >= seen.moment.earliest())
        {
            let second = seen.moment.earliest() / SECOND * SECOND;
            let mut end = ended.clone();
            end.end = End::Code(ended.end.exit_code());
            all.push(Observation {
                sequence: 3_000_000 + seen.sequence,
                source: Source::Runtime,
                moment: Moment::between(second, second + SECOND),
                raw: None,
                fact: Fact::Ended(end),
            });
        }
    }
    all
}

/// The record as such an observer would have written it.
fn reduced(observations: &[Observation]) -> Vec<Observation> {
    let on_cluster = observations.iter().any(|seen| matches!(seen.fact, Fact::Cluster(_)));
    let mut owners: BTreeMap<String, ContainerRef> = BTreeMap::new();
    let mut processes: BTreeMap<ContainerRef, BTreeSet<u32>> = BTreeMap::new();
    let mut begun: BTreeMap<ContainerRef, u64> = BTreeMap::new();
    let observations = as_the_api_tells(observations);
    for seen in &observations {
        match &seen.fact {
            Fact::Started(start) if start.pid.is_some() => {
                begun.insert(start.container.clone(), seen.moment.earliest());
                processes.entry(start.container.clone()).or_default().extend(start.pid);
            }
            Fact::Cgroup(made) => {
                if let CgroupOwner::Container(container) = &made.owner {
                    owners.insert(made.path.clone(), container.clone());
                }
            }
            _ => {}
        }
    }
    // What it counts are the processes that the cgroup lists, once the runtime's own have left it.
    for seen in &observations {
        if let Fact::Process(process) = &seen.fact
            && seen.source == Source::Memcg
            && begun.get(&process.container).is_some_and(|begun| seen.moment.latest() >= *begun)
        {
            processes.entry(process.container.clone()).or_default().insert(process.pid);
        }
    }
    let mut kept = Vec::new();
    for mut seen in observations {
        match &mut seen.fact {
            Fact::Process(_) => continue,
            Fact::Started(start) => (start.pid, start.runtime_pid) = (None, None),
            Fact::StartFailed(failed) => failed.pid = None,
            Fact::Counters(counters) => {
                let own = owners.get(&counters.cgroup).and_then(|container| processes.get(container));
                counters.processes = own.map(|pids| pids.len() as u64);
            }
            Fact::RuntimeSignal { .. } => continue,
            Fact::Ended(ended)
                if seen.source == Source::Runtime && seen.moment.uncertainty() < SECOND / 2 =>
            {
                // The API's word: a number, and whole seconds.
                ended.end = End::Code(ended.end.exit_code());
                let second = seen.moment.earliest() / SECOND * SECOND;
                seen.moment = Moment::between(second, second + SECOND);
            }
            _ => {}
        }
        kept.push(seen);
    }
    if !on_cluster {
        let mut cluster = kept[0].clone();
        cluster.fact = Fact::Cluster(ClusterFacts { minor: 36, ..ClusterFacts::default() });
        kept.insert(1, cluster);
    }
    without(&kept, &[Source::Trace, Source::Exits])
}

fn same_run<'a>(findings: &'a Findings, like: &Termination) -> Option<&'a Termination> {
    findings.terminations.iter().find(|end| end.container == like.container)
}

/// Where less evidence yields another cause; and how many of the causes it still yields.
fn compare(name: &str, whole: &Findings, less: &Findings, wrong: &mut Vec<String>) -> (usize, usize) {
    let (mut kept, mut all) = (0, 0);
    for before in &whole.terminations {
        // What a scenario's budget is on this host, on a cluster is what its node may allocate.
        let on_cluster = |detail| if detail == Detail::Budget { Detail::Allocatable } else { detail };
        let was = before.attribution.as_ref().map(|found| (found.cause, found.detail.map(on_cluster)));
        let Some(after) = same_run(less, before) else {
            wrong.push(format!("{name}: {} is no end any more", before.container));
            continue;
        };
        let found = after.attribution.as_ref();
        let is = found.map(|found| (found.cause, found.detail));
        all += usize::from(was.is_some());
        match (was, is) {
            (_, Some((Cause::Undetermined, _))) => {}
            (Some((was, detail)), Some((is, now))) if was == is && (now == detail || now.is_none()) => {
                kept += 1;
                let sure = found.map(|found| found.confidence);
                if sure == Some(Confidence::Certain) && !matches!(is, Cause::StartOom | Cause::Synthetic) {
                    wrong.push(format!("{name}: how can it be certain? {found:#?}"));
                }
            }
            (None, None) => {}
            (_, _) => wrong.push(format!("{name}: {:#?}\nbecame {found:#?}", before.attribution)),
        }
    }
    if less.hidden_kills.len() > whole.hidden_kills.len() {
        wrong.push(format!("{name}: hid {:#?} beside {:#?}", less.hidden_kills, less.terminations));
    }
    (kept, all)
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn a_run_on_kind_without_pids_keeps_its_causes_or_has_none() {
    let (mut wrong, mut kept, mut of) = (Vec::new(), 0, 0);
    let mut lost = Vec::new();
    for run in recorded_on_kind() {
        let less = judge(&reduced(&run.kept.observations));
        let (right, all) = compare(&run.name, &judge(&run.kept.observations), &less, &mut wrong);
        (kept, of) = (kept + right, of + all);
        if right < all {
            lost.push(run.name.as_str());
        }
    }
    none(&wrong);
    // Who sent a SIGKILL, whether a process exited by itself, and which of several processes was killed it cannot see.
    let unseen = [
        "child-propagated",
        "exec-probe-oom",
        "exit-137",
        "external-kill",
        "twin-exit-137-after-child-oom",
        "twin-kill-after-child-oom",
        "twin-kill-at-the-limit",
        "twin-same-name",
    ];
    assert_eq!(lost, unseen);
    assert!(kept * 10 >= of * 6, "{kept} of {of}");
}

#[test]
fn a_canned_stream_without_pids_keeps_its_causes_or_has_none() {
    let mut wrong = Vec::new();
    for canned in all() {
        let less = judge(&reduced(&canned.observations));
        let _ = compare(canned.name, &judge(&canned.observations), &less, &mut wrong);
        for taken in [Source::Kmsg, Source::Memcg, Source::Kubelet] {
            let name = format!("{} without {taken}", canned.name);
            let less = judge(&without(&reduced(&canned.observations), &[taken]));
            let _ = compare(&name, &judge(&canned.observations), &less, &mut wrong);
        }
    }
    none(&wrong);
}

fn played(version: u8, plan: Plan, what: impl FnOnce(&mut Stream, &Run)) -> Findings {
    let mut stream = Stream::on(version);
    let run = stream.start("web", "app", plan);
    what(&mut stream, &run);
    judge(&reduced(&stream.finish(&[])))
}

fn cause(findings: &Findings) -> (Cause, Confidence) {
    let found = findings.terminations[0].attribution.as_ref().unwrap();
    (found.cause, found.confidence)
}

#[test]
fn the_only_process_of_a_container_is_its_main_one() {
    for log in [Log::Whole, Log::NoSummary] {
        let findings = played(2, Plan::default(), |s, run| {
            s.oom(run, run.pid, At::Container, log, &[]);
            s.end(run, End::Signaled(9));
        });
        assert_eq!(cause(&findings), (Cause::ContainerOom, Confidence::High), "{log:?} {findings:#?}");
    }
}

#[test]
fn of_two_processes_the_path_does_not_say_which_was_killed() {
    let findings = played(2, Plan::default(), |s, run| {
        let child = s.child(run);
        s.oom(run, child, At::Container, Log::Whole, &[]);
        s.kill((7, "bash"), run.pid);
        s.end(run, End::Signaled(9));
    });
    assert_eq!(cause(&findings).0, Cause::Undetermined);
    let found = findings.terminations[0].attribution.as_ref().unwrap();
    assert!(found.missing.iter().any(|missing| missing.source == Source::Trace), "{found:#?}");
}

#[test]
fn kills_while_the_container_lives_on_are_its_childrens() {
    let findings = played(1, Plan::default(), |s, run| {
        let child = s.child(run);
        s.oom(run, child, At::Container, Log::Whole, &[]);
        s.wait(9_000);
        s.stop(run, StopReason::TearDown, 100);
        s.wait(1_000);
        s.end(run, End::Signaled(9));
    });
    assert_eq!((findings.terminations.len(), findings.hidden_kills.len()), (0, 1), "{findings:#?}");
}

#[test]
fn the_end_of_a_grace_period_is_told_by_its_length() {
    let findings = played(1, Plan::default(), |s, run| {
        s.stop(run, StopReason::LivenessProbe, 3_000);
        s.wait(3_000);
        s.runtime_kill(run);
        s.end(run, End::Signaled(9));
    });
    assert_eq!(cause(&findings), (Cause::LivenessProbe, Confidence::High), "{findings:#?}");
}
