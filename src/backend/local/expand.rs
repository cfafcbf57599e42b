//! `$(NAME)` in a container's command, arguments and environment (`third_party/forked/golang/expansion/expand.go`).

use crate::scenario::EnvVar;

/// The environment, in which a value may name the variables before it.
pub fn environment(of: &[EnvVar]) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::new();
    for variable in of {
        let value = expand(&variable.value, &known);
        known.push((variable.name.clone(), value));
    }
    known
}

/// A text with the values of the variables that it names. One that is not known stays as it is; `$$` is a `$`.
pub fn expand(text: &str, known: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let name = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        rest = if let Some((name, left)) = name {
            match known.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            left
        } else {
            out.push('$');
            after.strip_prefix('$').unwrap_or(after)
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_replaced_where_it_is_known_and_two_dollars_are_one() {
        let known = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        for (text, expected) in [
            ("$(A)-$(A)", "1-1"),
            ("$(B)", "$(A)"),
            ("$(C) $A ${A}", "$(C) $A ${A}"),
            ("$$(A) $$$(A) $$", "$(A) $1 $"),
            ("$(A", "$(A"),
            ("100$", "100$"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    #[test]
    fn a_variable_may_name_those_before_it() {
        let variable = |name: &str, value: &str| EnvVar { name: name.to_owned(), value: value.to_owned() };
        let known = environment(&[variable("A", "$(B)"), variable("B", "2"), variable("C", "$(B)$(A)")]);
        let values: Vec<&str> = known.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["$(B)", "2", "2$(B)"]);
    }
}
