//! What is heard: lines on standard input, and SIGTERM. Each has a thread of its own.

use std::io::BufRead as _;
use std::sync::mpsc::Sender;

use exit137_workload::traffic::Control;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use super::Event;

/// Hears both from now on.
pub fn listen(said: &Sender<Event>) -> Result<(), String> {
    let mut signals = Signals::new([SIGTERM]).map_err(|error| format!("cannot handle SIGTERM: {error}"))?;
    let to = said.clone();
    spawn("signals", move || {
        for _ in &mut signals {
            // Whoever is not there any more has ended.
            let _ = to.send(Event::Terminated);
        }
    })?;
    let to = said.clone();
    spawn("stdin", move || {
        for line in std::io::stdin().lock().lines() {
            let event = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => read(&line),
                Err(_) => break,
            };
            if to.send(event).is_err() {
                return;
            }
        }
        let _ = to.send(Event::Eof);
    })
}

fn read(line: &str) -> Event {
    match serde_json::from_str::<Control>(line) {
        Ok(control) => Event::Control(control),
        Err(error) => Event::Unknown(format!(
            "standard input: {line:?} is none of {{\"endpoints\": […]}}, {{\"start-at\": NS}} and \"stop\": {error}"
        )),
    }
}

/// A thread that does little.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(128 * 1024);
    builder.spawn(run).map(drop).map_err(|error| format!("cannot start the thread {name}: {error}"))
}
