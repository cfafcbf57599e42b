//! What a person sees while scenarios run. The only module that knows whether a terminal is there.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::report::model::Outcome;

/// What happens in a run, as far as a person cares.
#[derive(Clone, Copy, Debug)]
pub enum RunEvent<'a> {
    /// A trial begins.
    Started,
    /// It has come to this.
    Phase(&'a str),
    /// A container holds so much of so much.
    Memory {
        /// Bytes now.
        usage: u64,
        /// Bytes allowed.
        limit: Option<u64>,
    },
    /// Processes were killed, so many by now.
    Kills(u64),
    /// A trial has ended.
    Ended(Outcome, Duration),
}

/// Shows the events of trials, by their names.
#[derive(Debug)]
pub struct Progress {
    live: Option<Live>,
}

#[derive(Debug, Default)]
struct Live {
    bars: MultiProgress,
    trials: Mutex<HashMap<String, Trial>>,
}

#[derive(Debug)]
struct Trial {
    bar: ProgressBar,
    phase: String,
    memory: String,
    kills: u64,
}

impl Progress {
    /// Live on a terminal that can; otherwise plain lines.
    pub fn new() -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let ci = std::env::var_os("CI").is_some();
        let live = stderr().is_terminal() && !dumb && !ci;
        Self { live: live.then(Live::default) }
    }

    /// Shows an event of a trial.
    pub fn event(&self, trial: &str, event: RunEvent<'_>) {
        match &self.live {
            Some(live) => live.event(trial, event),
            None => plain(trial, event),
        }
    }

    /// Says a line without disturbing what is live.
    pub fn say(&self, line: &str) {
        match &self.live {
            Some(live) => live.bars.suspend(|| write_line(line)),
            None => write_line(line),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    fn event(&self, name: &str, event: RunEvent<'_>) {
        let mut trials = self.trials.lock().unwrap_or_else(PoisonError::into_inner);
        if let RunEvent::Started = event {
            let bar = self.bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(format!("{name:<32}"));
            bar.enable_steady_tick(Duration::from_millis(100));
            trials.insert(
                name.to_owned(),
                Trial { bar, phase: "starting".into(), memory: String::new(), kills: 0 },
            );
        }
        let Some(trial) = trials.get_mut(name) else { return };
        match event {
            RunEvent::Started => {}
            RunEvent::Phase(phase) => phase.clone_into(&mut trial.phase),
            RunEvent::Memory { usage, limit } => trial.memory = memory(usage, limit),
            RunEvent::Kills(kills) => trial.kills = kills,
            RunEvent::Ended(..) => {
                trial.bar.finish_and_clear();
                trials.remove(name);
                return;
            }
        }
        let kills = if trial.kills > 0 { format!("  kills {}", trial.kills) } else { String::new() };
        trial.bar.set_message(format!("{:<9} {}{kills}", trial.phase, trial.memory));
    }
}

fn plain(trial: &str, event: RunEvent<'_>) {
    match event {
        RunEvent::Started => write_line(&format!("start  {trial}")),
        RunEvent::Ended(outcome, took) => {
            write_line(&format!("{:<6} {trial} ({:.1} s)", outcome.as_str(), took.as_secs_f64()));
        }
        RunEvent::Phase(_) | RunEvent::Memory { .. } | RunEvent::Kills(_) => {}
    }
}

fn memory(usage: u64, limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!("{} of {} MiB", usage >> 20, limit >> 20),
        None => format!("{} MiB", usage >> 20),
    }
}

fn write_line(line: &str) {
    // Nobody may be listening.
    let _ = writeln!(stderr(), "{line}");
}
