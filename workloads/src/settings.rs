//! What a scenario writes below `workload:`.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;
use crate::units::{Bytes, Rate, Span};

mod problems;
mod serve;

pub use serve::{CacheEvict, CacheKey, Serve};

/// A built-in behaviour: exactly one of its kinds, and the settings that all kinds share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Workload {
    /// Allocates up to a size, at a rate or by stages, and holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hog: Option<Hog>,
    /// Allocates at a steady rate and never gives back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak: Option<Leak>,
    /// A parent whose workers allocate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<Children>,
    /// Fills a tmpfs (an `emptyDir` with `medium: Memory`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Tmpfs>,
    /// Writes and reads files on a disk, which fills the page cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_cache: Option<PageCache>,
    /// Holds some memory and ignores SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_term: Option<IgnoreTerm>,
    /// Exits with a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Serves HTTP and takes memory per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serve: Option<Serve>,
    /// Burns CPU, until a hard `RLIMIT_CPU` of its own if it is given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Does nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Waits so long before it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_after: Option<Span>,
    /// What SIGTERM does; without it: exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_term: Option<OnTerm>,
    /// The exit code when SIGTERM makes it exit; without it 143.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term_code: Option<u8>,
}

/// What SIGTERM does to a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OnTerm {
    /// It exits.
    Exit,
    /// It goes on.
    Ignore,
    /// Only now it begins what it does.
    Start,
}

/// Allocates up to a size and holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hog {
    /// How much: every byte of it, so rounded up to a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// How fast, evenly; without it as fast as it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Instead of `size` and `rate`: level after level.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// How often the stages are run through; without it once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// It never holds more than this, rounded down to a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<Bytes>,
    /// Once there, exits with this code instead of holding on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then_exit: Option<u8>,
}

/// One stage: from the level before it to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// The level that it ends at.
    pub to: Bytes,
    /// How long it takes; `0s` is a step.
    pub over: Span,
}

/// Allocates at a steady rate and never gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Leak {
    /// How fast.
    pub rate: Rate,
    /// Where it stops, so that a mistake in a limit cannot take the host down.
    pub cap: Bytes,
}

/// A parent whose workers allocate. A worker that has reached its size exits with 0; one that ends otherwise has died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Children {
    /// How many workers.
    #[serde(default = "one")]
    pub count: u32,
    /// What each allocates.
    pub size: Bytes,
    /// How fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether they run at the same time instead of one after the other.
    #[serde(default)]
    pub together: bool,
    /// What the parent does when a worker has died.
    #[serde(default)]
    pub then: Then,
    /// After all that, the parent exits so long afterwards; without it, it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_after: Option<Span>,
    /// With this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

/// What a parent does when a worker has died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It goes on without it.
    #[default]
    Survive,
    /// It starts another (stress-ng does; an OOM then repeats).
    Respawn,
    /// It exits with 128 + the signal, as a shell does.
    Propagate,
}

/// Fills a tmpfs with a file that stays when the process ends; the next one to run takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tmpfs {
    /// Its directory; on any other file system it refuses to run.
    pub path: String,
    /// How much.
    pub size: Bytes,
    /// How fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Once there, exits with this code and leaves the file behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then_exit: Option<u8>,
}

/// Writes and reads files, which fills the page cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PageCache {
    /// A directory on a real disk; on a tmpfs it refuses to run.
    pub path: String,
    /// How much.
    pub size: Bytes,
    /// How often it is read again, at most ten times per second; without it, until it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<u32>,
}

/// Holds some memory and ignores SIGTERM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct IgnoreTerm {
    /// How much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
}

/// Exits with a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// From 0 to 255.
    pub code: u8,
    /// So long after its start.
    #[serde(default)]
    pub after: Span,
}

/// Burns CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cpu {
    /// A hard `RLIMIT_CPU` that it sets on itself, in whole seconds: the kernel kills it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rlimit_cpu: Option<Span>,
}

/// Does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Idle {}

/// Which kind a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of Workload document them")]
pub enum Kind<'a> {
    Hog(&'a Hog),
    Leak(&'a Leak),
    Children(&'a Children),
    Tmpfs(&'a Tmpfs),
    PageCache(&'a PageCache),
    IgnoreTerm(&'a IgnoreTerm),
    Exit(&'a Exit),
    Serve(&'a Serve),
    Cpu(&'a Cpu),
    Idle,
}

fn one() -> u32 {
    1
}

/// What a process takes beside what it is told to: code, stacks, page tables.
const OVERHEAD: u64 = 4 << 20;

impl Workload {
    /// A workload of this kind alone.
    pub fn hog(hog: Hog) -> Self {
        Self { hog: Some(hog), ..Self::default() }
    }

    /// The one kind that is given, or what is wrong.
    pub fn kind(&self) -> Result<Kind<'_>, String> {
        let given: Vec<Kind<'_>> = [
            self.hog.as_ref().map(Kind::Hog),
            self.leak.as_ref().map(Kind::Leak),
            self.children.as_ref().map(Kind::Children),
            self.tmpfs.as_ref().map(Kind::Tmpfs),
            self.page_cache.as_ref().map(Kind::PageCache),
            self.ignore_term.as_ref().map(Kind::IgnoreTerm),
            self.exit.as_ref().map(Kind::Exit),
            self.serve.as_ref().map(Kind::Serve),
            self.cpu.as_ref().map(Kind::Cpu),
            self.idle.as_ref().map(|_| Kind::Idle),
        ]
        .into_iter()
        .flatten()
        .collect();
        match given[..] {
            [kind] => Ok(kind),
            [] => Err("says nothing to do; name one of hog, leak, children, tmpfs, pageCache, ignoreTerm, exit, serve, cpu, idle".to_owned()),
            _ => Err("names more than one behaviour; a container does one thing, so keep one of them".to_owned()),
        }
    }

    /// The most memory that it can ever take, in bytes.
    pub fn bound(&self) -> u64 {
        let Ok(kind) = self.kind() else { return 0 };
        let (own, processes) = match kind {
            Kind::Hog(hog) => (hog.peak(), 1),
            Kind::Leak(leak) => (leak.cap.0, 1),
            Kind::Children(children) => {
                let at_once = if children.together { u64::from(children.count) } else { 1 };
                (children.size.0.saturating_mul(at_once), at_once + 1)
            }
            Kind::Tmpfs(tmpfs) => (tmpfs.size.0, 1),
            Kind::PageCache(cache) => (cache.size.0, 1),
            Kind::IgnoreTerm(ignore) => (ignore.size.map_or(0, |size| size.0), 1),
            Kind::Serve(serve) => (serve.bound(), 1),
            Kind::Exit(_) | Kind::Cpu(_) | Kind::Idle => (0, 1),
        };
        own.saturating_add(OVERHEAD * processes)
    }
}

impl Hog {
    /// How much it holds when.
    pub fn schedule(&self) -> Schedule {
        match self.size {
            Some(size) => Schedule::ramp(size.0, self.rate.map_or(0, |rate| rate.per_second)),
            None => Schedule::stages(&self.stages, self.repeat.unwrap_or(1)),
        }
    }

    /// The most that it ever holds.
    pub fn peak(&self) -> u64 {
        let peak = self.schedule().peak();
        self.cap.map_or(peak, |cap| peak.min(cap.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(json: &str) -> Result<Workload, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn unknown_settings_and_missing_units_are_refused() {
        assert!(from(r#"{"hog": {"sise": "1Mi"}}"#).is_err());
        assert!(from(r#"{"hog": {"size": "64"}}"#).unwrap_err().to_string().contains("say 64Mi"));
        assert!(from(r#"{"leak": {"rate": "1Mi/s"}}"#).unwrap_err().to_string().contains("cap"));
    }

    #[test]
    fn a_workload_is_bounded_by_its_cap_and_its_processes() {
        let hog = from(r#"{"hog": {"size": "100Mi", "cap": "10Mi"}}"#).unwrap();
        assert_eq!(hog.bound(), 14 << 20);
        let children = from(r#"{"children": {"size": "10Mi", "count": 3, "together": true}}"#).unwrap();
        assert_eq!(children.bound(), (30 << 20) + 4 * (4 << 20));
    }

    #[test]
    fn what_is_serialised_reads_back_the_same() {
        let text =
            r#"{"children":{"count":2,"size":"8Mi","together":true,"then":"propagate"},"onTerm":"start"}"#;
        let workload = from(text).unwrap();
        assert_eq!(from(&serde_json::to_string(&workload).unwrap()).unwrap(), workload);
    }
}
