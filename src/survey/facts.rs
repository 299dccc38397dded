//! Everything that checks judge, of one host: read, asked and tried, or taken from a capture.

use std::time::{Duration, Instant};

use super::{Attempts, Host, Say, SurveyError, memory};
use crate::capture::Capture;
use crate::catalog::Catalog;
use crate::devices::{self, HostLimits};
use crate::facts::{self, Facts, Level, Needs, Source, VerbsFacts, Wanted, WantedEngine};
use crate::host::modules::ModulesFacts;
use crate::host::part::ReadOptions;
use crate::host::pcie::PcieFunction;
use crate::host::rdma_objects::ObjectsFacts;
use crate::qp::{AskReport, Chosen};
use crate::worker::{ReadObjects, Worker};

/// What is left for judging and printing.
const RESERVE: Duration = Duration::from_secs(2);

/// A short time is not all reserve.
const RESERVED_PART: u32 = 4;

/// How long all GPUs together may be asked.
const GPU_TIME: Duration = Duration::from_secs(12);

/// How long host memory may be registered on all devices together.
const REGISTRATION_TIME: Duration = Duration::from_secs(6);

/// What to look at, and how long.
pub(crate) struct Look<'a> {
    pub level: Level,
    /// A process whose limits are of interest too.
    pub pid: Option<u32>,
    /// Modules that are of interest beside those that always are.
    pub modules: &'a [String],
    /// What is gathered, where the level allows it.
    pub needs: Needs,
    pub catalog: &'a Catalog,
    /// Whose queue pairs are tried.
    pub engines: &'a [Chosen<'a>],
    pub wanted: Wanted,
    /// The time that it may take.
    pub budget: Duration,
    /// When the command was given: its time has run since.
    pub started: Instant,
}

impl<'a> Look<'a> {
    /// One that begins now.
    pub(crate) fn at(level: Level, needs: Needs, catalog: &'a Catalog) -> Self {
        Self {
            level,
            pid: None,
            modules: &[],
            needs,
            catalog,
            engines: &[],
            wanted: Wanted::default(),
            budget: level.budget(),
            started: Instant::now(),
        }
    }

    fn asked(&self) -> ReadOptions {
        let is_brief = self.level == Level::Quick;
        ReadOptions { pid: self.pid, is_brief, vpd: !is_brief, modules: self.modules.to_vec() }
    }

    /// When trying has to end.
    fn deadline(&self) -> Instant {
        self.started + self.budget.saturating_sub(RESERVE.min(self.budget / RESERVED_PART))
    }
}

impl Host {
    /// What checks judge.
    pub(crate) fn facts(&self, look: &Look<'_>, say: Say<'_>) -> Result<Facts, SurveyError> {
        if let Some(capture) = self.captured() {
            return captured(capture, look.wanted.clone());
        }
        say("reading files");
        let mut reader = self.reader(look.asked(), (look.level == Level::Quick).then(|| look.deadline()))?;
        let mut host = facts::host::collect_by(&mut |part| reader.part(part))?;
        if self.model().is_some() {
            // How long a model's files took tells how busy this machine is.
            host.timings.clear();
        }
        let modules = reader.get::<ModulesFacts>()?;
        drop(reader);
        // Verbs of this machine say nothing about a host that is mounted elsewhere.
        if look.level == Level::Quick || !self.has_devices() || !look.needs.has_more_than_files() {
            let devices = devices::collect(&host.rdma, None);
            return Ok(Facts::of_files(host, modules, devices, look.wanted.clone()));
        }
        let mut worker = self.worker()?;
        let asks_verbs = look.needs.has(Source::Verbs);
        if asks_verbs {
            say("asking the verbs library");
        }
        let inventory = asks_verbs.then(|| Self::inventory(&mut worker, None)).transpose()?;
        let devices = devices::collect(&host.rdma, inventory.as_ref());
        let mut facts = Facts::of_files(host, modules, devices, look.wanted.clone());
        facts.verbs = inventory.map(|inventory| match inventory {
            Ok(inventory) => VerbsFacts { inventory: Some(inventory), failure: None },
            Err(failure) => VerbsFacts { inventory: None, failure: Some(failure.to_string()) },
        });
        self.ask(look, &mut worker, &mut facts, say)?;
        Ok(facts)
    }

    /// Asks who holds objects, before this program makes some of its own, then the GPUs' driver; tries queue pairs and memory.
    fn ask(&self, look: &Look<'_>, worker: &mut Worker, facts: &mut Facts, say: Say<'_>) -> Result<(), SurveyError> {
        let (needs, deadline) = (&look.needs, look.deadline());
        if needs.has(Source::Objects) {
            facts.objects = Some(
                worker
                    .ask(ReadObjects)
                    .unwrap_or_else(|failure| ObjectsFacts { error: Some(format!("RDMA netlink: {failure}")), ..ObjectsFacts::default() }),
            );
        }
        // Without the driver in the kernel there is nobody to ask, and RD-0701 says so.
        if needs.has(Source::Gpus) && facts.modules.nvidia.is_some() {
            let bound = |gpu: &&PcieFunction| gpu.function.driver.as_deref() == Some("nvidia");
            let addresses: Vec<String> = facts.nvidia_gpus().filter(bound).map(|gpu| gpu.address().to_owned()).collect();
            facts.gpus = Some(self.gpus(&addresses, look.started + GPU_TIME, say)?);
        }
        let usable: Vec<_> = facts.usable().collect();
        if needs.has(Source::QueuePairs) {
            let limits = HostLimits::from_process(&facts.host.limits.own);
            let tried = Attempts::of_engines(look.catalog, look.engines, deadline).run(worker, &usable, limits, say)?;
            facts.queue_pairs = Some(tried.into_iter().map(|tried| tried.report).collect());
        }
        let names: Vec<String> = facts.usable().map(|(device, _)| device.name.clone()).collect();
        if needs.has(Source::HostMemory) {
            let most = memory::most_bytes(&facts.host);
            let until = deadline.min(Instant::now() + REGISTRATION_TIME);
            let devices: Vec<_> = names.iter().map(|name| (name.as_str(), most)).collect();
            facts.memory.get_or_insert_default().host = memory::on_devices(worker, &devices, until, None, say);
        }
        if needs.has(Source::GpuMemory) {
            let gpu = facts.gpus.as_ref().map(|gpus| self.gpu_memory(gpus, &names, deadline, say)).transpose()?;
            facts.memory.get_or_insert_default().gpu = gpu.unwrap_or_default();
        }
        Ok(())
    }
}

/// The facts of a capture, with what is asked of them now.
fn captured(capture: &Capture, wanted: Wanted) -> Result<Facts, SurveyError> {
    let mut facts = capture.facts.clone();
    let known = std::mem::replace(&mut facts.wanted, wanted);
    if facts.wanted.engines.is_empty() {
        facts.wanted.engines = known.engines;
    } else {
        let engines = &facts.wanted.engines;
        let is_known =
            |engine: &&WantedEngine| known.engines.iter().any(|other| other.name == engine.name && other.version == engine.version);
        let named = |engine: &WantedEngine| format!("{}@{}", engine.name, engine.version);
        if let Some(engine) = engines.iter().find(|engine| facts.queue_pairs.is_some() && !is_known(engine)) {
            let known: Vec<String> = known.engines.iter().map(named).collect();
            let known = if known.is_empty() { "none was asked".to_owned() } else { format!("it has {}", known.join(", ")) };
            let engine = named(engine);
            return Err(SurveyError::Unsuited(format!(
                "the capture has no attempts of {engine}, {known}; `rdmadoctor capture --engine {engine}` on the host itself makes them"
            )));
        }
        let is_wanted = |ask: &AskReport| {
            let is_it = |engine: &WantedEngine| Some(&engine.name) == ask.engine.as_ref() && Some(&engine.version) == ask.version.as_ref();
            engines.iter().any(is_it)
        };
        facts.queue_pairs.iter_mut().flatten().for_each(|report| report.asks.retain(&is_wanted));
    }
    facts.not_asked = match () {
        () if capture.is_files_only => Some("the capture is of files only".to_owned()),
        () if capture.level < Level::Standard => Some("not captured: the capture is of level quick".to_owned()),
        () => return Ok(facts),
    };
    Ok(facts)
}
