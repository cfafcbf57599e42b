//! SIGTERM. PID 1 of a namespace has no default action for it (`pid_namespaces(7)`), so it is always handled here.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use exit137_workload::OnTerm;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

/// Whether SIGTERM has come.
#[derive(Clone, Default)]
pub struct Terminated(Arc<(Mutex<bool>, Condvar)>);

impl Terminated {
    /// Waits until it has come.
    pub fn wait(&self) {
        let (come, changed) = &*self.0;
        let mut come = come.lock().unwrap_or_else(PoisonError::into_inner);
        while !*come {
            come = changed.wait(come).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn set(&self) {
        let (come, changed) = &*self.0;
        *come.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}

/// Handles SIGTERM from now on, in a thread of its own.
pub fn install(on_term: OnTerm, code: u8) -> Result<Terminated, String> {
    let terminated = Terminated::default();
    let told = terminated.clone();
    let mut signals = Signals::new([SIGTERM]).map_err(|error| format!("cannot handle SIGTERM: {error}"))?;
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(move || {
            for _ in &mut signals {
                match on_term {
                    OnTerm::Exit => exit(code.into()),
                    OnTerm::Ignore => {}
                    OnTerm::Start => told.set(),
                }
            }
        })
        .map_err(|error| format!("cannot start the thread that handles SIGTERM: {error}"))?;
    Ok(terminated)
}

#[expect(clippy::exit, reason = "SIGTERM ends the program whatever the main thread is doing")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
