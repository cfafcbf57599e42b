//! The figures, for a terminal and for docs/benchmarks.md.

use std::fmt::Write as _;

/// One measure.
#[derive(Debug, Default)]
pub struct Row {
    pub measure: String,
    pub value: String,
    /// What the least that could do the same took, and who that was.
    pub peer: String,
    pub ratio: String,
    pub aim: String,
    /// Whether the aim is met, where there is one.
    pub met: Option<bool>,
}

/// All of them, and where they were measured.
#[derive(Debug)]
pub struct Table {
    pub rows: Vec<Row>,
    place: String,
    /// The machine's CPU time at the beginning.
    before: CpuTime,
}

/// CPU time of the whole machine since its boot, in ticks: what a hypervisor gave to others, and all.
#[derive(Clone, Copy, Debug, Default)]
struct CpuTime {
    stolen: f64,
    all: f64,
}

impl CpuTime {
    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what guests took is in the first two.
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<f64> =
            text.split_whitespace().skip(1).take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        Self { stolen: ticks.get(7).copied().unwrap_or(0.0), all: ticks.iter().sum() }
    }

    fn percent_stolen_since(self, before: Self) -> f64 {
        (self.stolen - before.stolen) / (self.all - before.all).max(1.0) * 100.0
    }
}

const HEADER: [&str; 6] = ["measure", "value", "peer", "ratio", "aim", "met"];

impl Row {
    pub fn new(measure: impl Into<String>, value: impl Into<String>) -> Self {
        Self { measure: measure.into(), value: value.into(), ..Self::default() }
    }

    /// A peer that was measured in the same run.
    pub fn peer(mut self, peer: impl Into<String>, ratio: f64) -> Self {
        self.peer = peer.into();
        self.ratio = format!("{ratio:.2}");
        self
    }

    /// A peer that could not be.
    pub fn no_peer(mut self, why: &str) -> Self {
        why.clone_into(&mut self.peer);
        self
    }

    pub fn aim(mut self, aim: &str, met: bool) -> Self {
        aim.clone_into(&mut self.aim);
        self.met = Some(met);
        self
    }

    fn cells(&self) -> [&str; 6] {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        [&self.measure, &self.value, &self.peer, &self.ratio, &self.aim, met]
    }
}

impl Table {
    pub fn new() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| {
                line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned())
            })
            .unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = read("/proc/sys/kernel/osrelease");
        let hierarchy = exit137::backend::local::cgroup::Hierarchy::find();
        let cgroups =
            hierarchy.map_or_else(|error| error.to_string(), |found| format!("{:?}", found.version));
        let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
        let place = format!(
            "{date}, Linux {}, cgroup {}, {cpus} CPUs ({}), load average {load} at the start",
            kernel.trim(),
            cgroups.to_lowercase(),
            model.trim(),
        );
        Self { rows: Vec::new(), place, before: CpuTime::now() }
    }

    /// All has been measured: what the machine had to give meanwhile belongs to the place.
    pub fn close(&mut self) {
        let stolen = CpuTime::now().percent_stolen_since(self.before);
        let _ =
            write!(self.place, "; while it ran a hypervisor gave {stolen:.1} % of the CPU time to others");
    }

    /// In columns.
    pub fn text(&self) -> String {
        let rows: Vec<[&str; 6]> = std::iter::once(HEADER).chain(self.rows.iter().map(Row::cells)).collect();
        let widths: Vec<usize> = (0..HEADER.len())
            .map(|column| {
                rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0)
            })
            .collect();
        let mut text = format!("{}\n", self.place);
        for row in rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text += cells.join("  ").trim_end();
            text.push('\n');
        }
        text
    }

    /// As docs/benchmarks.md.
    pub fn markdown(&self) -> String {
        let mut text = include_str!("about.md").to_owned();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{}.\n", self.place);
        let _ = writeln!(text, "| {} |\n|{}", HEADER.join(" | "), " --- |".repeat(HEADER.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.cells().join(" | "));
        }
        text
    }
}

/// The value below which so much of them lies (nearest rank).
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few hundred values"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
