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
}
