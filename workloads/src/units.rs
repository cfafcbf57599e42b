//! Sizes, rates and times as scenarios write them: always with a unit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A size: `64Mi`, `1Gi`, `512Ki`, `4096B`, `10M` (SI).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

/// A growth per time: `8Mi/s`, `512Ki/s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    /// Bytes per second.
    pub per_second: u64,
}

/// A length of time: `250ms`, `2s`, `1m30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    /// Milliseconds.
    pub ms: u64,
}

const SIZES: [(&str, u64); 9] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("B", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((number, unit)) =
            SIZES.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        else {
            let hint = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
                format!("say {text}Mi, or {text}B for bytes")
            } else {
                "write a number and a unit: 64Mi, 1Gi, 512Ki, 4096B".to_owned()
            };
            return Err(format!("{text:?} is not a size with a unit; {hint}"));
        };
        decimal(number, unit)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a size; write for example 64Mi or 1.5Gi"))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text
            .strip_suffix("/s")
            .ok_or_else(|| format!("{text:?} is not a rate; write for example 8Mi/s"))?;
        Ok(Self { per_second: size.parse::<Bytes>()?.0 })
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || {
            let hint = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
                format!("say {text}s or {text}ms")
            } else {
                "write for example 250ms, 2s or 1m30s".to_owned()
            };
            format!("{text:?} is not a time with a unit; {hint}")
        };
        let mut rest = text;
        let mut ms = 0_u64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(problem)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let factor = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(problem()),
            };
            ms = decimal(number, factor).and_then(|part| ms.checked_add(part)).ok_or_else(problem)?;
            rest = tail;
        }
        if text.is_empty() { Err(problem()) } else { Ok(Self { ms }) }
    }
}

/// `number` with an optional decimal fraction, times `unit`, if that is a whole number below 2^63.
fn decimal(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Parsing alone would take a sign.
    if !whole.starts_with(|first: char| first.is_ascii_digit())
        || fraction.len() > 9
        || (number.contains('.') && fraction.is_empty())
    {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let value = format!("{whole}{fraction}").parse::<u128>().ok()?.checked_mul(u128::from(unit))?;
    if value % scale != 0 {
        return None;
    }
    u64::try_from(value / scale).ok().filter(|value| *value < 1 << 63)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = [("Gi", 1_u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)]
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Bytes(self.per_second))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms.is_multiple_of(1000) {
            write!(f, "{}s", self.ms / 1000)
        } else {
            write!(f, "{}ms", self.ms)
        }
    }
}

macro_rules! as_text {
    ($type:ty, $name:literal, $pattern:literal, $example:literal) => {
        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern, "examples": [$example]})
            }
        }
    };
}

as_text!(Bytes, "Size", r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|B|k|M|G|T)$", "64Mi");
as_text!(Rate, "Rate", r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|B|k|M|G|T)/s$", "8Mi/s");
as_text!(Span, "Time", r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", "250ms");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_rates_and_times_need_a_unit_and_the_error_offers_one() {
        assert_eq!("64Mi".parse::<Bytes>(), Ok(Bytes(64 << 20)));
        assert_eq!("1.5Gi".parse::<Bytes>(), Ok(Bytes(3 << 29)));
        assert_eq!("8Mi/s".parse::<Rate>(), Ok(Rate { per_second: 8 << 20 }));
        assert_eq!("1m30s".parse::<Span>(), Ok(Span { ms: 90_000 }));
        assert!("64".parse::<Bytes>().unwrap_err().contains("say 64Mi"));
        assert!("5".parse::<Span>().unwrap_err().contains("say 5s or 5ms"));
        for bad in [
            "",
            "Mi",
            "-1Mi",
            "1..5Mi",
            "1.Mi",
            "+1Mi",
            "9999999999Ti",
            "99999999999999999999999999999999999999Ti",
            "1 Mi",
        ] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad:?}");
        }
        for bad in ["", "s", "1s2", "1.5", "1y"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for shift in 0..40 {
            for value in [1_u64 << shift, (1 << shift) + 1, 3 << shift] {
                assert_eq!(Bytes(value).to_string().parse(), Ok(Bytes(value)));
                assert_eq!(Span { ms: value }.to_string().parse(), Ok(Span { ms: value }));
                let rate = Rate { per_second: value };
                assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        }
    }
}
