//! One run of a container: from its cgroup to its end, probes and stop included.

use std::convert::Infallible;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::cgroup::Cgroup;
use super::helper::Helper;
use super::pod::PodContext;
use super::probe::{self, Place};
use super::protocol::{Command, ProcessSpec, Report, ShimSpec};
use super::stop::{LEAST_GRACE, StopRequest, next_request};
use super::{expand, oom_score_adj, program};
use crate::evidence::{
    CgroupMade, CgroupOwner, ContainerEnded, ContainerRef, ContainerStarted, End, Fact, ProbeFailed,
    ProbeKind, Source, StartFailed, StopReason, Stopping,
};
use crate::observe::WatchedCgroup;
use crate::scenario::{Container, Handler, Role};

/// How a run of a container went.
#[derive(Clone, Copy, Debug)]
pub struct RunEnd {
    /// How it ended; `None` where it could not even be tried.
    pub end: Option<End>,
}

/// A container whose main process runs.
struct Running<'a> {
    pod: &'a PodContext,
    container: &'a Container,
    which: ContainerRef,
    helper: Helper,
    place: Place,
    end: Option<End>,
}

/// Runs a container once. `started` is called when its main process runs.
pub async fn run(
    pod: &PodContext,
    container: &Container,
    instance: u32,
    stop: &mut watch::Receiver<Option<StopRequest>>,
    started: impl FnOnce(),
) -> RunEnd {
    let which = ContainerRef { pod: pod.name.clone(), container: container.name.clone(), instance };
    // Held, so that a resize finds either the cgroup or the limit that it is about to get.
    let mut targets = pod.targets.lock().await;
    let cgroup = match make_cgroup(pod, container, &which) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            let message = format!("cannot make its cgroup: {error}");
            pod.record(
                Source::Runtime,
                Fact::StartFailed(StartFailed { container: which, pid: None, message, end: None }),
            );
            return RunEnd { end: None };
        }
    };
    targets.insert(which.container.clone(), (cgroup.clone(), None));
    drop(targets);
    let end = match start(pod, container, &which, &cgroup).await {
        Ok(running) => {
            pod.targets
                .lock()
                .await
                .insert(which.container.clone(), (cgroup.clone(), Some(running.place.clone())));
            started();
            let end = running.supervise(stop).await;
            pod.endpoints.set_ready(&pod.name, &container.name, false);
            end
        }
        Err(end) => end,
    };
    pod.targets.lock().await.remove(&which.container);
    let (watch, path) = (pod.watch.clone(), cgroup.path.clone());
    let removed = tokio::task::spawn_blocking(move || {
        // What the main process left behind dies with its PID namespace; the last reading comes after that.
        let killed = cgroup.kill();
        watch.remove_cgroup(&path);
        killed.and_then(|()| cgroup.remove())
    });
    if let Ok(Err(error)) = removed.await {
        tracing::warn!(container = %which, %error, "its cgroup could not be removed yet");
    }
    RunEnd { end }
}

fn make_cgroup(pod: &PodContext, container: &Container, which: &ContainerRef) -> std::io::Result<Cgroup> {
    let cgroup = pod.cgroup.make_child(&format!("{}-{}", which.container, which.instance))?;
    // With a limit of the pod's own, a container without one gets that (kubelet `getMemoryLimit`).
    if let Some(limit) = pod.limit_of(container).or(pod.spec.pod_limit) {
        cgroup.set_limit(limit)?;
    }
    let oom_group = cgroup.set_oom_group(!pod.single_process_oom_kill);
    let owner = CgroupOwner::Container(which.clone());
    let made =
        CgroupMade { path: cgroup.path.clone(), owner: owner.clone(), limit: cgroup.limit(), oom_group };
    pod.record(Source::Harness, Fact::Cgroup(made));
    pod.watch.add_cgroup(WatchedCgroup {
        directory: cgroup.directory.clone(),
        path: cgroup.path.clone(),
        owner,
    })?;
    Ok(cgroup)
}

async fn start<'a>(
    pod: &'a PodContext,
    container: &'a Container,
    which: &ContainerRef,
    cgroup: &Cgroup,
) -> Result<Running<'a>, Option<End>> {
    let failed = |pid, message: String, end| {
        pod.record(
            Source::Runtime,
            Fact::StartFailed(StartFailed { container: which.clone(), pid, message, end }),
        );
    };
    let env = expand::environment(&container.env);
    let command = program::command_of(&container.program, &env);
    // The runtime's, so arguments cannot name it, and `env` comes after it.
    let runtime = [("HOSTNAME".to_owned(), pod.name.clone())];
    let process = ProcessSpec {
        command,
        env: runtime.into_iter().chain(env).collect(),
        working_dir: container.working_dir.clone(),
        user: container.run_as_user.unwrap_or(program::NOBODY),
        allow_privilege_escalation: container.allow_privilege_escalation,
        cgroup_procs: cgroup.directory.join("cgroup.procs"),
        oom_score_adj: oom_score_adj::for_container(&pod.spec, container, pod.capacity),
        rootless: pod.rootless,
    };
    let spec = ShimSpec {
        pause_pid: pod.pause_pid,
        process: process.clone(),
        mounts: container.mounts.iter().map(|m| (m.volume.clone(), m.path.clone(), m.read_only)).collect(),
        log: pod.logs.join(which.log_file()),
    };
    let mut helper = match Helper::start("__shim", &spec).await {
        Ok(helper) => helper,
        Err(error) => {
            failed(None, format!("cannot start the shim: {error}"), None);
            return Err(None);
        }
    };
    match helper.hear::<Report>().await {
        Ok(Some(Report::Started { pid, at, oom_score_adj })) => {
            let fact = ContainerStarted {
                container: which.clone(),
                id: None,
                pid: pod.initial_pid_namespace.then_some(pid),
                runtime_pid: helper.child.id().filter(|_| pod.initial_pid_namespace),
                request: container.request,
                limit: pod.limit_of(container),
                pod_level_limit: pod.spec.pod_limit.is_some(),
                neighbours: pod.neighbours(container),
                oom_score_adj,
                oom_score_adj_asked: Some(process.oom_score_adj),
                rlimit_cpu: program::rlimit_cpu(&container.program),
                grace_seconds: pod.spec.grace_seconds,
            };
            pod.recorder.record(Source::Runtime, at, None, Fact::Started(fact));
            pod.watch.add_process(pid, which);
            let place = Place { main_pid: pid, pause_pid: pod.pause_pid, process };
            Ok(Running { pod, container, which: which.clone(), helper, place, end: None })
        }
        Ok(Some(Report::StartFailed { pid, at, message, end })) => {
            let fact = StartFailed { container: which.clone(), pid, message, end };
            pod.recorder.record(Source::Runtime, at, None, Fact::StartFailed(fact));
            Err(end)
        }
        Ok(Some(Report::Ready | Report::Signaled { .. } | Report::Ended { .. }) | None) => {
            failed(None, "the shim ended before it started anything".into(), None);
            Err(None)
        }
        Err(error) => {
            failed(None, format!("the shim cannot be understood: {error}"), None);
            Err(None)
        }
    }
}

impl Running<'_> {
    async fn supervise(mut self, stop: &mut watch::Receiver<Option<StopRequest>>) -> Option<End> {
        let (pod, which) = (self.pod, self.which.clone());
        let probes = probes(pod, self.container, which, self.place.clone());
        let request = {
            tokio::pin!(probes);
            tokio::select! {
                end = self.ended() => return end,
                requested = stop.wait_for(Option::is_some) => requested.ok().and_then(|request| *request),
                request = &mut probes => Some(request),
            }
        };
        // The run itself is over when nobody can ask any more.
        let request = request.unwrap_or_else(StopRequest::tear_down);
        self.stop(request, stop).await
    }

    /// The kubelet's way to stop a container (`kuberuntime_container.go:killContainer`): preStop within the grace period,
    /// then SIGTERM always, and when the rest of the grace period is over SIGKILL. A request that comes meanwhile can only
    /// make it shorter; a tear-down does not wait.
    async fn stop(
        &mut self,
        request: StopRequest,
        stop: &mut watch::Receiver<Option<StopRequest>>,
    ) -> Option<End> {
        self.announce(request);
        let mut due = request.due();
        let mut torn_down = request.reason == StopReason::TearDown;
        if !torn_down && request.grace_ms > 0 {
            let (place, pre_stop, pod) = (self.place.clone(), self.container.pre_stop.clone(), self.pod);
            let hook = run_hook(pod, &place, pre_stop.as_ref());
            tokio::pin!(hook);
            while !torn_down {
                tokio::select! {
                    end = self.ended() => return end,
                    () = &mut hook => break,
                    () = sleep_until(due) => break,
                    request = next_request(stop) => {
                        self.announce(request);
                        due = due.min(request.due());
                        torn_down = request.reason == StopReason::TearDown;
                    }
                }
            }
        }
        if !torn_down {
            self.signal(Signal::TERM).await;
            due = due.max(Instant::now() + LEAST_GRACE);
        }
        while !torn_down {
            tokio::select! {
                end = self.ended() => return end,
                () = sleep_until(due) => break,
                request = next_request(stop) => {
                    self.announce(request);
                    due = due.min(request.due().max(Instant::now() + LEAST_GRACE));
                    torn_down = request.reason == StopReason::TearDown;
                }
            }
        }
        self.signal(Signal::KILL).await;
        self.ended().await
    }

    fn announce(&self, request: StopRequest) {
        let StopRequest { reason, grace_ms, .. } = request;
        let least = if reason == StopReason::TearDown { Duration::ZERO } else { LEAST_GRACE };
        let grace_ms = grace_ms.max(u64::try_from(least.as_millis()).unwrap_or(u64::MAX));
        // What the kubelet's part decides is the scenario's; when the run is over is exit137's own affair.
        let source = if reason == StopReason::TearDown { Source::Harness } else { Source::Kubelet };
        self.pod.record(source, Fact::Stopping(Stopping { container: self.which.clone(), reason, grace_ms }));
    }

    async fn signal(&mut self, signal: Signal) {
        // A shim that is gone has taken its container with it.
        let _ = self.helper.tell(&Command::Signal(signal.as_raw())).await;
    }

    /// Waits for the end of the main process. Safe to be dropped and called again.
    async fn ended(&mut self) -> Option<End> {
        while self.end.is_none() {
            match self.helper.hear::<Report>().await {
                Ok(Some(Report::Ended { end, at, cpu_ms })) => {
                    let ended = ContainerEnded {
                        container: self.which.clone(),
                        end,
                        reason: None,
                        invented: None,
                        cpu_ms,
                    };
                    self.pod.recorder.record(Source::Runtime, at, None, Fact::Ended(ended));
                    self.end = Some(end);
                }
                Ok(Some(Report::Signaled { signal, at })) => {
                    let fact = Fact::RuntimeSignal { container: self.which.clone(), signal };
                    self.pod.recorder.record(Source::Runtime, at, None, fact);
                }
                Ok(Some(Report::Ready | Report::Started { .. } | Report::StartFailed { .. })) => {}
                Ok(None) | Err(_) => return self.shim_lost(),
            }
        }
        self.end
    }

    fn shim_lost(&self) -> Option<End> {
        let reason = format!("the shim of {} died", self.which);
        self.pod.record(
            Source::Runtime,
            Fact::Source(crate::evidence::SourceState::Lost { of: Source::Runtime, reason }),
        );
        None
    }
}

/// Runs a preStop hook, if there is one, for as long as it takes.
async fn run_hook(pod: &PodContext, place: &Place, hook: Option<&Handler>) {
    if let Some(hook) = hook
        && let Err(error) = probe::attempt(place, hook, u32::MAX).await
    {
        tracing::warn!(pod = pod.name, %error, "preStop failed");
    }
}

/// Probes for as long as nothing fails too often; the liveness probe waits for the startup probe.
async fn probes(pod: &PodContext, container: &Container, which: ContainerRef, place: Place) -> StopRequest {
    let each = |probe: ProbeKind, threshold: u32| {
        let which = which.clone();
        move |failure: &probe::Failure| {
            let failed = ProbeFailed {
                container: which.clone(),
                probe,
                message: failure.message.clone(),
                failures: failure.failures,
                threshold,
            };
            pod.record(Source::Kubelet, Fact::ProbeFailed(failed));
        }
    };
    // The main process has just been started.
    let started = Instant::now();
    let grace_ms = |own: Option<u32>| u64::from(own.unwrap_or(pod.spec.grace_seconds)) * 1000;
    if let Some(startup) = &container.startup {
        let failed = each(ProbeKind::Startup, startup.failure_threshold);
        if probe::watch(&place, startup, started, true, failed).await.is_err() {
            return StopRequest::now(StopReason::StartupProbe, grace_ms(startup.grace_seconds));
        }
    }
    if container.role == Role::Sidecar {
        pod.sidecar_ready(&container.name);
    }
    tokio::select! {
        never = ready(pod, container, &place, started) => match never {},
        () = async {
            match &container.liveness {
                Some(liveness) => {
                    let failed = each(ProbeKind::Liveness, liveness.failure_threshold);
                    let _ = probe::watch(&place, liveness, started, false, failed).await;
                }
                None => std::future::pending().await,
            }
        } => {}
    }
    let own = container.liveness.as_ref().and_then(|liveness| liveness.grace_seconds);
    StopRequest::now(StopReason::LivenessProbe, grace_ms(own))
}

/// Says whether traffic may go to it, for as long as it is let.
async fn ready(pod: &PodContext, container: &Container, place: &Place, started: Instant) -> Infallible {
    let tell = |ready| pod.endpoints.set_ready(&pod.name, &container.name, ready);
    match &container.readiness {
        Some(probe) => probe::readiness(place, probe, started, tell).await,
        None => tell(true),
    }
    std::future::pending().await
}
