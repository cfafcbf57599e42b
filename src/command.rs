//! The commands, each a table of contents.

pub mod agent;
pub mod check;
pub mod cluster;
pub mod doctor;
pub mod gc;
pub mod image;
pub mod report;
pub mod run;
pub mod schema;
pub mod show;
pub mod size;
pub mod sweep;

use std::io::{self, IsTerminal as _, Write as _};

use crate::cli::Color;
use crate::exit_status::ExitStatus;
use crate::report::text::Style;

/// Writes to standard output. Whoever closed it has seen enough; anything else that prevents it is a failure.
fn print(text: &str) -> ExitStatus {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitStatus::Passed,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitStatus::Passed,
        Err(error) => fail(&format!("cannot write to standard output: {error}")),
    }
}

/// Waits for what a command asks of others.
fn block_on<T>(future: impl Future<Output = Result<T, crate::backend::BackendError>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(future).map_err(|error| error.to_string())
}

/// Says what went wrong, on standard error.
fn complain(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(io::stderr(), "exit137: {text}");
}

fn fail(text: &str) -> ExitStatus {
    complain(text);
    ExitStatus::Environment
}

fn style(color: Color) -> Style {
    if colors(color, io::stdout().is_terminal()) { Style::Colored } else { Style::Plain }
}

/// Whether what goes to standard error may have colours.
pub fn colors_errors(color: Color) -> bool {
    colors(color, io::stderr().is_terminal())
}

fn colors(color: Color, terminal: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}
