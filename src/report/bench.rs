//! `ping` and `bw` for people, as CSV, and as a drawing.

use std::fmt::Write as _;

use super::{Format, Style, Table};
use crate::bench::{
    BandwidthResult, Bench, Buffer, ConnectionReport, CounterDelta, FailureReport, LatencyResult, Listening, Notice, Verification,
};
use crate::gpu::MemoryKind;
use crate::transfer::{Connect, StageMemory};

/// Columns of the longest bar of a chart.
const BAR: f64 = 40.0;
/// From how many sizes on a chart says more than the table.
const CHART_SIZES: usize = 3;

impl Table for Bench<BandwidthResult> {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut out = self.connection.as_ref().map(|connection| draw_connection(connection, style)).unwrap_or_default();
        let rows: Vec<Vec<String>> = self
            .results
            .iter()
            .map(|row| {
                let rate = row.bytes_per_second;
                let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                vec![
                    row.operation.to_string(),
                    size(row.size_bytes),
                    buffer(row.buffer).to_owned(),
                    or_dash(rate.map(|rate| format!("{:.2}", rate.median / 1e6))),
                    or_dash(rate.map(|rate| format!("{:.3}", rate.median * 8.0 / 1e9))),
                    or_dash(rate.map(|rate| format!("{:.1} %", rate.spread_percent))),
                    or_dash(row.messages_per_second.map(|rate| format!("{:.0}", rate))),
                    or_dash(row.cpu_us_per_gib.map(|us| format!("{:.0}", us / 1000.0))),
                    if row.depth == 0 {
                        "-".to_owned()
                    } else {
                        format!("{} x {}{}", row.depth, row.batch, if row.inline { ", inline" } else { "" })
                    },
                    verified(row.verification.as_ref()),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let header = ["op", "size", "buffer", "MB/s", "Gbit/s", "spread", "messages/s", "CPU ms/GiB", "depth x chain", "contents"];
            out += &style.columns(&header, &rows);
        }
        out += &chart(self, style);
        let mut last = None;
        for row in &self.results {
            let name = format!("{} of {} ({})", row.operation, size(row.size_bytes), buffer(row.buffer));
            // What already happened while contents were compared is the same for every buffer.
            let told = (row.operation, row.size_bytes, row.failure.clone());
            let failure = row.failure.as_ref().filter(|_| last.as_ref() != Some(&told));
            last = Some(told);
            out += &details(&name, failure, row.verification.as_ref(), style);
            if let Some(lost) = row.lost_percent.filter(|lost| *lost > 0.0) {
                out += &style.entry("lost", &format!("{name}: {lost:.2} % of the messages did not arrive; they are not counted"));
            }
        }
        let rows: Vec<(String, &[CounterDelta])> = self
            .results
            .iter()
            .map(|row| (format!("{} of {} ({})", row.operation, size(row.size_bytes), buffer(row.buffer)), row.counters.as_slice()))
            .collect();
        out += &counters(&rows, style);
        out + &ending(&self.notices, self.stopped.as_deref(), style) + &super::devices::problems(&self.problems, style)
    }

    fn other(&self, format: Format) -> Option<String> {
        (format == Format::Csv).then(|| {
            let mut out = "operation,buffer,size_bytes,queue_pairs,depth,batch,inline,bytes_per_second,min_bytes_per_second,max_bytes_per_second,messages_per_second,cpu_us_per_gib,verified\n".to_owned();
            for row in &self.results {
                let rate = row.bytes_per_second;
                let _ = writeln!(
                    out,
                    "{},{},{},{},{},{},{},{},{},{},{},{},{}",
                    row.operation,
                    buffer(row.buffer),
                    row.size_bytes,
                    row.queue_pairs,
                    row.depth,
                    row.batch,
                    row.inline,
                    figure(rate.map(|rate| rate.median)),
                    figure(rate.map(|rate| rate.min)),
                    figure(rate.map(|rate| rate.max)),
                    figure(row.messages_per_second),
                    figure(row.cpu_us_per_gib),
                    verified(row.verification.as_ref()),
                );
            }
            out
        })
    }
}

impl Table for Bench<LatencyResult> {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut out = self.connection.as_ref().map(|connection| draw_connection(connection, style)).unwrap_or_default();
        let rows: Vec<Vec<String>> = self
            .results
            .iter()
            .map(|row| {
                let mut cells = vec![row.operation.to_string(), size(row.size_bytes)];
                match row.latencies {
                    Some(all) => cells.extend(
                        [all.min_us, all.p50_us, all.p90_us, all.p99_us, all.p999_us, all.max_us, all.mean_us, all.deviation_us]
                            .map(|us| format!("{us:.2}")),
                    ),
                    None => cells.extend(std::iter::repeat_n("-".to_owned(), 8)),
                }
                cells.push(if row.is_half_round_trip { "one way" } else { "there and back" }.to_owned());
                cells.push(verified(row.verification.as_ref()));
                cells
            })
            .collect();
        if !rows.is_empty() {
            let header = ["op", "size", "min us", "p50", "p90", "p99", "p99.9", "max", "mean", "deviation", "measured", "contents"];
            out += &style.columns(&header, &rows);
        }
        for row in &self.results {
            let name = format!("{} of {}", row.operation, size(row.size_bytes));
            out += &details(&name, row.failure.as_ref(), row.verification.as_ref(), style);
        }
        let rows: Vec<(String, &[CounterDelta])> =
            self.results.iter().map(|row| (format!("{} of {}", row.operation, size(row.size_bytes)), row.counters.as_slice())).collect();
        out += &counters(&rows, style);
        out + &ending(&self.notices, self.stopped.as_deref(), style) + &super::devices::problems(&self.problems, style)
    }

    fn other(&self, format: Format) -> Option<String> {
        (format == Format::Csv).then(|| {
            let mut out =
                "operation,size_bytes,samples,min_us,p50_us,p90_us,p99_us,p999_us,max_us,mean_us,deviation_us,verified\n".to_owned();
            for row in &self.results {
                let all = row.latencies.unwrap_or_default();
                let _ = writeln!(
                    out,
                    "{},{},{},{},{},{},{},{},{},{},{},{}",
                    row.operation,
                    row.size_bytes,
                    all.samples,
                    all.min_us,
                    all.p50_us,
                    all.p90_us,
                    all.p99_us,
                    all.p999_us,
                    all.max_us,
                    all.mean_us,
                    all.deviation_us,
                    verified(row.verification.as_ref()),
                );
            }
            out
        })
    }
}

impl Table for Listening {
    fn table(&self, style: &Style) -> String {
        let place = std::net::SocketAddr::new(self.address.parse().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()), self.port);
        let mut out = style.entry("listening", &place.to_string());
        let host = if place.ip().is_unspecified() { "HOST".to_owned() } else { place.to_string() };
        if let Some(token) = &self.token {
            out += &style.entry("token", token);
            out += &style.entry("there", &format!("RDMADOCTOR_TOKEN={token} rdmadoctor bw --peer {host}"));
        } else {
            out += &style.entry("there", &format!("rdmadoctor bw --peer {host}, with the same token"));
        }
        out
    }
}

fn figure(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.1}")).unwrap_or_default()
}

fn buffer(buffer: Buffer) -> &'static str {
    match buffer {
        Buffer::Hot => "hot",
        Buffer::Spread => "spread",
    }
}

/// A size in the unit that divides it.
fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 B".to_owned(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

fn verified(verification: Option<&Verification>) -> String {
    match verification {
        None => "not compared".to_owned(),
        Some(Verification { mismatch: Some(_), .. }) => "WRONG".to_owned(),
        Some(Verification { messages: 0, .. }) => "nothing arrived".to_owned(),
        Some(_) => "verified".to_owned(),
    }
}

fn draw_connection(connection: &ConnectionReport, style: Style) -> String {
    let by = match connection.connect {
        Connect::Oob => "by exchanged addresses",
        Connect::Cm => "by rdma_cm",
    };
    let where_to = match &connection.peer {
        Some(peer) => format!("{} of {peer}", connection.remote.device),
        None if connection.remote.device == connection.local.device => "itself".to_owned(),
        None => connection.remote.device.clone(),
    };
    let transport = connection.transport;
    let mut out = format!(
        "{} to {where_to}  {transport}, connected {by}, path MTU {} B\n",
        style.bold(&connection.local.device),
        connection.mtu_bytes
    );
    let end = |end: &crate::bench::EndReport| format!("GID {}: {}", end.gid_index, end.reason);
    out += &style.entry("address", &end(&connection.local));
    if connection.remote.gid != connection.local.gid {
        out += &style.entry("other end", &end(&connection.remote));
    }
    match [&connection.local, &connection.remote].map(|end| end.memory.as_ref()) {
        [Some(near), Some(far)] if near.kind == MemoryKind::Host && far.kind == MemoryKind::Host => {}
        [Some(near), Some(far)] if near.is_like(far) => out += &style.entry("memory", &format!("{}, on both ends", memory(near))),
        [Some(near), Some(far)] => {
            out += &style.entry("memory", &memory(near));
            out += &style.entry("there", &memory(far));
        }
        _ => {}
    }
    out
}

/// What an end's memory is, and how the NIC gets at it.
fn memory(memory: &StageMemory) -> String {
    let mut out = memory.kind.to_string();
    if let Some(gpu) = &memory.gpu {
        out += &format!(", GPU {} at {}, {}", gpu.ordinal, gpu.pci, gpu.uuid);
    }
    if let Some(path) = memory.path {
        let took = memory.tried.iter().find(|tried| tried.path == path).and_then(|tried| tried.elapsed_us);
        let took = took.map(|us| format!(", registered in {} ms", us.div_ceil(1000))).unwrap_or_default();
        out += &format!(", by {path}{took}");
    }
    out
}

fn details(name: &str, failure: Option<&FailureReport>, verification: Option<&Verification>, style: Style) -> String {
    let mut out = String::new();
    if let Some(failure) = failure {
        let _ = writeln!(out, "\n{}", style.bad(format!("{name} failed while {}", failure.step)));
        out += &style.entry("came back", &failure.summary);
        for line in &failure.evidence {
            out += &style.entry("evidence", line);
        }
        for cause in &failure.causes {
            out += &style.entry("likely", cause);
        }
        if let Some(next) = &failure.next_step {
            out += &style.entry("next", next);
        }
    }
    if let Some(mismatch) = verification.and_then(|verification| verification.mismatch) {
        let place = if mismatch.is_guard { "beside the message, where nothing may be written" } else { "of the message" };
        let _ = writeln!(out, "\n{}", style.bad(format!("{name}: what arrived is not what was sent")));
        out += &style.entry(
            "evidence",
            &format!(
                "offset {} {place}: {:#04x} instead of {:#04x}; {} wrong in all",
                mismatch.offset_bytes,
                mismatch.found,
                mismatch.expected,
                if mismatch.wrong_bytes == 1 { "1 byte".to_owned() } else { format!("{} bytes", mismatch.wrong_bytes) }
            ),
        );
        out += &style.entry("next", "trust no transfer on this path: update firmware and driver, test the memory, and try another port");
    }
    out
}

/// Counters that grew, a line for each meaning: of all measurements together, and with -v of each.
fn counters(rows: &[(String, &[CounterDelta])], style: Style) -> String {
    let mut meanings: Vec<(&str, Vec<(String, u64)>)> = Vec::new();
    for counter in rows.iter().flat_map(|(_, counters)| counters.iter()) {
        let Some(meaning) = counter.meaning.as_deref() else { continue };
        let at = meanings.iter().position(|(known, _)| *known == meaning).unwrap_or_else(|| {
            meanings.push((meaning, Vec::new()));
            meanings.len() - 1
        });
        let name = format!("{} {}", counter.device, counter.name);
        match meanings[at].1.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += counter.delta,
            None => meanings[at].1.push((name, counter.delta)),
        }
    }
    let mut out = String::new();
    for (meaning, sums) in meanings {
        let sums: Vec<String> = sums.iter().map(|(name, sum)| format!("{name} by {sum}")).collect();
        out += &style.entry("counters", &style.warn(format!("grew meanwhile: {}: {meaning}", sums.join(", "))));
    }
    if style.verbose {
        for (name, counters) in rows {
            let grown: Vec<String> = counters.iter().map(|counter| format!("{} {}", counter.name, counter.delta)).collect();
            if !grown.is_empty() {
                out += &style.entry("counters", &format!("{name}: {}", grown.join(", ")));
            }
        }
    }
    out
}

fn ending(notices: &[Notice], stopped: Option<&str>, style: Style) -> String {
    let mut out = String::new();
    for notice in notices {
        out += &style.entry("notice", &style.warn(&notice.summary));
        for cause in &notice.causes {
            out += &style.entry("", cause);
        }
    }
    if let Some(why) = stopped {
        let _ = writeln!(out, "\n{}", style.warn(format!("Not everything was measured: {why}.")));
    }
    out
}

/// The rates of hot buffers over the sizes.
fn chart(document: &Bench<BandwidthResult>, style: Style) -> String {
    let mut out = String::new();
    let most = document.results.iter().filter_map(|row| Some(row.bytes_per_second?.median)).fold(0.0, f64::max);
    for rows in document.results.chunk_by(|left, right| left.operation == right.operation) {
        let rows: Vec<&BandwidthResult> = rows.iter().filter(|row| row.buffer == rows[0].buffer).collect();
        if rows.len() < CHART_SIZES || most <= 0.0 {
            continue;
        }
        let _ = writeln!(out, "\n  {}", style.bold(rows[0].operation));
        for row in rows {
            let rate = row.bytes_per_second.map_or(0.0, |rate| rate.median);
            let bar = "#".repeat((rate / most * BAR).round() as usize);
            let _ = writeln!(out, "  {:>8}  {bar} {:.1} MB/s", size(row.size_bytes), rate / 1e6);
        }
    }
    out
}

/// A drawing of the rates over the sizes, both axes in powers of two.
#[must_use]
pub fn bandwidth_svg(document: &Bench<BandwidthResult>) -> String {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 440.0;
    const EDGE: f64 = 70.0;
    const COLORS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];
    let points: Vec<(String, f64, f64)> = document
        .results
        .iter()
        .filter_map(|row| {
            let rate = row.bytes_per_second?.median;
            (rate > 0.0).then(|| (format!("{} ({})", row.operation, buffer(row.buffer)), (row.size_bytes as f64).log2(), rate.log2()))
        })
        .collect();
    let bounds = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        (low.floor(), if high.ceil() > low.floor() { high.ceil() } else { low.floor() + 1.0 })
    };
    let (left, right) = bounds(&mut points.iter().map(|point| point.1));
    let (bottom, top) = bounds(&mut points.iter().map(|point| point.2));
    let x = |value: f64| EDGE + (value - left) / (right - left) * (WIDTH - 3.0 * EDGE);
    let y = |value: f64| HEIGHT - EDGE - (value - bottom) / (top - bottom) * (HEIGHT - 1.5 * EDGE);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<title>Bandwidth over message size</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    if points.is_empty() {
        return out + "<text x=\"20\" y=\"40\">nothing was measured</text>\n</svg>\n";
    }
    let steps = |low: f64, high: f64| {
        let step = ((high - low) / 8.0).ceil().max(1.0);
        (0..=8).map(move |index| low + step * f64::from(index)).filter(move |value| *value <= high)
    };
    for value in steps(left, right) {
        let _ = writeln!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"#ddd\"/><text x=\"{0:.1}\" y=\"{3:.1}\" text-anchor=\"middle\">{4}</text>",
            x(value),
            y(bottom),
            y(top),
            y(bottom) + 18.0,
            size(value.exp2() as u64)
        );
    }
    for value in steps(bottom, top) {
        let _ = writeln!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{1:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#ddd\"/><text x=\"{3:.1}\" y=\"{4:.1}\" text-anchor=\"end\">{5}/s</text>",
            x(left),
            x(right),
            y(value),
            x(left) - 6.0,
            y(value) + 4.0,
            size(value.exp2() as u64)
        );
    }
    let mut names: Vec<&String> = points.iter().map(|point| &point.0).collect();
    names.sort();
    names.dedup();
    for (index, name) in names.into_iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let line: Vec<String> =
            points.iter().filter(|point| point.0 == *name).map(|point| format!("{:.1},{:.1}", x(point.1), y(point.2))).collect();
        let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>", line.join(" "));
        for point in &line {
            let (x, y) = point.split_once(',').unwrap_or_default();
            let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{color}\"/>");
        }
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{name}</text>", x(right) + 10.0, 40.0 + 18.0 * index as f64);
    }
    out + "</svg>\n"
}
