//! Values between two ends: memory, rates of memory, times and plain numbers.

use std::fmt;
use std::str::FromStr;

use exit137_workload::{Bytes, Span};

use crate::scenario::memory_quantity;

/// A value that can be counted up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    unit: Unit,
    number: u64,
}

/// What it is an amount of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Replicas, requests per `timeUnit`, users: `20`.
    Plain,
    /// Bytes: `64Mi`.
    Memory,
    /// Bytes a second: `8Mi/s`.
    Rate,
    /// Milliseconds: `250ms`.
    Time,
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let memory = |text: &str| memory_quantity(text).or_else(|| Some(text.parse::<Bytes>().ok()?.0));
        let (unit, number) = if let Ok(number) = text.parse::<u64>() {
            (Unit::Plain, Some(number))
        } else if let Some(size) = text.strip_suffix("/s") {
            (Unit::Rate, memory(size))
        } else if let Ok(Span { ms, .. }) = text.parse::<Span>() {
            (Unit::Time, Some(ms))
        } else {
            (Unit::Memory, memory(text))
        };
        let number = number.ok_or_else(|| {
            format!("{text:?} is no amount; write memory (64Mi), a rate of memory (8Mi/s), a time (250ms) or a whole number")
        })?;
        // What is not can be written in one way in a limit and in another in a workload.
        if matches!(unit, Unit::Memory | Unit::Rate) && !number.is_multiple_of(1024) {
            return Err(format!(
                "{text:?} is not a whole number of Ki; sizes are tried in steps of at least 1Ki"
            ));
        }
        Ok(Self { unit, number })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Plain => write!(f, "{}", self.number),
            // Zero has a unit too, and `0B` is no quantity.
            Unit::Memory if self.number == 0 => f.write_str("0Ki"),
            Unit::Rate if self.number == 0 => f.write_str("0Ki/s"),
            Unit::Memory => write!(f, "{}", Bytes(self.number)),
            Unit::Rate => write!(f, "{}/s", Bytes(self.number)),
            Unit::Time if self.number.is_multiple_of(1000) => write!(f, "{}s", self.number / 1000),
            Unit::Time => write!(f, "{}ms", self.number),
        }
    }
}

/// `from`, `from` and one step, … up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    from: Amount,
    step: u64,
    last: usize,
}

/// So many values are a slip of the pen.
const MOST: u64 = 1 << 20;

impl Range {
    /// The values between two ends.
    pub fn new(from: Amount, to: Amount, step: Amount) -> Result<Self, String> {
        if from.unit != to.unit || from.unit != step.unit {
            return Err(format!(
                "{from}, {to} and {step} are amounts of different things; give all three the same unit"
            ));
        }
        if step.number == 0 {
            return Err("a step of 0 leads nowhere; say for example 1Mi, or 1".to_owned());
        }
        let range = to.number.checked_sub(from.number).filter(|range| *range > 0);
        let range = range
            .ok_or_else(|| format!("the range from {from} to {to} is empty; --from is the smaller end"))?;
        let steps = range / step.number;
        if steps == 0 {
            return Err(format!(
                "a step of {step} does not fit between {from} and {to}; choose a smaller one"
            ));
        }
        let last = usize::try_from(steps).ok().filter(|_| steps <= MOST);
        let last =
            last.ok_or_else(|| format!("{steps} values are too many to choose from; choose a larger step"))?;
        Ok(Self { from, step: step.number, last })
    }

    /// The index of the last value: how many steps there are.
    pub fn last(&self) -> usize {
        self.last
    }

    /// One of the values.
    pub fn at(&self, index: usize) -> Amount {
        let steps = u64::try_from(index.min(self.last)).unwrap_or(0);
        Amount { unit: self.from.unit, number: self.from.number + steps * self.step }
    }

    /// The step.
    pub fn step(&self) -> Amount {
        Amount { unit: self.from.unit, number: self.step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &str, to: &str, step: &str) -> Result<Range, String> {
        Range::new(from.parse()?, to.parse()?, step.parse()?)
    }

    #[test]
    fn amounts_are_written_as_scenarios_write_them() {
        for (text, written) in [
            ("64Mi", "64Mi"),
            ("1024Ki", "1Mi"),
            ("64M", "62500Ki"),
            ("0Mi", "0Ki"),
            ("8Mi/s", "8Mi/s"),
            ("1500ms", "1500ms"),
            ("2m", "120s"),
            ("20", "20"),
        ] {
            assert_eq!(
                text.parse::<Amount>().map(|amount| amount.to_string()).as_deref(),
                Ok(written),
                "{text}"
            );
        }
        for text in ["", "lots", "1.5", "-1", "64MB", "1000B", "1e3"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_goes_up_in_whole_steps_and_ends_at_or_below_its_end() {
        let exact = range("32Mi", "64Mi", "2Mi").unwrap();
        assert_eq!((exact.last(), exact.at(16).to_string()), (16, "64Mi".to_owned()));
        let short = range("1", "10", "4").unwrap();
        assert_eq!((short.last(), short.at(short.last()).to_string()), (2, "9".to_owned()));
        for (from, to, step, said) in [
            ("64Mi", "32Mi", "1Mi", "empty"),
            ("1", "1", "1", "empty"),
            ("1", "2", "0", "step of 0"),
            ("1Mi", "2Mi", "2Mi", "does not fit"),
            ("1Mi", "2", "1Mi", "different things"),
            ("1", "18446744073709551615", "1", "too many"),
        ] {
            assert!(range(from, to, step).unwrap_err().contains(said), "{from} {to} {step}");
        }
    }
}
