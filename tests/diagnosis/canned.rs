//! One stream per cause and per confusable twin, with what was really brought about.

use exit137::cause::{Cause, Confidence, Detail};
use exit137::evidence::{End, Observation, ProbeKind, StopReason};

use crate::stream::{At, Log, MIB, Plan, Stream};

/// What a container's end must be explained by: cause, detail, and at least so sure.
pub type Truth = Option<(Cause, Option<Detail>, Confidence)>;

/// A stream and the truth about it.
pub struct Canned {
    pub name: &'static str,
    pub observations: Vec<Observation>,
    /// In the order of the ends.
    pub ends: Vec<Truth>,
    pub hidden_kills: usize,
}

const KILLED: End = End::Signaled(9);

fn certain(cause: Cause) -> Truth {
    Some((cause, None, Confidence::Certain))
}

fn detailed(cause: Cause, detail: Detail, confidence: Confidence) -> Truth {
    Some((cause, Some(detail), confidence))
}

/// All of them, on both cgroup versions where both have them.
pub fn all() -> Vec<Canned> {
    let mut all = Vec::new();
    for version in [1, 2] {
        all.extend(ooms(version));
        all.extend(children(version));
        all.extend(stops(version));
        all.extend(others(version));
        all.extend(twins(version));
    }
    all.extend(only_v2());
    all.push(crate::clients::canned());
    all
}

fn one(
    name: &'static str,
    version: u8,
    plan: Plan,
    end: Truth,
    hidden_kills: usize,
    play: impl FnOnce(&mut Stream, &crate::stream::Run),
) -> Canned {
    let mut stream = Stream::on(version);
    let run = stream.start("web", "app", plan);
    play(&mut stream, &run);
    let observations = stream.finish(&[]);
    Canned { name, observations, ends: vec![end], hidden_kills }
}

fn ooms(version: u8) -> Vec<Canned> {
    let plain = Plan::default();
    let oom = |at, log| {
        move |s: &mut Stream, run: &crate::stream::Run| {
            s.oom(run, run.pid, at, log, &[]);
            s.end(run, KILLED);
        }
    };
    let two = Plan { neighbours: 1, pod_level_limit: true, ..plain };
    let summed = Plan { neighbours: 1, ..plain };
    let unlimited = Plan { limit: None, ..plain };
    let high = |cause| Some((cause, None, Confidence::High));
    vec![
        one(
            "container's limit",
            version,
            plain,
            certain(Cause::ContainerOom),
            0,
            oom(At::Container, Log::Whole),
        ),
        one(
            "container's limit, no summary",
            version,
            plain,
            high(Cause::ContainerOom),
            0,
            oom(At::Container, Log::NoSummary),
        ),
        one(
            "single container charged at its pod",
            version,
            plain,
            certain(Cause::ContainerOom),
            0,
            oom(At::Pod, Log::Whole),
        ),
        one(
            "single container charged at its pod, no summary",
            version,
            plain,
            high(Cause::ContainerOom),
            0,
            oom(At::Pod, Log::NoSummary),
        ),
        one(
            "pod's own limit with two containers",
            version,
            two,
            certain(Cause::PodOom),
            0,
            oom(At::Pod, Log::Whole),
        ),
        one(
            "pod's own limit, no summary",
            version,
            two,
            high(Cause::PodOom),
            0,
            oom(At::Pod, Log::NoSummary),
        ),
        one(
            "pod's summed limit with the container far from its own",
            version,
            summed,
            certain(Cause::PodOom),
            0,
            oom(At::Pod, Log::Whole),
        ),
        one(
            "pod's summed limit with the container at its own",
            version,
            summed,
            certain(Cause::ContainerOom),
            0,
            |s, run| {
                s.thrash(run, 3);
                s.oom(run, run.pid, At::Pod, Log::Whole, &[]);
                s.end(run, KILLED);
            },
        ),
        one(
            "node's budget",
            version,
            unlimited,
            detailed(Cause::NodeOom, Detail::Budget, Confidence::Certain),
            0,
            oom(At::Node, Log::Whole),
        ),
        one(
            "node's budget, no summary",
            version,
            unlimited,
            detailed(Cause::NodeOom, Detail::Budget, Confidence::High),
            0,
            oom(At::Node, Log::NoSummary),
        ),
        one(
            "a limit outside of the node",
            version,
            unlimited,
            detailed(Cause::NodeOom, Detail::Outer, Confidence::Certain),
            0,
            oom(At::Outer, Log::Whole),
        ),
        one(
            "the machine",
            version,
            unlimited,
            detailed(Cause::NodeOom, Detail::Global, Confidence::Certain),
            0,
            oom(At::Global, Log::Whole),
        ),
        too_small_to_start(version),
        forty_kills(version),
    ]
}

fn too_small_to_start(version: u8) -> Canned {
    let mut stream = Stream::on(version);
    let run = stream.make("web", "app", 0, Plan { limit: Some(MIB), ..Plan::default() });
    stream.wait(2);
    stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
    stream.wait(5);
    stream.start_failed(&run, "it died before exec", Some(KILLED));
    let observations = stream.finish(&[]);
    Canned { name: "too small to start", observations, ends: vec![certain(Cause::StartOom)], hidden_kills: 0 }
}

fn forty_kills(version: u8) -> Canned {
    let mut stream = Stream::on(version);
    let pods: Vec<_> = (0..40).map(|n| stream.start(&format!("web-{n}"), "app", Plan::default())).collect();
    for (n, run) in pods.iter().enumerate() {
        let log = if n < 10 { Log::Whole } else { Log::NoSummary };
        stream.oom(run, run.pid, At::Pod, log, &[]);
        stream.end(run, KILLED);
    }
    let ends = vec![Some((Cause::ContainerOom, None, Confidence::High)); 40];
    Canned { name: "forty kills within a second", observations: stream.finish(&[]), ends, hidden_kills: 0 }
}

fn children(version: u8) -> Vec<Canned> {
    let propagated = detailed(Cause::ChildOom, Detail::Propagated, Confidence::Certain);
    let mut survived = Stream::on(version);
    let run = survived.start("web", "app", Plan::default());
    for log in [Log::Whole, Log::NoSummary] {
        let child = survived.child(&run);
        survived.oom(&run, child, At::Container, log, &[]);
        survived.wait(300);
    }
    let survived = Canned {
        name: "two children killed, the container lives",
        observations: survived.finish(&[&run]),
        ends: vec![],
        hidden_kills: 2,
    };
    vec![
        survived,
        one("a child's 137 passed on", version, Plan::default(), propagated, 0, |s, run| {
            let child = s.child(run);
            s.oom(run, child, At::Container, Log::Whole, &[]);
            s.end(run, End::Exited(137));
        }),
        one("a child's 137 passed on, no summary", version, Plan::default(), propagated, 0, |s, run| {
            let child = s.child(run);
            s.oom(run, child, At::Pod, Log::NoSummary, &[]);
            s.end(run, End::Exited(137));
        }),
        one("a child killed and the main process exits 1", version, Plan::default(), None, 1, |s, run| {
            let child = s.child(run);
            s.oom(run, child, At::Container, Log::Whole, &[]);
            s.end(run, End::Exited(1));
        }),
    ]
}

fn stops(version: u8) -> Vec<Canned> {
    let stopped = |reason, probe: Option<ProbeKind>, end| {
        move |s: &mut Stream, run: &crate::stream::Run| {
            if let Some(probe) = probe {
                s.probe_fails(run, probe);
            }
            s.stop(run, reason, 2_000);
            if end == KILLED {
                s.wait(2_000).runtime_kill(run);
            }
            s.end(run, end);
        }
    };
    let liveness = stopped(StopReason::LivenessProbe, Some(ProbeKind::Liveness), KILLED);
    let obeyed = stopped(StopReason::LivenessProbe, Some(ProbeKind::Liveness), End::Exited(143));
    let obeyed_137 = stopped(StopReason::LivenessProbe, Some(ProbeKind::Liveness), End::Exited(137));
    let startup = stopped(StopReason::StartupProbe, Some(ProbeKind::Startup), KILLED);
    let deleted = detailed(Cause::GracePeriod, Detail::Delete, Confidence::Certain);
    let plain = Plan::default();
    vec![
        one("liveness kill", version, plain, certain(Cause::LivenessProbe), 0, liveness),
        one("liveness stop, exit 143", version, plain, certain(Cause::LivenessProbe), 0, obeyed),
        one("liveness stop, exit 137", version, plain, certain(Cause::LivenessProbe), 0, obeyed_137),
        one("startup kill", version, plain, certain(Cause::StartupProbe), 0, startup),
        one(
            "delete past the grace period",
            version,
            plain,
            deleted,
            0,
            stopped(StopReason::Delete, None, KILLED),
        ),
        one(
            "delete, exit 0 in time",
            version,
            plain,
            None,
            0,
            stopped(StopReason::Delete, None, End::Exited(0)),
        ),
        one(
            "sidecar outlives its pod",
            version,
            plain,
            certain(Cause::GracePeriod),
            0,
            stopped(StopReason::PodCompleted, None, KILLED),
        ),
    ]
}

fn others(version: u8) -> Vec<Canned> {
    let limited = Plan { rlimit_cpu: Some(1), ..Plan::default() };
    let plain = Plan::default();
    let cpu = detailed(Cause::KernelKill, Detail::RlimitCpu, Confidence::High);
    let seccomp = detailed(Cause::KernelKill, Detail::Seccomp, Confidence::Medium);
    vec![
        one("kill -9", version, plain, certain(Cause::ExternalKill), 0, |s, run| {
            s.kill((77, "bash"), run.pid);
            s.end(run, KILLED);
        }),
        one("exit 137 by itself", version, plain, certain(Cause::Exit137), 0, |s, run| {
            s.end(run, End::Exited(137));
        }),
        one("exit 0", version, plain, None, 0, |s, run| s.end(run, End::Exited(0))),
        one("RLIMIT_CPU", version, limited, cpu, 0, |s, run| {
            s.kernel_kill(run.pid);
            s.end_with_cpu(run, KILLED, Some(1_004));
        }),
        one(
            "a SIGKILL from the kernel that nothing explains",
            version,
            plain,
            Some((Cause::KernelKill, None, Confidence::High)),
            0,
            |s, run| {
                s.kernel_kill(run.pid);
                s.end(run, KILLED);
            },
        ),
        one("seccomp", version, plain, seccomp, 0, |s, run| s.end(run, KILLED)),
    ]
}

fn twins(version: u8) -> Vec<Canned> {
    let plain = Plan::default();
    vec![
        one("kill -9 at 99 % of the limit", version, plain, certain(Cause::ExternalKill), 0, |s, run| {
            s.thrash(run, 50);
            s.kill((77, "bash"), run.pid);
            s.end(run, KILLED);
        }),
        one(
            "kill -9 five milliseconds after a hidden child OOM",
            version,
            plain,
            certain(Cause::ExternalKill),
            1,
            |s, run| {
                let child = s.child(run);
                s.oom(run, child, At::Container, Log::Whole, &[]);
                s.wait(5).kill((77, "bash"), run.pid);
                s.end(run, KILLED);
            },
        ),
        one("OOM inside the grace period", version, plain, certain(Cause::ContainerOom), 0, |s, run| {
            s.stop(run, StopReason::Delete, 2_000);
            s.wait(500);
            s.oom(run, run.pid, At::Container, Log::Whole, &[]);
            s.end(run, KILLED);
        }),
        one(
            "OOM, and the runtime's SIGKILL comes too late",
            version,
            plain,
            certain(Cause::ContainerOom),
            0,
            |s, run| {
                s.stop(run, StopReason::LivenessProbe, 2_000);
                s.wait(1_999);
                s.oom(run, run.pid, At::Container, Log::Whole, &[]);
                s.runtime_signal(run, 9, 1);
                s.end(run, KILLED);
            },
        ),
        one("exit 143 after SIGTERM after a child OOM", version, plain, None, 1, |s, run| {
            let child = s.child(run);
            s.oom(run, child, At::Container, Log::Whole, &[]);
            s.wait(800).stop(run, StopReason::Delete, 2_000);
            s.end(run, End::Exited(143));
        }),
        one("exit 137 long after a child OOM", version, plain, certain(Cause::Exit137), 1, |s, run| {
            let child = s.child(run);
            s.oom(run, child, At::Container, Log::Whole, &[]);
            s.wait(9_000);
            s.end(run, End::Exited(137));
        }),
        one("liveness kill while thrashing", version, plain, certain(Cause::LivenessProbe), 0, |s, run| {
            s.thrash(run, 4_000);
            s.probe_fails(run, ProbeKind::Liveness);
            s.stop(run, StopReason::LivenessProbe, 1_000);
            s.wait(1_000).runtime_kill(run);
            s.end(run, KILLED);
        }),
        one(
            "kill -9 with a foreign OOM at the same time",
            version,
            plain,
            certain(Cause::ExternalKill),
            0,
            |s, run| {
                s.foreign_oom(Log::Whole);
                s.kill((77, "bash"), run.pid);
                s.foreign_oom(Log::NoSummary);
                s.end(run, KILLED);
            },
        ),
        one(
            "exit 137 with a foreign OOM at the same time",
            version,
            plain,
            certain(Cause::Exit137),
            0,
            |s, run| {
                s.foreign_oom(Log::NoSummary);
                s.end(run, End::Exited(137));
            },
        ),
        one("kill -9 inside the grace period", version, plain, certain(Cause::ExternalKill), 0, |s, run| {
            s.stop(run, StopReason::Delete, 2_000);
            s.wait(300).kill((77, "bash"), run.pid);
            s.end(run, KILLED);
        }),
    ]
}

fn only_v2() -> Vec<Canned> {
    let group = Plan { group: true, ..Plan::default() };
    let stopped = detailed(Cause::ChildOom, Detail::ContainerStopped, Confidence::Certain);
    vec![
        one("group kill of a single process", 2, group, certain(Cause::ContainerOom), 0, |s, run| {
            s.oom(run, run.pid, At::Pod, Log::Whole, &[]);
            s.end(run, KILLED);
        }),
        one("group kill that began with a child", 2, group, stopped, 0, |s, run| {
            let child = s.child(run);
            s.oom(run, child, At::Container, Log::Whole, &[run.pid]);
            s.end(run, KILLED);
        }),
        one(
            "group kill that began with the main process",
            2,
            group,
            certain(Cause::ContainerOom),
            0,
            |s, run| {
                let child = s.child(run);
                s.oom(run, run.pid, At::Container, Log::Whole, &[child]);
                s.end(run, KILLED);
            },
        ),
        one("limit lowered below use", 2, Plan::default(), certain(Cause::ResizeOom), 0, |s, run| {
            s.context = Some("exit137-action".to_owned());
            s.oom(run, run.pid, At::Container, Log::Whole, &[]);
            s.limit(run.path(), 64 * MIB, 32 * MIB, None);
            s.end(run, KILLED);
        }),
        one(
            "limit lowered safely, reached three seconds later",
            2,
            Plan::default(),
            certain(Cause::ContainerOom),
            0,
            |s, run| {
                s.limit(run.path(), 64 * MIB, 60 * MIB, None);
                s.wait(3_000);
                s.oom(run, run.pid, At::Container, Log::Whole, &[]);
                s.end(run, KILLED);
            },
        ),
    ]
}
