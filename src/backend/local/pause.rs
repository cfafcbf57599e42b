//! The other helper processes: `exit137 __pause`, which holds a pod's namespaces, and `exit137 __act`, which does what a
//! scenario's action says as a process that is neither the harness nor the runtime.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::{Gid, Pid, PidfdFlags, Signal, Uid, getgid, getuid, pidfd_open, pidfd_send_signal};
use rustix::thread::{UnshareFlags, set_thread_gid, set_thread_uid};

use super::process::set_oom_score_adj;
use super::protocol::{ActionSpec, PauseSpec, Report};
use super::{network, root, sys};

/// `exit137 __pause`: makes the namespaces, says so, and holds them until its standard input ends.
pub fn main() -> ExitCode {
    match set_up() {
        Ok(()) => {
            let mut out = io::stdout();
            let ready = serde_json::to_string(&Report::Ready).unwrap_or_default();
            if writeln!(out, "{ready}").and_then(|()| out.flush()).is_ok() {
                let _ = io::stdin().read_to_end(&mut Vec::new());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn set_up() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let spec: PauseSpec = serde_json::from_str(&line)?;
    let doing = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| io::Error::other(format!("{what}: {error}"))
    };
    fs::write(&spec.cgroup_procs, "0").map_err(doing("enter the pod's cgroup"))?;
    set_oom_score_adj(spec.oom_score_adj);
    if spec.rootless {
        user_namespace().map_err(doing("make a user namespace (is kernel.unprivileged_userns_clone 1?)"))?;
    }
    let namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    sys::unshare(namespaces).map_err(doing("make the pod's namespaces"))?;
    rustix::system::sethostname(spec.hostname.as_bytes())?;
    network::set_up().map_err(doing("set the pod's loopback interface up"))?;
    root::build(&spec.workload, &spec.volumes).map_err(doing("build the pod's view of the file system"))
}

/// Without root: a user namespace in which this user is root, so that the other namespaces may be made.
fn user_namespace() -> io::Result<()> {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    set_thread_gid(Gid::ROOT)?;
    Ok(set_thread_uid(Uid::ROOT)?)
}

/// `exit137 __act`: one action, told on standard input; what went wrong is said on standard output.
pub fn act_main() -> ExitCode {
    let mut line = String::new();
    let spec = io::stdin().lock().read_line(&mut line).and_then(|_| Ok(serde_json::from_str(&line)?));
    let mut out = io::stdout();
    match spec.and_then(|spec| act(&spec)) {
        Ok(done) => {
            let _ = writeln!(out, "{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(out, "{error}");
            ExitCode::FAILURE
        }
    }
}

fn act(spec: &ActionSpec) -> io::Result<String> {
    match spec {
        ActionSpec::Kill { cgroup_procs, main_pid, child, signal } => {
            rustix::thread::set_name(c"exit137-action")?;
            let target = if *child {
                let others = members(cgroup_procs)?.into_iter().filter(|pid| pid != main_pid);
                others
                    .max()
                    .ok_or_else(|| io::Error::other("the container has no process but its main one"))?
            } else {
                *main_pid
            };
            let pid =
                i32::try_from(target).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            // The pidfd holds whoever has the PID now; is that still the container's?
            if !members(cgroup_procs)?.contains(&target) {
                return Err(io::Error::other(format!("process {target} has ended already")));
            }
            let number = Signal::from_named_raw(*signal).ok_or(io::ErrorKind::InvalidInput)?;
            pidfd_send_signal(&pidfd, number)?;
            Ok(format!("sent signal {signal} to process {target}"))
        }
        ActionSpec::SetLimits(limits) => {
            rustix::thread::set_name(c"exit137-resize")?;
            write_all_or_none(limits)?;
            Ok("written".into())
        }
    }
}

/// Writes limits in their order. When one is refused, those before it get back what they were.
fn write_all_or_none(limits: &[(PathBuf, u64)]) -> io::Result<()> {
    let mut written = Vec::new();
    for (file, bytes) in limits {
        let before = fs::read_to_string(file)?;
        if let Err(refused) = fs::write(file, bytes.to_string()) {
            for (file, before) in written.into_iter().rev() {
                fs::write(file, before)?;
            }
            return Err(refused);
        }
        written.push((file, before));
    }
    Ok(())
}

fn members(cgroup_procs: &Path) -> io::Result<Vec<u32>> {
    Ok(fs::read_to_string(cgroup_procs)?.lines().filter_map(|line| line.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_which_one_is_refused_all_stay_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let (first, refusing) = (folder.path().join("first"), Path::new("/proc/self/status").to_path_buf());
        fs::write(&first, "8192\n").unwrap();
        assert!(write_all_or_none(&[(first.clone(), 4096), (refusing, 4096)]).is_err());
        assert_eq!(fs::read_to_string(&first).unwrap(), "8192\n");
        write_all_or_none(&[(first.clone(), 4096)]).unwrap();
        assert_eq!(fs::read_to_string(&first).unwrap(), "4096");
    }
}
