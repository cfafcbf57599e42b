//! What ends a run early: signals, its own timeout, the guardian's alarm.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exit137_workload::Span;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::clock;
use crate::command::complain;
use crate::exit_status::ExitStatus;

/// Whether the run is to end, and why.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    /// True once it is.
    pub(super) asked: watch::Receiver<bool>,
    why: Arc<Mutex<Option<(ExitStatus, String)>>>,
}

/// What stops a whole group of processes (`timeout`, `npm`, a shell's `kill 0`) signals it and them, so that the same
/// one comes twice; whoever asks twice takes longer.
const TWICE_NS: u64 = 100_000_000;

/// The signals that end a run, from when on they no longer end the process by themselves.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Holds signals back from now on; [`Interrupt::listen`] acts on those that came meanwhile.
    pub(super) fn hold() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl Interrupt {
    /// Listens from now on. The first signal lets the run tidy up, the second ends it at once: the guardian tidies then.
    pub(super) fn listen(
        signals: Signals,
        timeout: Span,
        mut alarm: watch::Receiver<Option<String>>,
    ) -> Self {
        let Signals { mut interrupt, mut terminate, mut hangup } = signals;
        let (sender, asked) = watch::channel(false);
        let why = Arc::new(Mutex::new(None));
        let reason = Arc::clone(&why);
        tokio::spawn(async move {
            let deadline = tokio::time::sleep(Duration::from_millis(timeout.ms));
            tokio::pin!(deadline);
            let (mut alarmed, mut signalled) = (false, None::<(ExitStatus, u64)>);
            loop {
                let (status, text) = tokio::select! {
                    _ = interrupt.recv() => (ExitStatus::Interrupted, "interrupted by SIGINT; tidying up (once more: at once)".to_owned()),
                    _ = terminate.recv() => (ExitStatus::Terminated, "interrupted by SIGTERM; tidying up (once more: at once)".to_owned()),
                    _ = hangup.recv() => (ExitStatus::Terminated, "the terminal is gone; tidying up".to_owned()),
                    () = &mut deadline, if !*sender.borrow() => {
                        (ExitStatus::Inconclusive, format!("the run met its timeout of {timeout}; see --timeout"))
                    }
                    Ok(()) = alarm.changed(), if !alarmed => {
                        alarmed = true;
                        (ExitStatus::Environment, alarm.borrow().clone().unwrap_or_default())
                    }
                };
                if matches!(status, ExitStatus::Interrupted | ExitStatus::Terminated) {
                    let now = clock::boot_ns();
                    let same = signalled
                        .replace((status, now))
                        .is_some_and(|(before, at)| before == status && now - at < TWICE_NS);
                    if *sender.borrow() && !same {
                        at_once(status);
                    }
                }
                reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((status, text));
                sender.send_replace(true);
            }
        });
        Self { asked, why }
    }

    /// Says why the run ends early, if it does, and which exit status that asks for.
    pub(super) fn tell(&self, statuses: &mut Vec<ExitStatus>) {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((status, text)) = why {
            complain(&text);
            statuses.push(status);
        }
    }
}

#[expect(clippy::exit, reason = "the user asked twice; the guardian removes what is left within a second")]
fn at_once(status: ExitStatus) -> ! {
    std::process::exit(i32::from(status.code()))
}
