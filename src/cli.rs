//! The command line, as typed: nothing is judged here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use exit137_workload::Span;

use crate::scenario::setting::Ratio;
use crate::sizing::Amount;
use crate::sizing::grid::Axis;

/// Reproduces out-of-memory conditions and explains every exit 137.
#[derive(Debug, Parser)]
#[command(name = "exit137", version, after_help = crate::exit_status::HELP)]
pub struct Cli {
    /// When to use colours; `auto` respects NO_COLOR and needs a terminal
    #[arg(long, value_enum, default_value_t, global = true)]
    pub color: Color,
    /// More of what exit137 is doing, on standard error; twice for still more
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios, in parallel where they cannot disturb each other
    Run(Run),
    /// Find the smallest limit that survives, or the largest load that a limit carries
    Size(Size),
    /// Run a scenario with every combination of some fields' values, and make a table of what survived
    Sweep(Sweep),
    /// Validate scenarios: print every problem with file, line, key path and a hint; start nothing
    Check(Check),
    /// Judge a kept record again, and render it again
    Report(Report),
    /// Say what this host can and cannot do, what each lack costs, and how to mend it
    Doctor(Doctor),
    /// Print a JSON Schema
    Schema(Schema),
    /// Print a scenario that ships, to begin from; without a name, list them
    Show(Show),
    /// Make, remove, list or load the kind cluster by hand
    Cluster(Cluster),
    /// Write the image as an archive, for clusters that pull from a registry
    Image(Image),
    /// Find and remove what a killed run left behind, and nothing that belongs to a live one
    Gc(Gc),
    /// Observe a node for every run on its cluster; a run starts it there
    #[command(hide = true)]
    Agent(Agent),
}

/// `exit137 run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Scenario files, folders of them, or names of scenarios that ship (limit-fast); without any, all that ship
    pub paths: Vec<PathBuf>,
    /// Where and how
    #[command(flatten)]
    pub running: Running,
    /// Write JUnit XML here too
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the report as JSON here too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Only scenarios whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// So many trials of each scenario; the verdict is the worst of them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
}

/// Where and how scenarios are run.
#[derive(Args, Debug)]
pub struct Running {
    /// Where pods run
    #[arg(long, value_enum, default_value_t)]
    pub on: Backend,
    /// The kube context of --on cluster
    #[arg(long, value_name = "CONTEXT", required_if_eq("on", "cluster"))]
    pub context: Option<String>,
    /// The image that an earlier `exit137 image` made, as the nodes of --on cluster can pull it
    #[arg(long, value_name = "IMAGE", required_if_eq("on", "cluster"))]
    pub image: Option<String>,
    /// Also on --on cluster, scenarios that may touch more than their own pods: drain, preemption, eviction, kills and limits on nodes
    #[arg(long)]
    pub allow_disruption: bool,
    /// Which kind cluster
    #[command(flatten)]
    pub kind: KindCluster,
    /// The run's folder; it must not exist yet [default: exit137-runs/<time>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A scenario that would be skipped fails instead
    #[arg(long)]
    pub no_skips: bool,
    /// The whole run may take so long
    #[arg(long, default_value = "30m", value_name = "TIME")]
    pub timeout: Span,
    /// What stays of what it made
    #[command(flatten)]
    pub keep: Keep,
    /// At most so many trials at the same time
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: u32,
}

/// `exit137 size`.
#[derive(Debug, Args)]
#[command(after_help = SIZE_HELP)]
pub struct Size {
    /// A scenario file, or the name of one that ships
    pub scenario: PathBuf,
    /// The field that is sized, by names: pods.web.containers.app.resources.limits.memory; with =VALUE, one that is only set
    #[arg(long, value_name = "PATH[=VALUE]", required = true)]
    pub set: Vec<String>,
    /// The smallest value: 64Mi, 8Mi/s, 250ms or 20
    #[arg(long, value_name = "VALUE")]
    pub from: Amount,
    /// The largest value
    #[arg(long, value_name = "VALUE")]
    pub to: Amount,
    /// From one value to the next
    #[arg(long, value_name = "VALUE")]
    pub step: Amount,
    /// Which of the values at which every expectation holds
    #[arg(long, value_enum, default_value_t)]
    pub find: Find,
    /// A container's request becomes this part of a limit that is set: 0.5
    #[arg(long, value_name = "PART")]
    pub requests_ratio: Option<Ratio>,
    /// So many trials of a value must all pass
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Write the answer as JSON here too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where and how
    #[command(flatten)]
    pub running: Running,
}

const SIZE_HELP: &str = "\
Exit status:
  0    found; with a note where the near end of the range holds already
  1    even the far end of the range fails
  5    a value's trials were inconclusive, twice, or the timeout was met: what is known is told
Others as for run. Example:
  exit137 size checkout.yaml --set pods.checkout.containers.app.resources.limits.memory --from 64Mi --to 128Mi --step 1Mi";

/// Which value is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Find {
    /// The smallest: of limits
    #[default]
    Smallest,
    /// The largest: of rates, users, replicas
    Largest,
}

/// `exit137 sweep`.
#[derive(Debug, Args)]
#[command(after_help = SWEEP_HELP)]
pub struct Sweep {
    /// A scenario file, or the name of one that ships
    pub scenario: PathBuf,
    /// A field, by names, and its values; several of these make a grid: every combination is run
    #[arg(long, value_name = "PATH=V1,V2,…", required = true)]
    pub set: Vec<Axis>,
    /// A container's request becomes this part of a limit that is set: 0.5
    #[arg(long, value_name = "PART")]
    pub requests_ratio: Option<Ratio>,
    /// So many trials of each cell
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Go on with the sweep in this folder: what is finished there is not run again
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub resume: Option<PathBuf>,
    /// How the table is printed; the folder has it as sweep.json and sweep.csv in any case
    #[arg(long, value_enum, default_value_t)]
    pub format: TableFormat,
    /// Where and how
    #[command(flatten)]
    pub running: Running,
}

const SWEEP_HELP: &str = "\
Exit status: that a cell does not survive is an answer, and 0.
  5    cells are missing or inconclusive; --resume DIR runs those
Others as for run. Example:
  exit137 sweep limit-leak --set pods.web.containers.app.resources.limits.memory=48Mi,64Mi,96Mi --set backOff.scale=0,0.02 --repeat 3";

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For people
    #[default]
    Text,
    /// For programs: see `exit137 schema sweep`
    Json,
    /// For spreadsheets
    Csv,
}

/// What stays when a run is over.
#[derive(Args, Clone, Copy, Debug)]
pub struct Keep {
    /// On a cluster, leave the trials' namespaces, and the kind clusters that the run made for itself; `gc --kept` removes them
    #[arg(long)]
    pub keep: bool,
    /// Leave those of trials that did not pass, and of clusters on which one did not
    #[arg(long)]
    pub keep_on_failure: bool,
}

/// Where pods run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// In this host's own cgroups
    #[default]
    Local,
    /// In a kind cluster, which is made if it is not there
    Kind,
    /// In the cluster of --context
    Cluster,
}

/// Which kind cluster, and how one is made.
#[derive(Args, Clone, Debug)]
pub struct KindCluster {
    /// The kind cluster's name; where it is not there, and for scenarios whose nodes are to be special, a run makes clusters of its own
    #[arg(long, value_name = "NAME", default_value = "exit137")]
    pub cluster: String,
    /// A kind config of your own for a cluster that is made
    #[arg(long, value_name = "FILE", value_parser = existing_file)]
    pub kind_config: Option<PathBuf>,
    /// The node image of a cluster that is made, instead of kind's own
    #[arg(long, value_name = "IMAGE")]
    pub node_image: Option<String>,
}

fn existing_file(path: &str) -> Result<PathBuf, String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(path.into()),
        Ok(_) => Err("it is no file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// `exit137 gc`.
#[derive(Debug, Args)]
pub struct Gc {
    /// On the cluster of this kube context too
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Remove what runs were told to keep (--keep, --keep-on-failure), too
    #[arg(long)]
    pub kept: bool,
}

/// `exit137 agent`.
#[derive(Debug, Args)]
pub struct Agent {
    /// The node's name
    #[arg(long, value_name = "NAME", env = "EXIT137_NODE")]
    pub node: String,
    /// The agent's own name, which no other on the node has
    #[arg(long, value_name = "NAME", env = "EXIT137_AGENT")]
    pub name: String,
}

/// `exit137 cluster`.
#[derive(Debug, Args)]
pub struct Cluster {
    /// What to do with it
    #[arg(value_enum)]
    pub act: ClusterAct,
    /// Remove a cluster that exit137 did not make, too
    #[arg(long)]
    pub force: bool,
    /// Which
    #[command(flatten)]
    pub kind: KindCluster,
}

/// What to do with a kind cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClusterAct {
    /// Make it if it is not there, load the image, print its kube context
    Up,
    /// Remove it
    Down,
    /// List kind's clusters
    List,
    /// Load the image onto its nodes
    Load,
}

/// `exit137 image`.
#[derive(Debug, Args)]
pub struct Image {
    /// The archive to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// `exit137 check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Scenario files, or folders of them; without any, the scenarios that ship
    pub paths: Vec<PathBuf>,
}

/// `exit137 report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The folder of a run
    pub run_dir: PathBuf,
    /// How to render it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How a report is rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: see `exit137 schema report`
    Json,
    /// For CI
    Junit,
}

/// `exit137 doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Say it in JSON
    #[arg(long)]
    pub json: bool,
}

/// `exit137 show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Its name
    pub name: Option<PathBuf>,
}

/// `exit137 schema`.
#[derive(Debug, Args)]
pub struct Schema {
    /// Of what
    #[arg(value_enum)]
    pub of: SchemaOf,
}

/// What there is a JSON Schema of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Scenario files
    Scenario,
    /// report.json
    Report,
    /// size.json
    Size,
    /// sweep.json
    Sweep,
}
