//! The two things that safe Rust cannot do for a container: unshare namespaces, and act between fork and exec.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::thread::UnshareFlags;

/// Takes this process into namespaces of its own.
#[expect(
    unsafe_code,
    reason = "the namespaces asked for (never CLONE_FILES) leave every Rust object of this single-threaded program valid"
)]
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the flag that makes unshare(2) unsafe is CLONE_FILES, which no caller passes.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Runs `prepare` in the child, after fork and before exec.
#[expect(unsafe_code, reason = "the only way to enter a cgroup and namespaces before exec")]
pub fn before_exec(command: &mut Command, prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the shim and its like have a single thread, so the child has every lock in the state that it may be used in.
    unsafe { command.pre_exec(prepare) };
}
