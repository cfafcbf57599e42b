//! What every scenario of a run shares, and whether a scenario can run here at all.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::backend::Backend;
use crate::backend::local::cgroup::Hierarchy;
use crate::backend::local::{LocalBackend, admission, gc, in_path};
use crate::loader::Loaded;
use crate::scenario::{NEEDS_CLUSTER, Requirement, Scenario};

/// The backend, the observers, and what is known of the host.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) backend: Arc<LocalBackend>,
    /// So many scenarios fit beside each other.
    pub(super) jobs: usize,
}

impl Environment {
    /// Removes what dead runs left behind, then makes what this one needs.
    pub(super) async fn prepare(scenarios: &[&Loaded], repeat: u32, jobs: usize) -> Result<Self, String> {
        for what in tokio::task::spawn_blocking(gc::collect).await.map_err(|error| error.to_string())?.gone {
            tracing::warn!("removed what a killed run left behind: {what}");
        }
        raise_file_limit();
        let hierarchy = Hierarchy::find().map_err(|error| error.to_string())?;
        let base = hierarchy.base().map_err(|error| error.to_string())?;
        let run = gc::new_run_name();
        let free = admission::look(&base, &run).free();
        let (jobs, bound) = fitting(scenarios, repeat, jobs, free);
        let backend = LocalBackend::prepare(&run, bound).await.map_err(|error| error.to_string())?;
        Ok(Self { backend: Arc::new(backend), jobs })
    }
}

/// Removes everything; answers what could not be.
pub(super) async fn tear_down<B: Backend>(backend: Arc<B>) -> Vec<String> {
    match Arc::into_inner(backend) {
        Some(backend) => {
            let mut left_behind = backend.tear_down().await;
            left_behind.extend(leave_room().err().map(|error| format!("the harness's own cgroup: {error}")));
            left_behind
        }
        None => vec![
            "something still uses the backend; the guardian removes what is left when exit137 ends".into(),
        ],
    }
}

fn leave_room() -> std::io::Result<()> {
    Hierarchy::find().map_or(Ok(()), |hierarchy| hierarchy.leave_room())
}

/// Each container takes a dozen open files of ours; the usual soft limit of 1024 is for programs that use select(2).
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays at {:?}", limit.current);
    }
}

/// How many at a time fit into what is free, and what the largest of them take together at most. Trials of one scenario run
/// beside each other too.
fn fitting(scenarios: &[&Loaded], repeat: u32, jobs: usize, free: u64) -> (usize, u64) {
    // A scenario that is there to use up the whole machine promises to leave nothing; it runs alone.
    let takes_all = |loaded: &&&Loaded| loaded.scenario.requires.contains(&Requirement::DisposableHost);
    let admitted = scenarios.iter().filter(|loaded| !takes_all(loaded));
    let trials = usize::try_from(repeat).unwrap_or(usize::MAX).min(jobs);
    let bounds = admitted.flat_map(|loaded| std::iter::repeat_n(loaded.scenario.bound(), trials));
    let mut bounds: Vec<u64> = bounds.collect();
    bounds.sort_unstable_by(|a, b| b.cmp(a));
    let take = |jobs: usize| bounds.iter().take(jobs).fold(0_u64, |sum, bound| sum.saturating_add(*bound));
    let jobs = (1..=jobs.max(1)).rev().find(|jobs| take(*jobs) <= free).unwrap_or(1);
    (jobs, take(jobs))
}

/// What a scenario requires and this host lacks.
pub(super) fn lack(scenario: &Scenario) -> Option<String> {
    if !scenario.traffic.is_empty() && !rustix::process::geteuid().is_root() {
        return Some("traffic: needs root: its sockets are made in the pods' network namespaces".to_owned());
    }
    scenario.requires.iter().find_map(|requirement| match requirement {
        Requirement::Cgroup(version) => {
            let here = Hierarchy::find().map_or(0, |hierarchy| hierarchy.version.number());
            (here != *version)
                .then(|| format!("needs cgroup v{version}; the memory controller is on v{here} here"))
        }
        Requirement::Cluster => {
            let because = scenario.without_effect.iter().find(|note| note.contains(NEEDS_CLUSTER));
            Some(because.map_or("needs a cluster: only a kubelet does this".to_owned(), String::clone))
        }
        Requirement::Program(program) => (!in_path(program))
            .then(|| format!("needs the program {program}, which is not in the PATH of containers")),
        Requirement::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned()),
        Requirement::DisposableHost => {
            std::env::var_os("EXIT137_DISPOSABLE_HOST").is_none_or(|value| value != "1").then(|| {
                "lets the whole machine run out of memory; set EXIT137_DISPOSABLE_HOST=1 in a throw-away VM"
                    .to_owned()
            })
        }
    })
}
