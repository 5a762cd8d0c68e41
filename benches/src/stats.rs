//! Medians, ratios and their spread.

use serde::Serialize;

/// A ratio whose samples differ by more than this proves nothing.
pub const CONCLUSIVE_SPREAD: f64 = 0.15;
/// Nor do fewer pairs than this.
pub const CONCLUSIVE_PAIRS: usize = 9;

/// Samples of one value, in the order they were taken, and what is said of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// The interquartile range as a part of the median: where the middle half of the samples lies. Unlike the whole range it does
    /// not grow with their number, and one pause of a shared machine does not decide about the others.
    pub spread: f64,
    pub samples: Vec<f64>,
}

impl Summary {
    /// `None` without samples.
    #[must_use]
    pub fn of(samples: Vec<f64>) -> Option<Self> {
        let mut sorted = samples.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = quantile(&sorted, 0.5);
        let spread = (quantile(&sorted, 0.75) - quantile(&sorted, 0.25)) / median;
        Some(Self { median, min, max, spread, samples })
    }

    /// Many enough, and enough alike, to be believed. An undefined spread is not.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        self.samples.len() >= CONCLUSIVE_PAIRS && self.spread <= CONCLUSIVE_SPREAD
    }
}

/// The ratios of pairs that were measured back to back.
#[must_use]
pub fn ratios(pairs: &[(f64, f64)]) -> Option<Summary> {
    Summary::of(pairs.iter().map(|(subject, peer)| subject / peer).collect())
}

/// The value that a share of the sorted samples does not exceed; between two samples, the line between them. NaN without samples.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = share.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    low + (high - low) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Summary::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of(vec![9.0, 1.0, 2.0]).unwrap().median, 2.0);
    }

    #[test]
    fn samples_stay_in_the_order_they_were_taken() {
        let summary = Summary::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(summary.samples, [3.0, 1.0, 2.0]);
        assert_eq!((summary.min, summary.max, summary.spread), (1.0, 3.0, 0.5));
    }

    #[test]
    fn no_samples_have_no_summary() {
        assert_eq!(Summary::of(Vec::new()), None);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_machine_that_slows_down_leaves_paired_ratios_alone() {
        let ratios = ratios(&[(10.0, 5.0), (6.0, 3.0), (2.0, 1.0)]).unwrap();
        assert_eq!((ratios.median, ratios.spread), (2.0, 0.0));
    }

    fn conclusive(samples: &[f64]) -> bool {
        Summary::of(samples.to_vec()).unwrap().is_conclusive()
    }

    #[test]
    fn a_spread_over_fifteen_percent_is_inconclusive() {
        assert!(conclusive(&[0.92, 0.93, 0.95, 1.0, 1.0, 1.0, 1.05, 1.06, 1.07]));
        assert!(!conclusive(&[0.8, 0.8, 0.9, 1.0, 1.0, 1.0, 1.1, 1.2, 1.2]));
        assert!(!conclusive(&[0.0; 9]));
    }

    #[test]
    fn one_pause_of_the_machine_does_not_decide() {
        assert!(conclusive(&[0.2, 0.98, 0.99, 1.0, 1.0, 1.0, 1.01, 1.02, 1.03]));
    }

    #[test]
    fn fewer_than_nine_pairs_are_inconclusive() {
        assert!(conclusive(&[1.0; 9]));
        assert!(!conclusive(&[1.0; 8]));
    }

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!(quantile(&[10.0, 20.0, 30.0], 0.75), 25.0);
        assert_eq!(quantile(&[10.0], 0.99), 10.0);
    }
}
