//! Which request an iteration sends.

use super::Request;

/// Requests in the proportion of their weights, by the iteration's number: over any run of as many iterations as the weights
/// sum to it is exact, and the same ones are spread, not in a row.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Where each request's places end.
    ends: Vec<u64>,
    places: u64,
    stride: u64,
}

impl Mix {
    /// Of these; all weights 0 are all weights 1.
    pub fn new(requests: &[Request]) -> Self {
        let idle = requests.iter().all(|request| request.weight == 0);
        let weights = requests.iter().map(|request| if idle { 1 } else { u64::from(request.weight) });
        let ends: Vec<u64> = weights
            .scan(0, |end, weight| {
                *end += weight;
                Some(*end)
            })
            .collect();
        let places = ends.last().copied().unwrap_or(0).max(1);
        // A step of about the golden ratio that has no factor in common with the places: it visits each of them once.
        let golden = (places * 618 / 1000).max(1);
        let stride = (golden..=places).find(|stride| gcd(*stride, places) == 1).unwrap_or(1);
        Self { ends, places, stride }
    }

    /// The index of the request that iteration `n` sends.
    pub fn of(&self, n: u64) -> usize {
        let place = u128::from(n % self.places) * u128::from(self.stride) % u128::from(self.places);
        self.ends.partition_point(|end| u128::from(*end) <= place)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mix(weights: &[u32]) -> Mix {
        let request = |weight: &u32| Request {
            method: "GET".into(),
            path: "/".into(),
            headers: std::collections::BTreeMap::new(),
            body: String::new(),
            weight: *weight,
            timeout_ms: 1,
        };
        Mix::new(&weights.iter().map(request).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn any_run_as_long_as_the_weights_has_each_so_often(
            weights in proptest::collection::vec(0..20_u32, 1..6), from in 0..u64::from(u32::MAX),
        ) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let mix = mix(&weights);
            let mut seen = vec![0; weights.len()];
            (from..from + u64::from(sum)).for_each(|n| seen[mix.of(n)] += 1);
            prop_assert_eq!(seen, weights);
        }
    }

    #[test]
    fn the_same_ones_are_spread() {
        let mix = mix(&[5, 5]);
        let row: Vec<_> = (0..10).map(|n| mix.of(n)).collect();
        assert!(row.windows(4).all(|four| four.iter().sum::<usize>() % 4 != 0), "{row:?}");
    }
}
