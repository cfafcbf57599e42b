//! What was meant by a value that is written nearly right.

use exit137_workload::{Bytes, Rate, Span};
use serde_json::Value;

use crate::scenario::document::Signal;

/// Units as people write them, longest first, and as they are written here.
const SIZES: [(&str, &str); 16] = [
    ("bytes", "B"),
    ("kib", "Ki"),
    ("mib", "Mi"),
    ("gib", "Gi"),
    ("tib", "Ti"),
    ("kb", "k"),
    ("mb", "M"),
    ("gb", "G"),
    ("tb", "T"),
    ("ki", "Ki"),
    ("mi", "Mi"),
    ("gi", "Gi"),
    ("ti", "Ti"),
    ("k", "k"),
    ("m", "M"),
    ("g", "G"),
];

/// As [`SIZES`], for times.
const TIMES: [(&str, &str); 12] = [
    ("milliseconds", "ms"),
    ("seconds", "s"),
    ("second", "s"),
    ("minutes", "m"),
    ("minute", "m"),
    ("hours", "h"),
    ("hour", "h"),
    ("msec", "ms"),
    ("secs", "s"),
    ("sec", "s"),
    ("mins", "m"),
    ("min", "m"),
];

/// `80MB` is 80M.
pub(in crate::scenario) fn size(text: &str) -> Option<String> {
    with_unit(text, &SIZES).filter(|meant| meant != text && meant.parse::<Bytes>().is_ok())
}

/// `3sec` is 3s.
pub(super) fn time(text: &str) -> Option<String> {
    with_unit(text, &TIMES).filter(|meant| meant != text && meant.parse::<Span>().is_ok())
}

/// `64Mi` and `64MB/s` are rates that lack a little.
pub(super) fn rate(text: &str) -> Option<String> {
    let amount = ["/s", "/sec", "/second", "ps"].iter().find_map(|end| text.strip_suffix(end));
    let amount = amount.unwrap_or(text).trim();
    let amount = if amount.parse::<Bytes>().is_ok() { amount.to_owned() } else { size(amount)? };
    Some(format!("{amount}/s")).filter(|meant| meant != text && meant.parse::<Rate>().is_ok())
}

fn with_unit(text: &str, units: &[(&str, &str)]) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_lowercase();
    units.iter().find(|(written, _)| *written == unit).map(|(_, meant)| format!("{number}{meant}"))
}

/// `KILL`, `sigkill` and `9` are SIGKILL, where `words` are signals.
pub(super) fn signal<'a>(value: &Value, words: &'a [String]) -> Option<&'a str> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_uppercase);
    let is_meant = |word: &&String| {
        let Ok(signal) = serde_json::from_value::<Signal>(Value::from(word.as_str())) else { return false };
        text.parse() == Ok(signal.number()) || word.strip_prefix("SIG") == Some(&text) || **word == text
    };
    words.iter().find(is_meant).map(String::as_str)
}

/// `0.9 of limit` and `90% of the limit` are 90% of limit, `60MB` is 60M.
pub(in crate::scenario) fn reference(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "the").collect();
    match words[..] {
        [amount] => size(amount),
        [amount, unit] => {
            let joined = format!("{amount}{unit}");
            size(&joined).or_else(|| joined.parse::<Bytes>().is_ok().then_some(joined))
        }
        [share, "of", of @ ("limit" | "limits" | "request" | "requests")] => {
            let of = of.trim_end_matches('s');
            let percent = match share.strip_suffix('%') {
                Some(percent) => percent.parse::<f64>().ok()?,
                // One has been written as a part of the whole, or lacks its sign.
                None => match share.parse::<f64>().ok()? {
                    part if part <= 1.0 => part * 100.0,
                    percent => percent,
                },
            };
            let percent = (percent * 100.0).round() / 100.0;
            (percent.is_finite() && percent >= 0.0).then(|| format!("{percent}% of {of}"))
        }
        _ => None,
    }
}

/// `=<` is <=.
pub(in crate::scenario) fn operator(text: &str) -> Option<&'static str> {
    if text.contains("=<") {
        Some("<=")
    } else if text.contains("=>") {
        Some(">=")
    } else {
        None
    }
}
