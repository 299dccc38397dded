//! `ping` and `bw` for people.

use std::fmt::Write as _;

use super::{Style, Table, counters as counting};
use crate::bench::{
    BandwidthResult, BenchReport, Buffer, ConnectionReport, CounterDelta, FailureReport, LatencyResult, Listening, Notice, Spread,
    StagedReport, Verification,
};
use crate::gpu::MemoryKind;
use crate::transfer::{Connect, StageMemory, VerifySide};
use crate::units::size;

/// Columns of the longest bar of a chart.
const BAR: f64 = 40.0;
/// From how many sizes on a chart says more than the table.
const CHART_SIZES: usize = 3;

/// What figures of a simulated device mean.
pub(in crate::report) const SIMULATED: &str = "these figures are the speed of the simulation, not of a device";

impl Table for BenchReport<BandwidthResult> {
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
            out += &style.columns_fitting(&header, &rows, &["CPU ms/GiB", "messages/s", "depth x chain"]);
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
            if let Some(staged) = &row.staged {
                out += &style.entry("staged", &format!("{name}: {}", ceilings(staged)));
            }
            if let Some(lost) = row.lost_percent.filter(|lost| *lost > 0.0) {
                out += &style.entry("lost", &format!("{name}: {lost:.2} % of the messages did not arrive; they are not counted"));
            }
        }
        let rows: Vec<(String, &[CounterDelta])> = self
            .results
            .iter()
            .map(|row| (format!("{} of {} ({})", row.operation, size(row.size_bytes), buffer(row.buffer)), row.counters.as_slice()))
            .collect();
        out += &counting::counters(&rows, style);
        out += &counting::carried(self.results.iter().zip(&rows).map(|(row, (name, _))| (name.as_str(), row.carried.as_slice())), style);
        out + &ending(&self.notices, self.stopped.as_deref(), style) + &super::devices::problems(&self.problems, style)
    }
}

impl Table for BenchReport<LatencyResult> {
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
            out += &style.columns_fitting(&header, &rows, &["deviation", "mean", "p90", "p99.9"]);
        }
        out += &super::percentiles::percentiles(self, style);
        for row in &self.results {
            let name = format!("{} of {}", row.operation, size(row.size_bytes));
            out += &details(&name, row.failure.as_ref(), row.verification.as_ref(), style);
        }
        out += &super::ordering::draw(&self.ordering, style);
        let rows: Vec<(String, &[CounterDelta])> =
            self.results.iter().map(|row| (format!("{} of {}", row.operation, size(row.size_bytes)), row.counters.as_slice())).collect();
        out += &counting::counters(&rows, style);
        out += &counting::carried(self.results.iter().zip(&rows).map(|(row, (name, _))| (name.as_str(), row.carried.as_slice())), style);
        out + &ending(&self.notices, self.stopped.as_deref(), style) + &super::devices::problems(&self.problems, style)
    }
}

impl Table for Listening {
    fn table(&self, style: &Style) -> String {
        let place = std::net::SocketAddr::new(self.address.parse().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()), self.port);
        let mut out = style.entry("listening", &place.to_string());
        // Hosts of a modelled network are on this machine.
        let host = match &self.sim_network {
            Some(_) if place.ip().is_unspecified() => format!("127.0.0.1:{}", self.port),
            None if place.ip().is_unspecified() => "HOST".to_owned(),
            _ => place.to_string(),
        };
        let model = |directory| format!(" --host-model NAME --sim-network {directory}");
        let command = format!("rdmadoctor{} bw --peer {host}", self.sim_network.as_ref().map(model).unwrap_or_default());
        if let Some(token) = &self.token {
            out += &style.entry("token", token);
            out += &style.entry("there", &format!("RDMADOCTOR_TOKEN={token} {command}"));
        } else {
            out += &style.entry("there", &format!("{command}, with the same token"));
        }
        out
    }
}

pub(in crate::report) fn buffer(buffer: Buffer) -> &'static str {
    match buffer {
        Buffer::Hot => "hot",
        Buffer::Spread => "spread",
    }
}

pub(in crate::report) fn verified(verification: Option<&Verification>) -> String {
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
    if connection.is_simulated {
        out += &style.entry("simulated", SIMULATED);
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

/// What a staged transfer reaches of what it could.
fn ceilings(staged: &StagedReport) -> String {
    let rate = |spread: Spread| format!("{:.2} MB/s", spread.median / 1e6);
    format!(
        "{:.0} % of the smaller of copies ({}) and provider ({}) alone, in chunks of {}",
        staged.share_percent,
        rate(staged.copies_bytes_per_second),
        rate(staged.provider_bytes_per_second),
        size(staged.chunk_bytes)
    )
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
    match &memory.comparing {
        Some(VerifySide::Gpu) => out += ", compared by the GPU",
        Some(VerifySide::Copies { why }) => out += &format!(", compared by copies, since the GPU cannot: {why}"),
        None => {}
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

pub(super) fn ending(notices: &[Notice], stopped: Option<&str>, style: Style) -> String {
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
fn chart(document: &BenchReport<BandwidthResult>, style: Style) -> String {
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
