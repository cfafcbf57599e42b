//! Memory that counts: anonymous pages, each touched, none like another.

use memmap2::{Advice, MmapMut};
use rustix::param::page_size;

/// How much is taken at a time.
pub const CHUNK: u64 = 1 << 20;

/// Memory held by this process, in chunks.
pub struct Memory {
    pattern: Vec<u8>,
    stamp: u64,
    chunks: Vec<MmapMut>,
    held: u64,
}

impl Memory {
    /// Holds nothing yet.
    pub fn new() -> Result<Self, String> {
        let mut pattern = vec![0; page_size()];
        let filled = rustix::rand::getrandom(&mut pattern, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| format!("cannot get random bytes: {error}"))?;
        if filled < pattern.len() {
            return Err(format!("the kernel gave {filled} of {} random bytes", pattern.len()));
        }
        Ok(Self { pattern, stamp: 0, chunks: Vec::new(), held: 0 })
    }

    /// How much is held, in bytes.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Takes or gives back until exactly `bytes` are held, rounded up to a page.
    pub fn resize(&mut self, bytes: u64) -> Result<(), String> {
        let page = page_size() as u64;
        let bytes = bytes.div_ceil(page) * page;
        while self.held > bytes {
            let Some(chunk) = self.chunks.pop() else { break };
            self.held -= chunk.len() as u64;
        }
        while self.held < bytes {
            self.take((bytes - self.held).min(CHUNK))?;
        }
        Ok(())
    }

    /// A chunk of random pages, each stamped with its number: nothing for KSM to merge or for zswap to compress.
    fn take(&mut self, bytes: u64) -> Result<(), String> {
        let length = usize::try_from(bytes).map_err(|_| format!("{bytes} bytes do not fit this machine"))?;
        let mut chunk =
            MmapMut::map_anon(length).map_err(|error| format!("cannot map {bytes} bytes: {error}"))?;
        // Huge pages would take more than was asked for. Where the kernel has none, there is nothing to advise against.
        let _ = chunk.advise(Advice::NoHugePage);
        for page in chunk.chunks_exact_mut(self.pattern.len()) {
            page.copy_from_slice(&self.pattern);
            if let Some(stamp) = page.first_chunk_mut::<8>() {
                *stamp = self.stamp.to_ne_bytes();
            }
            self.stamp += 1;
        }
        self.held += bytes;
        self.chunks.push(chunk);
        Ok(())
    }
}

/// Fills a buffer with the content of a page that no other has.
pub fn stamped(pattern: &mut [u8], stamp: u64) {
    if let Some(first) = pattern.first_chunk_mut::<8>() {
        *first = stamp.to_ne_bytes();
    }
}
