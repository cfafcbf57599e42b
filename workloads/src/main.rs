//! `exit137-workload`: carries out what a scenario says below `workload:`, or what the command line says.
//!
//!     exit137-workload leak --rate 8Mi/s --cap 64Mi
//!     exit137-workload --spec '{"leak": {"rate": "8Mi/s", "cap": "64Mi"}}'
//!     exit137-workload traffic --spec JSON
//!
//! Units: sizes need one (`64Mi`, `10M`, `4096B`), so do rates (`8Mi/s`) and times (`250ms`, `1m30s`). Sizes are taken to
//! the page: a size is rounded up to one, a cap down. Pages are touched, random and unique.
//!
//! Output: JSON lines. `{"allocated": BYTES, "at_monotonic_ns": NS}` whenever a mebibyte more or less is held, or any
//! other change is noticed 100 ms later; at a kill it held what it said last, give or take a mebibyte.
//!
//! Errors: on standard error. Exit code 2 for a command line that is wrong, with the flag and a hint; 1 where the system
//! refuses something (a port in use, a directory that is no tmpfs); 143 after SIGTERM; else what the settings say.

mod args;
mod children;
mod clock;
mod files;
mod generate;
mod grow;
mod memory;
mod report;
mod serve;
mod term;

use std::ffi::CStr;
use std::process::ExitCode;

use exit137_workload::{Hog, Kind, OnTerm, Workload};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use rustix::thread::set_name;

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(args::Parsed::Run { workload, parent }) => ended(follow(parent).and_then(|()| run(&workload))),
        Ok(args::Parsed::Traffic { generator, parent }) => ended(
            follow(parent).and_then(|()| named(c"exit137-traffic")).and_then(|()| generate::run(&generator)),
        ),
        Ok(args::Parsed::Help) => {
            report::text(&args::help());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            report::problem(&format!("{problem}\nTry: exit137-workload --help"));
            ExitCode::from(2)
        }
    }
}

fn ended(how: Result<u8, String>) -> ExitCode {
    match how {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            report::problem(&problem);
            ExitCode::from(1)
        }
    }
}

/// Ends this process when its parent ends, so that no worker outlives a run by hand.
fn follow(parent: Option<i32>) -> Result<(), String> {
    let Some(parent) = parent else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("cannot follow the parent: {error}"))?;
    // It may have ended before the kernel was told.
    match getppid().map(Pid::as_raw_pid) {
        Some(now) if now == parent => Ok(()),
        Some(_) | None => Err(format!("process {parent}, named as the parent, is not it or has ended")),
    }
}

/// What the kernel's messages call it (15 characters of it).
fn name(kind: Kind<'_>) -> &'static CStr {
    match kind {
        Kind::Hog(_) => c"exit137-hog",
        Kind::Leak(_) => c"exit137-leak",
        Kind::Children(_) => c"exit137-parent",
        Kind::Tmpfs(_) => c"exit137-tmpfs",
        Kind::PageCache(_) => c"exit137-cache",
        Kind::IgnoreTerm(_) => c"exit137-no-term",
        Kind::Exit(_) => c"exit137-exit",
        Kind::Serve(_) => c"exit137-serve",
        Kind::Cpu(_) => c"exit137-cpu",
        Kind::Idle => c"exit137-idle",
    }
}

/// Names this process.
fn named(name: &CStr) -> Result<(), String> {
    set_name(name).map_err(|error| format!("cannot name the process: {error}"))
}

fn run(workload: &Workload) -> Result<u8, String> {
    let kind = workload.kind()?;
    // A worker is started from /proc/self/exe and would be called `exe`.
    named(name(kind))?;
    let on_term = match kind {
        Kind::IgnoreTerm(_) => OnTerm::Ignore,
        Kind::Hog(_)
        | Kind::Leak(_)
        | Kind::Children(_)
        | Kind::Tmpfs(_)
        | Kind::PageCache(_)
        | Kind::Exit(_)
        | Kind::Serve(_)
        | Kind::Cpu(_)
        | Kind::Idle => workload.on_term.unwrap_or(OnTerm::Exit),
    };
    let terminated = term::install(on_term, workload.term_code.unwrap_or(143))?;
    clock::sleep_ms(workload.start_after.unwrap_or_default().ms);
    if on_term == OnTerm::Start {
        terminated.wait();
    }
    match kind {
        Kind::Hog(hog) => grow::hog(hog),
        Kind::Leak(leak) => grow::leak(leak),
        Kind::Children(children) => children::run(children),
        Kind::Tmpfs(tmpfs) => files::fill_tmpfs(tmpfs),
        Kind::PageCache(cache) => files::page_cache(cache),
        Kind::IgnoreTerm(ignore) => {
            grow::hog(&Hog { size: Some(ignore.size.unwrap_or_default()), ..Hog::default() })
        }
        Kind::Exit(exit) => {
            clock::sleep_ms(exit.after.ms);
            Ok(exit.code)
        }
        Kind::Serve(serve) => serve::run(serve),
        Kind::Cpu(cpu) => {
            if let Some(limit) = cpu.rlimit_cpu {
                let seconds = Some(limit.ms / 1000);
                // Soft and hard at once: at the soft limit alone the kernel sends SIGXCPU, at the hard one SIGKILL.
                setrlimit(Resource::Cpu, Rlimit { current: seconds, maximum: seconds })
                    .map_err(|error| format!("cannot set RLIMIT_CPU: {error}"))?;
            }
            loop {
                std::hint::spin_loop();
            }
        }
        Kind::Idle => clock::sleep_for_ever(),
    }
}
