//! Kubernetes' quantities (`k8s.io/apimachinery/pkg/api/resource`): `64Mi`, `1.5Gi`, `128e6`, `100m`.

/// A quantity in thousandths, which is as fine as Kubernetes keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quantity {
    /// Thousandths, rounded up as Kubernetes does.
    pub(super) milli: i128,
    /// Whether it was written with a suffix or an exponent.
    pub(super) has_unit: bool,
}

const SUFFIXES: [(&str, i128, u32); 14] = [
    // (suffix, factor, thousandths already in it: 3 digits unless it is milli)
    ("Ki", 1 << 10, 3),
    ("Mi", 1 << 20, 3),
    ("Gi", 1 << 30, 3),
    ("Ti", 1 << 40, 3),
    ("Pi", 1 << 50, 3),
    ("Ei", 1 << 60, 3),
    ("m", 1, 0),
    ("k", 1_000, 3),
    ("M", 1_000_000, 3),
    ("G", 1_000_000_000, 3),
    ("T", 1_000_000_000_000, 3),
    ("P", 1_000_000_000_000_000, 3),
    ("E", 1_000_000_000_000_000_000, 3),
    ("", 1, 3),
];

/// What Kubernetes reads from it; `None` where it is no quantity.
pub(super) fn parse(text: &str) -> Option<Quantity> {
    // Longer numbers are no quantity in any use, and would overflow.
    if text.len() > 40 {
        return None;
    }
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, mut scale) = match SUFFIXES.iter().find(|(known, ..)| *known == suffix) {
        Some((_, factor, scale)) => (*factor, i64::from(*scale)),
        None => (1, 3 + exponent(suffix)?),
    };
    scale -= i64::try_from(fraction.len()).ok()?;
    let product = digits.checked_mul(factor)?;
    let milli = if scale >= 0 {
        product.checked_mul(10_i128.checked_pow(u32::try_from(scale).ok()?)?)?
    } else {
        let divisor = 10_i128.checked_pow(u32::try_from(-scale).ok()?)?;
        product / divisor + i128::from(product % divisor != 0)
    };
    Some(Quantity { milli: if negative { -milli } else { milli }, has_unit: !suffix.is_empty() })
}

fn exponent(suffix: &str) -> Option<i64> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<i64>().ok().filter(|exponent| exponent.abs() <= 30)
}

/// As bytes of memory, or what is wrong and what to do.
pub(super) fn memory(text: &str) -> Result<u64, (String, String)> {
    let wrong = |what: &str, hint: String| Err((format!("{text:?} {what}"), hint));
    let Some(quantity) = parse(text) else {
        let slip =
            [("KB", "k"), ("MB", "M"), ("GB", "G"), ("MiB", "Mi"), ("GiB", "Gi"), ("mi", "Mi"), ("gi", "Gi")];
        let meant =
            slip.iter().find_map(|(wrong, right)| Some(format!("{}{right}", text.strip_suffix(wrong)?)));
        let meant = meant.filter(|meant| parse(meant).is_some());
        let hint = meant.map_or_else(
            || "write a number and one of Ki, Mi, Gi, Ti, k, M, G, T: 64Mi".to_owned(),
            |meant| format!("did you mean {meant}?"),
        );
        return wrong("is not a Kubernetes quantity", hint);
    };
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    if quantity.milli < 0 {
        return wrong("is negative", "memory is at least 0".to_owned());
    }
    if text.ends_with('m') {
        return wrong("is in thousandths of a byte", format!("did you mean {number}M or {number}Mi?"));
    }
    let bytes = u64::try_from((quantity.milli + 999) / 1000).ok().filter(|bytes| *bytes < 1 << 63);
    let Some(bytes) = bytes else {
        return wrong("is more memory than there can be", "write for example 64Mi".to_owned());
    };
    if !quantity.has_unit && bytes > 0 && bytes < 512 << 10 {
        return wrong(&format!("is {bytes} bytes"), format!("did you mean {number}Mi?"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, milli) in [
            ("1", 1000),
            ("1.5", 1500),
            (".5", 500),
            ("5.", 5000),
            ("100m", 100),
            ("0.1m", 1),
            ("-1", -1000),
            ("1e3", 1_000_000),
            ("12E-1", 1200),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1E", 1_000_000_000_000_000_000_000),
        ] {
            assert_eq!(parse(text).map(|quantity| quantity.milli), Some(milli), "{text}");
        }
        for text in ["", "Mi", ".", "1..2", "1 Mi", "1KB", "1e", "1ee3", "1e99", "+-1", "0x10", "١"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn memory_without_a_unit_or_in_thousandths_is_refused_with_the_likely_meaning() {
        assert_eq!(memory("64Mi"), Ok(64 << 20));
        assert_eq!(memory("134217728"), Ok(128 << 20));
        assert_eq!(memory("128e6"), Ok(128_000_000));
        assert!(memory("64").unwrap_err().1.contains("did you mean 64Mi"));
        assert!(memory("400m").unwrap_err().1.contains("400Mi"));
        assert!(memory("64MB").unwrap_err().1.contains("did you mean 64M?"));
        assert!(memory("64MiB").unwrap_err().1.contains("did you mean 64Mi?"));
        for text in ["-64Mi", "8Ei", "lots", "99999999999999999999999999999999999999Ei"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }
}
