//! `rdmadoctor bw`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::UsageError;
use super::ends;
use super::session::Session;
use crate::bench::{BandwidthResult, Request};
use crate::cli::output::Output;
use crate::survey;

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

/// Measures bandwidth, and prints it.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.host.only_with_devices("bw")?;
    if arguments.all_pairs {
        return all_pairs(session, arguments);
    }
    if !arguments.devices.is_empty() {
        return at_once(session, arguments);
    }
    let request = arguments.request()?;
    let mut document = ends::watched(session, "bw", |onlooker| survey::bandwidth(&session.host, &request, onlooker))?;
    document.judge();
    session.output.print(&document)?;
    if let Some(path) = &arguments.plot {
        Output::write_file(path, &crate::report::bandwidth_svg(&document))?;
    }
    Ok(ends::code(&session.host, !document.problems.is_empty(), document.results.iter().any(BandwidthResult::is_bad)))
}

impl Arguments {
    /// The request that they make.
    pub(super) fn request(&self) -> anyhow::Result<Request> {
        self.ends.request(Request {
            sizes: self.sizes.clone(),
            queue_pairs: self.queue_pairs,
            hot: self.buffer != Buffers::Spread,
            spread: self.buffer != Buffers::Hot,
            bidirectional: self.bidirectional,
            depth: self.depth,
            batch: self.batch,
            ..Request::default()
        })
    }
}

/// Every GPU with every NIC, by every way.
fn all_pairs(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.ends.names_an_end() {
        let why = "--all-pairs takes every GPU and NIC of this host; leave DEV, --to, --peer, --memory and --to-memory out";
        return Err(UsageError(why.to_owned()).into());
    }
    let request = arguments.request()?;
    let document = ends::watched(session, "bw", |onlooker| survey::pairs(&session.host, &request, onlooker))?;
    session.output.print(&document)?;
    Ok(ends::code(&session.host, !document.problems.is_empty(), document.has_failed()))
}

/// Each device alone, then all of them at once.
fn at_once(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let devices = &arguments.devices;
    if let Some(twice) = devices.iter().enumerate().find(|(index, device)| devices[..*index].contains(device)) {
        return Err(UsageError(format!("--devices names {} twice", twice.1)).into());
    }
    let request = arguments.request()?;
    let document = ends::watched(session, "bw", |onlooker| survey::at_once(&session.host, &request, devices, onlooker))?;
    session.output.print(&document)?;
    let has_failed = document.alone.iter().any(|alone| !alone.problems.is_empty() || alone.results.iter().any(BandwidthResult::is_bad));
    Ok(ends::code(&session.host, !document.problems.is_empty(), has_failed))
}
