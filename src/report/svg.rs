//! Drawings of measurements, for `--plot`.

use std::fmt::Write as _;

use super::table::bench::buffer;
use crate::bench::{BandwidthResult, BenchReport, Latencies, LatencyResult};
use crate::units::size;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const EDGE: f64 = 70.0;
const COLORS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];
/// Most lines at a hand's breadth of an axis.
const STEPS: f64 = 8.0;
/// Percentiles, from left to right.
const PERCENTILES: [&str; 6] = ["min", "p50", "p90", "p99", "p99.9", "max"];

/// A figure of a line of this name.
struct Point {
    line: String,
    x: f64,
    y: f64,
}

/// What an axis shows.
struct Axis<'a> {
    low: f64,
    high: f64,
    label: &'a dyn Fn(f64) -> String,
}

impl<'a> Axis<'a> {
    /// Whole numbers around all values.
    fn around(values: impl Iterator<Item = f64>, label: &'a dyn Fn(f64) -> String) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let high = if high.ceil() > low.floor() { high.ceil() } else { low.floor() + 1.0 };
        Self { low: low.floor(), high, label }
    }

    fn part(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn steps(&self) -> impl Iterator<Item = f64> {
        let (low, high) = (self.low, self.high);
        let step = ((high - low) / STEPS).ceil().max(1.0);
        (0..=STEPS as u32).map(move |index| low + step * f64::from(index)).filter(move |value| *value <= high)
    }
}

/// The rates over the sizes, both axes in powers of two.
#[must_use]
pub fn bandwidth_svg(document: &BenchReport<BandwidthResult>) -> String {
    let point = |row: &BandwidthResult| {
        let rate = row.bytes_per_second?.median;
        let line = format!("{} ({})", row.operation, buffer(row.buffer));
        (rate > 0.0).then(|| Point { line, x: (row.size_bytes as f64).log2(), y: rate.log2() })
    };
    let points: Vec<Point> = document.results.iter().filter_map(point).collect();
    let label = |value: f64| size(value.exp2() as u64);
    draw(&titled("Bandwidth over message size", document), &points, &label, &|value| label(value) + "/s")
}

/// The latencies over their percentiles, in powers of two.
#[must_use]
pub fn latency_svg(document: &BenchReport<LatencyResult>) -> String {
    let mut points = Vec::new();
    for row in &document.results {
        let Some(all) = &row.latencies else { continue };
        for (x, us) in figures(all).into_iter().enumerate().filter(|(_, us)| *us > 0.0) {
            points.push(Point { line: format!("{} of {}", row.operation, size(row.size_bytes)), x: x as f64, y: us.log2() });
        }
    }
    let name = |value: f64| PERCENTILES.get(value as usize).copied().unwrap_or("").to_owned();
    draw(&titled("Latency percentiles", document), &points, &name, &|value| format!("{} us", value.exp2()))
}

/// A drawing may be seen without its document, so it says of itself what its figures are.
fn titled<R>(title: &str, document: &BenchReport<R>) -> String {
    format!("{title}{}", if document.is_simulated() { ", simulated" } else { "" })
}

pub(super) fn figures(all: &Latencies) -> [f64; 6] {
    [all.min_us, all.p50_us, all.p90_us, all.p99_us, all.p999_us, all.max_us]
}

fn draw(title: &str, points: &[Point], x_label: &dyn Fn(f64) -> String, y_label: &dyn Fn(f64) -> String) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    if points.is_empty() {
        return out + "<text x=\"20\" y=\"40\">nothing was measured</text>\n</svg>\n";
    }
    let _ = writeln!(out, "<text x=\"{:.1}\" y=\"20\">{title}</text>", EDGE);
    let across = Axis::around(points.iter().map(|point| point.x), x_label);
    let up = Axis::around(points.iter().map(|point| point.y), y_label);
    let x = |value: f64| EDGE + across.part(value) * (WIDTH - 3.0 * EDGE);
    let y = |value: f64| HEIGHT - EDGE - up.part(value) * (HEIGHT - 1.5 * EDGE);
    let (left, right, bottom, top) = (x(across.low), x(across.high), y(up.low), y(up.high));
    for value in across.steps() {
        let (at, text) = (x(value), (across.label)(value));
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom:.1}\" y2=\"{top:.1}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            bottom + 18.0
        );
    }
    for value in up.steps() {
        let (at, text) = (y(value), (up.label)(value));
        let _ = writeln!(
            out,
            "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    let mut lines: Vec<&str> = points.iter().map(|point| point.line.as_str()).collect();
    lines.sort_unstable();
    lines.dedup();
    for (index, line) in lines.into_iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let places: Vec<(f64, f64)> = points.iter().filter(|point| point.line == line).map(|point| (x(point.x), y(point.y))).collect();
        let way: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>", way.join(" "));
        for (x, y) in places {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
        }
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{line}</text>", right + 10.0, 40.0 + 18.0 * index as f64);
    }
    out + "</svg>\n"
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::transfer::{CompletionMode, Operation};

    pub(in crate::report) fn document() -> BenchReport<LatencyResult> {
        let latencies = Latencies {
            samples: 100,
            min_us: 1.0,
            p50_us: 2.0,
            p90_us: 4.0,
            p99_us: 8.0,
            p999_us: 16.0,
            max_us: 32.0,
            ..Latencies::default()
        };
        let row = LatencyResult {
            operation: Operation::Read,
            memory: "host".to_owned(),
            size_bytes: 64,
            inline: false,
            completion: CompletionMode::Poll,
            is_half_round_trip: false,
            latencies: Some(latencies),
            p50_us: None,
            verification: None,
            counters: Vec::new(),
            carried: Vec::new(),
            failure: None,
        };
        BenchReport {
            schema: String::new(),
            connection: None,
            results: vec![row],
            ordering: Vec::new(),
            notices: Vec::new(),
            problems: Vec::new(),
            stopped: None,
        }
    }

    #[test]
    fn a_drawing_names_its_percentiles() {
        let svg = latency_svg(&document());
        assert!(svg.contains(">p99.9<") && svg.contains(">32 us<") && svg.contains("read of 64 B"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
