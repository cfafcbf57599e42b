//! Each behaviour of the real program, checked from outside: what the kernel counts for it, what it says, how it ends.
//!
//! Everything here is small (48 MiB at most), so that no cgroup is needed around it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, and so may what serves tests only")]

mod children;
mod command_line;
mod files;
mod grow;
mod running;
mod serve;
mod term;
