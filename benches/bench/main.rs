//! Measures exit137 beside the least that could do the same: `make bench`.
//!
//! Everything is measured in one run on one machine, and wherever there is a peer the figure that counts is the ratio.
//! `--write FILE` also writes the figures as Markdown, `--only WORD` measures what has the word in its name.

mod cluster;
mod cost;
mod fill;
mod generator;
mod idle;
mod kills;
mod peers;
mod runs;
mod table;
mod traffic;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use table::{Row, Table};

type Measured<T> = Result<T, Box<dyn Error>>;

type Measure = (&'static str, fn() -> Measured<Vec<Row>>);

/// What can be measured, in the order in which it is.
const MEASURES: [Measure; 7] = [
    ("kills", kills::measure),
    ("idle", idle::measure),
    ("fill", fill::measure),
    ("cost", cost::measure),
    ("scheduling", traffic::scheduling),
    ("traffic", traffic::measure),
    ("kind", cluster::measure),
];

#[derive(Default)]
struct Args {
    only: Option<String>,
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mut args = Args::default();
    while let Some(word) = words.next() {
        // The backend starts its helper processes from this very program.
        if let Some(code) = exit137::backend::local::helper_main(&word) {
            return code;
        }
        match word.as_str() {
            "--only" => args.only = words.next(),
            "--write" => args.write = words.next().map(PathBuf::from),
            // What cargo adds.
            _ => {}
        }
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cannot measure: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Measured<()> {
    let mut table = Table::new();
    let mut complete = true;
    for (name, measure) in MEASURES {
        if args.only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            say(&format!("measuring {name} ..."));
            match measure() {
                Ok(rows) => table.rows.extend(rows),
                // The others can still be measured; a table with a hole in it is no success.
                Err(error) => {
                    table.rows.push(Row::new(name, format!("cannot be measured: {error}")));
                    complete = false;
                }
            }
        }
    }
    table.close();
    std::io::stdout().write_all(table.text().as_bytes())?;
    if let Some(path) = &args.write {
        std::fs::write(path, table.markdown())?;
    }
    if complete { Ok(()) } else { Err("see the table".into()) }
}

/// Progress and problems, for whoever waits.
fn say(text: &str) {
    // Nobody need listen.
    let _ = writeln!(std::io::stderr(), "{text}");
}
