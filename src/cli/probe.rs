//! `rdmadoctor probe`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, engines, exit, qp_matrix};
use crate::catalog::engine::Connect;
use crate::catalog::{Catalog, CatalogError};
use crate::checks::{self, Category, Check, Facts, Level, Policy, VerbsFacts, Wanted, WantedEngine};
use crate::facts::{self, Device};
use crate::host;
use crate::qp::{AskGroup, Chosen, DeviceAttempter, DeviceReport, MatrixOptions, Stop, ask_group, choose, run_device};
use crate::worker::Worker;

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How much effort to take.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    level: Level,
    /// Are this engine's queue pairs granted? By name, or a file in the catalog's form. May be repeated; `all` takes every engine's
    /// newest known release.
    #[arg(long, value_name = "NAME[@VERSION]|FILE")]
    engine: Vec<String>,
    /// Only this check, or those of a category (`05xx`). May be repeated.
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Without this check, or those of a category. May be repeated.
    #[arg(long, value_name = "ID")]
    skip: Vec<String>,
    /// Exit with 4 where there are warnings and no failures.
    #[arg(long)]
    strict: bool,
    /// What this host must have, and which findings do not count.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Look at the limits of this process too, such as an engine that runs already.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// More engine files, or replacements for those that are built in.
    #[arg(long, value_name = "DIR")]
    catalog: Option<PathBuf>,
}

/// Attempts at most on each device: asks and what proves their culprits need some hundreds.
const MOST_ATTEMPTS: u64 = 5000;

/// What is left for judging and printing.
const RESERVE: Duration = Duration::from_secs(2);

/// Looks at everything and comes to a verdict.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let started = Instant::now();
    let policy =
        arguments.policy.as_deref().map(Policy::load).transpose().map_err(|error| UsageError(error.to_string()))?.unwrap_or_default();
    let checks = selected(arguments)?;
    let mut catalog = Catalog::load(arguments.catalog.as_deref())?;
    let named: Vec<String> = arguments.engine.iter().chain(&policy.require.engines).cloned().collect();
    let named = engines::with_files(&mut catalog, &named)?;
    let engines = choose(&catalog, &named)?;
    let wanted = wanted(&catalog, &engines, &policy);

    let mut progress = Progress::new("probe", session.quiet());
    progress.at("reading files");
    let root = session.root();
    let host = facts::host::collect(&root, arguments.pid);
    let modules = host::modules::read_with(&root, &policy.require.modules);
    // Verbs of this machine say nothing about a host that is mounted elsewhere.
    let asks_devices = arguments.level >= Level::Standard && session.is_this_host();
    let mut worker = if asks_devices { Some(session.worker()?) } else { None };
    progress.at("asking the verbs library");
    let inventory = worker.as_mut().map(Worker::inventory);
    let devices = facts::collect(&host.rdma, inventory.as_ref());
    let verbs = inventory.map(|inventory| match inventory {
        Ok(inventory) => VerbsFacts { inventory: Some(inventory), failure: None },
        Err(failure) => VerbsFacts { inventory: None, failure: Some(failure.to_string()) },
    });
    let mut facts = Facts { host, modules, devices, verbs, queue_pairs: None, gpus: None, wanted };
    let needs_attempts = checks.iter().any(|check| check.category == Category::QueuePairs && check.level == Level::Standard);
    if let Some(worker) = worker.as_mut().filter(|_| needs_attempts) {
        let deadline = started + arguments.level.budget().saturating_sub(RESERVE);
        facts.queue_pairs = Some(attempts(session, worker, &facts, &catalog, &engines, deadline, &mut progress)?);
    }
    drop(worker);

    let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let mut probe = checks::judge(&facts, arguments.level, &checks, &policy, today);
    probe.elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if session.interrupted() {
        probe.stopped = Some("interrupted: what was not tried is skipped".to_owned());
    } else if probe.elapsed_us > probe.budget_us {
        probe.stopped = Some("it took longer than it should: some part of this host answers slowly".to_owned());
    }
    drop(progress);
    session.print(&probe)?;
    Ok(match probe.verdict.as_str() {
        _ if session.interrupted() => exit::INTERRUPTED,
        "fail" => exit::FAILED,
        "warn" if arguments.strict => exit::WARNED,
        _ => exit::OK,
    })
}

/// The checks that level, `--only` and `--skip` leave.
fn selected(arguments: &Arguments) -> Result<Vec<&'static Check>, UsageError> {
    let only = arguments.only.iter().map(|wanted| matching(wanted)).collect::<Result<Vec<_>, _>>()?.concat();
    let skip = arguments.skip.iter().map(|wanted| matching(wanted)).collect::<Result<Vec<_>, _>>()?.concat();
    let checks: Vec<&Check> = checks::registry()
        .filter(|check| check.level <= arguments.level)
        .filter(|check| (arguments.only.is_empty() || only.contains(&check.id)) && !skip.contains(&check.id))
        .collect();
    if checks.is_empty() {
        return Err(UsageError("no check is left; --level standard has more of them".to_owned()));
    }
    Ok(checks)
}

/// The checks that `RD-0501`, `0501` or `05xx` names.
fn matching(wanted: &str) -> Result<Vec<&'static str>, UsageError> {
    let plain = wanted.trim().to_ascii_lowercase();
    let plain = plain.strip_prefix("rd-").unwrap_or(&plain);
    if let Some(category) = plain.strip_suffix("xx") {
        let prefix = format!("RD-{category}");
        let ids: Vec<&str> = checks::registry().map(|check| check.id).filter(|id| category.len() == 2 && id.starts_with(&prefix)).collect();
        if !ids.is_empty() {
            return Ok(ids);
        }
        let known: Vec<String> =
            Category::ALL.iter().map(|category| format!("{:02}xx ({})", category.number(), category.title())).collect();
        return Err(UsageError(format!("unknown category `{wanted}`; known are {}", known.join(", "))));
    }
    checks::find(wanted).map(|check| vec![check.id]).map_err(|error| UsageError(error.to_string()))
}

fn wanted(catalog: &Catalog, engines: &[Chosen<'_>], policy: &Policy) -> Wanted {
    let engines = engines.iter().map(|chosen| WantedEngine {
        name: chosen.engine.name.clone(),
        version: chosen.release.version.clone(),
        connects_itself: chosen.connect(catalog) == Connect::Oob,
    });
    Wanted {
        engines: engines.collect(),
        devices: policy.require.devices.clone(),
        families: policy.require.families.clone(),
        modules: policy.require.modules.clone(),
        memlock_bytes: policy.thresholds.memlock_bytes,
        port_bits_per_second: policy.thresholds.port_bits_per_second,
        link_downs: policy.thresholds.link_downs,
    }
}

/// Tries a modest queue pair and what engines ask on each device that can be opened.
fn attempts(
    session: &Session,
    worker: &mut Worker,
    facts: &Facts,
    catalog: &Catalog,
    engines: &[Chosen<'_>],
    deadline: Instant,
    progress: &mut Progress,
) -> Result<Vec<DeviceReport>, CatalogError> {
    let usable = |device: &&Device| device.problem.is_none() && facts.verbs_device(&device.name).is_some();
    let usable: Vec<&Device> = facts.devices.devices.iter().filter(usable).collect();
    let mut reports = Vec::new();
    for (index, device) in usable.iter().enumerate() {
        if session.interrupted() || Instant::now() >= deadline {
            break;
        }
        let Some(verbs) = facts.verbs_device(&device.name) else { continue };
        let attributes = verbs.attributes.as_ref();
        let asks: Vec<AskGroup> = engines.iter().map(|chosen| ask_group(catalog, *chosen, attributes)).collect::<Result<_, _>>()?;
        // Each device has its share of what is left, so that a slow one does not take the others' time.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(usable.len() - index).unwrap_or(1).max(1);
        let options = MatrixOptions {
            asks,
            grid: Vec::new(),
            bounds: false,
            limits: facts::limits(&session.root()),
            stop: Stop {
                budget: MOST_ATTEMPTS,
                deadline: Some(Instant::now() + share),
                max_memory_bytes: qp_matrix::SEARCH_MEMORY,
                max_asked_memory_bytes: qp_matrix::ASK_MEMORY,
            },
        };
        let mut attempter = DeviceAttempter { worker, device: &device.name };
        let mut report = run_device(&device.name, device.family.clone(), attributes, &mut attempter, &options, &mut |attempts| {
            progress.at(&format!("{}: {attempts} attempts", device.name));
        });
        report.connection = qp_matrix::connection_of(worker, device, verbs, &report).filter(|_| !session.interrupted());
        reports.push(report);
    }
    Ok(reports)
}
