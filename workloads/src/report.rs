//! What it says: JSON lines on standard output, problems on standard error. Nobody need listen.

use std::io::Write as _;

/// Says how much is held now.
pub fn allocated(bytes: u64) {
    text(&format!("{{\"allocated\": {bytes}, \"at_monotonic_ns\": {}}}\n", crate::clock::now_ns()));
}

/// Says what happened.
pub fn event(name: &str, value: &str) {
    text(&format!("{{\"{name}\": {value:?}}}\n"));
}

/// Writes to standard output, at once; a reader that is gone is no reason to stop.
pub fn text(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says what went wrong.
pub fn problem(text: &str) {
    let _ = std::io::stderr().write_all(format!("exit137-workload: {text}\n").as_bytes());
}
