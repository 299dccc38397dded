//! `rdmadoctor profile write`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use super::super::progress::{Progress, say};
use super::super::session::Session;
use super::super::{UsageError, exit, qp_matrix, values};
use crate::catalog::Catalog;
use crate::facts::{self, Device};
use crate::profile::{DEFAULT_FILE, Examined, Profile, Seen, Tried, assemble, recommend, save, trials};
use crate::qp::{AskGroup, Chosen, DeviceAttempter, DeviceReport, MatrixOptions, Outcome, QpRequest, Stop, ask_group, choose, run_device};

/// Arguments of `profile write`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to write it; `-` for standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print it as well, even where the file cannot be written.
    #[arg(long)]
    stdout: bool,
    /// Only this engine; may be repeated. Otherwise every known release of every engine.
    #[arg(long, value_name = "NAME[@VERSION]")]
    engine: Vec<String>,
    /// How much memory an engine registers at once, such as its whole cache.
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    kv_bytes: Option<u64>,
    /// Time at most for all attempts.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    budget: Duration,
    /// More engine files, or replacements for those that are built in.
    #[arg(long, value_name = "DIR")]
    catalog: Option<PathBuf>,
}

/// Attempts at most on each device: bounds need some hundreds, and each engine's culprits as many.
const MOST_ATTEMPTS: u64 = 20_000;

/// Tries, writes, tells.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.only_this_host("profile write")?;
    let output = match (&arguments.output, session.model_name()) {
        (Some(output), _) => output.clone(),
        (None, Some(_)) => {
            return Err(UsageError(
                "a model's profile does not belong where engines look for this host's: give -o FILE, or -o -".to_owned(),
            )
            .into());
        }
        (None, None) => PathBuf::from(DEFAULT_FILE),
    };
    let catalog = Catalog::load(arguments.catalog.as_deref())?;
    let engines = chosen(&catalog, &arguments.engine)?;
    if !session.quiet() {
        say(&format!("profile: {} engine releases, {} s at most", engines.len(), arguments.budget.as_secs_f32()));
    }
    let profile = examine(session, arguments, &catalog, &engines)?;
    if session.interrupted() {
        say("rdmadoctor: interrupted; no profile was written");
        return Ok(exit::INTERRUPTED);
    }
    let text = profile.to_yaml()?;
    if output.as_os_str() == "-" {
        session.print_text(&text)?;
    } else {
        let saved = save(&output, &text);
        if arguments.stdout {
            session.print_text(&text)?;
        }
        saved?;
        if !arguments.stdout {
            session.print(&profile)?;
        }
        if !session.quiet() {
            say(&format!("written to {}", output.display()));
        }
    }
    // A profile in which nothing was granted is no success, however well it was written.
    if profile.devices.iter().any(|port| !port.qp.limits.is_empty()) {
        return Ok(exit::OK);
    }
    for one in &profile.unvalidated {
        say(&format!("rdmadoctor: nothing was granted: {}: {}", one.entry, one.why));
    }
    Ok(exit::FAILED)
}

/// The engines that are asked for; all releases of all where none is, so that any of them can be exported.
pub(in crate::cli) fn chosen<'a>(catalog: &'a Catalog, wanted: &'a [String]) -> anyhow::Result<Vec<Chosen<'a>>> {
    if wanted.is_empty() {
        let every = catalog.engines().iter().flat_map(|engine| engine.releases.iter().map(move |release| Chosen::of(engine, release)));
        return Ok(every.collect());
    }
    // A profile names releases: a version that stands for one is that one.
    let mut chosen: Vec<Chosen<'a>> = Vec::new();
    for one in choose(catalog, wanted)?.into_iter().map(|one| Chosen::of(one.engine, one.release)) {
        if !chosen.contains(&one) {
            chosen.push(one);
        }
    }
    Ok(chosen)
}

/// Tries, and brings what was found into a profile.
pub(in crate::cli) fn examine(
    session: &Session,
    arguments: &Arguments,
    catalog: &Catalog,
    engines: &[Chosen<'_>],
) -> anyhow::Result<Profile> {
    let deadline = Instant::now() + arguments.budget;
    let mut progress = Progress::new("profile", session.quiet());
    let mut worker = session.worker()?;
    let root = session.root();
    progress.at("asking the verbs library");
    let inventory = Session::inventory(&mut worker, None)?;
    let seen = Seen::look(session.host_name(), &root, &inventory);
    let usable: Vec<&Device> =
        seen.devices.devices.iter().filter(|device| device.problem.is_none() && seen.verbs(&device.name).is_some()).collect();
    let mut reports: Vec<(DeviceReport, Vec<AskGroup>)> = Vec::new();
    let mut recommended: Vec<(String, QpRequest, Outcome)> = Vec::new();
    for (index, device) in usable.iter().enumerate() {
        if session.interrupted() {
            break;
        }
        let Some(verbs) = seen.verbs(&device.name) else { continue };
        let attributes = verbs.attributes.as_ref();
        let groups: Vec<AskGroup> = engines.iter().map(|chosen| ask_group(catalog, *chosen, attributes)).collect::<Result<_, _>>()?;
        // Each device has its share of what is left, so that a slow one does not take the others' time.
        let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(usable.len() - index).unwrap_or(1).max(1);
        let options = MatrixOptions {
            asks: groups.clone(),
            grid: Vec::new(),
            bounds: true,
            limits: facts::limits(&root),
            stop: Stop {
                budget: MOST_ATTEMPTS,
                deadline: Some(Instant::now() + share),
                max_memory_bytes: qp_matrix::SEARCH_MEMORY,
                max_asked_memory_bytes: qp_matrix::ASK_MEMORY,
            },
        };
        let mut attempter = DeviceAttempter { worker: &mut worker, device: &device.name };
        let mut report = run_device(&device.name, device.family.clone(), attributes, &mut attempter, &options, &mut |attempts| {
            progress.at(&format!("{}: {attempts} attempts", device.name));
        });
        let found = recommend(&report.bounds, &mut attempter);
        recommended.extend(found.map(|(request, outcome)| (device.name.clone(), request, outcome)));
        report.connection = qp_matrix::connection_of(&mut worker, device, verbs, &report).filter(|_| !session.interrupted());
        reports.push((report, groups));
    }
    let tried: Vec<Tried<'_>> = reports.iter().map(|(report, groups)| Tried { report, groups }).collect();
    let trials = trials(&tried, &mut |device, request| {
        let mut outcome = Outcome::NotRun { why: "no answer".to_owned() };
        worker.attempts(device, std::slice::from_ref(request), &mut |_, found| {
            outcome = found;
            true
        });
        outcome
    });
    drop(tried);
    let reports: Vec<DeviceReport> = reports.into_iter().map(|(report, _)| report).collect();
    let at = jiff::Timestamp::now().round(jiff::Unit::Second).context("cannot tell the time")?.to_string();
    Ok(assemble(&Examined {
        seen: &seen,
        model: session.model_name(),
        at: &at,
        reports: &reports,
        recommended: &recommended,
        trials: &trials,
        measured: &[],
        unmeasured: &[(None, "no transfer was timed: this version of rdmadoctor measures none".to_owned())],
        kv_bytes: arguments.kv_bytes,
    }))
}
