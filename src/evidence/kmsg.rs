//! The kernel log: `/dev/kmsg` records and what the OOM killer says in them.
//!
//! The format is Linux's `Documentation/ABI/testing/dev-kmsg`; the texts are those of `mm/oom_kill.c` and `mm/memcontrol.c`.

use super::{Fact, KernelKilled, Moment, OomDomain, OomSummary};

/// One record as `read(2)` on `/dev/kmsg` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsgRecord {
    /// 0 is the kernel itself; user space can only write others, so it cannot forge a kernel's line.
    pub facility: u32,
    /// The kernel's own sequence number.
    pub sequence: u64,
    /// Microseconds on the kernel log's clock.
    pub stamp_us: u64,
    /// Whether this continues the record before it.
    pub continues: bool,
    /// The text, without the `KEY=value` lines that may follow it.
    pub text: String,
}

/// The kernel log's clock beside boot time, as calibrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelLogClock {
    /// Boot time less stamp, in nanoseconds.
    pub offset_ns: i64,
    /// How far off that may be.
    pub error_ns: u64,
}

/// Reads one record: `prio,sequence,stamp_us,flags[,…];text\n[ KEY=value\n…]`.
pub fn parse_record(bytes: &[u8]) -> Option<KmsgRecord> {
    let record = String::from_utf8_lossy(bytes);
    let (header, rest) = record.split_once(';')?;
    let mut fields = header.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let stamp_us = fields.next()?.parse().ok()?;
    let continues = fields.next()?.contains('c');
    let text = unescape(rest.split('\n').next().unwrap_or_default());
    Some(KmsgRecord { facility: priority >> 3, sequence, stamp_us, continues, text })
}

/// Undoes printk's `\xNN`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = rest
            .strip_prefix(br"\x")
            .and_then(|hex| std::str::from_utf8(hex.get(..2)?).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = escaped {
            bytes.push(byte);
            rest = rest.get(4..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The longest text that is joined from fragments; a path alone can have 4096 bytes.
const LONGEST: usize = 64 * 1024;

/// Joins the fragments of long lines. A line is complete when something that does not continue it follows.
///
/// A summary line of more than about 1000 bytes is cut (`printk`'s `LOG_LINE_MAX`) and goes on in records with the flag
/// `c`; foreign records may lie between.
#[derive(Debug, Default)]
pub struct Assembler {
    unfinished: Option<KmsgRecord>,
    next_sequence: Option<u64>,
}

impl Assembler {
    /// Takes a record; answers those that are complete now, and how many were lost before it.
    pub fn push(&mut self, record: KmsgRecord) -> (Vec<KmsgRecord>, u64) {
        let lost = self.next_sequence.map_or(0, |expected| record.sequence.saturating_sub(expected));
        self.next_sequence = Some(record.sequence.saturating_add(1));
        if record.facility != 0 {
            return (vec![record], lost);
        }
        if record.continues {
            if let Some(begun) = &mut self.unfinished
                && begun.text.len() + record.text.len() <= LONGEST
            {
                begun.text.push_str(&record.text);
            }
            return (self.take_complete_summary(), lost);
        }
        let mut complete: Vec<_> = self.unfinished.take().into_iter().collect();
        if record.text.starts_with("oom-kill:") && parse_text(&record.text).is_none() {
            self.unfinished = Some(record);
        } else {
            complete.push(record);
        }
        (complete, lost)
    }

    fn take_complete_summary(&mut self) -> Vec<KmsgRecord> {
        let complete = self.unfinished.as_ref().is_some_and(|record| parse_text(&record.text).is_some());
        if complete { self.unfinished.take().into_iter().collect() } else { Vec::new() }
    }
}

/// What the mark of our own calibration says, if this record is one.
pub fn calibration_nonce(record: &KmsgRecord) -> Option<u64> {
    if record.facility == 0 {
        return None;
    }
    record.text.strip_prefix(CALIBRATION_MARK)?.trim().parse().ok()
}

/// How our calibration marks begin.
pub const CALIBRATION_MARK: &str = "exit137-cal ";

/// What a line of the kernel says about an OOM, if it is about one.
pub fn parse_text(text: &str) -> Option<Fact> {
    if let Some(rest) = text.strip_prefix("oom-kill:") {
        return parse_summary(rest).map(Fact::OomSummary);
    }
    if let Some(rest) = text.strip_prefix("Tasks in ") {
        let cgroup = rest.strip_suffix(" are going to be killed due to memory.oom.group set")?;
        return Some(Fact::OomGroup { cgroup: cgroup.to_owned() });
    }
    parse_killed(text).map(Fact::KernelKilled).or_else(|| parse_invoked(text))
}

/// `constraint=…,nodemask=…,cpuset=…,mems_allowed=…,(oom_memcg=…|global_oom),task_memcg=…,task=…,pid=…,uid=…`
///
/// Read from the right: a task's name and a cgroup's name are free text. (`mm/oom_kill.c:dump_oom_victim`)
fn parse_summary(text: &str) -> Option<OomSummary> {
    let constraint = text.strip_prefix("constraint=")?.split(',').next()?;
    let (rest, uid) = text.rsplit_once(",uid=")?;
    uid.trim().parse::<u32>().ok()?;
    let (rest, pid) = rest.rsplit_once(",pid=")?;
    let (rest, comm) = rest.rsplit_once(",task=")?;
    let (rest, task_memcg) = rest.split_once(",task_memcg=")?;
    let domain = match constraint {
        "CONSTRAINT_MEMCG" => OomDomain::Memcg { cgroup: rest.split_once(",oom_memcg=")?.1.to_owned() },
        "CONSTRAINT_NONE" => OomDomain::Global,
        "CONSTRAINT_CPUSET" | "CONSTRAINT_MEMORY_POLICY" => OomDomain::Numa,
        _ => return None,
    };
    Some(OomSummary {
        domain,
        task_memcg: task_memcg.to_owned(),
        comm: comm.to_owned(),
        pid: pid.trim().parse().ok()?,
    })
}

/// `[Memory cgroup out of memory|Out of memory[ (…)]]: Killed process PID (COMM) total-vm:…kB, anon-rss:…kB, …`
fn parse_killed(text: &str) -> Option<KernelKilled> {
    let (prefix, rest) = text.split_once("Killed process ")?;
    let memcg = match prefix {
        "Memory cgroup out of memory: " => true,
        "Out of memory: " | "Out of memory (oom_kill_allocating_task): " => false,
        _ => return None,
    };
    let (pid, rest) = rest.split_once(" (")?;
    let (comm, sizes) = rest.rsplit_once(") total-vm:")?;
    let kib = |key: &str| -> Option<u64> {
        let value = sizes.split_once(key)?.1;
        value.split_once("kB")?.0.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(KernelKilled {
        pid: pid.parse().ok()?,
        comm: comm.to_owned(),
        memcg,
        anon_rss: kib("anon-rss:")?,
        file_rss: kib("file-rss:")?,
        shmem_rss: kib("shmem-rss:").unwrap_or(0),
        oom_score_adj: sizes.split_once("oom_score_adj:").and_then(|(_, adj)| adj.trim().parse().ok()),
    })
}

/// `COMM invoked oom-killer: gfp_mask=…, order=…, oom_score_adj=…`
fn parse_invoked(text: &str) -> Option<Fact> {
    let (comm, rest) = text.split_once(" invoked oom-killer: ")?;
    let order = rest.split_once("order=")?.1.split(',').next()?.parse().ok()?;
    Some(Fact::OomInvoked { comm: comm.to_owned(), order })
}

impl KernelLogClock {
    /// When a stamp of the kernel log was, in boot time.
    pub fn moment(self, stamp_us: u64) -> Moment {
        let boot = i128::from(stamp_us) * 1000 + i128::from(self.offset_ns);
        let boot = u64::try_from(boot).unwrap_or(0);
        // The stamp is cut to microseconds: the event is up to one later.
        Moment::between(boot.saturating_sub(self.error_ns), boot.saturating_add(self.error_ns + 999))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V1: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/x137,task_memcg=/x137/b,task=v1oom,pid=5500,uid=0";

    fn record(line: &str) -> KmsgRecord {
        parse_record(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_is_its_header_and_the_first_line_of_its_text() {
        let record = record("6,519,1227674529,-,caller=T1;hello\\x0aworld\n SUBSYSTEM=x\n");
        assert_eq!(
            record,
            KmsgRecord {
                facility: 0,
                sequence: 519,
                stamp_us: 1_227_674_529,
                continues: false,
                text: "hello\nworld".into()
            }
        );
    }

    #[test]
    fn the_summary_names_the_domain_and_the_victim() {
        let expected = OomSummary {
            domain: OomDomain::Memcg { cgroup: "/x137".into() },
            task_memcg: "/x137/b".into(),
            comm: "v1oom".into(),
            pid: 5500,
        };
        assert_eq!(parse_text(V1), Some(Fact::OomSummary(expected)));
    }

    #[test]
    fn a_global_oom_has_no_oom_memcg() {
        // Talos, causes.md section 10.
        let text = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=runtime,mems_allowed=0,global_oom,task_memcg=/system/runtime,task=udevd,pid= 1448,uid=    0";
        let Some(Fact::OomSummary(summary)) = parse_text(text) else { panic!("not a summary") };
        assert_eq!((summary.domain, summary.pid), (OomDomain::Global, 1448));
    }

    #[test]
    fn killed_process_lines_give_pid_name_and_sizes() {
        let text = "Memory cgroup out of memory: Killed process 5499 (a) b) total-vm:14764kB, anon-rss:12160kB, file-rss:564kB, shmem-rss:0kB, UID:0 pgtables:72kB oom_score_adj:-997";
        let Some(Fact::KernelKilled(killed)) = parse_text(text) else { panic!("not a kill") };
        assert_eq!((killed.pid, killed.comm.as_str(), killed.memcg), (5499, "a) b", true));
        assert_eq!((killed.anon_rss, killed.oom_score_adj), (12160 * 1024, Some(-997)));
    }

    #[test]
    fn group_and_header_lines_are_understood() {
        let group = "Tasks in /kubepods/x.scope are going to be killed due to memory.oom.group set";
        assert_eq!(parse_text(group), Some(Fact::OomGroup { cgroup: "/kubepods/x.scope".into() }));
        let header = "my hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0";
        assert_eq!(parse_text(header), Some(Fact::OomInvoked { comm: "my hog".into(), order: 0 }));
    }

    #[test]
    fn user_space_cannot_forge_a_line_of_the_kernel() {
        assert_eq!(record(&format!("12,1,1,-;{V1}")).facility, 1);
        assert_eq!(calibration_nonce(&record("14,438,1227651091,-;exit137-cal 77\n")), Some(77));
        assert_eq!(calibration_nonce(&record("6,438,1227651091,-;exit137-cal 77\n")), None);
    }

    #[test]
    fn a_long_line_is_joined_across_foreign_records_and_losses_are_counted() {
        let (head, tail) = V1.split_at(60);
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(record(&format!("6,10,5,-;{head}"))), (vec![], 0));
        assert_eq!(assembler.push(record("14,11,6,-;foreign")).0.len(), 1);
        let (joined, lost) = assembler.push(record(&format!("4,14,5,c;{tail}")));
        assert_eq!((joined[0].text.as_str(), joined[0].stamp_us, lost), (V1, 5, 2));
    }

    proptest! {
        #[test]
        fn a_summary_survives_any_name(comm in "[^\n\\\\]{1,15}", path in "/[a-z0-9/_.-]{0,80}") {
            prop_assume!(!comm.contains(",pid=") && !comm.contains(",task="));
            let text = format!("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c,mems_allowed=0,oom_memcg={path},task_memcg={path}/t,task={comm},pid=7,uid=0");
            let expected = OomSummary {
                domain: OomDomain::Memcg { cgroup: path.clone() },
                task_memcg: format!("{path}/t"),
                comm,
                pid: 7,
            };
            prop_assert_eq!(parse_text(&text), Some(Fact::OomSummary(expected)));
        }

        #[test]
        fn arbitrary_bytes_are_no_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut assembler = Assembler::default();
            if let Some(record) = parse_record(&bytes) {
                assembler.push(record);
            }
        }

        #[test]
        fn arbitrary_text_is_no_reason_to_panic(text in ".{0,200}") {
            parse_text(&text);
        }
    }
}
