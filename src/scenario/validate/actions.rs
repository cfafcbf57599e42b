//! Actions, and the events that they and the end of the observation wait for.

use exit137_workload::Span;

use crate::scenario::document::{self, Ended, MemoryReaches, Process, Started};
use crate::scenario::problem::KeyPath;
use crate::scenario::{Act, Action, RunEvent, Trigger, Until};

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
    indexed
        .filter_map(|(index, document)| {
            let path = path.index(index);
            let at = trigger(document, selectors, for_ms, &path, notes);
            let act = act(document, selectors, &path, notes);
            Some(Action { at: at?, act: act? })
        })
        .collect()
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
    match (&document.delete, &document.kill, &document.set_limit) {
        (Some(delete), None, None) => {
            let path = path.key("delete");
            selectors.pod(&delete.pod, &path.key("pod"), notes)?;
            Some(Act::Delete { pod: delete.pod.clone(), grace_seconds: delete.grace_period_seconds })
        }
        (None, Some(kill), None) => Some(Act::Kill {
            container: selectors.select(&kill.container, &path.keys("kill.container"), notes)?,
            signal: kill.signal.number(),
            child: match kill.process {
                Process::Main => false,
                Process::Child => true,
            },
        }),
        (None, None, Some(set)) => {
            let path = path.key("setLimit");
            let memory = notes.size(&path.key("memory"), set.memory.0);
            if memory < 4096 {
                notes.problem(&path.key("memory"), "is less than a page", "say at least 4Ki");
            }
            let container = selectors.select(&set.container, &path.key("container"), notes)?;
            Some(Act::SetLimit { container, memory, pod_too: set.pod_too })
        }
        (None, None, None) => {
            notes.problem(path, "does not say what to do", "say exactly one of delete, kill, setLimit");
            None
        }
        _ => {
            notes.problem(path, "does more than one thing", "make an action of each");
            None
        }
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
