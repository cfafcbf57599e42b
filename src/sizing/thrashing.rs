//! Whether a value is survived by thrashing: by signs that the easiest value does not show.

use super::digest::{Digest, Memory};

/// The signs of reclaim in which the containers at a value exceed those at the far end, in words; none if it lives at ease.
pub(super) fn signs(here: &Digest, far: &Digest) -> Vec<String> {
    let other = |memory: &Memory| far.memory.iter().find(|other| other.container == memory.container);
    here.memory
        .iter()
        .filter_map(|memory| Some((memory, other(memory)?)))
        .flat_map(|(a, b)| of(a, b))
        .collect()
}

fn of(here: &Memory, far: &Memory) -> Vec<String> {
    let mut signs = Vec::new();
    let name = &here.container;
    // Twice as much is no chance, and what a quiet system does anyway counts for nothing.
    let count = |here: Option<u64>, far: Option<u64>, slack: u64| {
        here.zip(far).filter(|(here, far)| *here > far.saturating_mul(2).saturating_add(slack))
    };
    if let Some((hits, before)) = count(here.limit_hits, far.limit_hits, 0) {
        signs.push(format!("{name} met its limit {} ({before} at the far end)", times(hits)));
    }
    if let Some((refaults, before)) = count(here.refaults, far.refaults, 64) {
        signs.push(format!("{name} read {refaults} pages back ({before} at the far end)"));
    }
    let pressures =
        [("full", here.pressure_full, far.pressure_full), ("some", here.pressure_some, far.pressure_some)];
    for (which, here, far) in pressures {
        if let Some((here, far)) = here.zip(far).filter(|(here, far)| *here > far * 2.0 + 1.0) {
            signs.push(format!(
                "{name} had memory pressure ({which}) of {here:.1} % ({far:.1} % at the far end)"
            ));
        }
    }
    signs
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(limit_hits: u64, refaults: u64, pressure: Option<f64>) -> Digest {
        let memory = Memory {
            container: "web/app".into(),
            limit_hits: Some(limit_hits),
            refaults: Some(refaults),
            pressure_full: pressure,
            ..Memory::default()
        };
        Digest { memory: vec![memory], ..Digest::default() }
    }

    #[test]
    fn only_what_the_far_end_does_not_show_is_a_sign() {
        let far = digest(0, 100, Some(0.5));
        assert_eq!(signs(&digest(0, 120, Some(1.0)), &far), [""; 0]);
        assert_eq!(signs(&digest(7, 0, None), &far), ["web/app met its limit 7 times (0 at the far end)"]);
        assert_eq!(signs(&digest(0, 4000, Some(30.0)), &far).len(), 2);
        assert_eq!(signs(&far, &far), [""; 0]);
        assert_eq!(signs(&digest(9, 9999, None), &Digest::default()), [""; 0]);
    }
}
