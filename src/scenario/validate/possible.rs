//! Expectations that nothing can fulfil: of one container, or two of the same container that exclude each other.

use crate::cause::{Cause, Detail};
use crate::scenario::document;
use crate::scenario::problem::KeyPath;
use crate::scenario::{
    Comparison, Container, ContainerSelector, Expect, ExpectedTermination, Measure, Operator, Pod, Reference,
    RestartPolicy, Role,
};

use super::Notes;
use super::expect::Seen;

/// Notes all of them. What has a problem already is left out of `expect`; then nothing is said of its neighbours either.
pub(super) fn impossible(
    document: &document::Expect,
    expect: &Expect,
    seen: &Seen<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) {
    if document.terminations.len() == expect.terminations.len() {
        let path = path.key("terminations");
        for (index, termination) in expect.terminations.iter().enumerate() {
            let Some((pod, container)) = seen.selectors.container(&termination.container) else { continue };
            let about = About { pod, container, seen };
            exit_code(termination, &path.index(index), notes);
            about.cause(termination, &path.index(index), notes);
            about.runs(termination, &path.index(index), notes);
            if let Some(comparison) = &termination.memory_at_death {
                about.amount(comparison, &path.index(index).key("memoryAtDeath"), notes);
            }
            about.one_end(termination, &expect.terminations[..index], &path.index(index), notes);
        }
    }
    if document.restarts.len() == expect.restarts.len() {
        restarts(expect, seen, &path.key("restarts"), notes);
    }
    if document.bounds.len() == expect.bounds.len() {
        bounds(expect, seen, &path.key("bounds"), notes);
    }
}

/// A main process that was killed has 137, whatever its workload would have exited with.
fn exit_code(termination: &ExpectedTermination, path: &KeyPath, notes: &mut Notes) {
    let (Some(cause), Some(code)) = (termination.cause, termination.exit_code) else { return };
    let is_137 = match cause {
        Cause::ContainerOom
        | Cause::PodOom
        | Cause::NodeOom
        | Cause::ResizeOom
        | Cause::GracePeriod
        | Cause::UserspaceOom
        | Cause::ExternalKill
        | Cause::KernelKill
        | Cause::Exit137 => true,
        Cause::ChildOom => termination.detail == Some(Detail::Propagated),
        // They can end a container by SIGTERM too, or before it has run.
        Cause::StartOom
        | Cause::LivenessProbe
        | Cause::StartupProbe
        | Cause::Eviction
        | Cause::Preemption
        | Cause::Deadline
        | Cause::NodeShutdown
        | Cause::Synthetic
        | Cause::Undetermined => false,
    };
    if is_137 && code != 137 {
        let what = format!("is {code}, and {cause} ends with 137");
        notes.problem(&path.key("exitCode"), what, "say exitCode: 137, or another cause");
    }
}

/// A container, and what the rest of the scenario does to it.
struct About<'a> {
    pod: &'a Pod,
    container: &'a Container,
    seen: &'a Seen<'a>,
}

impl About<'_> {
    /// What brings a cause about must be in the scenario.
    fn cause(&self, termination: &ExpectedTermination, path: &KeyPath, notes: &mut Notes) {
        let Some(cause) = termination.cause else { return };
        let selector = &termination.container;
        let (path, detail) = (path.key("cause"), path.key("detail"));
        let spec = self.pod.spec.init_containers.iter().flatten().chain(&self.pod.spec.containers);
        let mut same = spec.filter(|found| found.name == self.container.name);
        if cause == Cause::LivenessProbe && !same.any(|found| found.liveness_probe.is_some()) {
            let hint = "give the container a livenessProbe, or expect another cause";
            notes.problem(&path, format!("{selector} has no liveness probe"), hint);
        } else if cause == Cause::StartupProbe && !same.any(|found| found.startup_probe.is_some()) {
            let hint = "give the container a startupProbe, or expect another cause";
            notes.problem(&path, format!("{selector} has no startup probe"), hint);
        }
        let is_pod = |name: &str| self.pod.is_named(name);
        let actions = self.seen.actions;
        // Sidecars are stopped when the main containers have ended; in a cluster others can ask a pod to stop.
        if cause == Cause::GracePeriod
            && self.container.role != Role::Sidecar
            && !self.seen.cluster
            && !actions.iter().filter_map(asked_to_stop).any(is_pod)
        {
            let hint = format!("add an action: {{at: 1s, delete: {{pod: {}}}}}", selector.pod);
            notes.problem(&path, format!("nothing asks {} to stop", selector.pod), hint);
        }
        let pod = |container: &str| is_pod(container.split_once('/').map_or(container, |(pod, _)| pod));
        let resized = actions.iter().filter_map(resized).any(pod);
        if cause == Cause::ResizeOom && !resized {
            let hint =
                format!("add an action: {{at: 1s, setLimit: {{container: {selector}, memory: 16Mi}}}}");
            notes.problem(&path, format!("nothing lowers the limit of {selector}"), hint);
        }
        if cause == Cause::NodeOom
            && termination.detail == Some(Detail::Budget)
            && self.seen.node.memory.is_none()
        {
            notes.problem(&detail, "the node has no budget", "say node: {memory: 256Mi}, or another detail");
        }
    }

    /// How many replicas a selector means.
    fn replicas(&self, selector: &ContainerSelector) -> u32 {
        if selector.pod == self.pod.name { self.pod.replicas.max(1) } else { 1 }
    }

    /// Why it is never started again, if it is not.
    fn runs_once(&self) -> Option<&'static str> {
        match (self.container.role, self.pod.restart_policy) {
            (Role::Sidecar, _) => None,
            (Role::Main | Role::Init, RestartPolicy::Never) => Some("restartPolicy is Never"),
            (Role::Main | Role::Init, RestartPolicy::OnFailure | RestartPolicy::Always) => None,
        }
    }

    fn runs(&self, termination: &ExpectedTermination, path: &KeyPath, notes: &mut Notes) {
        let Some(why) = self.runs_once() else { return };
        let selector = &termination.container;
        let hint = "say restartPolicy: Always or OnFailure, or expect one end";
        if let Some(instance) = termination.instance.filter(|instance| *instance > 0) {
            let what = format!("{selector} has no run {instance}, it is never restarted: {why}");
            notes.problem(&path.key("instance"), what, hint);
        } else if termination.times.0 > self.replicas(selector) {
            let times = termination.times.0;
            let what = format!("{selector} cannot end {times} times, it is never restarted: {why}");
            notes.problem(path, what, hint);
        }
    }

    /// A run of a container ends once, and of one cause.
    fn one_end(
        &self,
        termination: &ExpectedTermination,
        earlier: &[ExpectedTermination],
        path: &KeyPath,
        notes: &mut Notes,
    ) {
        let selector = &termination.container;
        let run = |termination: &ExpectedTermination| {
            termination.instance.or_else(|| self.runs_once().map(|_| 0)).filter(|_| termination.times.0 > 0)
        };
        let Some(this) = run(termination).filter(|_| self.replicas(selector) == 1) else { return };
        let differs = |other: &&ExpectedTermination| {
            let cause = other.cause.zip(termination.cause).is_some_and(|(one, two)| one != two);
            let code = other.exit_code.zip(termination.exit_code).is_some_and(|(one, two)| one != two);
            other.container == *selector && run(other) == Some(this) && (cause || code)
        };
        if earlier.iter().any(|other| differs(&other)) {
            let what = format!("run {this} of {selector} is expected to end in another way, too");
            notes.problem(path, what, "a run ends once; keep one of the two");
        }
    }

    /// Whether an action changes its limit, so that a share of it is no fixed amount.
    fn is_resized(&self) -> bool {
        self.seen.actions.iter().any(|action| resized(action).is_some())
    }

    /// A comparison of memory, as a number of bytes.
    fn bytes(&self, reference: Reference) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^50")]
        let share = |share: f64, of: Option<u64>| of.map(|of| share * of as f64);
        match reference {
            Reference::Bytes(bytes) => share(1.0, Some(bytes)),
            Reference::OfLimit(of) => share(of, self.container.limit),
            Reference::OfRequest(of) => share(of, self.container.request),
            Reference::Number(number) => Some(number),
        }
    }

    /// Memory is never less than nothing, nor more than the limit.
    fn amount(&self, comparison: &Comparison, path: &KeyPath, notes: &mut Notes) {
        below_nothing(comparison, path, notes);
        let at_least = matches!(comparison.operator, Operator::Greater | Operator::AtLeast);
        let more = match comparison.reference {
            Reference::OfLimit(share) => share > 1.0,
            Reference::Bytes(_) | Reference::OfRequest(_) => {
                let limit = self.bytes(Reference::OfLimit(1.0));
                self.bytes(comparison.reference).zip(limit).is_some_and(|(bytes, limit)| bytes > limit)
            }
            Reference::Number(_) => false,
        };
        if at_least && more && !self.is_resized() {
            notes.problem(path, "memory is never more than the limit", "say >= 95% of limit");
        }
    }
}

/// The pods that an action asks to stop.
fn asked_to_stop(action: &document::Action) -> Option<&str> {
    let deleted = action.delete.as_ref().map(|delete| delete.pod.as_str());
    let whole = || [&action.drain, &action.rollout].into_iter().flatten().next();
    let lost = || action.lose_container.as_ref().and_then(|lose| lose.container.split_once('/'));
    deleted.or_else(|| whole().map(|whole| whole.pod.as_str())).or_else(|| lost().map(|(pod, _)| pod))
}

/// The container whose limit an action changes.
fn resized(action: &document::Action) -> Option<&str> {
    let set = action.set_limit.as_ref().map(|set| set.container.as_str());
    set.or_else(|| action.resize.as_ref().map(|resize| resize.container.as_str()))
}

fn below_nothing(comparison: &Comparison, path: &KeyPath, notes: &mut Notes) {
    let nothing = match comparison.reference {
        Reference::Bytes(bytes) => bytes == 0,
        Reference::OfLimit(value) | Reference::OfRequest(value) | Reference::Number(value) => value <= 0.0,
    };
    if nothing && comparison.operator == Operator::Less {
        notes.problem(path, "nothing is less than 0", "say <= 0 for none, or a larger value");
    }
}

/// Each end but the last is followed by a restart.
fn restarts(expect: &Expect, seen: &Seen<'_>, path: &KeyPath, notes: &mut Notes) {
    for (index, restarts) in expect.restarts.iter().enumerate() {
        let Some((pod, container)) = seen.selectors.container(&restarts.container) else { continue };
        let replicas = u64::from(About { pod, container, seen }.replicas(&restarts.container));
        let ends = expect
            .terminations
            .iter()
            .filter(|termination| termination.container == restarts.container && termination.times.0 > 0)
            .map(|termination| {
                u64::from(termination.times.0.max(termination.instance.unwrap_or(0).saturating_add(1)))
            })
            .max();
        let most = (u64::from(restarts.max) + 1) * replicas;
        if let Some(ends) = ends.filter(|ends| *ends > most) {
            let what = format!("is {}, too few for the {ends} ends that are expected", restarts.max);
            let hint = format!("say at least {}, or expect fewer ends", (ends - 1) / replicas);
            notes.problem(&path.index(index).key("max"), what, hint);
        }
    }
}

fn bounds(expect: &Expect, seen: &Seen<'_>, path: &KeyPath, notes: &mut Notes) {
    for (index, bound) in expect.bounds.iter().enumerate() {
        let Some((pod, container)) = seen.selectors.container(&bound.container) else { continue };
        let about = About { pod, container, seen };
        let path = path.index(index).key("is");
        match bound.measure {
            Measure::Peak | Measure::P95 | Measure::WorkingSet => {
                about.amount(&bound.comparison, &path, notes);
            }
            Measure::PressureFull | Measure::PressureSome | Measure::Refaults | Measure::LimitHits => {
                below_nothing(&bound.comparison, &path, notes);
            }
        }
        let other = expect.bounds[..index].iter().find(|other| {
            other.container == bound.container
                && other.measure == bound.measure
                && excludes(&about, &other.comparison, &bound.comparison)
        });
        if let Some(other) = other {
            let what = format!("{:?} and {:?} cannot both be", other.text, bound.text);
            notes.problem(&path, what, "the lower bound is above the upper one; change one of the two");
        }
    }
}

/// Whether no value meets both.
fn excludes(about: &About<'_>, one: &Comparison, two: &Comparison) -> bool {
    let (upper, lower) = match (one.operator, two.operator) {
        (Operator::Less | Operator::AtMost, Operator::Greater | Operator::AtLeast) => (one, two),
        (Operator::Greater | Operator::AtLeast, Operator::Less | Operator::AtMost) => (two, one),
        (Operator::Less | Operator::AtMost, Operator::Less | Operator::AtMost)
        | (Operator::Greater | Operator::AtLeast, Operator::Greater | Operator::AtLeast) => return false,
    };
    let same_kind = std::mem::discriminant(&upper.reference) == std::mem::discriminant(&lower.reference);
    if about.is_resized() && !same_kind {
        return false;
    }
    let Some((most, least)) = about.bytes(upper.reference).zip(about.bytes(lower.reference)) else {
        return false;
    };
    let both_reach = upper.operator == Operator::AtMost && lower.operator == Operator::AtLeast;
    least > most || (least >= most && !both_reach)
}
