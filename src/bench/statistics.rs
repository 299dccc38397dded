//! Repeats into one figure with its spread, and latencies into percentiles.

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
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let (min, max) = (sorted.first()?.0, sorted.last()?.0);
        let all: u64 = sorted.iter().map(|(_, count)| count).sum();
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |part: f64| {
            let wanted = (all as f64 * part).ceil() as u64;
            let mut seen = 0;
            let found = sorted.iter().find(|(_, count)| {
                seen += count;
                seen >= wanted
            });
            us(found.map_or(max, |(ns, _)| *ns))
        };
        let mean = sorted.iter().map(|(ns, count)| *ns as f64 * *count as f64).sum::<f64>() / all as f64;
        let variance = sorted.iter().map(|(ns, count)| (*ns as f64 - mean).powi(2) * *count as f64).sum::<f64>() / all as f64;
        Some(Self {
            samples: all,
            min_us: us(min),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(max),
            mean_us: mean / 1000.0,
            deviation_us: variance.sqrt() / 1000.0,
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
        assert_eq!((latencies.samples, latencies.p50_us, latencies.p99_us, latencies.max_us), (100, 1.0, 5.0, 100.0));
        assert_eq!(Latencies::of(&[]), None);
    }

    /// A percentile is the smallest figure that so many of all are no larger than: the nearest rank, ceil(p x n).
    #[test]
    fn percentiles_are_the_nearest_ranks() {
        // 1 to n microseconds, each once: the rank is the figure.
        for (n, p50, p90, p99, p999) in [
            (1_u64, 1.0, 1.0, 1.0, 1.0),
            (2, 1.0, 2.0, 2.0, 2.0),
            (3, 2.0, 3.0, 3.0, 3.0),
            (4, 2.0, 4.0, 4.0, 4.0),
            (10, 5.0, 9.0, 10.0, 10.0),
            (100, 50.0, 90.0, 99.0, 100.0),
            (101, 51.0, 91.0, 100.0, 101.0),
            (1000, 500.0, 900.0, 990.0, 999.0),
            (1001, 501.0, 901.0, 991.0, 1000.0),
            (10_000, 5000.0, 9000.0, 9900.0, 9990.0),
        ] {
            // In any order.
            let samples: Vec<(u64, u64)> = (1..=n).rev().map(|us| (us * 1000, 1)).collect();
            let found = Latencies::of(&samples).unwrap();
            assert_eq!((found.p50_us, found.p90_us, found.p99_us, found.p999_us), (p50, p90, p99, p999), "{n}");
            assert_eq!((found.samples, found.min_us, found.max_us), (n, 1.0, n as f64), "{n}");
            assert_eq!(found.mean_us, (n + 1) as f64 / 2.0, "{n}");
        }
    }

    #[test]
    fn figures_that_were_seen_often_count_as_often() {
        // 999 of 1 us and one of 9 us: the 999th is still 1.
        let found = Latencies::of(&[(9000, 1), (1000, 999)]).unwrap();
        assert_eq!((found.p50_us, found.p99_us, found.p999_us, found.max_us), (1.0, 1.0, 1.0, 9.0));
        let found = Latencies::of(&[(9000, 2), (1000, 998)]).unwrap();
        assert_eq!((found.p99_us, found.p999_us), (1.0, 9.0));
        // Of 2, 4, 4, 4, 5, 5, 7, 9 the mean is 5 and the deviation 2.
        let found = Latencies::of(&[(2000, 1), (4000, 3), (5000, 2), (7000, 1), (9000, 1)]).unwrap();
        assert_eq!((found.samples, found.mean_us, found.deviation_us, found.p50_us), (8, 5.0, 2.0, 4.0));
        let found = Latencies::of(&[(1500, 7)]).unwrap();
        assert_eq!((found.min_us, found.mean_us, found.p999_us, found.deviation_us), (1.5, 1.5, 1.5, 0.0));
    }

    #[test]
    fn a_spread_is_that_of_the_extremes_in_percent_of_the_median() {
        for (figures, median, min, max, spread) in [
            (&[7.0][..], 7.0, 7.0, 7.0, 0.0),
            (&[4.0, 2.0], 3.0, 2.0, 4.0, 200.0 / 3.0),
            (&[5.0, 1.0, 4.0], 4.0, 1.0, 5.0, 100.0),
            (&[8.0, 2.0, 4.0, 6.0], 5.0, 2.0, 8.0, 120.0),
            (&[0.0, 0.0], 0.0, 0.0, 0.0, 0.0),
        ] {
            let found = Spread::of(figures).unwrap();
            assert_eq!((found.median, found.min, found.max), (median, min, max), "{figures:?}");
            assert!((found.spread_percent - spread).abs() < 1e-9, "{found:?}");
        }
        // A tenth is not yet noise, more is.
        assert!(!Spread::of(&[95.0, 100.0, 105.0]).unwrap().is_noisy);
        assert!(Spread::of(&[95.0, 100.0, 105.1]).unwrap().is_noisy);
    }
}
