//! Which entries a cache has. What they take is one stretch of memory: an entry that is thrown out leaves its place to the
//! next, as in a slab.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use exit137_workload::{CacheEvict, CacheKey, Serve};

/// The entries of a cache.
pub struct Cache {
    per_entry: u64,
    key: CacheKey,
    evict: CacheEvict,
    most: u64,
    entries: u64,
    /// When each path was last used, or came in: paths by their hashes, times by counting.
    used: HashMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
    time: u64,
}

impl Cache {
    /// An empty one.
    pub fn new(settings: &Serve) -> Self {
        let per_entry = settings.cache_per_entry.0;
        let most = settings.cache_max.map_or(u64::MAX, |max| max.0.checked_div(per_entry).unwrap_or(0));
        Self {
            per_entry,
            key: settings.cache_key.unwrap_or_default(),
            evict: settings.cache_evict.unwrap_or_default(),
            most,
            entries: 0,
            used: HashMap::new(),
            by_use: BTreeMap::new(),
            time: 0,
        }
    }

    /// What all entries take, in bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.saturating_mul(self.per_entry)
    }

    /// How much more it would take with an entry for this path.
    pub fn growth(&self, path: &str) -> u64 {
        let found = match self.key {
            CacheKey::Path => self.used.contains_key(&hash(path)),
            CacheKey::Request => false,
        };
        if found || self.entries >= self.most { 0 } else { self.per_entry }
    }

    /// Finds the entry of this path or makes one, in another's place where the cache is full.
    pub fn visit(&mut self, path: &str) {
        if self.per_entry == 0 {
            return;
        }
        match self.key {
            // Nothing is found again, so it need not be known which there are.
            CacheKey::Request => self.entries = (self.entries + 1).min(self.most),
            CacheKey::Path => self.visit_path(hash(path)),
        }
    }

    fn visit_path(&mut self, path: u64) {
        self.time += 1;
        let found = self.used.get(&path).copied();
        match (found, self.evict) {
            (Some(_), CacheEvict::Fifo) => return,
            (Some(before), CacheEvict::Lru) => {
                self.by_use.remove(&before);
            }
            (None, _) if self.entries >= self.most => {
                if let Some((_, first)) = self.by_use.pop_first() {
                    self.used.remove(&first);
                }
            }
            (None, _) => self.entries += 1,
        }
        self.used.insert(path, self.time);
        self.by_use.insert(self.time, path);
    }
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use exit137_workload::Bytes;

    use super::*;

    fn cache(max: Option<u64>, key: CacheKey, evict: CacheEvict) -> Cache {
        Cache::new(&Serve {
            cache_per_entry: Bytes(10),
            cache_key: Some(key),
            cache_max: max.map(Bytes),
            cache_evict: Some(evict),
            ..Serve::default()
        })
    }

    /// Which of a to d are in it after these visits.
    fn kept(mut cache: Cache, visits: &str) -> String {
        for path in visits.split("").filter(|path| !path.is_empty()) {
            let before = cache.bytes();
            let growth = cache.growth(path);
            cache.visit(path);
            assert_eq!(cache.bytes(), before + growth, "{path} of {visits}");
        }
        assert_eq!(cache.used.len(), cache.by_use.len());
        ["a", "b", "c", "d"].into_iter().filter(|path| cache.used.contains_key(&hash(path))).collect()
    }

    #[test]
    fn a_full_one_throws_out_what_was_not_used_for_longest_or_what_is_oldest() {
        let path = |evict| cache(Some(35), CacheKey::Path, evict);
        assert_eq!(kept(path(CacheEvict::Lru), "abcad"), "acd");
        assert_eq!(kept(path(CacheEvict::Fifo), "abcad"), "bcd");
        assert_eq!(kept(path(CacheEvict::Lru), "abcabcabc"), "abc");
    }

    #[test]
    fn without_a_bound_it_grows_with_each_path_or_with_each_request() {
        let mut paths = cache(None, CacheKey::Path, CacheEvict::Lru);
        let mut requests = cache(None, CacheKey::Request, CacheEvict::Lru);
        let mut bounded = cache(Some(35), CacheKey::Request, CacheEvict::Lru);
        for path in ["/a", "/b", "/a", "/b", "/a"] {
            for cache in [&mut paths, &mut requests, &mut bounded] {
                cache.visit(path);
            }
        }
        assert_eq!((paths.bytes(), requests.bytes(), bounded.bytes()), (20, 50, 30));
    }

    #[test]
    fn there_is_none_where_an_entry_takes_nothing() {
        let mut none = Cache::new(&Serve::default());
        none.visit("/a");
        assert_eq!((none.bytes(), none.growth("/a")), (0, 0));
        assert!(none.used.is_empty());
    }
}
