//! One run: probe, queue pairs of engines, latency and bandwidth of every device and GPU, the profile.

use std::path::Path;
use std::time::{Duration, Instant};

use rdmadoctor_types::Word;

use super::baseline::Baseline;
use super::steps::{matrix_steps, measured_steps, no_gpu_step, probe_step};
use super::{Preflight, Step, StepName, gpus, measure, proven, verdict};
use crate::catalog::Catalog;
use crate::checks::{self, Check, Policy, Status};
use crate::facts::{Facts, Level, Topo};
use crate::profile::{HostSnapshot, now};
use crate::qp::{Chosen, QpMatrix};
use crate::schema;
use crate::survey::{Host, Look, SurveyError};

/// What of the time budget the probe may take at most, as its level allows; and what is kept for the profile.
const PROBE_PART: u32 = 2;
const PROFILE_PART: u32 = 5;

pub(super) fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What a run is to do, and how long.
pub(crate) struct Request<'a> {
    pub policy: &'a Policy,
    pub catalog: &'a Catalog,
    pub engines: &'a [Chosen<'a>],
    pub baseline: &'a Baseline,
    /// For everything.
    pub time_budget: Duration,
    /// Of each figure.
    pub duration: Duration,
    /// Where the transfer profile is written.
    pub profile_out: Option<&'a Path>,
    /// When the command was given.
    pub started: Instant,
}

/// A run.
pub(super) struct Flight<'a> {
    pub host: &'a Host,
    pub request: &'a Request<'a>,
    /// Told what is under way.
    pub say: &'a dyn Fn(&str),
}

/// Runs everything and comes to a verdict.
pub(crate) fn run(host: &Host, request: &Request<'_>, say: &dyn Fn(&str)) -> Result<Preflight, SurveyError> {
    Flight { host, request, say }.run()
}

impl Flight<'_> {
    fn run(&self) -> Result<Preflight, SurveyError> {
        let (host, request) = (self.host, self.request);
        let budget = request.time_budget;
        let deadline = request.started + budget;
        let mut document = Preflight {
            schema: schema::PREFLIGHT.to_owned(),
            verdict: Word::Known(Status::Pass),
            created: now()?,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            host_name: host.name(),
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
            let probed_us = elapsed(request.started);
            let until = deadline - budget / PROFILE_PART;
            let mut measured = measure::devices(self, &facts, until)?;
            let no_gpu = gpus::measure(self, &facts, &measured, until)?.map(|gpus| measured.extend(gpus)).err();
            facts.measured = Some(measured);
            self.tell(&mut document, facts, &checks, probed_us);
            document.steps.extend(no_gpu.as_deref().map(no_gpu_step));
            let (step, made) = proven::make(self, &document.measured, deadline.saturating_duration_since(Instant::now()))?;
            document.steps.push(step);
            document.profile = made;
        } else {
            document.steps.push(missing(StepName::Probe, "interrupted while the host's files were read"));
        }
        if host.interrupted() {
            document.stopped = Some("interrupted: what was not run is marked".to_owned());
        } else if document.steps.iter().any(|step| step.is_missing) {
            document.stopped = Some(format!("not everything fitted into the time budget of {} s", budget.as_secs_f32()));
        }
        document.verdict = verdict(document.probe.as_ref(), &document.steps);
        Ok(document)
    }

    /// What `probe` finds out at level standard; nothing where that was interrupted.
    fn gather(&self, checks: &[&Check]) -> Result<Option<Facts>, SurveyError> {
        let request = self.request;
        let look = Look {
            budget: Level::Standard.budget().min(request.time_budget / PROBE_PART),
            modules: &request.policy.require.modules,
            engines: request.engines,
            wanted: request.policy.wanted(request.catalog, request.engines),
            started: request.started,
            ..Look::at(Level::Standard, checks::needs(checks), request.catalog)
        };
        match self.host.facts(&look, &mut |text| (self.say)(text)) {
            Err(SurveyError::Interrupted(_)) => Ok(None),
            facts => facts.map(Some),
        }
    }

    /// Judges facts, and lays all of it into the document.
    fn tell(&self, document: &mut Preflight, mut facts: Facts, checks: &[&'static Check], probed_us: u64) {
        let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
        let mut probe = checks::judge(&facts, Level::Standard, checks, self.request.policy, today);
        probe.elapsed_us = probed_us;
        let matrix =
            QpMatrix { schema: schema::QP_MATRIX.to_owned(), devices: facts.queue_pairs.take().unwrap_or_default(), problems: Vec::new() };
        let inventory = Ok(facts.inventory().cloned().unwrap_or_default());
        document.fingerprint = HostSnapshot::look(self.host.name(), &self.host.root(), &inventory).fingerprint;
        document.measured = facts.measured.take().unwrap_or_default();
        document.steps.push(Step { elapsed_us: probed_us, ..probe_step(&probe) });
        let is_tried = |name: &str| matrix.devices.iter().any(|report| report.device == name);
        let untried: Vec<&str> = facts.usable().map(|(device, _)| device.name.as_str()).filter(|name| !is_tried(name)).collect();
        document.steps.extend(matrix_steps(&matrix, &untried));
        document.steps.extend(document.measured.iter().flat_map(measured_steps));
        document.qp_matrix = Some(matrix);
        document.devices = Some(facts.devices.clone());
        document.topo = Some(Topo { schema: schema::TOPO.to_owned(), topology: facts.host.topology.clone(), problems: Vec::new() });
        document.probe = Some(probe);
    }
}

/// A step that was not run.
pub(super) fn missing(step: StepName, why: &str) -> Step {
    Step { step, subject: None, status: Status::Skip, summary: format!("not run: {why}"), is_missing: true, elapsed_us: 0 }
}
