//! What a container runs, as a command line.

use std::path::{Path, PathBuf};

use super::expand::expand;
use super::root::OURS;
use crate::backend::BackendError;
use crate::scenario::Program;

/// The unprivileged user that containers run as unless they say otherwise.
pub const NOBODY: u32 = 65534;

/// The program's name, beside ours or in PATH.
const WORKLOAD: &str = "exit137-workload";

/// The command line of a container.
pub fn command_of(program: &Program, env: &[(String, String)]) -> Vec<String> {
    match program {
        Program::Command(command) => command.iter().map(|word| expand(word, env)).collect(),
        Program::Workload(workload) => {
            let spec = serde_json::to_string(workload).unwrap_or_default();
            vec![format!("{OURS}/{WORKLOAD}"), "--spec".into(), spec]
        }
    }
}

/// The hard `RLIMIT_CPU` that a built-in workload sets on itself, in seconds.
pub fn rlimit_cpu(program: &Program) -> Option<u64> {
    match program {
        Program::Workload(workload) => workload.cpu.as_ref()?.rlimit_cpu.map(|limit| limit.ms / 1000),
        Program::Command(_) => None,
    }
}

/// Finds the workload program: where `EXIT137_WORKLOAD` says, beside this program, or in `../libexec/exit137`.
pub fn find_workload() -> Result<PathBuf, BackendError> {
    if let Some(path) = std::env::var_os("EXIT137_WORKLOAD").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(BackendError(format!("EXIT137_WORKLOAD names {}, which is no file", path.display())))
        };
    }
    let own = std::env::current_exe()
        .map_err(|error| BackendError::doing("find out where this program is", error))?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    // A test's program lies one folder deeper than the workload.
    let places = [
        beside.join(WORKLOAD),
        beside.join("../libexec/exit137").join(WORKLOAD),
        beside.join("..").join(WORKLOAD),
    ];
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        BackendError(format!(
            "the workload program {WORKLOAD} is neither beside {} nor in ../libexec/exit137; install it there (make install), or name it in EXIT137_WORKLOAD",
            own.display()
        ))
    })
}
