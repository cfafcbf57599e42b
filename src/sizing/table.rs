//! A sweep as a table: for people, and as CSV.

use super::sweep::{Cell, SweepReport};
use crate::report::model::Outcome;
use crate::report::text::{Style, mebibytes};

/// The columns after the values.
const COLUMNS: [&str; 6] = ["survived", "open", "causes", "time to kill", "peak", "p99"];

/// For people.
pub fn text(report: &SweepReport, style: Style) -> String {
    let row = |cell: &Cell| {
        let trials = &cell.trials;
        let survived = match &cell.skipped {
            Some(why) => why.clone(),
            None if trials.runs == 0 => "not run".to_owned(),
            None => format!("{} of {}", trials.passed, trials.runs - trials.open),
        };
        let open = if trials.open > 0 { trials.open.to_string() } else { String::new() };
        let time = trials.time_to_kill_ms.map(|ms| format!("{}.{:03} s", ms / 1000, ms % 1000));
        let p99 = trials.p99_ms.map(|ms| format!("{ms:.1} ms"));
        let peak = trials.peak().map(mebibytes);
        let measured = [
            survived,
            open,
            trials.causes(),
            time.unwrap_or_default(),
            peak.unwrap_or_default(),
            p99.unwrap_or_default(),
        ];
        cell.values.iter().cloned().chain(measured).collect::<Vec<String>>()
    };
    let head: Vec<String> =
        report.paths.iter().map(String::as_str).chain(COLUMNS).map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = report.cells.iter().map(row).collect();
    let all = || [&head].into_iter().chain(&rows);
    // A column in which nothing is said is left out.
    let columns: Vec<(usize, usize)> = (0..head.len())
        .filter(|column| *column <= report.paths.len() || rows.iter().any(|row| !row[*column].is_empty()))
        .map(|column| (column, all().map(|row| row[column].chars().count()).max().unwrap_or(0)))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            columns.iter().map(|(column, width)| format!("{:<width$}", row[*column])).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut out = style.dim(&line(&head)) + "\n";
    for (row, cell) in rows.iter().zip(&report.cells) {
        out.push_str(&style.outcome(outcome(cell), &line(row)));
        out.push('\n');
    }
    out
}

fn outcome(cell: &Cell) -> Outcome {
    match &cell.trials {
        _ if cell.skipped.is_some() => Outcome::Skipped,
        trials if trials.failed > 0 => Outcome::Failed,
        trials if trials.open > 0 || trials.runs == 0 => Outcome::Inconclusive,
        _ => Outcome::Passed,
    }
}

/// For spreadsheets: one line for each cell, sizes in bytes and times in milliseconds.
pub fn csv(report: &SweepReport) -> String {
    let fixed =
        ["runs", "survived", "failed", "open", "causes", "timeToKillMs", "peakBytes", "p99Ms", "folder"];
    let head = report.paths.iter().map(String::as_str).chain(fixed).map(quoted);
    let mut out = head.collect::<Vec<_>>().join(",") + "\n";
    for cell in &report.cells {
        let trials = &cell.trials;
        let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        let fixed = [
            trials.runs.to_string(),
            trials.passed.to_string(),
            trials.failed.to_string(),
            trials.open.to_string(),
            trials.causes(),
            number(trials.time_to_kill_ms),
            number(trials.peak()),
            trials.p99_ms.map_or_else(String::new, |ms| ms.to_string()),
            cell.folder.clone(),
        ];
        let row = cell.values.iter().map(String::as_str).chain(fixed.iter().map(String::as_str)).map(quoted);
        out.push_str(&(row.collect::<Vec<_>>().join(",") + "\n"));
    }
    out
}

/// As RFC 4180 has it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_status::ExitStatus;
    use crate::sizing::digest::{Digest, Memory};

    fn report() -> SweepReport {
        let cell = |value: &str, passed: u32, failed: u32| {
            let memory = Memory { container: "web/app".into(), peak: Some(48 << 20), ..Memory::default() };
            let causes = (failed > 0).then(|| ("container-oom".to_owned(), failed));
            let trials = Digest {
                runs: passed + failed,
                passed,
                failed,
                causes: causes.into_iter().collect(),
                time_to_kill_ms: (failed > 0).then_some(1234),
                memory: vec![memory],
                ..Digest::default()
            };
            let folder = format!("x-{value}");
            Cell { values: vec![value.into(), "a,b".into()], folder, skipped: None, errored: false, trials }
        };
        SweepReport::new(
            "x".into(),
            vec!["p".into(), "q".into()],
            3,
            vec![cell("48Mi", 0, 3), cell("64Mi", 3, 0)],
        )
    }

    #[test]
    fn a_table_has_a_row_for_each_cell_and_no_empty_column() {
        let expected = "\
p     q    survived  causes           time to kill  peak
48Mi  a,b  0 of 3    3 container-oom  1.234 s       48.0 MiB
64Mi  a,b  3 of 3                                   48.0 MiB
";
        assert_eq!(text(&report(), Style::Plain), expected);
    }

    #[test]
    fn csv_has_every_column_and_quotes_what_holds_a_comma() {
        let expected = "\
p,q,runs,survived,failed,open,causes,timeToKillMs,peakBytes,p99Ms,folder
48Mi,\"a,b\",3,0,3,0,3 container-oom,1234,50331648,,x-48Mi
64Mi,\"a,b\",3,3,0,0,,,50331648,,x-64Mi
";
        assert_eq!(csv(&report()), expected);
    }

    #[test]
    fn that_a_cell_does_not_survive_is_an_answer_and_that_one_is_missing_is_none() {
        let mut swept = report();
        assert_eq!(swept.exit_status(), ExitStatus::Passed);
        swept.cells[0].trials = Digest::default();
        assert_eq!(swept.exit_status(), ExitStatus::Inconclusive);
        swept.cells[1].errored = true;
        assert_eq!(swept.exit_status(), ExitStatus::Environment);
    }
}
