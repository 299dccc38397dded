//! `bw` and `ping` as drawings with their figures below. All devices of a host have one scale, so that they can be compared by eye.

use maud::{Markup, html};

use super::super::table::bench::{buffer, verified};
use super::super::table::counters;
use super::tables::problems;
use crate::bench::{
    BandwidthResult, BenchReport, Carried, ConnectionReport, FailureReport, Latencies, LatencyResult, LoopbackReport, Notice, PathLimit,
};
use crate::units::size;

const LEFT: f64 = 90.0;
const WIDTH: f64 = 250.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 22.0;
const HEIGHT: f64 = 170.0;
/// Height of a row of latencies.
const ROW: f64 = 24.0;
/// Rows of a document that are drawn at most: a grid of sizes has fewer.
const MOST_ROWS: usize = 200;
/// Lines of a chart that are told apart, by colour and by dashes.
const KINDS: usize = 6;

/// A chart for each document, side by side.
pub(super) fn bandwidth(documents: &[BenchReport<BandwidthResult>], measured: &[LoopbackReport]) -> Markup {
    let top = documents.iter().flat_map(|document| &document.results).filter_map(rate_of).fold(0.0, f64::max);
    let path = |document: &BenchReport<BandwidthResult>| {
        let local = &document.connection.as_ref()?.local;
        // With a GPU's memory its own link bounds it too, of which nothing is known.
        let is_of_gpu = local.memory.as_ref().is_some_and(|memory| memory.gpu.is_some());
        measured.iter().find(|measured| measured.device == local.device && !is_of_gpu)?.path.clone()
    };
    let rates = |document: &BenchReport<BandwidthResult>| -> Vec<(String, Vec<Carried>)> {
        let rows = document.results.iter();
        rows.map(|row| (format!("{} of {} ({})", row.operation, size(row.size_bytes), buffer(row.buffer)), row.carried.clone())).collect()
    };
    html! {
        @if !documents.is_empty() {
            h3 { "Bandwidth" }
            @if top > 0.0 { div.charts { @for document in documents { (Rates::of(document, top, path(document)).draw()) } } }
            @for document in documents { (trouble(rows_of(document), &document.notices)) (ways(rates(document))) (problems(&document.problems)) }
            details { summary { "Figures of bandwidth" } @for document in documents { (rates_table(document)) } }
        }
    }
}

/// As [`bandwidth`].
pub(super) fn latency(documents: &[BenchReport<LatencyResult>]) -> Markup {
    let all = || documents.iter().flat_map(|document| &document.results).filter_map(|row| row.latencies);
    let is_figure = |value: &f64| value.is_finite() && *value > 0.0;
    let low = all().map(|latencies| latencies.min_us).filter(is_figure).fold(f64::MAX, f64::min);
    let high = all().map(|latencies| latencies.p999_us).filter(is_figure).fold(0.0, f64::max);
    let failures = |document: &BenchReport<LatencyResult>| -> Vec<(String, Option<FailureReport>)> {
        document.results.iter().map(|row| (format!("{} of {}", row.operation, size(row.size_bytes)), row.failure.clone())).collect()
    };
    let latencies = |document: &BenchReport<LatencyResult>| -> Vec<(String, Vec<Carried>)> {
        document.results.iter().map(|row| (format!("{} of {}", row.operation, size(row.size_bytes)), row.carried.clone())).collect()
    };
    html! {
        @if !documents.is_empty() {
            h3 { "Latency" }
            @if low <= high {
                div.charts { @for document in documents { (strips(document, low, high)) } }
                p.muted { "A line goes from the fastest message to the slowest of a thousand (p99.9); the dot is the median, the stroke p99." }
            }
            @for document in documents { (trouble(failures(document), &document.notices)) (ways(latencies(document))) (problems(&document.problems)) }
            details { summary { "Figures of latency" } @for document in documents { (latencies_table(document)) } }
        }
    }
}

fn rows_of(document: &BenchReport<BandwidthResult>) -> Vec<(String, Option<FailureReport>)> {
    document.results.iter().map(|row| (format!("{} of {}", row.operation, size(row.size_bytes)), row.failure.clone())).collect()
}

fn rate_of(row: &BandwidthResult) -> Option<f64> {
    row.bytes_per_second.map(|rate| rate.median * 8.0 / 1e9).filter(|rate| rate.is_finite() && *rate > 0.0)
}

/// From which device to which.
fn way(connection: Option<&ConnectionReport>) -> String {
    let Some(connection) = connection else { return "not connected".to_owned() };
    let simulated = if connection.is_simulated { ", simulated" } else { "" };
    let (local, remote) = (&connection.local.device, &connection.remote.device);
    if let Some(gpu) = connection.local.memory.as_ref().and_then(|memory| memory.gpu.as_ref()).filter(|_| connection.peer.is_none()) {
        return format!("memory of GPU {} by {local}{simulated}", gpu.pci);
    }
    match &connection.peer {
        Some(peer) => format!("{local} to {remote} of {peer}{simulated}"),
        None if local == remote => format!("{local} to itself{simulated}"),
        None => format!("{local} to {remote}{simulated}"),
    }
}

fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

/// A number without zeros behind its point.
fn plain(value: f64) -> String {
    format!("{}", (value * 1000.0).round() / 1000.0)
}

/// Round numbers from zero to `top`, four to eight of them.
fn ticks(top: f64) -> Vec<f64> {
    let power = 10_f64.powf((top / 4.0).log10().floor());
    let step = [5.0, 2.0, 1.0].into_iter().map(|factor| factor * power).find(|step| top / step >= 4.0).unwrap_or(power);
    (0..=10).map(|tick| f64::from(tick) * step).filter(|tick| *tick <= top).collect()
}

/// A chart of rates over sizes.
struct Rates<'a> {
    rows: &'a [BandwidthResult],
    way: String,
    /// Lines, in the order of their first row.
    names: Vec<String>,
    sizes: Vec<u64>,
    path: Option<PathLimit>,
    /// The path's rate, where it is near enough to be drawn.
    near: Option<f64>,
    top: f64,
}

impl<'a> Rates<'a> {
    fn of(document: &'a BenchReport<BandwidthResult>, top: f64, path: Option<PathLimit>) -> Self {
        let rows = &document.results[..document.results.len().min(MOST_ROWS)];
        let mut names: Vec<String> = Vec::new();
        for name in rows.iter().filter(|row| rate_of(row).is_some()).map(line) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut sizes: Vec<u64> = rows.iter().map(|row| row.size_bytes.max(1)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        // A path that is far above what was reached would press everything else onto the axis: then words have to do.
        let near = path.as_ref().map(|path| path.bits_per_second as f64 / 1e9).filter(|limit| *limit <= 1.6 * top);
        let top = near.map_or(top, |limit| limit.max(top)) * 1.08;
        Self { rows, way: way(document.connection.as_ref()), names, sizes, path, near, top }
    }

    fn x(&self, bytes: u64) -> f64 {
        let power = |bytes: u64| (bytes.max(1) as f64).log2();
        let (low, high) = (self.sizes.first().copied().map_or(0.0, power), self.sizes.last().copied().map_or(1.0, power));
        if high > low { LEFT + 12.0 + (WIDTH - 24.0) * (power(bytes) - low) / (high - low) } else { LEFT + WIDTH / 2.0 }
    }

    fn y(&self, rate: f64) -> f64 {
        TOP + HEIGHT * (1.0 - (rate / self.top).clamp(0.0, 1.0))
    }

    fn draw(&self) -> Markup {
        let floor = TOP + HEIGHT;
        let every = self.sizes.len().div_ceil(5).max(1);
        let label = format!("Bandwidth over message size, {}; the figures stand in a table below", self.way);
        html! {
            figure {
                figcaption {
                    (self.way)
                    @if let Some(path) = &self.path { span.muted { "; its path carries " (plain(path.bits_per_second as f64 / 1e9)) " Gbit/s, " (path.bounded_by) } }
                }
                svg viewBox={ "0 0 " (LEFT + WIDTH + RIGHT) " " (floor + 30.0) } width=(LEFT + WIDTH + RIGHT) role="img" aria-label=(label) {
                    text.faint x=(LEFT - 8.0) y=(TOP - 8.0) text-anchor="end" { "Gbit/s" }
                    @for tick in ticks(self.top) {
                        path.grid d={ "M" (LEFT) " " (coordinate(self.y(tick))) " h" (WIDTH) } {}
                        text.faint x=(LEFT - 8.0) y=(coordinate(self.y(tick) + 4.0)) text-anchor="end" { (plain(tick)) }
                    }
                    @for bytes in self.sizes.iter().step_by(every) {
                        text.faint x=(coordinate(self.x(*bytes))) y=(floor + 18.0) text-anchor="middle" { (size(*bytes)) }
                    }
                    path.axis fill="none" d={ "M" (LEFT) " " (TOP) " V" (floor) " H" (LEFT + WIDTH) } {}
                    @if let Some(limit) = self.near {
                        path.limit d={ "M" (LEFT) " " (coordinate(self.y(limit))) " h" (WIDTH) } {}
                        text.faint x=(LEFT + 4.0) y=(coordinate(self.y(limit) - 4.0)) { "what the path carries" }
                    }
                    @for (index, name) in self.names.iter().enumerate() { (self.line(index, name)) }
                }
            }
        }
    }

    /// A line with its points and its entry in the legend.
    fn line(&self, index: usize, name: &str) -> Markup {
        let class = format!("line line-{}", index % KINDS);
        let own: Vec<(f64, f64, String)> = self
            .rows
            .iter()
            .filter(|row| line(row) == name)
            .filter_map(|row| {
                let rate = rate_of(row)?;
                Some((self.x(row.size_bytes), self.y(rate), format!("{name}, {}: {rate:.2} Gbit/s", size(row.size_bytes))))
            })
            .collect();
        let points: Vec<String> = own.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let legend = TOP + 6.0 + 20.0 * index as f64;
        html! {
            polyline class=(class) points=(points.join(" ")) {}
            @for (x, y, label) in &own { circle class={ "point " (class) } cx=(coordinate(*x)) cy=(coordinate(*y)) r="4" { title { (label) } } }
            @if legend < TOP + HEIGHT {
                path class=(class) d={ "M" (LEFT + WIDTH + 12.0) " " (legend) " h22" } {}
                text x=(LEFT + WIDTH + 40.0) y=(legend + 4.0) { (name) }
            }
        }
    }
}

/// What a line of rates is of.
fn line(row: &BandwidthResult) -> String {
    let mut name = row.operation.to_string();
    if row.queue_pairs > 1 {
        name += &format!(", {} pairs", row.queue_pairs);
    }
    if row.memory != "host" {
        name += &format!(", {}", row.memory);
    }
    if row.buffer == crate::bench::Buffer::Spread {
        name += ", spread";
    }
    name
}

/// A row for each latency: from the fastest to p99.9, on a scale of powers.
fn strips(document: &BenchReport<LatencyResult>, low: f64, high: f64) -> Markup {
    let rows: Vec<(&LatencyResult, Latencies)> =
        document.results.iter().take(MOST_ROWS).filter_map(|row| Some((row, row.latencies?))).collect();
    let (low, high) = ((low * 0.9).log2(), (high * 1.1).log2());
    let x = |us: f64| LEFT + WIDTH * ((us.max(f64::MIN_POSITIVE).log2() - low) / (high - low)).clamp(0.0, 1.0);
    let floor = TOP + ROW * rows.len() as f64;
    // Powers of two on the way, few enough to be read.
    let powers: Vec<f64> = (low.ceil() as i32..=high.floor() as i32).map(|power| f64::from(power).exp2()).collect();
    let every = powers.len().div_ceil(6).max(1);
    let way = way(document.connection.as_ref());
    let label = format!("Latencies, {way}; the figures stand in a table below");
    html! {
        @if !rows.is_empty() {
            figure {
                figcaption { (way) }
                svg viewBox={ "0 0 " (LEFT + WIDTH + RIGHT) " " (floor + 26.0) } width=(LEFT + WIDTH + RIGHT) role="img" aria-label=(label) {
                    @for power in powers.iter().step_by(every) {
                        path.grid d={ "M" (coordinate(x(*power))) " " (TOP) " V" (floor) } {}
                        text.faint x=(coordinate(x(*power))) y=(floor + 18.0) text-anchor="middle" { (plain(*power)) }
                    }
                    text.faint x=(LEFT + WIDTH + 12.0) y=(floor + 18.0) { "us" }
                    @for (index, (row, latencies)) in rows.iter().enumerate() {
                        @let y = TOP + ROW * (index as f64 + 0.5);
                        @let name = format!("{} {}", row.operation, size(row.size_bytes));
                        @let way = if row.is_half_round_trip { "one way" } else { "there and back" };
                        text x=(LEFT - 8.0) y=(coordinate(y + 4.0)) text-anchor="end" { (name) }
                        path.line.line-0 d={ "M" (coordinate(x(latencies.min_us))) " " (coordinate(y)) " H" (coordinate(x(latencies.p999_us))) } {}
                        path.line.line-1 d={ "M" (coordinate(x(latencies.p99_us))) " " (coordinate(y - 6.0)) " v12" } {}
                        circle.point.line.line-0 cx=(coordinate(x(latencies.p50_us))) cy=(coordinate(y)) r="4.5" {
                            title { (name) ": median " (format!("{:.2}", latencies.p50_us)) " us, p99 " (format!("{:.2}", latencies.p99_us)) " us, " (way) }
                        }
                        text.faint x=(LEFT + WIDTH + 12.0) y=(coordinate(y + 4.0)) { (format!("{:.2}", latencies.p50_us)) " us, " (way) }
                    }
                }
            }
        }
    }
}

/// Failures, each once, and what deserves a look.
fn trouble(rows: Vec<(String, Option<FailureReport>)>, notices: &[Notice]) -> Markup {
    html! {
        @for (name, failure) in rows.iter().filter_map(|(name, failure)| Some((name, failure.as_ref()?))) {
            article.fail {
                h4 { strong { (name) } " failed while " (failure.step) ": " (failure.summary) }
                @if !failure.causes.is_empty() { ul { @for cause in &failure.causes { li { "likely: " (cause) } } } }
                @if let Some(next) = &failure.next_step { div.remedy { p { strong { "Next: " } (next) } } }
                @if !failure.evidence.is_empty() { details { summary { "Evidence" } ul { @for line in &failure.evidence { li.mono { (line) } } } } }
            }
        }
        @for notice in notices {
            div.note { p { (notice.summary) } @if !notice.causes.is_empty() { ul { @for cause in &notice.causes { li { (cause) } } } } }
        }
    }
}

/// Where data did not go over the device that it should have.
fn ways(rows: Vec<(String, Vec<Carried>)>) -> Markup {
    html! {
        @for (line, _) in counters::ways(rows.iter().map(|(name, carried)| (name.as_str(), carried.as_slice()))) { div.note { p { (line) } } }
    }
}

fn rates_table(document: &BenchReport<BandwidthResult>) -> Markup {
    html! {
        div.scroll tabindex="0" { table {
            caption { (way(document.connection.as_ref())) }
            thead { tr { th { "operation" } th { "size" } th { "memory" } th { "buffer" } th { "queue pairs" } th { "Gbit/s" } th { "repeats differ by" } th { "messages/s" } th { "CPU ms/GiB" } th { "contents" } } }
            tbody { @for row in &document.results {
                tr {
                    th scope="row" { (row.operation) }
                    td.number { (size(row.size_bytes)) } td { (row.memory) } td { (buffer(row.buffer)) } td.number { (row.queue_pairs) }
                    td.number { (rate_of(row).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.3}"))) }
                    td.number { (row.bytes_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate.spread_percent))) }
                    td.number { (row.messages_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))) }
                    td.number { (row.cpu_us_per_gib.map_or_else(|| "-".to_owned(), |us| format!("{:.0}", us / 1000.0))) }
                    td { (verified(row.verification.as_ref())) }
                }
            } }
        } }
    }
}

fn latencies_table(document: &BenchReport<LatencyResult>) -> Markup {
    html! {
        div.scroll tabindex="0" { table {
            caption { (way(document.connection.as_ref())) ", in microseconds" }
            thead { tr { th { "operation" } th { "size" } th { "memory" } th { "min" } th { "p50" } th { "p90" } th { "p99" } th { "p99.9" } th { "max" } th { "measured" } th { "contents" } } }
            tbody { @for row in &document.results {
                tr {
                    th scope="row" { (row.operation) } td.number { (size(row.size_bytes)) } td { (row.memory) }
                    @let figures = row.latencies.map(|all| [all.min_us, all.p50_us, all.p90_us, all.p99_us, all.p999_us, all.max_us]);
                    @for at in 0..6 { td.number { (figures.map_or_else(|| "-".to_owned(), |figures| format!("{:.2}", figures[at]))) } }
                    td { (if row.is_half_round_trip { "one way" } else { "there and back" }) }
                    td { (verified(row.verification.as_ref())) }
                }
            } }
        } }
    }
}
