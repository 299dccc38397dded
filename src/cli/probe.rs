//! `rdmadoctor probe`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, engines, exit, values};
use crate::checks::{self, Category, Check, Policy, Status};
use crate::facts::Topo;
use crate::facts::{Facts, Level};
use crate::qp::choose;
use crate::schema;
use crate::survey::Look;

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How much effort to take.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    level: Level,
    /// Time at most for everything, in place of the level's own (2 s, 30 s, 120 s). What does not fit is skipped.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    time_budget: Option<Duration>,
    /// Are this engine's queue pairs granted? By name, or a file in the catalog's form. May be repeated; `all` takes every engine's
    /// newest known release.
    #[arg(long, value_name = "NAME[@VERSION]|FILE", add = super::complete::engines_or_files())]
    engine: Vec<String>,
    /// Only this check, or those of a category (`05xx`). May be repeated.
    #[arg(long, value_name = "ID", add = super::complete::checks_and_categories())]
    only: Vec<String>,
    /// Without this check, or those of a category. May be repeated.
    #[arg(long, value_name = "ID", add = super::complete::checks_and_categories())]
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
}

impl Arguments {
    fn budget(&self) -> Duration {
        self.time_budget.unwrap_or_else(|| self.level.budget())
    }
}

/// Looks at everything and comes to a verdict. `started` is when the command was given.
pub fn run(session: &Session, arguments: &Arguments, started: Instant) -> anyhow::Result<u8> {
    let policy =
        arguments.policy.as_deref().map(Policy::load).transpose().map_err(|error| UsageError(error.to_string()))?.unwrap_or_default();
    let checks = selected(arguments)?;
    let named: Vec<String> = arguments.engine.iter().chain(&policy.require.engines).cloned().collect();
    let mut catalog = engines::catalog(&named)?;
    let named = engines::with_files(&mut catalog, &named)?;
    let engines = choose(&catalog, &named)?;
    let mut progress = Progress::new("probe", session.output.quiet);
    let look = Look {
        pid: arguments.pid,
        modules: &policy.require.modules,
        engines: &engines,
        wanted: policy.wanted(&catalog, &engines),
        budget: arguments.budget(),
        started,
        ..Look::at(arguments.level, checks::needs(&checks), &catalog)
    };
    let facts = session.host.facts(&look, &mut |detail| progress.at(detail))?;
    report(session, arguments, &policy, checks, &facts, started)
}

/// Judges facts: what is printed, and the exit code.
fn report(
    session: &Session,
    arguments: &Arguments,
    policy: &Policy,
    mut checks: Vec<&'static Check>,
    facts: &Facts,
    started: Instant,
) -> anyhow::Result<u8> {
    // A check that could not be judged is no pass: why is told even where only that check was asked for.
    let skipped = skipped(arguments)?;
    if facts.unread().next().is_some()
        && !skipped.contains(&checks::UNREAD.page.id)
        && checks.iter().all(|check| check.page.id != checks::UNREAD.page.id)
    {
        checks.push(&checks::UNREAD);
    }
    let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let mut probe = checks::judge(facts, arguments.level, &checks, policy, today);
    probe.budget_us = u64::try_from(arguments.budget().as_micros()).unwrap_or(u64::MAX);
    probe.elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if session.host.interrupted() {
        probe.stopped = Some("interrupted: what was not tried is skipped".to_owned());
    } else if probe.elapsed_us > probe.budget_us {
        probe.stopped = Some("it took longer than it should: some part of this host answers slowly".to_owned());
    }
    let code = match probe.verdict.known() {
        _ if session.host.interrupted() => exit::INTERRUPTED,
        Some(Status::Fail) => exit::FAILED,
        Some(Status::Warn) if arguments.strict => exit::WARNED,
        _ => exit::OK,
    };
    let topo = Topo { schema: schema::TOPO.to_owned(), topology: facts.host.topology.clone(), problems: Vec::new() };
    session.output.print_beside(&probe, &[(&facts.devices).into(), (&topo).into()])?;
    Ok(code)
}

/// The checks that level, `--only` and `--skip` leave.
fn selected(arguments: &Arguments) -> Result<Vec<&'static Check>, UsageError> {
    let only = arguments.only.iter().map(|wanted| matching(wanted)).collect::<Result<Vec<_>, _>>()?.concat();
    let skip = skipped(arguments)?;
    let checks: Vec<&Check> = checks::registry()
        .filter(|check| check.page.level <= arguments.level && check.page.category != Category::Measured)
        .filter(|check| (arguments.only.is_empty() || only.contains(&check.page.id)) && !skip.contains(&check.page.id))
        .collect();
    let is_measured = |id: &&str| checks::find(id).is_ok_and(|check| check.page.category == Category::Measured);
    if checks.is_empty() && !only.is_empty() && only.iter().all(is_measured) {
        return Err(UsageError("`probe` measures nothing; `rdmadoctor preflight` does".to_owned()));
    }
    if checks.is_empty() {
        return Err(UsageError("no check is left; --level standard has more of them".to_owned()));
    }
    Ok(checks)
}

/// The checks that `--skip` names.
fn skipped(arguments: &Arguments) -> Result<Vec<&'static str>, UsageError> {
    Ok(arguments.skip.iter().map(|wanted| matching(wanted)).collect::<Result<Vec<_>, _>>()?.concat())
}

/// The checks that `RD-0501`, `0501` or `05xx` names.
fn matching(wanted: &str) -> Result<Vec<&'static str>, UsageError> {
    let plain = wanted.trim().to_ascii_lowercase();
    let plain = plain.strip_prefix("rd-").unwrap_or(&plain);
    if let Some(category) = plain.strip_suffix("xx") {
        let prefix = format!("RD-{category}");
        let ids: Vec<&str> =
            checks::registry().map(|check| check.page.id).filter(|id| category.len() == 2 && id.starts_with(&prefix)).collect();
        if !ids.is_empty() {
            return Ok(ids);
        }
        let known: Vec<String> =
            Category::ALL.iter().map(|category| format!("{:02}xx ({})", category.number(), category.title())).collect();
        return Err(UsageError(format!("unknown category `{wanted}`; known are {}", known.join(", "))));
    }
    checks::find(wanted).map(|check| vec![check.page.id]).map_err(|error| UsageError(error.to_string()))
}
