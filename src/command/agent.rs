//! `exit137 agent`: what runs on each node of a cluster, and writes what it sees to standard output.

use std::time::Duration;

use super::fail;
use crate::backend::kubernetes::agent::serve::{Agent, serve};
use crate::cli;
use crate::exit_status::ExitStatus;

/// A writer whose reader has stopped reading is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Observes until it is told to stop.
pub fn agent(args: &cli::Agent) -> ExitStatus {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let agent = Agent { node: args.node.clone(), name: args.name.clone() };
    let served = runtime.block_on(serve(&agent));
    runtime.shutdown_timeout(PATIENCE);
    match served {
        Ok(()) => ExitStatus::Passed,
        Err(error) => fail(&error.to_string()),
    }
}
