//! Memory that counts: anonymous pages, each touched, none like another.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapMut};
use rustix::param::page_size;

/// How much is mapped at a time. A page of it counts only once it has been touched.
const MAPPED: usize = 1 << 20;

/// What every page is a copy of, but for its number: a request that takes one page costs no other.
static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
/// The next page's number.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Memory held by this process.
pub struct Memory {
    pattern: &'static [u8],
    chunks: Vec<MmapMut>,
    /// Of the chunks in a row, so many bytes have been touched.
    held: usize,
}

impl Memory {
    /// Holds nothing yet.
    pub fn new() -> Result<Self, String> {
        let pattern = if let Some(pattern) = PATTERN.get() {
            pattern
        } else {
            let random = random_page()?;
            PATTERN.get_or_init(|| random)
        };
        Ok(Self { pattern, chunks: Vec::new(), held: 0 })
    }

    /// How much is held, in bytes.
    pub fn held(&self) -> u64 {
        self.held as u64
    }

    /// Takes or gives back until `bytes` are held, rounded up to a page.
    pub fn resize(&mut self, bytes: u64) -> Result<(), String> {
        let bytes = usize::try_from(page_ceil(bytes))
            .map_err(|_| format!("{bytes} bytes are more than this machine can address"))?;
        if bytes < self.held {
            // Chunks are given back whole; what is still wanted of the last one is taken anew below.
            self.chunks.truncate(bytes / MAPPED);
            self.held = self.chunks.len() * MAPPED;
        }
        while self.held < bytes {
            self.touch(bytes)?;
        }
        Ok(())
    }

    /// Touches pages up to `bytes`, or to the end of a chunk.
    fn touch(&mut self, bytes: usize) -> Result<(), String> {
        let start = self.held % MAPPED;
        if start == 0 {
            let chunk =
                MmapMut::map_anon(MAPPED).map_err(|error| format!("cannot map {MAPPED} bytes: {error}"))?;
            // A huge page would be more than was asked for. A kernel that has none refuses the advice, and needs none.
            let _ = chunk.advise(Advice::NoHugePage);
            self.chunks.push(chunk);
        }
        let end = (start + bytes - self.held).min(MAPPED);
        let untouched =
            self.chunks.last_mut().and_then(|chunk| chunk.get_mut(start..end)).unwrap_or_default();
        for page in untouched.chunks_exact_mut(self.pattern.len()) {
            page.copy_from_slice(self.pattern);
            stamp(page, NUMBER.fetch_add(1, Ordering::Relaxed));
        }
        self.held += end - start;
        Ok(())
    }
}

/// A page that no compressor makes smaller: zswap and zram save nothing.
pub fn random_page() -> Result<Vec<u8>, String> {
    let mut page = vec![0; page_size()];
    let filled = rustix::rand::getrandom(&mut page, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| format!("cannot get random bytes: {error}"))?;
    if filled < page.len() {
        return Err(format!("the kernel gave {filled} of {} random bytes", page.len()));
    }
    Ok(page)
}

/// Makes a page differ from all that have another number: KSM finds nothing to merge.
pub fn stamp(page: &mut [u8], number: u64) {
    if let Some(first) = page.first_chunk_mut::<8>() {
        *first = number.to_ne_bytes();
    }
}

/// Rounded up to a page: every byte asked for is there.
pub fn page_ceil(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(page_size() as u64).unwrap_or_else(|| page_floor(bytes))
}

/// Rounded down to a page: a cap is never outgrown.
pub fn page_floor(bytes: u64) -> u64 {
    bytes - bytes % page_size() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The bytes of every page held, in order.
    fn pages(memory: &Memory) -> Vec<&[u8]> {
        let all = memory.chunks.iter().flat_map(|chunk| chunk.chunks_exact(page_size()));
        all.take(memory.held / page_size()).collect()
    }

    #[test]
    fn it_holds_what_was_asked_for_to_the_page() {
        let (mut memory, page) = (Memory::new().unwrap(), page_size() as u64);
        for (asked, held) in
            [(1, page), (page, page), (page + 1, 2 * page), (3 << 20, 3 << 20), (5 * page, 5 * page)]
        {
            memory.resize(asked).unwrap();
            assert_eq!(memory.held(), held, "asked for {asked}");
        }
        memory.resize(0).unwrap();
        assert_eq!((memory.held(), memory.chunks.len()), (0, 0));
    }

    #[test]
    fn no_page_is_like_another_even_after_some_were_given_back() {
        let mut memory = Memory::new().unwrap();
        for bytes in [(2 << 20) + 12_345, 1_500_000, 3 << 20] {
            memory.resize(bytes).unwrap();
        }
        let pages = pages(&memory);
        assert_eq!(pages.iter().collect::<HashSet<_>>().len(), pages.len());
    }

    #[test]
    fn the_bytes_of_a_page_are_spread_as_random_ones_are() {
        let mut memory = Memory::new().unwrap();
        memory.resize(1 << 20).unwrap();
        for page in pages(&memory) {
            assert!(entropy(page) > 7.8, "{} bits per byte", entropy(page));
        }
        assert!(entropy(&vec![7; page_size()]) < 0.1);
    }

    /// Shannon's, in bits per byte: 4096 random bytes have about 7.95.
    #[expect(clippy::cast_precision_loss, reason = "counts of at most a page")]
    fn entropy(page: &[u8]) -> f64 {
        let mut counts = [0_usize; 256];
        for byte in page {
            counts[usize::from(*byte)] += 1;
        }
        let share = |count: usize| count as f64 / page.len() as f64;
        counts.into_iter().filter(|count| *count > 0).map(|count| -share(count) * share(count).log2()).sum()
    }

    #[test]
    fn rounding_never_overflows() {
        assert_eq!(page_ceil(u64::MAX), page_floor(u64::MAX));
        assert_eq!((page_ceil(0), page_floor(4095)), (0, 0));
    }
}
