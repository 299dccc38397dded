//! `rdmadoctor preflight`: one gate before a deployment.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use super::output::Output;
use super::progress::Progress;
use super::session::Session;
use super::{UsageError, engines, exit, values};
use crate::catalog::Catalog;
use crate::checks::{Policy, Status};
use crate::preflight::{self, Baseline, Request};
use crate::qp::choose;

/// Arguments of `preflight`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Are this engine's queue pairs granted? By name, or a file in the catalog's form. May be repeated; the policy's are taken as well.
    #[arg(long, value_name = "NAME[@VERSION]|FILE", add = super::complete::engines_or_files())]
    engine: Vec<String>,
    /// What this host must have, how fast it must be, and which findings do not count.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Time at most for everything. What does not fit is marked as not run.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    time_budget: Duration,
    /// Measure each figure for this long, three times.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = values::duration)]
    duration: Duration,
    /// Write the transfer profile here.
    #[arg(long, value_name = "FILE")]
    profile_out: Option<PathBuf>,
    /// The last good run: what changed since is told, and this run takes its place if it is good itself.
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    baseline: Option<PathBuf>,
    /// What changed since the run of which this is the JSON document? The file stays as it is.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Exit with 4 where there are warnings, or something was not run, and nothing failed.
    #[arg(long)]
    strict: bool,
}

/// Runs everything and comes to a verdict.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let started = Instant::now();
    session.host.only_with_devices("preflight")?;
    let policy =
        arguments.policy.as_deref().map(Policy::load).transpose().map_err(|error| UsageError(error.to_string()))?.unwrap_or_default();
    // A file that is none is told before anything is done.
    let baseline = Baseline::load(arguments.baseline.as_deref(), arguments.compare.as_deref())?;
    baseline.fits(&session.host)?;
    let mut catalog = Catalog::load()?;
    let named: Vec<String> = arguments.engine.iter().chain(&policy.require.engines).cloned().collect();
    let named = engines::with_files(&mut catalog, &named)?;
    let request = Request {
        policy: &policy,
        catalog: &catalog,
        engines: &choose(&catalog, &named)?,
        baseline: &baseline,
        time_budget: arguments.time_budget,
        duration: arguments.duration,
        profile_out: arguments.profile_out.as_deref(),
        started,
    };
    let progress = RefCell::new(Progress::new("preflight", session.output.quiet));
    let mut document = preflight::run(&session.host, &request, &|detail| progress.borrow_mut().at(detail))?;
    drop(progress);
    baseline.keep(&session.host, &mut document, |file, document| {
        session.output.json(document).and_then(|text| write(file, &text)).map_err(|error| format!("{error:#}"))
    });
    document.elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    session.output.print(&document)?;
    Ok(match document.verdict.known() {
        _ if session.host.interrupted() => exit::INTERRUPTED,
        Some(Status::Fail) => exit::FAILED,
        Some(Status::Warn) if arguments.strict => exit::WARNED,
        _ => exit::OK,
    })
}

/// Writes a file, and makes its directory where there is none.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory.map(std::fs::create_dir_all).transpose().with_context(|| format!("cannot make the directory of {}", file.display()))?;
    Output::write_file(file, text)
}
