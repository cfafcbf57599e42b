//! `hog` and `leak`: follow a schedule.

use exit137_workload::{Bytes, Hog, Leak, Schedule};

use crate::clock;
use crate::memory::{Memory, page_floor};
use crate::report::{self, Level};

/// Between two looks at the schedule.
const TICK_NS: u64 = 2_000_000;

pub fn hog(hog: &Hog) -> Result<u8, String> {
    let _held = follow(&hog.schedule(), hog.cap)?;
    Ok(hog.then_exit.unwrap_or_else(clock::sleep_for_ever))
}

pub fn leak(leak: &Leak) -> Result<u8, String> {
    let _held = follow(&Schedule::ramp(leak.cap.0, leak.rate.per_second), Some(leak.cap))?;
    clock::sleep_for_ever()
}

/// Holds what the schedule says when it says it, then returns what it holds at the end. The level at which a stage ends
/// is always reached, however late this process was run.
fn follow(schedule: &Schedule, cap: Option<Bytes>) -> Result<Memory, String> {
    let mut held = Held { memory: Memory::new()?, said: Level::default(), cap, capped: false };
    let began = clock::now_ns();
    held.change_to(0)?;
    for segment in schedule.segments() {
        loop {
            let elapsed = clock::now_ns() - began;
            if elapsed >= segment.ends_ns {
                break;
            }
            held.change_to(segment.level_at(elapsed))?;
            clock::sleep_until(began.saturating_add(segment.ends_ns.min(elapsed + TICK_NS)));
        }
        held.change_to(segment.to)?;
        held.said.settled(held.memory.held());
    }
    Ok(held.memory)
}

struct Held {
    memory: Memory,
    said: Level,
    cap: Option<Bytes>,
    capped: bool,
}

impl Held {
    /// Takes or gives back until this level is reached, or the cap, and says so on the way.
    fn change_to(&mut self, level: u64) -> Result<(), String> {
        if let Some(cap) = self.cap
            && level > cap.0
            && !self.capped
        {
            report::event("capped", &cap.to_string());
            self.capped = true;
        }
        let level = self.cap.map_or(level, |cap| level.min(page_floor(cap.0)));
        loop {
            self.memory.resize(level.min(self.said.next()))?;
            self.said.now(self.memory.held());
            if self.memory.held() >= level {
                return Ok(());
            }
        }
    }
}
