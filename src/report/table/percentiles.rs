//! Percentiles of latencies, drawn for a terminal.

use std::fmt::Write as _;

use super::Style;
use crate::bench::{BenchReport, LatencyResult};
use crate::report::svg::figures;
use crate::units::size;

/// Columns of a strip of percentiles.
const STRIP: usize = 50;

/// A strip for each latency, from its smallest to its largest, all on one scale of powers of two.
pub(super) fn percentiles(document: &BenchReport<LatencyResult>, style: Style) -> String {
    let rows: Vec<(String, [f64; 6])> = document
        .results
        .iter()
        .filter_map(|row| Some((format!("{} {}", row.operation, size(row.size_bytes)), figures(row.latencies.as_ref()?))))
        .filter(|(_, figures)| figures[0] > 0.0)
        .collect();
    let all = rows.iter().flat_map(|(_, figures)| figures);
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), us| (low.min(*us), high.max(*us)));
    if rows.is_empty() || high <= low {
        return String::new();
    }
    let column = |us: f64| ((us / low).log2() / (high / low).log2() * (STRIP - 1) as f64).round() as usize;
    let scale = format!("{low:.1} us{:>width$.1} us", high, width = STRIP - format!("{low:.1} us").len() - 3);
    let mut out = format!("\n  {:>14}  {}\n", "", style.dim(scale));
    for (name, figures) in rows {
        let mut strip = vec![' '; STRIP];
        let [first, .., last] = figures.map(column);
        strip[first..=last].fill('-');
        // Where several are in one column, the one that more messages keep to is seen.
        for (mark, us) in
            ['[', ']', '!', '*', '+', 'o'].into_iter().zip([figures[0], figures[5], figures[4], figures[3], figures[2], figures[1]])
        {
            strip[column(us)] = mark;
        }
        let strip: String = strip.into_iter().collect();
        let _ = writeln!(out, "  {name:>14}  {}", strip.trim_end());
    }
    out + &format!("  {:>14}  {}\n", "", style.dim("[ min  o p50  + p90  * p99  ! p99.9  ] max"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::svg::tests::document;

    #[test]
    fn percentiles_lie_on_a_scale_of_powers_of_two() {
        let strip = percentiles(&document(), Style { color: false, width: 100, verbose: false });
        let line = strip.lines().find(|line| line.contains("read 64 B")).unwrap();
        let places: Vec<usize> = ['[', 'o', '+', '*', '!', ']'].map(|mark| line.find(mark).unwrap()).to_vec();
        assert!(places.windows(2).all(|pair| (9..=11).contains(&(pair[1] - pair[0]))), "{strip}");
    }
}
