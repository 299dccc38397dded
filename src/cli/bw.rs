//! `rdmadoctor bw`.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::at_once;
use super::ends::{self, Own};
use super::session::Session;
use crate::bench::{BandwidthResult, Bench, Buffer, Done, Notice};
use crate::cli::output::Output;
use crate::schema;
use crate::transfer::{Operation, RunKind};

/// Arguments of `bw`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) ends: ends::Arguments,
    /// Sizes of messages.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', default_value = "4k,64k,1M", value_parser = ends::message_size)]
    pub(super) sizes: Vec<u64>,
    /// Queue pairs that send at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) queue_pairs: u32,
    /// Requests under way on each queue pair; grown until more brings nothing more otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(super) depth: Option<u32>,
    /// Requests posted at once, of which the last makes a completion.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(super) batch: Option<u32>,
    /// One small place of memory over and over, as perftest does; places all over it, as KV caches are; or one after the other.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Buffers::Both)]
    buffer: Buffers,
    /// Both ends send at once.
    #[arg(long)]
    bidirectional: bool,
    /// Draw the rates over the sizes into this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Every GPU with every NIC, by every way from GPU memory to the NIC, write and read apart. A size other than 1M is taken from --sizes.
    #[arg(long, conflicts_with_all = ["devices", "plot"])]
    all_pairs: bool,
    /// Each of these devices alone, then all of them at once.
    #[arg(long, value_name = "DEV,…", value_delimiter = ',', conflicts_with_all = ["device", "to", "peer", "plot"])]
    devices: Vec<String>,
}

/// Which memory messages touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Buffers {
    Hot,
    Spread,
    Both,
}

/// From which factor between read and write on it deserves a look. Reads wait for answers, so small ones are slower anywhere.
const APART: f64 = 1.5;
const LARGE: u64 = 64 << 10;

/// Measures bandwidth, and prints it.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.host.only_with_devices("bw")?;
    if arguments.all_pairs {
        return super::pairs::run(session, arguments);
    }
    if !arguments.devices.is_empty() {
        return at_once::run(session, &arguments.ends, &arguments.own(None), &arguments.devices);
    }
    let document = measured(session, arguments, None)?;
    session.output.print(&document)?;
    if let Some(path) = &arguments.plot {
        Output::write_file(path, &crate::report::bandwidth_svg(&document))?;
    }
    Ok(ends::code(session, !document.problems.is_empty(), document.results.iter().any(is_bad)))
}

impl Arguments {
    fn own(&self, until: Option<Instant>) -> Own {
        Own {
            kind: RunKind::Bandwidth,
            sizes: self.sizes.clone(),
            queue_pairs: self.queue_pairs,
            hot: self.buffer != Buffers::Spread,
            spread: self.buffer != Buffers::Hot,
            bidirectional: self.bidirectional,
            depth: self.depth,
            batch: self.batch,
            litmus: None,
            until,
        }
    }
}

/// Measures bandwidth, at most until then.
pub(super) fn measured(session: &Session, arguments: &Arguments, until: Option<Instant>) -> anyhow::Result<Bench<BandwidthResult>> {
    alone(session, &arguments.ends, &arguments.own(until))
}

/// Measures one device, and judges what came of it.
pub(super) fn alone(session: &Session, arguments: &ends::Arguments, own: &Own) -> anyhow::Result<Bench<BandwidthResult>> {
    let mut document = ends::run(session, arguments, own, schema::BW, &mut |done, document: &mut Bench<BandwidthResult>| {
        if let Done::Bandwidth(result) = done {
            document.results.push(*result);
        }
    })?;
    judge(&mut document);
    Ok(document)
}

/// Whether a measurement failed, or what arrived was not what was sent.
pub(super) fn is_bad(result: &BandwidthResult) -> bool {
    result.failure.is_some() || result.verification.as_ref().is_some_and(|verification| verification.mismatch.is_some())
}

/// What the figures say beside each other.
fn judge(document: &mut Bench<BandwidthResult>) {
    let rate = |operation: Operation, size: u64, buffer: Buffer| {
        let of = |result: &&BandwidthResult| (result.operation, result.size_bytes, result.buffer) == (operation, size, buffer);
        document.results.iter().find(of).and_then(|result| Some(result.bytes_per_second?.median))
    };
    let mut notices = Vec::new();
    for result in document.results.iter().filter(|result| result.operation == Operation::Write && result.size_bytes >= LARGE) {
        let (size, buffer) = (result.size_bytes, result.buffer);
        let (Some(write), Some(read)) = (rate(Operation::Write, size, buffer), rate(Operation::Read, size, buffer)) else { continue };
        let factor = write / read;
        if (1.0 / APART..APART).contains(&factor) {
            continue;
        }
        let (faster, slower) = if factor > 1.0 { ("write", "read") } else { ("read", "write") };
        notices.push(Notice {
            summary: format!("{slower} is {:.1} times slower than {faster} at {size} bytes", factor.max(1.0 / factor)),
            causes: if slower == "read" {
                vec![
                    "few reads may be under way at once (max_qp_rd_atom, max_qp_init_rd_atom)".to_owned(),
                    "PCIe reads are slow on the way to memory: MaxReadReq, relaxed ordering, IOMMU, a GPU behind another socket".to_owned(),
                ]
            } else {
                vec!["writes are held up: flow control, a receiver whose memory is far (NUMA), posted-write ordering".to_owned()]
            },
        });
    }
    let noisy = document.results.iter().filter_map(|result| {
        let spread = result.bytes_per_second.filter(|rate| rate.is_noisy)?.spread_percent;
        Some(format!("{} of {} bytes ({spread:.0} %)", result.operation, result.size_bytes))
    });
    notices.extend(ends::noise(&noisy.collect::<Vec<_>>()));
    document.notices.extend(notices);
}
