//! What a scenario writes below `serve:`, and what is wrong with it.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Span};

/// Serves HTTP: `GET /healthz` and `GET /readyz`, and anything else takes memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Serve {
    /// The TCP port, on every address of the pod.
    pub port: u16,
    /// Never more than this altogether; a request that would is answered with 503.
    pub cap: Bytes,
    /// Connections at the same time, at most 8192; more are closed at once. Without it 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,

    /// Held while a request is in flight: from its arrival, so while it waits for a worker too.
    #[serde(default)]
    pub hold_per_request: Bytes,
    /// How long a request is worked on.
    #[serde(default)]
    pub hold_for: Span,
    /// Kept for ever after each request.
    #[serde(default)]
    pub leak_per_request: Bytes,

    /// Kept for each path (without its query) that is asked for, so that one that was asked for before takes nothing more.
    #[serde(default)]
    pub cache_per_entry: Bytes,
    /// What has an entry of its own; without it, a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_key: Option<CacheKey>,
    /// All entries together never take more: another takes the place of one. Without it, nothing is ever thrown out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_max: Option<Bytes>,
    /// Whose place it takes; without it, that of the least recently used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_evict: Option<CacheEvict>,

    /// How many requests are worked on at the same time, the others wait in the order that they came in; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// How many may wait; more are answered with 503 and take nothing. Without it, as many as there are connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_max: Option<u32>,

    /// Left behind by each request until it is collected.
    #[serde(default)]
    pub garbage_per_request: Bytes,
    /// All garbage is collected before the heap (what is held, leaked, cached, and garbage) grows beyond this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect_at: Option<Bytes>,
    /// How long a collection takes, in which nothing is answered.
    #[serde(default)]
    pub collect_for: Span,
    /// The heap's ceiling: garbage is collected before it is met, and a request that is still too much for it gets 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heap_max: Option<Bytes>,

    /// `/healthz` answers 500 so long after the start; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_after: Option<Span>,
    /// `/healthz` waits for a worker as any request does, instead of being answered at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub healthz_queued: bool,
    /// `/readyz` answers 503 until so long after the start.
    #[serde(default)]
    pub ready_after: Span,
}

/// What has an entry of its own in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CacheKey {
    /// Each path.
    #[default]
    Path,
    /// Each request: nothing is ever found again.
    Request,
}

/// Which entry of a full cache makes room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CacheEvict {
    /// The least recently used.
    #[default]
    Lru,
    /// The oldest.
    Fifo,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What is served at the same time where nothing else is said.
const CONNECTIONS: u32 = 1024;
/// What may be said.
const MOST_CONNECTIONS: u32 = 8192;
/// What a connection takes at most beside what its request holds: a thread with its stack in the kernel, and buffers.
const CONNECTION: u64 = 64 << 10;
/// The smallest entry of a cache. Knowing which there are takes up to an eighth of that (a hash table and a tree).
const SMALLEST_ENTRY: u64 = 1 << 10;

impl Serve {
    /// How many connections are served at the same time.
    pub fn connections(&self) -> u32 {
        self.connections.unwrap_or(CONNECTIONS)
    }

    /// The most that it takes, but for what any process does.
    pub(super) fn bound(&self) -> u64 {
        let index = if self.cache_per_entry.0 > 0 { self.cap.0 / 8 } else { 0 };
        self.cap.0.saturating_add(index).saturating_add(CONNECTION * u64::from(self.connections()))
    }

    /// What the first request takes.
    fn one(&self) -> u64 {
        [self.hold_per_request, self.leak_per_request, self.cache_per_entry, self.garbage_per_request]
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.0))
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wrong = |is: bool, text: &str| {
            if is {
                problems.push(format!("serve.{text}"));
            }
        };
        wrong(self.port == 0, "port is 0; say which port, for example 8080");
        wrong(
            self.connections.is_some_and(|most| !(1..=MOST_CONNECTIONS).contains(&most)),
            "connections must be from 1 to 8192: each is a thread",
        );
        wrong(
            self.one() > self.cap.0,
            "cap is less than one request takes, so each would be refused; raise it",
        );
        self.cache_problems(&mut wrong);
        self.queue_problems(&mut wrong);
        self.heap_problems(&mut wrong);
        problems
    }

    fn cache_problems(&self, wrong: &mut impl FnMut(bool, &str)) {
        if self.cache_per_entry.0 == 0 {
            for (given, key) in [
                (self.cache_key.is_some(), "cacheKey"),
                (self.cache_max.is_some(), "cacheMax"),
                (self.cache_evict.is_some(), "cacheEvict"),
            ] {
                wrong(
                    given,
                    &format!(
                        "{key} has no effect without cachePerEntry; remove it, or say how much an entry takes"
                    ),
                );
            }
            return;
        }
        wrong(self.cache_per_entry.0 < SMALLEST_ENTRY, "cachePerEntry is less than 1Ki; say 1Ki or more");
        if let Some(max) = self.cache_max {
            wrong(max < self.cache_per_entry, "cacheMax is less than one entry takes; raise it");
            wrong(
                max > self.cap,
                "cacheMax is more than the cap, so nothing would ever be thrown out; say less than the cap",
            );
        } else {
            wrong(
                self.cache_evict.is_some(),
                "cacheEvict has no effect without cacheMax; remove it, or say how much the cache may take",
            );
        }
        wrong(
            self.cache_evict.is_some() && self.cache_key == Some(CacheKey::Request),
            "cacheEvict has no effect where each request has an entry of its own; remove it",
        );
    }

    fn queue_problems(&self, wrong: &mut impl FnMut(bool, &str)) {
        let Some(workers) = self.workers else {
            wrong(self.queue_max.is_some(), "queueMax has no effect without workers; say how many there are");
            wrong(self.healthz_queued, "healthzQueued has no effect without workers; say how many there are");
            return;
        };
        wrong(workers == 0, "workers is 0: nothing would ever be answered; say at least 1");
        wrong(
            workers >= self.connections(),
            "workers is not less than the connections, so none would ever wait; remove it, or raise connections",
        );
        wrong(
            self.hold_for.ms == 0,
            "workers has no effect without holdFor: say how long a request is worked on",
        );
    }

    fn heap_problems(&self, wrong: &mut impl FnMut(bool, &str)) {
        if self.garbage_per_request.0 == 0 {
            wrong(self.collect_at.is_some(), "collectAt has no effect without garbagePerRequest; remove it");
            wrong(self.collect_for.ms > 0, "collectFor has no effect without garbagePerRequest; remove it");
        } else {
            wrong(
                self.collect_at.is_none() && self.heap_max.is_none(),
                "garbagePerRequest would never be collected; say collectAt or heapMax, or leakPerRequest instead",
            );
        }
        if let (Some(at), Some(max)) = (self.collect_at, self.heap_max) {
            wrong(
                at >= max,
                "collectAt is not less than heapMax, which comes first; lower it, or leave it out",
            );
        }
        for (key, size) in [("collectAt", self.collect_at), ("heapMax", self.heap_max)] {
            wrong(
                size.is_some_and(|size| size > self.cap),
                &format!("{key} is more than the cap, so it would never be met; say at most the cap"),
            );
        }
        wrong(
            self.heap_max.is_some_and(|max| self.one() > max.0),
            "heapMax is less than one request takes, so each would get 500; raise it",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With these settings beside a port and a cap of 64Mi.
    fn with(settings: &str) -> Serve {
        let comma = if settings.is_empty() { "" } else { ", " };
        serde_json::from_str(&format!(r#"{{"port": 1, "cap": "64Mi"{comma}{settings}}}"#)).unwrap()
    }

    #[test]
    fn what_makes_sense_together_is_taken() {
        for settings in [
            "",
            r#""holdPerRequest": "1Mi", "holdFor": "100ms""#,
            r#""holdFor": "10ms", "workers": 4, "queueMax": 0, "healthzQueued": true"#,
            r#""cachePerEntry": "64Ki""#,
            r#""cachePerEntry": "64Ki", "cacheMax": "64Mi", "cacheEvict": "fifo", "cacheKey": "path""#,
            r#""garbagePerRequest": "1Mi", "collectAt": "24Mi", "heapMax": "48Mi", "collectFor": "20ms""#,
            r#""leakPerRequest": "1Mi", "heapMax": "48Mi""#,
        ] {
            assert_eq!(with(settings).problems(), Vec::<String>::new(), "{settings}");
        }
    }

    #[test]
    fn what_makes_none_is_told_with_its_key() {
        for (settings, key) in [
            (r#""holdPerRequest": "65Mi""#, "cap"),
            (r#""holdPerRequest": "40Mi", "leakPerRequest": "40Mi""#, "cap"),
            (r#""connections": 0"#, "connections"),
            (r#""connections": 9000"#, "connections"),
            (r#""cacheKey": "path""#, "cacheKey"),
            (r#""cacheMax": "1Mi""#, "cacheMax"),
            (r#""cacheEvict": "lru""#, "cacheEvict"),
            (r#""cachePerEntry": "100B""#, "cachePerEntry"),
            (r#""cachePerEntry": "2Mi", "cacheMax": "1Mi""#, "cacheMax"),
            (r#""cachePerEntry": "2Mi", "cacheMax": "65Mi""#, "cacheMax"),
            (r#""cachePerEntry": "2Mi", "cacheEvict": "lru""#, "cacheEvict"),
            (
                r#""cachePerEntry": "2Mi", "cacheMax": "8Mi", "cacheKey": "request", "cacheEvict": "fifo""#,
                "cacheEvict",
            ),
            (r#""workers": 0, "holdFor": "1s""#, "workers"),
            (r#""workers": 2"#, "workers"),
            (r#""workers": 2, "holdFor": "1s", "connections": 2"#, "workers"),
            (r#""queueMax": 2"#, "queueMax"),
            (r#""healthzQueued": true"#, "healthzQueued"),
            (r#""garbagePerRequest": "1Mi""#, "garbagePerRequest"),
            (r#""collectAt": "1Mi""#, "collectAt"),
            (r#""collectFor": "1s""#, "collectFor"),
            (r#""garbagePerRequest": "1Mi", "collectAt": "8Mi", "heapMax": "8Mi""#, "collectAt"),
            (r#""garbagePerRequest": "1Mi", "collectAt": "65Mi""#, "collectAt"),
            (r#""heapMax": "65Mi""#, "heapMax"),
            (r#""garbagePerRequest": "9Mi", "heapMax": "8Mi""#, "heapMax"),
        ] {
            let problems = with(settings).problems();
            assert!(
                problems.len() == 1 && problems[0].starts_with(&format!("serve.{key} ")),
                "{settings}: {problems:?}"
            );
        }
    }

    #[test]
    fn all_that_makes_none_is_told_at_once() {
        let serve = with(r#""connections": 0, "cacheMax": "1Mi", "queueMax": 1, "collectFor": "1s""#);
        assert_eq!(serve.problems().len(), 4);
    }

    #[test]
    fn it_is_bounded_by_its_cap_its_connections_and_the_index_of_its_cache() {
        assert_eq!(with("").bound(), 128 << 20);
        assert_eq!(with(r#""connections": 16"#).bound(), 65 << 20);
        assert_eq!(with(r#""connections": 16, "cachePerEntry": "4Ki""#).bound(), 73 << 20);
    }
}
