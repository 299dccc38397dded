//! `rdmadoctor ping`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::ends::{self, Own};
use super::session::Session;
use crate::bench::{Bench, Done, LatencyResult, OrderingResult};
use crate::cli::output::Output;
use crate::schema;
use crate::transfer::RunKind;

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
    let document = measured(session, arguments, None)?;
    session.output.print(&document)?;
    if let Some(path) = &arguments.plot {
        Output::write_file(path, &crate::report::latency_svg(&document))?;
    }
    let is_bad = |result: &LatencyResult| {
        result.failure.is_some() || result.verification.as_ref().is_some_and(|verification| verification.mismatch.is_some())
    };
    Ok(ends::code(
        session,
        !document.problems.is_empty(),
        document.results.iter().any(is_bad) || document.ordering.iter().any(OrderingResult::is_bad),
    ))
}

/// Measures latency, at most until then.
pub(super) fn measured(session: &Session, arguments: &Arguments, until: Option<Instant>) -> anyhow::Result<Bench<LatencyResult>> {
    let own = Own {
        kind: RunKind::Latency,
        sizes: arguments.sizes.clone(),
        queue_pairs: 1,
        hot: true,
        spread: false,
        bidirectional: false,
        depth: None,
        batch: None,
        litmus: arguments.litmus,
        until,
    };
    let mut document = ends::run(session, &arguments.ends, &own, schema::PING, &mut |done, document: &mut Bench<LatencyResult>| {
        if let Done::Latency(result) = done {
            document.results.push(*result);
        }
    })?;
    let noisy = document.results.iter().filter_map(|result| {
        let spread = result.p50_us.filter(|median| median.is_noisy)?.spread_percent;
        Some(format!("{} of {} bytes ({spread:.0} %)", result.operation, result.size_bytes))
    });
    let noise = ends::noise(&noisy.collect::<Vec<_>>());
    document.notices.extend(noise);
    Ok(document)
}
