//! A process that is to run in a container: everything between fork and exec.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Gid, Pid, PidfdFlags, Uid, pidfd_open};
use rustix::thread::{
    ThreadNameSpaceType, move_into_thread_name_spaces, set_no_new_privs, set_thread_gid, set_thread_groups,
    set_thread_uid,
};

use super::protocol::ProcessSpec;
use super::root::OURS;
use super::sys;

/// The name of a process that has not yet become the container's program.
pub const INIT_NAME: &str = "exit137-init";

/// What the containers of a pod share.
pub const POD_NAMESPACES: ThreadNameSpaceType = ThreadNameSpaceType::MOUNT
    .union(ThreadNameSpaceType::NETWORK)
    .union(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME);

/// Joins namespaces of the process with this PID.
pub fn join(pid: u32, which: ThreadNameSpaceType, rootless: bool) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let which = if rootless { which | ThreadNameSpaceType::USER } else { which };
    Ok(move_into_thread_name_spaces(pidfd.as_fd(), which)?)
}

/// A command that enters its container before it runs its program. `own_proc`: it is the first of a PID namespace and
/// needs a `/proc` that shows it.
pub fn command(spec: &ProcessSpec, cgroup_procs: File, own_proc: bool) -> io::Result<Command> {
    let (program, args) =
        spec.command.split_first().ok_or_else(|| io::Error::other("there is no command to run"))?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", path())
        .envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(spec.working_dir.as_deref().unwrap_or("/")).stdin(Stdio::null());
    let (user, adj, rootless) = (spec.user, spec.oom_score_adj, spec.rootless);
    let escalate = spec.allow_privilege_escalation;
    let name = CString::new(INIT_NAME)?;
    sys::before_exec(&mut command, move || {
        rustix::thread::set_name(&name)?;
        // From here on, whatever this process takes is the container's.
        rustix::io::write(&cgroup_procs, b"0")?;
        if own_proc {
            mount(
                "proc",
                "/proc",
                "proc",
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
                None,
            )?;
        }
        set_oom_score_adj(adj);
        rustix::process::setsid()?;
        if !rootless {
            let group = Gid::from_raw(user);
            set_thread_groups(&[])?;
            set_thread_gid(group)?;
            set_thread_uid(Uid::from_raw(user))?;
        }
        if !escalate {
            set_no_new_privs(true)?;
        }
        Ok(())
    });
    Ok(command)
}

/// Lowering `oom_score_adj` takes CAP_SYS_RESOURCE (proc_pid_oom_score_adj(5)); without it, as near as can be.
pub fn set_oom_score_adj(adj: i32) {
    let file = "/proc/self/oom_score_adj";
    if fs::write(file, adj.to_string()).is_err() {
        // What it came to be is read back and reported.
        let _ = fs::write(file, adj.max(0).to_string());
    }
}

/// Opens a `cgroup.procs` for writing. To be done before the namespaces change.
pub fn open_procs(path: &std::path::Path) -> io::Result<File> {
    Ok(File::from(rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?))
}

/// Whether a program of this name is anywhere in the PATH of containers, which is not that of whoever started this.
pub fn in_path(program: &str) -> bool {
    std::env::split_paths(&path()).any(|folder| folder.join(program).is_file())
}

/// The runtime's default, not the harness's: a container does not depend on who started it.
fn path() -> String {
    format!("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{OURS}")
}
