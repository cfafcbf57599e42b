//! `exit137 gc`.

use super::{complain, fail, print};
use crate::backend::local::gc;
use crate::exit_status::ExitStatus;

/// Removes what dead runs left behind, and says what it was.
pub fn gc() -> ExitStatus {
    let removed = gc::collect();
    let mut text = String::new();
    for what in &removed.gone {
        text.push_str(&format!("removed {what}\n"));
    }
    if removed.gone.is_empty() && removed.failed.is_empty() {
        text.push_str("nothing was left behind\n");
    }
    let printed = print(&text);
    for what in &removed.failed {
        complain(&format!("cannot remove {what}"));
    }
    if removed.failed.is_empty() { printed } else { fail("something is still there; are you root?") }
}
