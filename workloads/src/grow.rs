//! `hog` and `leak`: follow a schedule.

use exit137_workload::{Hog, Leak, Schedule};

use crate::clock;
use crate::memory::{CHUNK, Memory};
use crate::report;

/// Between two looks at the schedule.
const TICK_NS: u64 = 2_000_000;

pub fn hog(hog: &Hog) -> Result<u8, String> {
    follow(&hog.schedule(), hog.cap.map_or(u64::MAX, |cap| cap.0), "hog")?;
    match hog.then_exit {
        Some(code) => u8::try_from(code).map_err(|_| format!("thenExit must be 0 to 255, not {code}")),
        None => clock::sleep_for_ever(),
    }
}

pub fn leak(leak: &Leak) -> Result<u8, String> {
    follow(&Schedule::ramp(leak.cap.0, leak.rate.per_second), leak.cap.0, "leak")?;
    clock::sleep_for_ever()
}

/// Holds what the schedule says when it says it. What is held is said before and after each chunk, so that the last line
/// before a kill tells how far it came.
fn follow(schedule: &Schedule, cap: u64, name: &str) -> Result<(), String> {
    let _ = rustix::thread::set_name(
        std::ffi::CString::new(format!("exit137-{name}")).unwrap_or_default().as_c_str(),
    );
    let mut memory = Memory::new()?;
    let (began, mut tick, mut said) = (clock::now_ns(), clock::now_ns(), 0);
    loop {
        let elapsed = clock::now_ns() - began;
        let due = schedule.level_at(elapsed).min(cap);
        while memory.held() < due {
            memory.resize(due.min(memory.held() + CHUNK))?;
            if memory.held() - said.min(memory.held()) >= CHUNK {
                said = memory.held();
                report::allocated(said);
            }
        }
        memory.resize(due)?;
        if elapsed >= schedule.end_ms().saturating_mul(1_000_000) {
            report::allocated(memory.held());
            if due == cap && schedule.peak() > cap {
                report::event("stopped at its cap", &cap.to_string());
            }
            // Held for as long as the process lives.
            std::mem::forget(memory);
            return Ok(());
        }
        tick += TICK_NS;
        clock::sleep_until(tick);
    }
}
