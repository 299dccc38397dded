//! `rdmadoctor ping`.

use std::path::PathBuf;

use clap::Args;

use super::ends;
use super::session::Session;
use crate::bench::{LatencyResult, OrderingResult, Request};
use crate::cli::output::Output;
use crate::survey;

/// Arguments of `ping`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    ends: ends::Arguments,
    /// Sizes of messages.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', default_value = "64,4k", value_parser = ends::message_size)]
    sizes: Vec<u64>,
    /// Then write data and a flag behind it so often, for each size, and look whether the flag, or its completion, is ever seen before the
    /// data; of a GPU's memory with a flush (cuFlushGPUDirectRDMAWrites) and without.
    #[arg(long, value_name = "TIMES", num_args = 0..=1, require_equals = true, default_missing_value = "10000",
        value_parser = clap::value_parser!(u64).range(1..))]
    litmus: Option<u64>,
    /// Draw the percentiles into this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Measures latency, and prints it.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.host.only_with_devices("ping")?;
    let request = arguments.request()?;
    let mut document = ends::watched(session, "ping", |onlooker| survey::latency(&session.host, &request, onlooker))?;
    document.judge();
    session.output.print(&document)?;
    if let Some(path) = &arguments.plot {
        Output::write_file(path, &crate::report::latency_svg(&document))?;
    }
    Ok(ends::code(
        &session.host,
        !document.problems.is_empty(),
        document.results.iter().any(LatencyResult::is_bad) || document.ordering.iter().any(OrderingResult::is_bad),
    ))
}

impl Arguments {
    /// The request that they make.
    pub(super) fn request(&self) -> anyhow::Result<Request> {
        self.ends.request(Request { sizes: self.sizes.clone(), litmus: self.litmus, ..Request::latency() })
    }
}
