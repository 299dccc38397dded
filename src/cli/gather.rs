//! Finds out everything that checks judge: what `probe` and `capture` share.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use super::beside::{self, usable};
use super::progress::Progress;
use super::session::Session;
use super::{UsageError, qp_matrix};
use crate::capture::Capture;
use crate::catalog::{Catalog, CatalogError};
use crate::devices;
use crate::devices::HostLimits;
use crate::facts::{self, Facts, Level, Needs, Source, VerbsFacts, Wanted};
use crate::host::modules::ModulesFacts;
use crate::host::part::{Asked, OfPart, Part};
use crate::qp::{AskGroup, Chosen, DeviceAttempter, DeviceReport, MatrixOptions, Stop, ask_group, run_device};
use crate::survey::Host;
use crate::worker::{Inventory, Worker};

/// Attempts at most on each device: asks and what proves their culprits need some hundreds.
const MOST_ATTEMPTS: u64 = 5000;

/// Longest wait for one part of the files at level quick, which has 2 s for all.
const QUICK_PART: Duration = Duration::from_millis(1500);

/// The least of that where some of the time has gone already.
const LEAST_PART: Duration = Duration::from_millis(500);

/// What is left for judging and printing.
const RESERVE: Duration = Duration::from_secs(2);

/// A short time is not all reserve.
const RESERVED_PART: u32 = 4;

/// What to look at, and how long.
pub struct Look<'a> {
    pub session: &'a Session,
    pub level: Level,
    /// A process whose limits are of interest too.
    pub pid: Option<u32>,
    /// Modules that are of interest beside those that always are.
    pub modules: &'a [String],
    /// What is gathered, where the level allows it.
    pub needs: Needs,
    /// The time that it may take.
    pub budget: Duration,
    /// When the command was given: its time has run since.
    pub started: Instant,
}

impl Look<'_> {
    /// Looks; a child process reads the files.
    pub fn gather(&self, catalog: &Catalog, engines: &[Chosen<'_>], wanted: Wanted, progress: &mut Progress) -> anyhow::Result<Facts> {
        let session = self.session;
        progress.at("reading files");
        let left = QUICK_PART.saturating_sub(self.started.elapsed()).max(LEAST_PART);
        let mut reader = session.host.reader(self.asked(), (self.level == Level::Quick).then_some(left))?;
        let host = facts::host::collect_by(&mut |part| reader.part(part))?;
        let modules = reader.get::<ModulesFacts>()?;
        drop(reader);
        // Verbs of this machine say nothing about a host that is mounted elsewhere.
        let asks_devices = self.level >= Level::Standard && session.host.has_devices() && self.needs.has_more_than_files();
        let mut worker = if asks_devices { Some(session.host.worker()?) } else { None };
        let inventory = worker
            .as_mut()
            .filter(|_| self.needs.has(Source::Verbs))
            .map(|worker| {
                progress.at("asking the verbs library");
                Host::inventory(worker, None)
            })
            .transpose()?;
        let devices = devices::collect(&host.rdma, inventory.as_ref());
        let verbs = inventory.map(|inventory| match inventory {
            Ok(inventory) => VerbsFacts { inventory: Some(inventory), failure: None },
            Err(failure) => VerbsFacts { inventory: None, failure: Some(failure.to_string()) },
        });
        let mut facts = Facts::of_files(host, modules, devices, wanted);
        facts.verbs = verbs;
        let deadline = self.deadline();
        if let Some(worker) = worker.as_mut() {
            beside::ask(&self.needs, session, worker, &mut facts, self.started, progress)?;
        }
        if let Some(worker) = worker.as_mut().filter(|_| self.needs.has(Source::QueuePairs)) {
            facts.queue_pairs = Some(self.attempts(worker, &facts, catalog, engines, progress)?);
        }
        if let Some(worker) = worker.as_mut() {
            beside::try_memory(&self.needs, session, worker, &mut facts, deadline, progress)?;
        }
        Ok(facts)
    }

    /// Looks at files alone, as level quick does, and reads them in this process.
    pub fn gather_here(&self, wanted: Wanted) -> Facts {
        let (root, asked) = (self.session.host.root(), self.asked());
        let mut read = |part: Part| Ok::<_, Infallible>(part.read(&root, &asked));
        let (host, modules) = match (facts::host::collect_by(&mut read), read(Part::Modules)) {
            (Ok(host), Ok(modules)) => (host, ModulesFacts::of(modules).unwrap_or_default()),
            (Err(never), _) | (_, Err(never)) => match never {},
        };
        let devices = devices::collect(&host.rdma, None);
        Facts::of_files(host, modules, devices, wanted)
    }

    fn asked(&self) -> Asked {
        let is_brief = self.level == Level::Quick;
        Asked { pid: self.pid, is_brief, vpd: !is_brief, modules: self.modules.to_vec() }
    }

    /// When trying has to end.
    fn deadline(&self) -> Instant {
        self.started + self.budget.saturating_sub(RESERVE.min(self.budget / RESERVED_PART))
    }

    /// Tries a modest queue pair and what engines ask on each device that can be opened.
    fn attempts(
        &self,
        worker: &mut Worker,
        facts: &Facts,
        catalog: &Catalog,
        engines: &[Chosen<'_>],
        progress: &mut Progress,
    ) -> Result<Vec<DeviceReport>, CatalogError> {
        let session = self.session;
        let deadline = self.deadline();
        let usable = usable(facts);
        let mut reports = Vec::new();
        for (index, device) in usable.iter().enumerate() {
            if session.host.interrupted() || Instant::now() >= deadline {
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
                limits: HostLimits::from_process(&facts.host.limits.own),
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
            report.connection = qp_matrix::connection_of(worker, device, verbs, &report).filter(|_| !session.host.interrupted());
            reports.push(report);
        }
        Ok(reports)
    }
}

/// What the verbs library said on a captured host.
pub fn captured_inventory(capture: &Capture, command: &str) -> Result<Option<Inventory>, UsageError> {
    match &capture.facts.verbs {
        Some(verbs) => Ok(verbs.inventory.clone()),
        None => Err(UsageError(format!(
            "`{command}` shows what the verbs library says, and the capture is {}; `rdmadoctor capture --level standard` on the host itself has that",
            if capture.is_files_only { "of files only" } else { "of level quick" }
        ))),
    }
}
