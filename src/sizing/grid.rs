//! The grid of a sweep: every combination of the values that each field is to have.

use std::str::FromStr;

use crate::scenario::setting::{FieldPath, Setting};

/// A field, and the values that it takes one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Which.
    pub path: FieldPath,
    /// As they would be written in the scenario's YAML.
    pub values: Vec<String>,
}

/// So many cells are a slip of the pen.
pub const MOST: usize = 4096;

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Setting { path, value } = text.parse()?;
        let values = split(&value);
        if values.iter().any(String::is_empty) {
            return Err(format!("{text:?} has an empty value; write PATH=V1,V2"));
        }
        if let Some(twice) = values.iter().enumerate().find(|(index, value)| values[..*index].contains(value))
        {
            return Err(format!("{text:?} has {} twice", twice.1));
        }
        Ok(Self { path, values })
    }
}

/// At the commas that are in no bracket and no quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quote) = (vec![String::new()], 0_u32, None);
    for c in text.chars() {
        match c {
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            '[' | '{' if quote.is_none() => depth += 1,
            ']' | '}' if quote.is_none() => depth = depth.saturating_sub(1),
            ',' if quote.is_none() && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// Every combination, the last axis fastest; or why not.
pub fn cells(axes: &[Axis]) -> Result<Vec<Vec<Setting>>, String> {
    for (index, axis) in axes.iter().enumerate() {
        if axes[..index].iter().any(|earlier| earlier.path == axis.path) {
            return Err(format!(
                "{} is set twice; give all its values at once: --set {}=V1,V2",
                axis.path, axis.path
            ));
        }
    }
    let count = axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()));
    if count.is_none_or(|count| count > MOST) {
        return Err(format!("the grid has more than {MOST} cells; choose fewer values"));
    }
    let mut cells = vec![Vec::new()];
    for axis in axes {
        let with = |cell: &Vec<Setting>, value: &String| {
            let setting = Setting { path: axis.path.clone(), value: value.clone() };
            cell.iter().cloned().chain([setting]).collect()
        };
        cells =
            cells.iter().flat_map(|cell| axis.values.iter().map(move |value| with(cell, value))).collect();
    }
    Ok(cells)
}

/// What a scenario with these values is called: a name that is a folder's, too.
pub fn name(base: &str, values: &[String]) -> String {
    const LONGEST: usize = 63;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let tail: String =
        values.iter().flat_map(|value| ['-'].into_iter().chain(value.chars().map(plain))).collect();
    let tail: String = tail.chars().take(LONGEST - 8).collect();
    let head: String = base.chars().take(LONGEST - tail.len()).collect();
    format!("{}{}", head.trim_end_matches('-'), tail.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(texts: &[&str]) -> Result<Vec<Axis>, String> {
        texts.iter().map(|text| text.parse()).collect()
    }

    #[test]
    fn a_grid_has_every_combination_and_the_last_axis_is_the_fastest() {
        let cells = cells(&axes(&["a.b=1,2", "c=x,[y, z]"]).unwrap()).unwrap();
        let written: Vec<String> = cells
            .iter()
            .map(|cell| cell.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(written, ["a.b=1 c=x", "a.b=1 c=[y, z]", "a.b=2 c=x", "a.b=2 c=[y, z]"]);
    }

    #[test]
    fn slips_are_refused() {
        for (texts, said) in [
            (vec!["a"], "no value"),
            (vec!["a=1,,2"], "empty"),
            (vec!["a=1,1"], "twice"),
            (vec!["a=1", "a=2"], "twice"),
        ] {
            let refused = axes(&texts).and_then(|axes| cells(&axes)).unwrap_err();
            assert!(refused.contains(said), "{texts:?}: {refused}");
        }
        let wide = format!("a={}", (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
        let cube = [wide.clone(), wide.replace('a', "b"), wide.replace('a', "c")];
        let cube: Vec<Axis> = cube.iter().map(|text| text.parse().unwrap()).collect();
        assert!(cells(&cube).unwrap_err().contains("4096"));
    }

    #[test]
    fn a_cell_has_a_name_that_a_scenario_may_have() {
        assert_eq!(name("leak", &["64Mi".into(), "1.5".into()]), "leak-64mi-1-5");
        let long = name(&"a".repeat(60), &["v".repeat(100)]);
        assert_eq!(long.len(), 63);
        assert_eq!(name("leak", &["[y, z]".into()]), "leak--y--z");
    }
}
