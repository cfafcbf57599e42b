//! The programs that are measured beside exit137.

use std::path::PathBuf;

/// What is said where a peer written in C is missing.
pub const NO_COMPILER: &str = "no C compiler: not measured";

/// A peer of ours, where it could be built.
pub fn ours(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("EXIT137_PEERS")?).join(name);
    path.is_file().then_some(path)
}

/// Another's program, where it is installed.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The workload that was built beside this program.
pub fn workload() -> Result<PathBuf, exit137::backend::BackendError> {
    exit137::backend::local::program::find_workload()
}
