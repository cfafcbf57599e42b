//! Time that does not drift: sleeps end at absolute moments.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Sleeps until this moment of [`now_ns`].
pub fn sleep_until(ns: u64) {
    sleep_until_on(ClockId::Monotonic, ns);
}

fn sleep_until_on(clock: ClockId, ns: u64) {
    let until = Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
    };
    while rustix::thread::clock_nanosleep_absolute(clock, &until).is_err() {}
}

/// Sleeps so many milliseconds.
pub fn sleep_ms(ms: u64) {
    if ms > 0 {
        sleep_until(now_ns().saturating_add(ms.saturating_mul(1_000_000)));
    }
}

/// Sleeps until a signal ends the process.
pub fn sleep_for_ever<T>() -> T {
    loop {
        sleep_ms(3_600_000);
    }
}

/// `CLOCK_BOOTTIME` in nanoseconds: the clock of all that a traffic generator says.
pub fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// `CLOCK_REALTIME` in nanoseconds.
pub fn unix_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Sleeps until this moment of [`boot_ns`].
pub fn sleep_until_boot(ns: u64) {
    sleep_until_on(ClockId::Boottime, ns);
}
