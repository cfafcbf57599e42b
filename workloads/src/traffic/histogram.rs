//! Histograms that lines carry: added without loss, asked for quantiles.

use super::Histogram;

/// Three significant digits: hdrhistogram keeps the upper 11 bits of a value (`SUB_BUCKET` of 2048).
const KEPT_BITS: u32 = 11;

/// What it is recorded as: the highest value that three significant digits do not tell from it.
fn rounded(value: u64) -> u64 {
    let bits = u64::BITS - value.leading_zeros();
    let unit = bits.saturating_sub(KEPT_BITS);
    value | ((1 << unit) - 1)
}

impl Histogram {
    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.add(rounded(value), 1);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        for (value, count) in &other.0 {
            self.add(*value, *count);
        }
    }

    fn add(&mut self, value: u64, count: u64) {
        match self.0.binary_search_by_key(&value, |(value, _)| *value) {
            Ok(at) => {
                if let Some((_, there)) = self.0.get_mut(at) {
                    *there = there.saturating_add(count);
                }
            }
            Err(at) => self.0.insert(at, (value, count)),
        }
    }

    /// How many values it has.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The least value that so much of all (0 to 1) is at most; none of no values.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        self.at_most(|count| count * share.clamp(0.0, 1.0))
    }

    /// The same of so many percent, without the error of dividing them first.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        self.at_most(|count| count * percent / 100.0)
    }

    /// The least value that so many of all are at most.
    fn at_most(&self, so_many: impl Fn(f64) -> f64) -> Option<u64> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts lie below 2^53"
        )]
        let rank = (so_many(self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        found.map(|(value, _)| *value)
    }

    /// The greatest.
    pub fn max(&self) -> Option<u64> {
        self.0.last().map(|(value, _)| *value)
    }
}

impl From<&hdrhistogram::Histogram<u32>> for Histogram {
    fn from(recorded: &hdrhistogram::Histogram<u32>) -> Self {
        let values = recorded.iter_recorded();
        Self(values.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(values: &[u64]) -> (Histogram, hdrhistogram::Histogram<u32>) {
        let mut theirs = hdrhistogram::Histogram::new_with_bounds(1, 1 << 42, 3).unwrap();
        let mut ours = Histogram::default();
        for value in values {
            theirs.record(*value).unwrap();
            ours.record(*value);
        }
        (ours, theirs)
    }

    fn values() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(
            (0..42_u32, 0..1_u64 << 42).prop_map(|(shift, value)| value >> shift),
            1..200,
        )
    }

    proptest! {
        #[test]
        fn it_is_what_hdrhistogram_makes_of_the_same_values(values in values(), share in 0.0..1.0_f64) {
            let (ours, theirs) = recorded(&values);
            prop_assert_eq!(&ours, &Histogram::from(&theirs));
            prop_assert_eq!(ours.quantile(share), Some(theirs.value_at_quantile(share)));
            prop_assert_eq!(ours.max(), Some(theirs.value_at_quantile(1.0)));
        }

        #[test]
        fn parts_add_up_to_the_whole(values in values(), at in 0..200_usize) {
            let (left, right) = values.split_at(at.min(values.len()));
            let (mut sum, right) = (recorded(left).0, recorded(right).0);
            sum.merge(&right);
            prop_assert_eq!(sum, recorded(&values).0);
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
