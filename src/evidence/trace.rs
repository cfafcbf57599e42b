//! Lines of a tracefs `trace_pipe`, in its text form.
//!
//! `            sh-5500    [001] d..1.  1227.674529: signal_generate: sig=9 errno=0 code=128 comm=hog pid=5500 grp=1 res=0`
//!
//! With `trace_clock` set to `boot` the stamp is boot time, printed in microseconds (`kernel/trace/trace_output.c`).

use super::{Fact, Moment, SignalSent, VictimMarked};

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLine {
    /// When, in boot time.
    pub moment: Moment,
    /// What.
    pub event: TraceEvent,
}

/// The events that we ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// `signal:signal_generate`.
    Signal(SignalSent),
    /// `oom:mark_victim`.
    Victim(VictimMarked),
    /// `sched:sched_process_fork`.
    Fork {
        /// Who forked.
        parent: u32,
        /// The new process or thread.
        child: u32,
    },
    /// `task:task_rename`: at exec, or by itself.
    Rename {
        /// Who.
        pid: u32,
        /// What it is called from now on.
        comm: String,
    },
}

/// How many events `CPU:1 [LOST 12 EVENTS]` says were overwritten.
pub fn parse_lost(line: &str) -> Option<u64> {
    let count = line.trim().strip_prefix("CPU:")?.split_once("[LOST ")?.1;
    count.strip_suffix(" EVENTS]")?.parse().ok()
}

/// Reads a line of one of the events that we ask for.
pub fn parse_line(line: &str) -> Option<TraceLine> {
    let (name, at) = ["signal_generate", "mark_victim", "sched_process_fork", "task_rename"]
        .iter()
        .filter_map(|name| line.find(&format!(": {name}: ")).map(|at| (*name, at)))
        .min_by_key(|(_, at)| *at)?;
    let (header, body) = (line.get(..at)?, line.get(at + name.len() + 4..)?);
    // From the right, since a name may hold anything: `comm-pid [cpu] flags stamp`.
    let (header, stamp) = header.trim_end().rsplit_once(' ')?;
    let (sender, _) = header.rsplit_once('[')?;
    let (comm, pid) = sender.trim_end().rsplit_once('-')?;
    let event = match name {
        "signal_generate" => TraceEvent::Signal(parse_signal(body, comm.trim_start(), pid.parse().ok()?)?),
        "mark_victim" => TraceEvent::Victim(parse_victim(body)?),
        "task_rename" => TraceEvent::Rename { pid: pid.parse().ok()?, comm: parse_rename(body)? },
        _ => parse_fork(body)?,
    };
    Some(TraceLine { moment: parse_stamp(stamp)?, event })
}

/// `1227.674529`: what was cut off below the last digit is the moment's uncertainty.
fn parse_stamp(stamp: &str) -> Option<Moment> {
    let (seconds, fraction) = stamp.split_once('.')?;
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?;
    let unit = 10_u64.pow(9 - digits);
    let ns = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
    let ns = ns.checked_add(fraction.parse::<u64>().ok()? * unit)?;
    Some(Moment::between(ns, ns.checked_add(unit - 1)?))
}

/// `sig=9 errno=0 code=128 comm=hog pid=5500 grp=1 res=0` (`include/trace/events/signal.h`)
fn parse_signal(body: &str, sender_comm: &str, sender_pid: u32) -> Option<SignalSent> {
    let (head, rest) = body.split_once(" comm=")?;
    let (comm, tail) = rest.rsplit_once(" pid=")?;
    let number = |text: &str, key: &str| -> Option<i32> {
        text.split(' ').find_map(|field| field.strip_prefix(key)?.parse().ok())
    };
    Some(SignalSent {
        signal: number(head, "sig=")?,
        code: number(head, "code=")?,
        sender_pid,
        sender_comm: sender_comm.to_owned(),
        target_pid: tail.split(' ').next()?.parse().ok()?,
        target_comm: comm.to_owned(),
        result: number(tail.trim_end(), "res=")?,
    })
}

/// `pid=N`, and on newer kernels ` comm=… total-vm=…kB …` (`include/trace/events/oom.h`)
fn parse_victim(body: &str) -> Option<VictimMarked> {
    let rest = body.trim_end().strip_prefix("pid=")?;
    let (pid, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let comm = rest.strip_prefix("comm=").and_then(|rest| Some(rest.rsplit_once(" total-vm=")?.0.to_owned()));
    Some(VictimMarked { pid: pid.parse().ok()?, comm })
}

/// `comm=sh pid=1 child_comm=sh child_pid=2` (`include/trace/events/sched.h`)
fn parse_fork(body: &str) -> Option<TraceEvent> {
    let (rest, child) = body.trim_end().rsplit_once(" child_pid=")?;
    let (rest, _) = rest.rsplit_once(" child_comm=")?;
    let (_, parent) = rest.rsplit_once(" pid=")?;
    Some(TraceEvent::Fork { parent: parent.parse().ok()?, child: child.parse().ok()? })
}

/// `oldcomm=a newcomm=b oom_score_adj=0`, before Linux 6.14 with the PID in front (`include/trace/events/task.h`)
fn parse_rename(body: &str) -> Option<String> {
    let (rest, _) = body.rsplit_once(" oom_score_adj=")?;
    Some(rest.rsplit_once(" newcomm=")?.1.to_owned())
}

impl TraceEvent {
    /// The fact that it states by itself; a fork states one only together with whose process forked.
    pub fn into_fact(self) -> Option<Fact> {
        match self {
            Self::Signal(signal) => Some(Fact::Signal(signal)),
            Self::Victim(victim) => Some(Fact::Victim(victim)),
            Self::Fork { .. } | Self::Rename { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rename_names_the_process_on_older_and_newer_kernels() {
        let of = |body: &str| {
            parse_line(&format!("  a b-7  [001] ..... 1.000001: task_rename: {body}")).unwrap().event
        };
        let renamed = TraceEvent::Rename { pid: 7, comm: "exit137-action".into() };
        assert_eq!(of("oldcomm=a b newcomm=exit137-action oom_score_adj=0"), renamed);
        assert_eq!(of("pid=7 oldcomm=a b newcomm=exit137-action oom_score_adj=-998"), renamed);
    }

    #[test]
    fn a_signal_names_sender_and_receiver() {
        let line = "            ba-sh 1-5500    [001] d..1.  1227.674529: signal_generate: sig=9 errno=0 code=0 comm=my hog pid=5501 grp=1 res=0";
        let parsed = parse_line(line).unwrap();
        assert_eq!(parsed.moment, Moment::between(1_227_674_529_000, 1_227_674_529_999));
        let expected = SignalSent {
            signal: 9,
            code: 0,
            sender_pid: 5500,
            sender_comm: "ba-sh 1".into(),
            target_pid: 5501,
            target_comm: "my hog".into(),
            result: 0,
        };
        assert_eq!(parsed.event, TraceEvent::Signal(expected));
    }

    #[test]
    fn victims_are_understood_in_the_old_and_the_new_form() {
        let old = "  hog-7  [000] ..... 1.000001: mark_victim: pid=7";
        assert_eq!(parse_line(old).unwrap().event, TraceEvent::Victim(VictimMarked { pid: 7, comm: None }));
        let new = "  hog-7  [000] ..... 1.000001: mark_victim: pid=7 comm=a b total-vm=1kB anon-rss=1kB file-rss:0kB shmem-rss:0kB uid=0 pgtables=4kB oom_score_adj=0";
        let victim = VictimMarked { pid: 7, comm: Some("a b".into()) };
        assert_eq!(parse_line(new).unwrap().event, TraceEvent::Victim(victim));
    }

    #[test]
    fn forks_and_losses_are_understood() {
        let fork =
            "  sh-7  [000] ..... 1.000001: sched_process_fork: comm=sh pid=7 child_comm=x pid=9 child_pid=8";
        assert_eq!(parse_line(fork).unwrap().event, TraceEvent::Fork { parent: 7, child: 8 });
        assert_eq!(parse_lost("CPU:1 [LOST 12 EVENTS]"), Some(12));
        assert_eq!(parse_lost(fork), None);
    }

    proptest! {
        #[test]
        fn arbitrary_lines_are_no_reason_to_panic(line in ".{0,200}") {
            parse_line(&line);
            parse_line(&format!("a-1 [0] . 1.5: signal_generate: {line}"));
            parse_line(&format!("{line}: mark_victim: {line}"));
        }
    }
}
