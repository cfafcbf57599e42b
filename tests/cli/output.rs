//! What is told, and where.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{Desk, brief, is_root, web};

const ESCAPE: char = '\x1b';

/// Takes a while to grow, and then dies of it.
fn grows() -> String {
    format!(
        "{}\nobserve: {{for: 10s, until: {{allEnded: true}}}}\nexpect: {{terminations: [{{container: web/app, cause: container-oom}}]}}",
        web("workload: {hog: {size: 128Mi, rate: 32Mi/s}}", "48Mi")
    )
}

#[test]
fn standard_output_is_the_report_and_standard_error_the_progress() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("grows", &grows());
    let ran = desk.run(&["--repeat", "2"]).exits(0);
    for part in [
        "passed       grows  2 of 2 trials passed",
        "web/app  exit 137 (signal 9) at +",
        "container-oom, ",
        " of 48.0 MiB",
        "1 passed, 0 failed",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} is not in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("start "), "{}", ran.stdout);
    for part in ["start  grows\n", "start  grows #2\n", "passed grows ("] {
        assert!(ran.stderr.contains(part), "{part:?} is not in\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("container-oom"), "{}", ran.stderr);
}

#[test]
fn a_failing_scenario_shows_what_was_expected_beside_what_happened_and_the_evidence() {
    if !is_root() {
        return;
    }
    let ran = Desk::with("wrong", &grows().replace("cause: container-oom", "cause: external-kill"))
        .run(&[])
        .exits(1);
    let lines: Vec<&str> = ran.stdout.lines().map(str::trim).collect();
    let expected =
        lines.iter().position(|line| line.starts_with("expected:") && line.contains("external-kill"));
    let expected = expected.unwrap_or_else(|| panic!("{}", ran.stdout));
    assert!(
        lines[expected + 1].starts_with("actual:") && lines[expected + 1].contains("container-oom"),
        "{}",
        ran.stdout
    );
    let evidence = lines[expected + 2..].iter().take_while(|line| line.contains(" #")).collect::<Vec<_>>();
    assert!(
        evidence.iter().any(|line| line.starts_with("kmsg #") && line.contains("Killed process")),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_failing_scenario_tells_what_a_program_of_the_users_own_wrote_last() {
    if !is_root() {
        return;
    }
    let says = "for n in 1 2 3 4 5 6; do echo line $n; done; echo cannot open app.yaml >&2; exit 3";
    let scenario = |code: i32| {
        format!(
            "{}\nobserve: {{for: 10s, until: {{allEnded: true}}}}\nexpect: {{terminations: [{{container: web/app, exitCode: {code}}}]}}",
            web(&format!("command: [sh, -c, '{says}']"), "32Mi")
        )
    };
    let desk = Desk::with("wrote", &scenario(0));
    let failed = desk.run(&[]).exits(1);
    let lines = &failed.trial("wrote")["terminations"][0]["lastLines"];
    assert_eq!(*lines, serde_json::json!(["line 3", "line 4", "line 5", "line 6", "cannot open app.yaml"]));
    assert!(failed.stdout.contains("    wrote last: line 3\n"), "{}", failed.stdout);
    assert!(failed.stdout.contains("                cannot open app.yaml\n"), "{}", failed.stdout);
    let passed = Desk::with("wrote", &scenario(3)).run(&[]).exits(0);
    assert!(!passed.stdout.contains("wrote last"), "{}", passed.stdout);
}

#[test]
fn a_reader_who_has_seen_enough_is_no_panic() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("brief", &brief());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let closed = Stdio::from(writer);
    let output =
        desk.command(&[]).stdout(closed).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let ran = desk.ran(output).exits(0);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert_eq!(ran.report()["summary"]["passed"], 1);
}

#[test]
fn a_closed_standard_error_is_no_panic_either() {
    if !is_root() {
        return;
    }
    let desk = Desk::with("brief", &brief());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let output = desk.command(&["-vv"]).stdout(Stdio::piped()).stderr(Stdio::from(writer)).spawn().unwrap();
    let ran = desk.ran(output.wait_with_output().unwrap()).exits(0);
    assert!(ran.stdout.contains("1 passed"), "{}", ran.stdout);
}

#[test]
fn without_a_terminal_there_are_no_escape_codes_not_even_in_the_log() {
    if !is_root() {
        return;
    }
    let ran = Desk::with("wrong", &brief().replace("exitCode: 7", "exitCode: 8")).run(&["-vv"]).exits(1);
    assert!(!ran.stdout.contains(ESCAPE), "{:?}", ran.stdout);
    assert!(!ran.stderr.contains(ESCAPE), "{:?}", ran.stderr);
}

/// Runs on a terminal, with both streams or only with standard output; answers all that was written to it.
fn on_a_terminal(desk: &Desk, env: &[(&str, &str)], progress_too: bool) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
    tcsetwinsize(slave.as_fd(), Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = desk.command(&[]);
    command.envs(env.iter().copied()).stdout(slave.try_clone().unwrap());
    command.stderr(if progress_too { Stdio::from(slave.try_clone().unwrap()) } else { Stdio::null() });
    drop(slave);
    let mut child = command.spawn().unwrap();
    // The command holds the other end; the last one to close it ends the reading.
    drop(command);
    let mut seen = Vec::new();
    // EIO is how a terminal's master says that nobody is left.
    let _ = File::from(master).read_to_end(&mut seen);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    String::from_utf8(seen).unwrap()
}

#[test]
fn on_a_terminal_progress_is_live_and_shows_the_phase_the_memory_that_grows_and_the_kills() {
    if !is_root() {
        return;
    }
    let seen = on_a_terminal(&Desk::with("grows", &grows()), &[], true);
    let live: Vec<&str> = seen.split(['\r', '\n', ESCAPE]).filter(|line| line.contains(" grows ")).collect();
    assert!(live.iter().any(|line| line.contains("running")), "{live:#?}");
    let sizes =
        live.iter().filter_map(|line| line.split_once(" of 48 MiB")?.0.rsplit(' ').next()?.parse().ok());
    let mut sizes: Vec<u64> = sizes.collect();
    sizes.dedup();
    assert!(
        sizes.len() >= 5,
        "the memory that is shown does not follow the container's: {sizes:?}\n{live:#?}"
    );
    assert!(live.iter().any(|line| line.contains("kills 1")), "{live:#?}");
    let table = seen.rfind("container-oom, ").unwrap_or_else(|| panic!("{seen:?}"));
    assert!(table > seen.rfind("kills 1").unwrap(), "the table comes after the progress");
    assert!(seen.contains("\x1b[32"), "a terminal has colours: {seen:?}");
}

#[test]
fn no_color_on_a_terminal_is_no_colour() {
    if !is_root() {
        return;
    }
    let seen = on_a_terminal(&Desk::with("brief", &brief()), &[("NO_COLOR", "1")], false);
    assert!(seen.contains("1 passed") && !seen.contains(ESCAPE), "{seen:?}");
    let seen = on_a_terminal(&Desk::with("brief", &brief()), &[("NO_COLOR", "1")], true);
    assert!(!seen.contains("\x1b[3") && !seen.contains("\x1b[1m"), "{seen:?}");
}
