//! Writes streams of observations as the local backend and its observers do.

use std::collections::BTreeMap;

use exit137::evidence::{
    CgroupMade, CgroupOwner, ContainerEnded, ContainerRef, ContainerStarted, Counters, End, Fact, HostFacts,
    KernelKilled, LimitChanged, Moment, Observation, OomDomain, OomSummary, ProbeFailed, ProbeKind,
    ProcessSeen, SignalSent, Source, SourceState, StartFailed, StopReason, Stopping, VictimMarked,
};

pub const MIB: u64 = 1 << 20;
const ROOT: &str = "/exit137-7/some";
const NODE: &str = "/exit137-7/some/node";

/// Where the memory runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Container,
    Pod,
    Node,
    Outer,
    Global,
}

/// A container to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub limit: Option<u64>,
    pub neighbours: u32,
    pub pod_level_limit: bool,
    pub group: bool,
    pub rlimit_cpu: Option<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        let limit = Some(64 * MIB);
        Self { limit, neighbours: 0, pod_level_limit: false, group: false, rlimit_cpu: None }
    }
}

/// A container's run.
#[derive(Clone, Debug)]
pub struct Run {
    pub container: ContainerRef,
    pub pid: u32,
    pub runtime: u32,
    plan: Plan,
}

impl Run {
    pub fn path(&self) -> String {
        format!("{NODE}/{}/{}-{}", self.container.pod, self.container.container, self.container.instance)
    }

    pub fn pod_path(&self) -> String {
        format!("{NODE}/{}", self.container.pod)
    }
}

/// How much the kernel log says of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    Whole,
    /// The summary was rate-limited away.
    NoSummary,
}

pub struct Stream {
    observations: Vec<Observation>,
    counters: BTreeMap<String, Counters>,
    now: u64,
    version: u8,
    pids: u32,
    /// Who runs while the OOM killer does, if not the victim.
    pub context: Option<String>,
}

impl Stream {
    pub fn on(version: u8) -> Self {
        let mut stream = Self {
            observations: Vec::new(),
            counters: BTreeMap::new(),
            now: 1_000_000_000_000,
            version,
            pids: 4_000,
            context: None,
        };
        let host = HostFacts {
            cgroup_version: version,
            initial_pid_namespace: true,
            scenario: "some".to_owned(),
            ..HostFacts::default()
        };
        stream.see(Source::Harness, Fact::Host(host));
        for of in Source::ALL {
            stream.see(of, Fact::Source(SourceState::Present { of }));
        }
        stream.cgroup(NODE.to_owned(), CgroupOwner::Node, Some(1024 * MIB), false);
        stream
    }

    /// Lets time pass.
    pub fn wait(&mut self, ms: u64) -> &mut Self {
        self.now += ms * 1_000_000;
        self
    }

    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn see(&mut self, source: Source, fact: Fact) {
        let moment = Moment::around(self.now, 2_000);
        self.now += 20_000;
        self.at(source, moment, fact);
    }

    pub fn at(&mut self, source: Source, moment: Moment, fact: Fact) {
        let sequence = self.observations.len() as u64;
        self.observations.push(Observation { sequence, source, moment, raw: None, fact });
    }

    fn cgroup(&mut self, path: String, owner: CgroupOwner, limit: Option<u64>, group: bool) {
        if self.counters.contains_key(&path) {
            return;
        }
        let mut counters = Counters {
            cgroup: path.clone(),
            oom_kill_local: Some(0),
            max: Some(0),
            peak: Some(0),
            ..Counters::default()
        };
        let mut oom_group = None;
        if self.version == 2 {
            counters.oom_local = Some(0);
            counters.oom_kill = Some(0);
            counters.oom_group_kill = Some(0);
            oom_group = Some(group);
        }
        self.counters.insert(path.clone(), counters);
        self.see(Source::Harness, Fact::Cgroup(CgroupMade { path, owner, limit, oom_group }));
    }

    pub fn pid(&mut self) -> u32 {
        self.pids += 1;
        self.pids
    }

    pub fn make(&mut self, pod: &str, container: &str, instance: u32, plan: Plan) -> Run {
        let container = ContainerRef { pod: pod.to_owned(), container: container.to_owned(), instance };
        let pid = self.pid();
        let runtime = self.pid();
        let run = Run { container, pid, runtime, plan };
        self.cgroup(run.pod_path(), CgroupOwner::Pod { pod: pod.to_owned() }, plan.limit, false);
        let pause = format!("{}/pause", run.pod_path());
        self.cgroup(pause, CgroupOwner::Pause { pod: pod.to_owned() }, None, false);
        let owner = CgroupOwner::Container(run.container.clone());
        self.cgroup(run.path(), owner, plan.limit, plan.group);
        run
    }

    pub fn start(&mut self, pod: &str, container: &str, plan: Plan) -> Run {
        self.start_instance(pod, container, 0, plan)
    }

    pub fn start_instance(&mut self, pod: &str, container: &str, instance: u32, plan: Plan) -> Run {
        let run = self.make(pod, container, instance, plan);
        let fact = Fact::Started(ContainerStarted {
            id: None,
            container: run.container.clone(),
            pid: Some(run.pid),
            runtime_pid: Some(run.runtime),
            request: plan.limit,
            limit: plan.limit,
            pod_level_limit: plan.pod_level_limit,
            neighbours: plan.neighbours,
            oom_score_adj: Some(900),
            oom_score_adj_asked: Some(900),
            rlimit_cpu: plan.rlimit_cpu,
            grace_seconds: 30,
        });
        self.see(Source::Runtime, fact);
        self.process(Source::Memcg, &run, run.pid);
        self.wait(1_000);
        run
    }

    pub fn start_failed(&mut self, run: &Run, message: &str, end: Option<End>) {
        let failed = StartFailed {
            container: run.container.clone(),
            pid: Some(run.pid),
            message: message.to_owned(),
            end,
        };
        self.see(Source::Runtime, Fact::StartFailed(failed));
    }

    fn process(&mut self, source: Source, run: &Run, pid: u32) {
        let seen = ProcessSeen { pid, container: run.container.clone(), parent: Some(run.pid) };
        self.see(source, Fact::Process(seen));
    }

    /// The main process forks.
    pub fn child(&mut self, run: &Run) -> u32 {
        let pid = self.pid();
        self.process(Source::Trace, run, pid);
        self.process(Source::Memcg, run, pid);
        self.wait(100);
        pid
    }

    fn count(&mut self, path: &str, change: impl FnOnce(&mut Counters)) {
        let Some(counters) = self.counters.get_mut(path) else { return };
        change(counters);
        let counters = counters.clone();
        // A poll of 10 ms found it.
        let moment = Moment::between(self.now.saturating_sub(6_000_000), self.now + 4_000_000);
        self.at(Source::Memcg, moment, Fact::Counters(counters));
    }

    /// The container's use meets its limit and its pages are reclaimed.
    pub fn thrash(&mut self, run: &Run, hits: u64) {
        let limit = run.plan.limit;
        self.count(&run.path(), |c| {
            c.max = c.max.map(|max| max + hits);
            c.peak = limit;
        });
        self.wait(20);
    }

    fn signal(&mut self, signal: i32, code: i32, from: (u32, &str), to: u32, result: i32) {
        let sent = SignalSent {
            signal,
            code,
            sender_pid: from.0,
            sender_comm: from.1.to_owned(),
            target_pid: to,
            target_comm: "victim".to_owned(),
            result,
        };
        self.see(Source::Trace, Fact::Signal(sent));
    }

    /// Somebody kills a process.
    pub fn kill(&mut self, from: (u32, &str), to: u32) {
        self.signal(9, 0, from, to, 0);
    }

    /// The kernel kills a process, and not for want of memory.
    pub fn kernel_kill(&mut self, to: u32) {
        self.signal(9, 128, (to, "victim"), to, 0);
    }

    /// The kernel chooses `victim` of `run`, and in a group kill takes `members` too.
    pub fn oom(&mut self, run: &Run, victim: u32, at: At, log: Log, members: &[u32]) {
        self.notify(run, at);
        self.oom_at_last(run, victim, at, log, members);
    }

    /// The kill that the notification was for, when the OOM killer has come to it.
    pub fn oom_at_last(&mut self, run: &Run, victim: u32, at: At, log: Log, members: &[u32]) {
        self.oom_lines(&Self::domain(run, at), &run.path(), victim, log, at != At::Global);
        if run.plan.group {
            self.see(Source::Kmsg, Fact::OomGroup { cgroup: run.path() });
            for member in [victim].iter().chain(members) {
                self.victim_lines(*member, 50 * MIB, at != At::Global);
            }
        }
        self.now += 1_000_000;
        self.counted(run, at, 1 + if run.plan.group { 1 + members.len() as u64 } else { 0 });
    }

    /// A group kill of which only the counters tell, of two processes.
    pub fn group_kill_of_two(&mut self, run: &Run) {
        self.counted(run, At::Container, 2);
    }

    fn domain(run: &Run, at: At) -> OomDomain {
        let cgroup = match at {
            At::Container => run.path(),
            At::Pod => run.pod_path(),
            At::Node => NODE.to_owned(),
            At::Outer => "/exit137-7".to_owned(),
            At::Global => return OomDomain::Global,
        };
        OomDomain::Memcg { cgroup }
    }

    /// v1: the eventfd of the domain and of all below it.
    pub fn notify(&mut self, run: &Run, at: At) {
        if self.version == 2 || at == At::Global {
            return;
        }
        for (level, cgroup) in
            [(At::Node, NODE.to_owned()), (At::Pod, run.pod_path()), (At::Container, run.path())]
        {
            let below = match at {
                At::Container => level == At::Container,
                At::Pod => level != At::Node,
                At::Node | At::Outer | At::Global => true,
            };
            if below {
                self.see(Source::Memcg, Fact::OomNotified { cgroup });
            }
        }
    }

    fn oom_lines(&mut self, domain: &OomDomain, task_memcg: &str, victim: u32, log: Log, memcg: bool) {
        let context = self.context.clone().unwrap_or("victim".to_owned());
        if log == Log::Whole {
            self.see(Source::Kmsg, Fact::OomInvoked { comm: context, order: 0 });
            let summary = OomSummary {
                domain: domain.clone(),
                task_memcg: task_memcg.to_owned(),
                comm: "victim".to_owned(),
                pid: victim,
            };
            self.see(Source::Kmsg, Fact::OomSummary(summary));
        }
        self.victim_lines(victim, 50 * MIB, memcg);
    }

    fn victim_lines(&mut self, pid: u32, rss: u64, memcg: bool) {
        let context = self.context.clone().unwrap_or("victim".to_owned());
        self.signal(9, 128, (pid, &context), pid, 0);
        self.see(Source::Trace, Fact::Victim(VictimMarked { pid, comm: None }));
        let killed = KernelKilled {
            pid,
            comm: "victim".to_owned(),
            memcg,
            anon_rss: rss,
            file_rss: 0,
            shmem_rss: 0,
            oom_score_adj: Some(900),
        };
        self.see(Source::Kmsg, Fact::KernelKilled(killed));
    }

    fn counted(&mut self, run: &Run, at: At, kills: u64) {
        let group = run.plan.group;
        let limit = if at == At::Container { run.plan.limit } else { run.plan.limit.map(|limit| limit / 2) };
        self.count(&run.path(), |c| {
            c.oom_kill_local = c.oom_kill_local.map(|n| n + kills);
            c.oom_kill = c.oom_kill.map(|n| n + kills);
            c.oom_group_kill = c.oom_group_kill.map(|n| n + u64::from(group));
            c.peak = c.peak.max(limit);
        });
        let domain = match at {
            At::Container => run.path(),
            At::Pod => run.pod_path(),
            At::Node => NODE.to_owned(),
            At::Outer | At::Global => return,
        };
        self.count(&domain, |c| {
            c.oom_local = c.oom_local.map(|n| n + 7);
            c.max = c.max.map(|n| n + 36);
        });
    }

    /// A process outside of the scenario, with the same name, is OOM-killed.
    pub fn foreign_oom(&mut self, log: Log) {
        let victim = self.pid();
        let cgroup = "/user.slice/other".to_owned();
        self.oom_lines(&OomDomain::Memcg { cgroup: cgroup.clone() }, &cgroup, victim, log, true);
    }

    pub fn limit(&mut self, cgroup: String, from: u64, to: u64, refused: Option<&str>) {
        let refused = refused.map(str::to_owned);
        let changed =
            LimitChanged { cgroup, from: Some(from), to, writer: Some("exit137-action".to_owned()), refused };
        self.see(Source::Harness, Fact::LimitChanged(changed));
    }

    pub fn probe_fails(&mut self, run: &Run, probe: ProbeKind) {
        let container = run.container.clone();
        let failed =
            ProbeFailed { container, probe, message: "timed out".to_owned(), failures: 3, threshold: 3 };
        self.see(Source::Kubelet, Fact::ProbeFailed(failed));
    }

    /// It is decided to stop it, and SIGTERM goes out.
    pub fn stop(&mut self, run: &Run, reason: StopReason, grace_ms: u64) {
        let stopping = Stopping { container: run.container.clone(), reason, grace_ms };
        let over = reason == StopReason::TearDown;
        self.see(if over { Source::Harness } else { Source::Kubelet }, Fact::Stopping(stopping));
        self.runtime_signal(run, 15, 0);
    }

    /// The grace period is over.
    pub fn runtime_kill(&mut self, run: &Run) {
        self.runtime_signal(run, 9, 0);
    }

    pub fn runtime_signal(&mut self, run: &Run, signal: i32, result: i32) {
        self.see(Source::Runtime, Fact::RuntimeSignal { container: run.container.clone(), signal });
        self.signal(signal, 0, (run.runtime, "exit137"), run.pid, result);
    }

    pub fn end(&mut self, run: &Run, end: End) {
        self.end_with_cpu(run, end, None);
    }

    pub fn end_with_cpu(&mut self, run: &Run, end: End, cpu_ms: Option<u64>) {
        self.wait(16);
        let ended =
            ContainerEnded { container: run.container.clone(), end, reason: None, invented: None, cpu_ms };
        self.see(Source::Runtime, Fact::Ended(ended));
        self.wait(5);
        self.last(&run.path());
    }

    fn last(&mut self, path: &str) {
        if let Some(counters) = self.counters.get(path) {
            let fact = Fact::Counters(Counters { last: true, ..counters.clone() });
            self.see(Source::Memcg, fact);
            if self.version == 1 {
                // rmdir signals the eventfd too.
                self.wait(1);
                self.see(Source::Memcg, Fact::OomNotified { cgroup: path.to_owned() });
            }
        }
    }

    /// The run is over: what still runs is stopped, and every source says that it watched to the end.
    pub fn finish(mut self, still_running: &[&Run]) -> Vec<Observation> {
        for run in still_running {
            self.stop(run, StopReason::TearDown, 100);
            self.wait(100);
            self.runtime_kill(run);
            self.end(run, End::Signaled(9));
        }
        let pods: Vec<String> = self.counters.keys().cloned().collect();
        for path in pods.iter().rev() {
            if !path.starts_with(ROOT) || self.has_last(path) {
                continue;
            }
            self.last(path);
        }
        for of in Source::ALL {
            self.see(of, Fact::Source(SourceState::Complete { of }));
        }
        self.observations
    }

    fn has_last(&self, path: &str) -> bool {
        self.observations
            .iter()
            .any(|seen| matches!(&seen.fact, Fact::Counters(c) if c.last && c.cgroup == path))
    }
}
