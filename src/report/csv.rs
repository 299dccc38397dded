//! Comma-separated values: a line for each figure.

use std::fmt::Write as _;
use std::io;

use super::table::bench::{SIMULATED, buffer, verified};
use super::{Document, Kind, Renderer, View};
use crate::bench::{AtOnce, BandwidthResult, BenchReport, LatencyResult, Pairs};

pub(super) struct Csv;

impl Renderer for Csv {
    fn documents(&self) -> &'static [Kind] {
        &[Kind::Ping, Kind::Bw, Kind::BwAtOnce, Kind::BwPairs]
    }

    fn draw(&self, document: Document<'_>, _: &View<'_>) -> io::Result<Option<String>> {
        let is_simulated = match document {
            Document::Ping(document) => document.is_simulated(),
            Document::Bw(document) => document.is_simulated(),
            Document::BwAtOnce(document) => document.alone.iter().any(BenchReport::is_simulated),
            Document::BwPairs(document) => document.is_simulated,
            _ => false,
        };
        let mark = if is_simulated { format!("# simulated: {SIMULATED}\n") } else { String::new() };
        let lines = match document {
            Document::Ping(document) => Some(latencies(document)),
            Document::Bw(document) => Some(rates(document)),
            Document::BwAtOnce(document) => Some(at_once(document)),
            Document::BwPairs(document) => Some(pairs(document)),
            _ => None,
        };
        Ok(lines.map(|lines| mark + &lines))
    }

    fn marked(&self, text: String, mark: &str) -> String {
        format!("# {mark}\n{text}")
    }
}

fn latencies(document: &BenchReport<LatencyResult>) -> String {
    let mut out = "operation,size_bytes,samples,min_us,p50_us,p90_us,p99_us,p999_us,max_us,mean_us,deviation_us,verified\n".to_owned();
    for row in &document.results {
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
}

fn rates(document: &BenchReport<BandwidthResult>) -> String {
    let mut out = "operation,buffer,size_bytes,queue_pairs,depth,batch,inline,bytes_per_second,min_bytes_per_second,max_bytes_per_second,messages_per_second,cpu_us_per_gib,verified\n".to_owned();
    for row in &document.results {
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
}

fn at_once(document: &AtOnce) -> String {
    let mut out = "operation,buffer,size_bytes,device,alone_bytes_per_second,together_bytes_per_second\n".to_owned();
    for row in &document.together {
        for share in &row.devices {
            let _ = writeln!(
                out,
                "{},{},{},{},{:.1},{:.1}",
                row.operation,
                buffer(row.buffer),
                row.size_bytes,
                field(&share.device),
                share.alone_bytes_per_second,
                share.together_bytes_per_second
            );
        }
    }
    out
}

fn pairs(document: &Pairs) -> String {
    let mut out = "gpu,device,operation,path,size_bytes,bytes_per_second,min_bytes_per_second,max_bytes_per_second,contents\n".to_owned();
    for cell in &document.cells {
        let rate = cell.bytes_per_second;
        let contents = match cell.is_right {
            None => "not compared",
            Some(true) => "verified",
            Some(false) => "WRONG",
        };
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{contents}",
            field(&cell.gpu.to_string()),
            field(&cell.device),
            cell.operation,
            cell.path,
            document.size_bytes,
            figure(rate.map(|rate| rate.median)),
            figure(rate.map(|rate| rate.min)),
            figure(rate.map(|rate| rate.max)),
        );
    }
    out
}

/// A name of the host's: quoted where RFC 4180 asks for it, and never what a spreadsheet would take for a formula.
pub(super) fn field(name: &str) -> String {
    let name = if name.starts_with(['=', '+', '-', '@', '\t']) { format!("'{name}") } else { name.to_owned() };
    if name.contains([',', '"', '\n', '\r']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name }
}

fn figure(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.1}")).unwrap_or_default()
}
