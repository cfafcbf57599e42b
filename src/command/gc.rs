//! `exit137 gc`.

use rustix::process::geteuid;

use super::{block_on, complain, fail, print};
use crate::backend::kubernetes::{self, kind::Kind};
use crate::backend::local::gc;
use crate::cli;
use crate::exit_status::ExitStatus;

/// Removes what dead runs left behind, and says what it was.
pub fn gc(args: &cli::Gc) -> ExitStatus {
    let (mut removed, mut stuck) = (gc::collect(), Vec::new());
    // Without kind there are no clusters of its kind.
    if let Ok(kind) = block_on(Kind::find()) {
        match block_on(kind.collect(args.kept)) {
            Ok(gone) => removed.gone.extend(gone),
            Err(why) => removed.failed.push(format!("kind's clusters: {why}")),
        }
    }
    if let Some(context) = &args.context {
        match block_on(kubernetes::collect(context, args.kept)) {
            Ok(collected) => {
                removed.gone.extend(collected.gone);
                stuck = collected.stuck;
            }
            Err(why) => return fail(&why),
        }
    }
    let mut text = String::new();
    for what in &removed.gone {
        text.push_str(&format!("removed {what}\n"));
    }
    if removed.gone.is_empty() && removed.failed.is_empty() && stuck.is_empty() {
        // Of others' runs nobody but root may remove anything.
        let whose = if geteuid().is_root() { "" } else { " by this user's runs" };
        text.push_str(&format!("nothing was left behind{whose}\n"));
    }
    let printed = print(&text);
    for what in stuck.iter().chain(&removed.failed) {
        complain(&format!("cannot remove {what}"));
    }
    if !removed.failed.is_empty() {
        fail("something is still there; are you root?")
    } else if !stuck.is_empty() {
        fail("something is still on the cluster")
    } else {
        printed
    }
}
