//! `exit137 sweep`.

mod cells;

use super::size::{lines, refuse, told};
use super::{complain, fail, print, run, style};
use crate::artifacts::{Artifacts, write_whole};
use crate::cli::{self, Color, TableFormat};
use crate::exit_status::ExitStatus;
use crate::sizing::sweep::SweepReport;
use crate::sizing::table;
use cells::{Cells, Sweeping};

/// Runs a scenario with every combination of some fields' values.
pub fn sweep(args: &cli::Sweep, color: Color) -> ExitStatus {
    let cells = match Cells::of(args) {
        Ok(cells) => cells,
        Err(why) => return refuse(&why),
    };
    let loaded = match cells.load() {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&lines(&problems)),
    };
    if let Err(status) = run::allowed(&args.running, &loaded) {
        return status;
    }
    let artifacts = match &args.resume {
        Some(folder) => match cells::same(folder, &cells, &loaded) {
            Ok(()) => Artifacts::again(folder),
            Err(why) => return refuse(&why),
        },
        None => match Artifacts::create(args.running.out.as_deref()) {
            Ok(artifacts) => artifacts,
            Err(error) => return fail(&error.to_string()),
        },
    };
    // Whoever goes on with it knows it by this, whatever becomes of this process.
    if let Err(why) = keep(&cells.report(&loaded, artifacts.folder()), &artifacts) {
        return fail(&why);
    }
    complain(&cells.estimate(&loaded, &args.running));
    let mut statuses = Vec::new();
    match run::carry_out(&args.running, &loaded, &artifacts, &mut Sweeping::new(args.repeat)) {
        Ok((_, asked)) => statuses.extend(asked),
        Err(why) => statuses.push(fail(&why)),
    }
    let report = cells.report(&loaded, artifacts.folder());
    statuses.push(tell(args, color, &report, &artifacts));
    statuses.push(report.exit_status());
    ExitStatus::choose(statuses)
}

/// Writes the table into the sweep's folder; answers it as JSON.
fn keep(report: &SweepReport, artifacts: &Artifacts) -> Result<String, String> {
    let json =
        serde_json::to_string_pretty(report).map_err(|error| format!("cannot render JSON: {error}"))? + "\n";
    for (name, text) in [("sweep.json", &json), ("sweep.csv", &table::csv(report))] {
        let path = artifacts.folder().join(name);
        write_whole(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(json)
}

/// Writes and prints the table.
fn tell(args: &cli::Sweep, color: Color, report: &SweepReport, artifacts: &Artifacts) -> ExitStatus {
    let json = match keep(report, artifacts) {
        Ok(json) => json,
        Err(why) => return fail(&why),
    };
    let folder = artifacts.folder().display();
    let text = match args.format {
        TableFormat::Text => format!("{}\nkept in {folder}\n", table::text(report, style(color))),
        TableFormat::Json => json,
        TableFormat::Csv => table::csv(report),
    };
    told(print(&text))
}
