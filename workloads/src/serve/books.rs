//! What all requests together take, in bytes: promised first, so that the cap holds whatever happens at the same time.

use exit137_workload::Serve;

use super::cache::Cache;
use crate::clock;
use crate::memory::{Memory, page_ceil, page_floor};
use crate::report::Level;

/// The books of a server.
pub struct Books {
    settings: Serve,
    /// Promised to requests in flight, to the page.
    promised: u64,
    /// Of that, so much is there already.
    held: u64,
    leaked: Heap,
    cache: Cache,
    cached: Memory,
    garbage: Heap,
    said: Level,
}

/// Memory that is taken in small parts: many of less than a page share one.
struct Heap {
    /// To the byte.
    asked: u64,
    memory: Memory,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It would take more than the cap.
    Cap,
    /// It would take more than the heap's ceiling, and nothing is left to be collected.
    Heap,
}

impl Books {
    pub fn new(settings: &Serve) -> Result<Self, String> {
        Ok(Self {
            settings: settings.clone(),
            promised: 0,
            held: 0,
            leaked: Heap::new()?,
            cache: Cache::new(settings),
            cached: Memory::new()?,
            garbage: Heap::new()?,
            said: Level::default(),
        })
    }

    /// Whether a request may take what it does; if so, `holdPerRequest` is promised to it. Where the heap is full, this is
    /// when garbage is collected: everybody waits for that, because the books are open.
    pub fn admit(&mut self, path: &str) -> Result<(), Refused> {
        let Serve { leak_per_request, garbage_per_request, heap_max, collect_at, cap, .. } = self.settings;
        let hold = self.hold();
        let live = self
            .promised
            .saturating_add(hold)
            .saturating_add(page_ceil(self.leaked.asked.saturating_add(leak_per_request.0)))
            .saturating_add(page_ceil(self.cache.bytes().saturating_add(self.cache.growth(path))));
        let heap =
            |garbage: u64| live.saturating_add(page_ceil(garbage.saturating_add(garbage_per_request.0)));
        let threshold = collect_at.or(heap_max).map_or(u64::MAX, |size| size.0);
        if self.garbage.asked > 0 && heap(self.garbage.asked) > threshold {
            self.collect();
        }
        let heap = heap(self.garbage.asked);
        if heap_max.is_some_and(|max| heap > max.0) {
            return Err(Refused::Heap);
        }
        if heap > page_floor(cap.0) {
            return Err(Refused::Cap);
        }
        self.promised += hold;
        self.leaked.asked += leak_per_request.0;
        self.cache.visit(path);
        self.garbage.asked += garbage_per_request.0;
        Ok(())
    }

    /// What each request holds while it is in flight.
    pub fn hold(&self) -> u64 {
        page_ceil(self.settings.hold_per_request.0)
    }

    /// A request is over.
    pub fn over(&mut self) {
        self.promised -= self.hold();
    }

    /// Takes what requests leave behind: leaked, cached, and garbage.
    pub fn take(&mut self) -> Result<(), String> {
        self.leaked.take()?;
        self.cached.resize(self.cache.bytes())?;
        self.garbage.take()?;
        self.changed(0, 0);
        Ok(())
    }

    /// A request holds `after` instead of `before`.
    pub fn changed(&mut self, before: u64, after: u64) {
        self.held = self.held - before + after;
        let kept = self.leaked.memory.held() + self.cached.held() + self.garbage.memory.held();
        self.said.now(self.held + kept);
    }

    fn collect(&mut self) {
        clock::sleep_ms(self.settings.collect_for.ms);
        self.garbage.asked = 0;
        // Nothing is taken, so this cannot fail.
        let _ = self.garbage.take();
        self.changed(0, 0);
    }
}

impl Heap {
    fn new() -> Result<Self, String> {
        Ok(Self { asked: 0, memory: Memory::new()? })
    }

    fn take(&mut self) -> Result<(), String> {
        self.memory.resize(self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    fn books(settings: &str) -> Books {
        let text = format!(r#"{{"port": 1, "cap": "256Ki", {settings}}}"#);
        Books::new(&serde_json::from_str(&text).unwrap()).unwrap()
    }

    fn serve(books: &mut Books, path: &str) -> Result<(), Refused> {
        books.admit(path)?;
        books.take().unwrap();
        books.over();
        Ok(())
    }

    /// The heap's size in KiB after each of so many requests.
    fn heaps(mut books: Books, requests: usize) -> Vec<u64> {
        let after = (0..requests).map(|_| {
            serve(&mut books, "/").unwrap();
            books.garbage.memory.held() / KIB
        });
        after.collect()
    }

    #[test]
    fn garbage_grows_to_the_threshold_and_is_collected_down() {
        let books = books(r#""garbagePerRequest": "16Ki", "collectAt": "64Ki""#);
        assert_eq!(heaps(books, 9), [16, 32, 48, 64, 16, 32, 48, 64, 16]);
    }

    #[test]
    fn a_heap_without_a_threshold_is_let_grow_to_its_ceiling() {
        let books = books(r#""garbagePerRequest": "16Ki", "heapMax": "48Ki""#);
        assert_eq!(heaps(books, 4), [16, 32, 48, 16]);
    }

    #[test]
    fn beyond_the_ceiling_requests_fail_once_nothing_is_left_to_be_collected() {
        let mut books = books(
            r#""garbagePerRequest": "16Ki", "leakPerRequest": "16Ki", "collectAt": "48Ki", "heapMax": "64Ki""#,
        );
        let answers: Vec<_> = (0..5).map(|_| serve(&mut books, "/")).collect();
        assert_eq!(answers, [Ok(()), Ok(()), Ok(()), Err(Refused::Heap), Err(Refused::Heap)]);
        assert_eq!(books.leaked.memory.held(), 48 * KIB);
    }

    #[test]
    fn everything_together_stays_below_the_cap() {
        let mut books = books(
            r#""holdPerRequest": "32Ki", "leakPerRequest": "4Ki", "cachePerEntry": "32Ki", "garbagePerRequest": "4Ki", "collectAt": "256Ki""#,
        );
        books.admit("/a").unwrap();
        books.admit("/a").unwrap();
        books.admit("/b").unwrap();
        // 3 times 32 and 8, and two entries of 32, are 184 KiB; another path takes 72, the same one 40.
        assert_eq!(books.admit("/c"), Ok(()), "exactly the cap");
        assert_eq!(books.admit("/c"), Err(Refused::Cap));
        books.over();
        assert_eq!(books.admit("/d"), Err(Refused::Cap));
    }

    #[test]
    fn a_cache_is_as_large_as_its_entries_and_never_larger_than_its_bound() {
        let mut books = books(r#""cachePerEntry": "24Ki", "cacheMax": "64Ki""#);
        let sizes = ["/a", "/a", "/b", "/c", "/d"].map(|path| {
            serve(&mut books, path).unwrap();
            books.cached.held() / KIB
        });
        assert_eq!(sizes, [24, 24, 48, 48, 48]);
    }
}
