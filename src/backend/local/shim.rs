//! The helper processes of a container: `exit137 __shim` and `exit137 __exec`. Each has one thread.
//!
//! The shim starts the container's main process as PID 1 of a PID namespace, is the only one to signal it, and reaps it.
//! When its standard input ends, the harness is gone: the shim kills its container and goes too.

use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitCode, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitpid,
};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use super::process::{self, INIT_NAME};
use super::protocol::{Command, ExecSpec, Report, ShimSpec};
use super::{root, sys};
use crate::clock;
use crate::evidence::{End, Moment};

/// The most that is kept of a container's output.
const LONGEST_LOG: u64 = 1 << 20;

/// `exit137 __shim`.
pub fn main() -> ExitCode {
    // What a tracepoint calls the sender of its SIGKILL.
    let _ = rustix::thread::set_name(c"exit137-shim");
    let mut line = String::new();
    let spec =
        io::stdin().lock().read_line(&mut line).and_then(|_| Ok(serde_json::from_str::<ShimSpec>(&line)?));
    let began = clock::boot_ns();
    match spec.and_then(|spec| start(&spec)) {
        Ok(container) => container.supervise(),
        Err(error) => {
            let at = Moment::between(began, clock::boot_ns());
            report(&Report::StartFailed { pid: None, at, message: error.to_string(), end: None });
        }
    }
    ExitCode::SUCCESS
}

/// `exit137 __exec`: runs a command in a container and exits as it does. When its standard input ends, nobody waits for it
/// any more: its command is killed.
pub fn exec_main() -> ExitCode {
    // As the shim: on a node, too, the runtime does both.
    let _ = rustix::thread::set_name(c"exit137-shim");
    let run = || -> io::Result<i32> {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        let spec: ExecSpec = serde_json::from_str(&line)?;
        let procs = process::open_procs(&spec.process.cgroup_procs)?;
        let which = process::POD_NAMESPACES | ThreadNameSpaceType::PROCESS_ID;
        process::join(spec.main_pid, which, spec.process.rootless)?;
        let status = wait_or_kill(&mut process::command(&spec.process, procs, false)?.spawn()?)?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Ok(status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(1))
    };
    match run() {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot run it in the container: {error}");
            ExitCode::from(126)
        }
    }
}

/// Waits for a child's end, or for that of our standard input, upon which its whole process group is killed.
fn wait_or_kill(child: &mut Child) -> io::Result<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
    while poll(&mut fds, None).is_err() {}
    if fds.first().is_some_and(|child| child.revents().is_empty()) {
        // It leads a session, and so a group, of its own; not being reaped yet, its PID is still its own.
        kill_process_group(pid, Signal::KILL)?;
    }
    child.wait()
}

struct Container {
    child: Child,
    pidfd: OwnedFd,
    /// The host's `/proc`: the container's main process covers ours with its own.
    proc: OwnedFd,
    output: Option<OwnedFd>,
    log: File,
    logged: u64,
}

fn start(spec: &ShimSpec) -> io::Result<Container> {
    // Opened before the namespaces change, since they lie outside.
    let procs = process::open_procs(&spec.process.cgroup_procs)?;
    let log = File::options().create(true).append(true).open(&spec.log)?;
    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    process::join(spec.pause_pid, process::POD_NAMESPACES, spec.process.rootless)?;
    sys::unshare(UnshareFlags::NEWPID | UnshareFlags::NEWNS)?;
    for (volume, path, read_only) in &spec.mounts {
        root::mount_volume(volume, Path::new(path), *read_only)
            .map_err(|error| io::Error::other(format!("volume {volume} at {path}: {error}")))?;
    }
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    if !spec.process.rootless {
        // As runc's fixStdioPermissions: whom it runs as may open /dev/stdout and /proc/1/fd/1 anew.
        rustix::fs::fchown(&writer, Some(rustix::fs::Uid::from_raw(spec.process.user)), None)?;
    }
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    let mut command = process::command(&spec.process, procs, true)?;
    command.stdout(Stdio::from(writer.try_clone()?)).stderr(Stdio::from(writer));
    let before = clock::boot_ns();
    // Returns when the child has executed its program, or has died on the way.
    let child = command.spawn().map_err(|error| {
        let program = spec.process.command.first().map_or("", String::as_str);
        if let Some(folder) = spec.process.working_dir.as_deref().filter(|folder| !Path::new(folder).is_dir())
        {
            let why = format!("workingDir {folder:?} is no folder in the container");
            return io::Error::new(error.kind(), why);
        }
        // A folder of PATH that its user may not read makes exec say EACCES of a program that is nowhere.
        let nowhere = !program.contains('/') && !process::in_path(program);
        let why = if nowhere { "it is not in PATH".to_owned() } else { error.to_string() };
        io::Error::new(error.kind(), format!("cannot run {program:?} in the container: {why}"))
    })?;
    drop(command);
    let at = Moment::between(before, clock::boot_ns());
    let pid = child.id();
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
    let container = Container { child, pidfd, proc, output: Some(reader), log, logged: 0 };
    // A process that died keeps its name until it is reaped, and gets its program's name at exec.
    if container.read("comm").is_some_and(|name| name.trim_end() == INIT_NAME) {
        let (end, at, _) = container.reap()?;
        let message = "killed before it could run its program".to_owned();
        report(&Report::StartFailed { pid: Some(pid), at, message, end: Some(end) });
        return Err(io::ErrorKind::Interrupted.into());
    }
    let oom_score_adj = container.read("oom_score_adj").and_then(|text| text.trim().parse().ok());
    report(&Report::Started { pid, at, oom_score_adj });
    Ok(container)
}

impl Container {
    fn supervise(mut self) {
        let stdin = io::stdin();
        let mut commands = Commands::default();
        loop {
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
            if let Some(output) = &self.output {
                fds.push(PollFd::new(output, PollFlags::IN));
            }
            if poll(&mut fds, None).is_err() {
                continue;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready.first() == Some(&true) {
                break;
            }
            if ready.get(2) == Some(&true) {
                self.copy_output();
            }
            if ready.get(1) == Some(&true) {
                let Ok(signals) = commands.read() else {
                    self.signal(9);
                    break;
                };
                for signal in signals {
                    self.signal(signal);
                }
            }
        }
        let ended = self.reap();
        self.copy_output();
        if let Ok((end, at, cpu_ms)) = ended {
            report(&Report::Ended { end, at, cpu_ms });
        }
    }

    fn signal(&self, number: i32) {
        let Some(signal) = Signal::from_named_raw(number) else { return };
        let before = clock::boot_ns();
        if pidfd_send_signal(&self.pidfd, signal).is_ok() {
            report(&Report::Signaled { signal: number, at: Moment::between(before, clock::boot_ns()) });
        }
    }

    /// Waits for the end of the main process and reaps it.
    fn reap(&self) -> io::Result<(End, Moment, Option<u64>)> {
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], None)?;
        let cpu_ms = self.read("stat").as_deref().and_then(cpu_ms);
        let before = clock::boot_ns();
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some((_, status)) = waitpid(pid, WaitOptions::empty())? else {
            return Err(io::Error::other("it was reaped by somebody else"));
        };
        let at = Moment::between(before, clock::boot_ns());
        let end = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => End::Exited(code),
            (None, Some(signal)) => End::Signaled(signal),
            (None, None) => return Err(io::Error::other("it did not end")),
        };
        Ok((end, at, cpu_ms))
    }

    /// A file of the main process in `/proc`; it is there until the process is reaped.
    fn read(&self, file: &str) -> Option<String> {
        let path = format!("{}/{file}", self.child.id());
        let fd =
            rustix::fs::openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn copy_output(&mut self) {
        let Some(output) = &self.output else { return };
        let mut buffer = [0; 16 * 1024];
        loop {
            match rustix::io::read(output, &mut buffer) {
                Ok(0) => {
                    self.output = None;
                    return;
                }
                Ok(read) => {
                    let keep = usize::try_from(LONGEST_LOG - self.logged).unwrap_or(0).min(read);
                    self.logged += keep as u64;
                    // The log is for people; a full disk must not stop the run.
                    let _ = self.log.write_all(buffer.get(..keep).unwrap_or_default());
                }
                Err(_) => return,
            }
        }
    }
}

/// Lines from the harness, as they come.
#[derive(Default)]
struct Commands {
    pending: Vec<u8>,
}

impl Commands {
    /// The signals that are asked for now; an error when the harness is gone.
    fn read(&mut self) -> io::Result<Vec<i32>> {
        let mut buffer = [0; 4096];
        let read = rustix::io::read(io::stdin().as_fd(), &mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pending.extend(buffer.get(..read).unwrap_or_default());
        let mut signals = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            if let Ok(Command::Signal(signal)) = serde_json::from_slice(&line) {
                signals.push(signal);
            }
        }
        Ok(signals)
    }
}

fn report(report: &Report) {
    if let Ok(line) = serde_json::to_string(report) {
        // A harness that is gone is noticed on standard input.
        let mut out = io::stdout().lock();
        let _ = out.write_all((line + "\n").as_bytes()).and_then(|()| out.flush());
    }
}

/// User and system time in milliseconds (proc_pid_stat(5): ticks of 10 ms).
fn cpu_ms(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 10)
}
