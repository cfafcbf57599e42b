//! `exit137-workload`: carries out what a scenario says below `workload:`, or what the command line says.

mod args;
mod children;
mod clock;
mod files;
mod grow;
mod memory;
mod report;
mod serve;
mod term;

use std::process::ExitCode;

use exit137_workload::{Hog, Kind, OnTerm, Workload};
use rustix::process::{Resource, Rlimit, setrlimit};

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(args::Parsed::Run(workload)) => match run(&workload) {
            Ok(code) => ExitCode::from(code),
            Err(problem) => {
                report::problem(&problem);
                ExitCode::from(1)
            }
        },
        Ok(args::Parsed::Help) => {
            report::text(args::HELP);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            report::problem(&format!("{problem}\nTry: exit137-workload --help"));
            ExitCode::from(2)
        }
    }
}

fn run(workload: &Workload) -> Result<u8, String> {
    let kind = workload.kind()?;
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
