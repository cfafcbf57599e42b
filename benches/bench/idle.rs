//! What it takes to watch 50 idle containers.

use std::path::PathBuf;

use exit137::clock;

use crate::Measured;
use crate::runs::Run;
use crate::table::Row;

const CONTAINERS: usize = 50;
const WATCHED_SECONDS: u64 = 10;

const SCENARIO: &str = "apiVersion: exit137/v1
kind: Scenario
metadata: {name: bench-idle}
pods:
- name: web
  replicas: 50
  spec:
    containers:
    - name: app
      workload: {idle: {}}
      resources: {limits: {memory: 16Mi}}
observe: {for: 11s, settle: 0s}
expect: {nothingDies: true}
";

/// What a process has used and holds.
#[derive(Clone, Copy, Default)]
struct Use {
    cpu_ms: u64,
    rss: u64,
    pss: u64,
}

pub fn measure() -> Measured<Vec<Row>> {
    let run = Run::new()?;
    let mut harness = run.start(SCENARIO, &[])?;
    let pid = harness.id();
    wait_for_all(pid)?;
    let (before, began) = (look(pid), clock::boot_ns());
    let others_before: Vec<(String, u64)> =
        helpers(pid).into_iter().map(|(role, pid)| (role, look(pid).cpu_ms)).collect();
    std::thread::sleep(std::time::Duration::from_secs(WATCHED_SECONDS));
    let (after, took) = (look(pid), clock::boot_ns() - began);
    let others: Vec<(String, Use)> = helpers(pid).into_iter().map(|(role, pid)| (role, look(pid))).collect();
    Run::passed(&mut harness)?;
    let cpu = percent(after.cpu_ms - before.cpu_ms, took);
    let mib = |bytes: u64| bytes.div_ceil(1 << 10) / (1 << 10);
    let mut rows = vec![
        Row::new("watching 50 idle containers: CPU of the harness", format!("{cpu:.1} % of a core"))
            .aim("< 5 %", cpu < 5.0),
        Row::new(
            "watching 50 idle containers: memory of the harness",
            format!("{} MiB resident, {} MiB proportional", mib(after.rss), mib(after.pss)),
        )
        .aim("< 20 MiB", after.rss < 20 << 20),
    ];
    for role in ["__shim", "__pause", "__guardian"] {
        let of_role = || others.iter().filter(|(own, _)| own == role);
        let used: u64 = of_role().map(|(_, used)| used.cpu_ms).sum();
        let used_before: u64 =
            others_before.iter().filter(|(own, _)| own == role).map(|(_, used)| used).sum();
        let pss: u64 = of_role().map(|(_, used)| used.pss).sum();
        let cpu = percent(used.saturating_sub(used_before), took);
        let value = format!("{cpu:.1} % of a core, {} MiB proportional", mib(pss));
        rows.push(Row::new(format!("  beside it: {} x {role}", of_role().count()), value));
    }
    Ok(rows)
}

/// Waits until every container has its shim. The end of the start counts as watching.
fn wait_for_all(harness: u32) -> Measured<()> {
    let deadline = clock::boot_ns() + 20_000_000_000;
    while helpers(harness).iter().filter(|(role, _)| role == "__shim").count() < CONTAINERS {
        if clock::boot_ns() > deadline {
            return Err("the 50 containers did not start within 20 s".into());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// The helper processes of the harness by their roles; containers' own processes are none.
fn helpers(harness: u32) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let tasks = PathBuf::from(format!("/proc/{harness}/task"));
    let children = tasks
        .read_dir()
        .into_iter()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    for pid in
        children.flat_map(|text| text.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
    {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        found.extend(line.split('\0').nth(1).map(|role| (role.to_owned(), pid)));
    }
    found
}

fn look(pid: u32) -> Use {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    // proc_pid_stat(5): fields 14 and 15, in ticks of 10 ms; the kernel scales them to what the scheduler has measured.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    let rollup = read("smaps_rollup");
    let size = |key: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    Use { cpu_ms: ticks * 10, rss: size("Rss"), pss: size("Pss") }
}

#[expect(clippy::cast_precision_loss, reason = "seconds in milliseconds and nanoseconds")]
fn percent(cpu_ms: u64, of_ns: u64) -> f64 {
    100.0 * cpu_ms as f64 * 1e6 / of_ns as f64
}
