//! The table that `make accuracy` prints.

use std::collections::BTreeMap;
use std::fmt;

use crate::baseline::Answer;
use crate::compare::{Compared, Row};

/// Each kind of end with what exit137 and the three guesses make of it.
pub struct Table<'a>(pub &'a Compared);

fn guess(answers: &BTreeMap<Answer, u32>) -> [u32; 4] {
    let count = |answer| answers.get(&answer).copied().unwrap_or(0);
    [count(Answer::Right), count(Answer::Wrong), count(Answer::Untold), count(Answer::Missed)]
}

fn numbers(row: &Row) -> Vec<u32> {
    let own = [row.induced, row.unsummarised, row.certain, row.high, row.wrong, row.missed];
    let [right, wrong, _, missed] = guess(&row.by_exit_code);
    let (reason, status) = (guess(&row.by_reason), guess(&row.by_wait_status));
    own.into_iter().chain([right, wrong, missed]).chain(reason).chain(status).collect()
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:27}{:>16} |{:^31}|{:^24}|{:^32}|{:^32}",
            "", "", "exit137", "\"137 means OOM\"", "Kubernetes' reason", "wait status alone"
        )?;
        let heads = [
            "induced", "no line", "certain", "high", "wrong", "missed", "right", "wrong", "missed", "right",
            "wrong", "untold", "missed", "right", "wrong", "untold", "missed",
        ];
        let text: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        writeln!(f, "{}", line("cause", &text))?;
        let mut total = vec![0; heads.len()];
        for (cause, row) in &self.0.rows {
            let numbers = numbers(row);
            total.iter_mut().zip(&numbers).for_each(|(sum, number)| *sum += number);
            writeln!(f, "{}", line(cause, &texts(&numbers)))?;
        }
        writeln!(f, "{}", line("all", &texts(&total)))?;
        writeln!(
            f,
            "{} trials; {} ends or kills invented; {} OOM kills had no `oom-kill:` line in the kernel log (\"no line\")",
            self.0.trials, self.0.invented, self.0.unsummarised
        )
    }
}

fn texts(numbers: &[u32]) -> Vec<String> {
    numbers.iter().map(|number| if *number == 0 { "-".to_owned() } else { number.to_string() }).collect()
}

fn line(cause: &str, cells: &[String]) -> String {
    let mut text = format!("{cause:27}");
    for (place, cell) in cells.iter().enumerate() {
        // The groups: what happened, exit137, the exit code, the reason, the wait status.
        let bar = if matches!(place, 2 | 6 | 9 | 13) { " |" } else { "" };
        text.push_str(&format!("{bar}{cell:>8}"));
    }
    text
}
