//! `rdmadoctor qp-matrix`.

use std::time::{Duration, Instant};

use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, engines, exit, values};
use crate::catalog::Catalog;
use crate::qp::{QpRequest, choose};
use crate::report::Document;
use crate::request::{Parameter, Value, parse_ask, parse_grid};
use crate::survey::Attempts;

/// Arguments of `qp-matrix`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this device; all of them otherwise.
    #[arg(value_name = "DEV", add = super::complete::devices())]
    device: Option<String>,
    /// Is this engine's request granted? By name, or a file in the catalog's form. May be repeated; `all` takes every engine's newest
    /// known release.
    #[arg(long, value_name = "NAME[@VERSION]|FILE", add = super::complete::engines_or_files())]
    engine: Vec<String>,
    /// Is this request granted? Parameters that are not named stay small.
    #[arg(long, value_name = "PARAMETER=VALUE,…", value_parser = parse_ask)]
    ask: Vec<QpRequest>,
    /// Try every combination of these values.
    #[arg(long, value_name = "PARAMETER=VALUE,VALUE,…", value_parser = parse_grid, num_args = 1..)]
    grid: Vec<(Parameter, Vec<Value>)>,
    /// Find bounds and joint limits as well as answering --engine, --ask or --grid; without those they are always found.
    #[arg(long)]
    bounds: bool,
    /// How many queue pairs can exist at once, up to N, in the shape of --ask or of the smallest request.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Try no request whose queues take more; otherwise 256M in searches, and 1G for what --engine and --ask ask.
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_memory: Option<u64>,
    /// Attempts at most on each device.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    budget: u64,
    /// Time at most for everything.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = values::duration)]
    deadline: Duration,
}

/// Most combinations of a grid; more would be a mistake of the caller's.
const MOST_CELLS: usize = 1 << 20;

/// Tries queue pairs and reports.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let mut catalog = Catalog::load()?;
    let names = engines::with_files(&mut catalog, &arguments.engine)?;
    let engines = choose(&catalog, &names)?;
    let cells = arguments.grid.iter().try_fold(1usize, |cells, (_, values)| cells.checked_mul(values.len()));
    if cells.is_none_or(|cells| cells > MOST_CELLS) {
        return Err(UsageError(format!("--grid has more than {MOST_CELLS} combinations")).into());
    }
    for (index, (parameter, _)) in arguments.grid.iter().enumerate() {
        if arguments.grid[..index].iter().any(|(other, _)| other == parameter) {
            return Err(UsageError(format!("--grid names {parameter} twice")).into());
        }
    }
    let attempts = Attempts {
        own: &arguments.ask,
        grid: &arguments.grid,
        bounds: arguments.bounds.then_some(true),
        count: arguments.count,
        budget: arguments.budget,
        max_memory: arguments.max_memory,
        shares_time: false,
        ..Attempts::of_engines(&catalog, &engines, Instant::now() + arguments.deadline)
    };
    let mut progress = Progress::new("qp-matrix", session.output.quiet);
    let (matrix, devices) = session.host.queue_pairs(arguments.device.as_deref(), &attempts, &mut |detail| progress.at(detail))?;
    drop(progress);
    let beside: Vec<Document<'_>> = devices.iter().map(Into::into).collect();
    session.output.print_beside(&matrix, &beside)?;
    Ok(match () {
        () if session.host.interrupted() => exit::INTERRUPTED,
        () if matrix.has_failed() => exit::FAILED,
        () => exit::OK,
    })
}
