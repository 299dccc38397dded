//! Repeats into one figure with its spread, and latencies into percentiles.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From which spread of its repeats on a figure is too noisy to quote: the median may then be a tenth off.
const NOISY_PERCENT: f64 = 10.0;

/// Repeats of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Difference of largest and smallest, in percent of the median.
    pub spread_percent: f64,
    /// Whether it is too noisy to quote.
    pub is_noisy: bool,
}

impl Spread {
    /// Of at least one figure; nothing of none.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], sorted[middle]) } else { sorted[middle] };
        let spread_percent = if median > 0.0 { (max - min) / median * 100.0 } else { 0.0 };
        Some(Self { median, min, max, spread_percent, is_noisy: spread_percent > NOISY_PERCENT })
    }
}

/// Latencies of all repeats.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are the figures'")]
pub struct Latencies {
    pub samples: u64,
    pub min_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub mean_us: f64,
    pub deviation_us: f64,
}

impl Latencies {
    /// From nanoseconds and how often each was seen.
    #[must_use]
    pub fn of(samples: &[(u64, u64)]) -> Option<Self> {
        let mut histogram = Histogram::<u64>::new(3).ok()?;
        for (ns, count) in samples {
            histogram.record_n((*ns).max(1), *count).ok()?;
        }
        let us = |ns: u64| ns as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            samples: histogram.len(),
            min_us: us(histogram.min()),
            p50_us: us(histogram.value_at_quantile(0.5)),
            p90_us: us(histogram.value_at_quantile(0.9)),
            p99_us: us(histogram.value_at_quantile(0.99)),
            p999_us: us(histogram.value_at_quantile(0.999)),
            max_us: us(histogram.max()),
            mean_us: histogram.mean() / 1000.0,
            deviation_us: histogram.stdev() / 1000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_counts() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max, spread.is_noisy), (2.0, 1.0, 3.0, true));
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert!(!Spread::of(&[100.0, 101.0, 102.0]).unwrap().is_noisy);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn percentiles_are_those_of_all_samples() {
        let latencies = Latencies::of(&[(1000, 98), (5000, 1), (100_000, 1)]).unwrap();
        assert_eq!((latencies.samples, latencies.p50_us.round(), latencies.p99_us.round()), (100, 1.0, 5.0));
        assert!((latencies.max_us - 100.0).abs() < 0.2, "{latencies:?}");
        assert_eq!(Latencies::of(&[]), None);
    }
}
