//! Actions, and the events that they and the end of the observation wait for.

use exit137_workload::{Bytes, Span};

use crate::scenario::document::{self, Ended, MemoryReaches, Process, Started, Whole};
use crate::scenario::problem::KeyPath;
use crate::scenario::{Act, Action, Pod, PodKind, RunEvent, Trigger, Until};

use super::Notes;
use super::selectors::Selectors;

/// All actions of a document.
pub(super) fn actions(
    documents: &[document::Action],
    selectors: &Selectors<'_>,
    for_ms: u64,
    notes: &mut Notes,
) -> Vec<Action> {
    let path = KeyPath::default().key("actions");
    let indexed = documents.iter().enumerate();
    let actions: Vec<Action> = indexed
        .filter_map(|(index, document)| {
            let path = path.index(index);
            let at = trigger(document, selectors, for_ms, &path, notes);
            let act = act(document, selectors, &path, notes);
            Some(Action { at: at?, act: act? })
        })
        .collect();
    if actions.len() == documents.len() {
        created_once(&actions, &path, notes);
        selectors.begins(&actions, notes);
    }
    actions
}

fn trigger(
    document: &document::Action,
    selectors: &Selectors<'_>,
    for_ms: u64,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Trigger> {
    let delay = document.delay.map(|delay| notes.time(&path.key("delay"), delay));
    match (document.at, &document.on) {
        (Some(at), None) => {
            if delay.is_some() {
                notes.problem(
                    &path.key("delay"),
                    "is said of a time",
                    "add it to `at`; a delay follows an event",
                );
            }
            let ms = notes.time(&path.key("at"), at);
            if ms >= for_ms {
                let what = format!("{at} is when the observation is over already");
                notes.problem(
                    &path.key("at"),
                    what,
                    format!("say less than observe.for, {}", Span { ms: for_ms }),
                );
            }
            Some(Trigger::Time(ms))
        }
        (None, Some(on)) => {
            if delay.is_some_and(|delay| delay >= for_ms) {
                notes.problem(
                    &path.key("delay"),
                    "ends when the observation is over already",
                    format!("say less than observe.for, {}", Span { ms: for_ms }),
                );
            }
            let events = Events {
                oom_kill: on.oom_kill.as_deref(),
                ended: on.ended.as_ref(),
                memory_reaches: on.memory_reaches.as_ref(),
                stopping: on.stopping.as_deref(),
                started: on.started.as_ref(),
            };
            Some(Trigger::Event(event(&events, selectors, &path.key("on"), notes)?, delay.unwrap_or(0)))
        }
        (None, None) => {
            notes.problem(path, "does not say when", "say at: 2s, or on: {oomKill: pod/container}");
            None
        }
        (Some(_), Some(_)) => {
            notes.problem(path, "says both at and on", "keep one of them");
            None
        }
    }
}

fn act(
    document: &document::Action,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Act> {
    let said = [
        document.delete.is_some(),
        document.drain.is_some(),
        document.rollout.is_some(),
        document.create.is_some(),
        document.kill.is_some(),
        document.set_limit.is_some(),
        document.resize.is_some(),
        document.lose_container.is_some(),
    ];
    match said.iter().filter(|said| **said).count() {
        0 => {
            let hint =
                "say exactly one of delete, drain, rollout, create, kill, setLimit, resize, loseContainer";
            notes.problem(path, "does not say what to do", hint);
            None
        }
        1 => to_pod(document, selectors, path, notes)
            .or_else(|| to_container(document, selectors, path, notes)),
        _ => {
            notes.problem(path, "does more than one thing", "make an action of each");
            None
        }
    }
}

/// What is done to whole pods.
fn to_pod(
    document: &document::Action,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Act> {
    if let Some(delete) = &document.delete {
        selectors.pod(&delete.pod, &path.keys("delete.pod"), notes)?;
        return Some(Act::Delete { pod: delete.pod.clone(), grace_seconds: delete.grace_period_seconds });
    }
    if let Some(Whole { pod }) = &document.drain {
        selectors.pod(pod, &path.keys("drain.pod"), notes)?;
        notes.needs_cluster(&path.key("drain"), "evictions go through the API");
        return Some(Act::Drain { pod: pod.clone() });
    }
    if let Some(Whole { pod }) = &document.rollout {
        let path = path.keys("rollout.pod");
        let found = selectors.pod(pod, &path, notes)?;
        notes.needs_cluster(&path, "a controller replaces its pods");
        match found.kind {
            PodKind::Deployment | PodKind::StatefulSet | PodKind::DaemonSet if found.name == *pod => {}
            PodKind::Deployment | PodKind::StatefulSet | PodKind::DaemonSet => {
                let hint = format!("say {}", found.name);
                notes.problem(&path, format!("{pod:?} is one pod, and a rollout replaces them all"), hint);
            }
            PodKind::Pod | PodKind::Job => {
                let hint = "a Deployment, a StatefulSet or a DaemonSet is; say its kind";
                notes.problem(&path, format!("{pod:?} is not rolled out by anybody"), hint);
            }
        }
        return Some(Act::Rollout { pod: pod.clone() });
    }
    let Whole { pod } = document.create.as_ref()?;
    let path = path.keys("create.pod");
    let found = selectors.pod(pod, &path, notes)?;
    if found.name != *pod {
        notes.problem(&path, format!("{pod:?} is one of several alike"), format!("say {}", found.name));
    }
    Some(Act::Create { pod: pod.clone() })
}

/// What is done to a container.
fn to_container(
    document: &document::Action,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Act> {
    if let Some(kill) = &document.kill {
        return Some(Act::Kill {
            container: selectors.select(&kill.container, &path.keys("kill.container"), notes)?,
            signal: kill.signal.number(),
            child: match kill.process {
                Process::Main => false,
                Process::Child => true,
            },
        });
    }
    if let Some(set) = &document.set_limit {
        let path = path.key("setLimit");
        let memory = limit(set.memory, &path, notes);
        let container = selectors.select(&set.container, &path.key("container"), notes)?;
        return Some(Act::SetLimit { container, memory, pod_too: set.pod_too });
    }
    if let Some(lose) = &document.lose_container {
        let path = path.key("loseContainer");
        notes.needs_cluster(&path, "the kubelet makes the end up");
        let container = selectors.select(&lose.container, &path.key("container"), notes)?;
        return Some(Act::LoseContainer { container });
    }
    let resize = document.resize.as_ref()?;
    let path = path.key("resize");
    notes.needs_cluster(&path, "the kubelet resizes in place; setLimit writes the limit itself");
    let memory = limit(resize.memory, &path, notes);
    let container = selectors.select(&resize.container, &path.key("container"), notes)?;
    Some(Act::Resize { container, memory })
}

fn limit(memory: Bytes, path: &KeyPath, notes: &mut Notes) -> u64 {
    let path = path.key("memory");
    let bytes = notes.size(&path, memory.0);
    if bytes < 4096 {
        notes.problem(&path, "is less than a page", "say at least 4Ki");
    }
    bytes
}

/// A pod is created once, and nothing can be done to it before.
fn created_once(actions: &[Action], path: &KeyPath, notes: &mut Notes) {
    let mut created: Vec<&str> = Vec::new();
    for (index, action) in actions.iter().enumerate() {
        let Act::Create { pod } = &action.act else { continue };
        if created.contains(&pod.as_str()) {
            let what = format!("{pod:?} is created by an action before this one");
            notes.problem(&path.index(index).keys("create.pod"), what, "keep one of them");
        }
        created.push(pod);
    }
}

/// What ends the observation.
pub(super) fn until(
    document: &document::Until,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Until> {
    if document.all_ended.is_some() {
        if let Some(pod) = selectors.replaced() {
            let what = format!("never comes: pods of {} are replaced", pod.name);
            let hint = format!("say ended: {{container: {}}}", first_container(pod));
            notes.problem(&path.key("allEnded"), what, hint);
        }
        return Some(Until::AllEnded);
    }
    if let Some(count) = document.terminations {
        return Some(Until::Terminations(count));
    }
    let events = Events {
        oom_kill: document.oom_kill.as_deref(),
        ended: document.ended.as_ref(),
        memory_reaches: document.memory_reaches.as_ref(),
        stopping: document.stopping.as_deref(),
        started: document.started.as_ref(),
    };
    event(&events, selectors, path, notes).map(Until::Event)
}

fn first_container(pod: &Pod) -> String {
    format!("{}/{}", pod.name, pod.containers.first().map_or("app", |container| &container.name))
}

/// The events that can be named; the schema has seen to it that one is.
struct Events<'a> {
    oom_kill: Option<&'a str>,
    ended: Option<&'a Ended>,
    memory_reaches: Option<&'a MemoryReaches>,
    stopping: Option<&'a str>,
    started: Option<&'a Started>,
}

fn event(
    events: &Events<'_>,
    selectors: &Selectors<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<RunEvent> {
    if let Some(container) = events.oom_kill {
        return selectors.select(container, &path.key("oomKill"), notes).map(RunEvent::OomKill);
    }
    if let Some(container) = events.stopping {
        return selectors.select(container, &path.key("stopping"), notes).map(RunEvent::Stopping);
    }
    if let Some(ended) = events.ended {
        let container = selectors.select(&ended.container, &path.keys("ended.container"), notes)?;
        return Some(RunEvent::Ended(container, ended.times));
    }
    if let Some(started) = events.started {
        let container = selectors.select(&started.container, &path.keys("started.container"), notes)?;
        return Some(RunEvent::Started(container, started.instance));
    }
    let reaches = events.memory_reaches?;
    let path = path.key("memoryReaches");
    let memory = notes.size(&path.key("memory"), reaches.memory.0);
    let container = selectors.select(&reaches.container, &path.key("container"), notes)?;
    if let Some(limit) = selectors.container(&container).and_then(|(_, container)| container.limit)
        && memory > limit
    {
        let what = format!("{} is never reached: the container's limit is less", reaches.memory);
        notes.problem(&path.key("memory"), what, "say less than the limit");
    }
    Some(RunEvent::MemoryReaches(container, memory))
}
