//! `exit137`: arguments, logging, run the command, exit status.

use std::process::ExitCode;

use clap::Parser as _;
use exit137::backend::local;
use exit137::cli::{Cli, Color, Command};
use exit137::command;
use exit137::exit_status::ExitStatus;

fn main() -> ExitCode {
    // A helper process must not have a second thread, so it is told apart before anything else.
    if let Some(code) = std::env::args().nth(1).and_then(|arg| local::helper_main(&arg)) {
        return code;
    }
    let cli = Cli::parse();
    log(cli.verbose, cli.color);
    let outcome = std::panic::catch_unwind(|| run(cli));
    // What a panic left behind, the guardian has removed by now or does so within a second.
    ExitCode::from(outcome.unwrap_or(ExitStatus::Environment).code())
}

fn run(cli: Cli) -> ExitStatus {
    match cli.command {
        Command::Run(args) => command::run::run(&args, cli.color),
        Command::Size(args) => command::size::size(&args, cli.color),
        Command::Sweep(args) => command::sweep::sweep(&args, cli.color),
        Command::Check(args) => command::check::check(&args),
        Command::Report(args) => command::report::report(&args, cli.color),
        Command::Doctor(args) => command::doctor::doctor(&args),
        Command::Schema(args) => command::schema::schema(&args),
        Command::Show(args) => command::show::show(&args),
        Command::Cluster(args) => command::cluster::cluster(&args),
        Command::Image(args) => command::image::image(&args),
        Command::Gc(args) => command::gc::gc(&args),
        Command::Agent(args) => command::agent::agent(&args),
    }
}

fn log(verbose: u8, color: Color) {
    let level = match verbose {
        // What the client calls an error is asked again, and told where that does not help.
        0 => "warn,kube_client=off,kube_runtime=off",
        1 => "info,kube_client=off,kube_runtime=off",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("EXIT137_LOG").unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(command::colors_errors(color))
        .without_time()
        .init();
}
