//! `rdmadoctor preflight`: one gate before a deployment.

mod baseline;
mod gpus;
mod measure;
mod profile;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use super::beside::usable;
use super::gather::Look;
use super::probe::wanted;
use super::progress::Progress;
use super::session::Session;
use super::{UsageError, engines, exit, values};
use crate::catalog::Catalog;
use crate::checks::{self, Check, Policy, Status};
use crate::facts::Topo;
use crate::facts::{Facts, Level};
use crate::preflight::{Preflight, Step, StepName, matrix_steps, measured_steps, no_gpu_step, probe_step, verdict};
use crate::profile::Seen;
use crate::qp::{Chosen, QpMatrix, choose};
use crate::schema;
use crate::survey::SurveyError;
use baseline::Baseline;

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

/// What of the time budget the probe may take at most, as its level allows; and what is kept for the profile.
const PROBE_PART: u32 = 2;
const PROFILE_PART: u32 = 5;

/// Runs everything and comes to a verdict.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let started = Instant::now();
    session.host.only_with_devices("preflight")?;
    let policy =
        arguments.policy.as_deref().map(Policy::load).transpose().map_err(|error| UsageError(error.to_string()))?.unwrap_or_default();
    // A file that is none is told before anything is done.
    let baseline = Baseline::load(arguments.baseline.as_deref(), arguments.compare.as_deref())?;
    baseline.fits(session)?;
    let mut catalog = Catalog::load()?;
    let named: Vec<String> = arguments.engine.iter().chain(&policy.require.engines).cloned().collect();
    let named = engines::with_files(&mut catalog, &named)?;
    let engines = choose(&catalog, &named)?;
    let flight = Flight { session, arguments, policy: &policy, catalog: &catalog, engines: &engines, baseline: &baseline, started };
    let mut document = flight.run()?;
    baseline.keep(session, &mut document);
    document.elapsed_us = elapsed(started);
    session.output.print(&document)?;
    Ok(match document.verdict.as_str() {
        _ if session.host.interrupted() => exit::INTERRUPTED,
        "fail" => exit::FAILED,
        "warn" if arguments.strict => exit::WARNED,
        _ => exit::OK,
    })
}

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// A run.
struct Flight<'a> {
    session: &'a Session,
    arguments: &'a Arguments,
    policy: &'a Policy,
    catalog: &'a Catalog,
    engines: &'a [Chosen<'a>],
    baseline: &'a Baseline,
    started: Instant,
}

impl Flight<'_> {
    fn run(&self) -> anyhow::Result<Preflight> {
        let session = self.session;
        let budget = self.arguments.time_budget;
        let deadline = self.started + budget;
        let created = jiff::Timestamp::now().round(jiff::Unit::Second).context("cannot tell the time")?.to_string();
        let mut document = Preflight {
            schema: schema::PREFLIGHT.to_owned(),
            verdict: String::new(),
            created,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            host_name: session.host.name(),
            fingerprint: Vec::new(),
            steps: Vec::new(),
            probe: None,
            qp_matrix: None,
            devices: None,
            topo: None,
            measured: Vec::new(),
            profile: None,
            comparison: None,
            time_budget_us: u64::try_from(budget.as_micros()).unwrap_or(u64::MAX),
            elapsed_us: 0,
            stopped: None,
        };
        let checks: Vec<&Check> = checks::registry().filter(|check| check.page.level <= Level::Standard).collect();
        if let Some(mut facts) = self.gather(&checks)? {
            let probed_us = elapsed(self.started);
            let until = deadline - budget / PROFILE_PART;
            let mut measured = measure::devices(self, &facts, until)?;
            let no_gpu = gpus::measure(self, &facts, &measured, until)?.map(|gpus| measured.extend(gpus)).err();
            facts.measured = Some(measured);
            self.tell(&mut document, facts, &checks, probed_us);
            document.steps.extend(no_gpu.as_deref().map(no_gpu_step));
            let (step, made) = profile::make(self, &document.measured, deadline.saturating_duration_since(Instant::now()))?;
            document.steps.push(step);
            document.profile = made;
        } else {
            document.steps.push(missing(StepName::Probe, "interrupted while the host's files were read"));
        }
        if session.host.interrupted() {
            document.stopped = Some("interrupted: what was not run is marked".to_owned());
        } else if document.steps.iter().any(|step| step.is_missing) {
            document.stopped = Some(format!("not everything fitted into the time budget of {} s", budget.as_secs_f32()));
        }
        document.verdict = verdict(document.probe.as_ref(), &document.steps).to_owned();
        Ok(document)
    }

    /// What `probe` finds out at level standard; nothing where that was interrupted.
    fn gather(&self, checks: &[&Check]) -> anyhow::Result<Option<Facts>> {
        let mut progress = Progress::new("preflight: probe", self.session.output.quiet);
        let look = Look {
            session: self.session,
            level: Level::Standard,
            budget: Level::Standard.budget().min(self.arguments.time_budget / PROBE_PART),
            pid: None,
            modules: &self.policy.require.modules,
            needs: checks::needs(checks),
            started: self.started,
        };
        let wanted = wanted(self.catalog, self.engines, self.policy);
        match look.gather(self.catalog, self.engines, wanted, &mut progress) {
            Err(error) if error.is::<SurveyError>() => Ok(None),
            facts => facts.map(Some),
        }
    }

    /// Judges facts, and lays all of it into the document.
    fn tell(&self, document: &mut Preflight, mut facts: Facts, checks: &[&'static Check], probed_us: u64) {
        let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
        let mut probe = checks::judge(&facts, Level::Standard, checks, self.policy, today);
        probe.elapsed_us = probed_us;
        let matrix =
            QpMatrix { schema: schema::QP_MATRIX.to_owned(), devices: facts.queue_pairs.take().unwrap_or_default(), problems: Vec::new() };
        let inventory = Ok(facts.inventory().cloned().unwrap_or_default());
        document.fingerprint = Seen::look(self.session.host.name(), &self.session.host.root(), &inventory).fingerprint;
        document.measured = facts.measured.take().unwrap_or_default();
        document.steps.push(Step { elapsed_us: probed_us, ..probe_step(&probe) });
        let known = usable(&facts);
        let is_tried = |name: &str| matrix.devices.iter().any(|report| report.device == name);
        let untried: Vec<&str> = known.iter().map(|device| device.name.as_str()).filter(|name| !is_tried(name)).collect();
        document.steps.extend(matrix_steps(&matrix, &untried));
        document.steps.extend(document.measured.iter().flat_map(measured_steps));
        document.qp_matrix = Some(matrix);
        document.devices = Some(facts.devices.clone());
        document.topo = Some(Topo { schema: schema::TOPO.to_owned(), topology: facts.host.topology.clone(), problems: Vec::new() });
        document.probe = Some(probe);
    }
}

/// A step that was not run.
fn missing(step: StepName, why: &str) -> Step {
    Step { step, subject: None, status: Status::Skip, summary: format!("not run: {why}"), is_missing: true, elapsed_us: 0 }
}
