//! Medians, ratios and their spread.

use serde::Serialize;

/// A ratio whose samples differ by more than this proves nothing.
pub const CONCLUSIVE_SPREAD: f64 = 0.15;

/// Samples of one value, in the order they were taken, and what is said of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// From the smallest to the largest, as a part of the median.
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
        Some(Self { median, min, max, spread: (max - min) / median, samples })
    }

    /// Enough alike to be believed. An undefined spread is not.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        self.spread <= CONCLUSIVE_SPREAD
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
        assert_eq!((summary.min, summary.max, summary.spread), (1.0, 3.0, 1.0));
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

    #[test]
    fn a_spread_over_fifteen_percent_is_inconclusive() {
        assert!(Summary::of(vec![0.95, 1.0, 1.09]).unwrap().is_conclusive());
        assert!(!Summary::of(vec![0.90, 1.0, 1.06]).unwrap().is_conclusive());
        assert!(!Summary::of(vec![0.0, 0.0]).unwrap().is_conclusive());
    }

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!(quantile(&[10.0, 20.0, 30.0], 0.75), 25.0);
        assert_eq!(quantile(&[10.0], 0.99), 10.0);
    }
}
