//! `rdmadoctor gpu`.

use std::time::{Duration, Instant};

use clap::Args;

use super::beside::usable;
use super::gather::Look;
use super::progress::Progress;
use super::session::Session;
use super::{UsageError, exit};
use crate::catalog::{Catalog, Engine};
use crate::checks::{self, GpuTried, survey};
use crate::devices::Problem;
use crate::facts::{Facts, Level, Source, Wanted};
use crate::gpu::{Copies, GpuError, GpuForm, GpuName};
use crate::worker::{Failure, GpuMemory, MeasureCopies, TryGpuMemory, Worker};

/// Longest wait for one answer: the first one brings a GPU up and makes a context.
const ANSWER: Duration = Duration::from_secs(10);
/// How long everything may be tried.
const TIME: Duration = Duration::from_secs(30);

/// What nobody knows of a model's GPUs.
const OF_A_MODEL: &str =
    "how fast copies are, whether contents are right, and how long anything takes: nothing is tried, a model says what would be granted";

/// Arguments of `gpu`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this GPU, by its number, PCI address or UUID.
    #[arg(value_name = "GPU")]
    gpu: Option<GpuName>,
    /// Which way this engine takes from GPU memory to a NIC, and whether it works here. May be repeated.
    #[arg(long, value_name = "NAME", add = super::complete::gpu_engines())]
    engine: Vec<String>,
    /// Look only; allocate nothing and copy nothing.
    #[arg(long)]
    no_try: bool,
}

/// Shows GPUs, and tries each kind of their memory by each way with each NIC.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    if session.host.captured().is_none() {
        session.host.only_with_devices("gpu")?;
    }
    let catalog = Catalog::load()?;
    let engines = arguments.engine.iter().map(|name| engine(&catalog, name)).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let mut progress = Progress::new("gpu", session.output.quiet);
    let look = Look {
        session,
        level: Level::Standard,
        pid: None,
        modules: &[],
        needs: [Source::Verbs, Source::Gpus].into_iter().collect(),
        started,
        budget: Level::Standard.budget(),
    };
    let gathered = match session.host.captured() {
        Some(_) => None,
        None => Some(look.gather(&catalog, &[], Wanted::default(), &mut progress)?),
    };
    let Some(facts) = gathered.as_ref().or_else(|| session.host.captured().map(|capture| &capture.facts)) else {
        return Err(UsageError("there is neither a host nor a capture of one".to_owned()).into());
    };
    let chosen = chosen(facts, arguments.gpu.as_ref())?;
    let (tried, unknown) = if session.host.captured().is_some() {
        captured(facts, chosen)
    } else if arguments.no_try {
        (chosen.into_iter().map(|pci| GpuTried { pci, ..GpuTried::default() }).collect(), Vec::new())
    } else {
        try_all(session, facts, chosen, started + TIME, &mut progress)?
    };
    let mut document = survey(facts, tried, &engines);
    document.unknown = unknown;
    drop(progress);
    if document.gpus.is_empty() {
        document.problems.push(why_none(facts));
    }
    if session.host.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    } else if session.host.captured().is_none() && started.elapsed() >= TIME {
        document.stopped = Some("the time for it was used up".to_owned());
    }
    session.output.print(&document)?;
    let is_bad = document.gpus.iter().any(|gpu| {
        let tried: Vec<_> = gpu.kinds.iter().flat_map(|kind| &kind.ways).collect();
        let has_none = !tried.is_empty() && tried.iter().all(|way| way.refusal.is_some());
        let is_wrong = |kind: &checks::KindReport| matches!(kind.contents, Some(crate::worker::Contents::Wrong { .. }));
        has_none || gpu.kinds.iter().any(is_wrong)
    });
    let fails = document.engines.iter().any(|engine| engine.works == Some(false));
    Ok(match () {
        () if session.host.interrupted() => exit::INTERRUPTED,
        () if is_bad || fails || !document.problems.is_empty() => exit::FAILED,
        () => exit::OK,
    })
}

/// An engine whose way to GPU memory is known.
fn engine<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Engine, UsageError> {
    let known = || catalog.engines().iter().filter(|engine| engine.gpu_paths.is_some());
    known().find(|engine| engine.is_called(name)).ok_or_else(|| {
        let known = known().map(|engine| engine.name.as_str()).collect::<Vec<_>>().join(", ");
        UsageError(format!("the way of `{name}` to GPU memory is not known; known are those of {known}"))
    })
}

/// Addresses of the GPUs that are looked at.
fn chosen(facts: &Facts, wanted: Option<&GpuName>) -> Result<Vec<String>, UsageError> {
    let gpus = facts.gpus.as_ref();
    let all: Vec<String> = gpus.iter().flat_map(|gpus| &gpus.gpus).map(|gpu| gpu.pci.clone()).collect();
    let Some(wanted) = wanted else { return Ok(all) };
    let found = match wanted {
        GpuName::Pci(pci) => all.iter().find(|known| *known == pci).cloned(),
        GpuName::Ordinal(ordinal) => {
            gpus.iter().flat_map(|gpus| &gpus.cuda.gpus).find(|shown| shown.ordinal == *ordinal).map(|shown| shown.pci.clone())
        }
        GpuName::Uuid(uuid) => {
            let is_it = |known: &&crate::gpu::GpuFacts| {
                known.uuid.as_ref().is_some_and(|known| known.to_ascii_lowercase().starts_with(&uuid.to_ascii_lowercase()))
            };
            gpus.iter().flat_map(|gpus| &gpus.gpus).find(is_it).map(|gpu| gpu.pci.clone())
        }
    };
    found.map(|pci| vec![pci]).ok_or_else(|| {
        let known = if all.is_empty() { "this host has none".to_owned() } else { format!("known are {}", all.join(", ")) };
        UsageError(format!("unknown GPU `{wanted}`; {known}"))
    })
}

fn why_none(facts: &Facts) -> Problem {
    let summary = match facts.nvidia_gpus().next() {
        None => "there is no NVIDIA GPU here",
        Some(_) => "there is an NVIDIA GPU, and its driver does not answer",
    };
    Problem { summary: summary.to_owned(), next_step: Some("`rdmadoctor probe --only 07xx` says why".to_owned()) }
}

/// What a capture has of the GPUs' memory, and what it cannot know.
fn captured(facts: &Facts, gpus: Vec<String>) -> (Vec<GpuTried>, Vec<String>) {
    let tried = facts.memory.iter().flat_map(|memory| &memory.gpu);
    let of = |pci: String| GpuTried { memory: tried.clone().filter(|memory| memory.gpu == pci).cloned().collect(), pci, copies: None };
    let all: Vec<GpuTried> = gpus.into_iter().map(of).collect();
    let mut unknown = vec!["how fast copies are: captures do not copy".to_owned()];
    if facts.gpus.is_none() {
        unknown.push("what the GPUs' driver says: `rdmadoctor capture --level standard` on the host itself asks it".to_owned());
    }
    unknown.push(if all.iter().any(|gpu| !gpu.memory.is_empty()) {
        "memory of other kinds than cuMemAlloc's, and its contents: level deep tries that kind alone".to_owned()
    } else {
        "which memory can be had, and which NIC takes it: `rdmadoctor capture --level deep` on the host itself tries that".to_owned()
    });
    (all, unknown)
}

/// Tries each GPU's memory; then, what a model cannot know.
fn try_all(
    session: &Session,
    facts: &Facts,
    gpus: Vec<String>,
    deadline: Instant,
    progress: &mut Progress,
) -> anyhow::Result<(Vec<GpuTried>, Vec<String>)> {
    let nics: Vec<String> = usable(facts).into_iter().map(|device| device.name.clone()).collect();
    let mut trying = Trying { session, worker: session.host.worker_within(ANSWER)?, nics: &nics, deadline, progress };
    let (mut tried, mut unknown) = (Vec::new(), Vec::new());
    for pci in gpus {
        let mut gpu = GpuTried { pci: pci.clone(), ..GpuTried::default() };
        let is_shown = facts.gpus.as_ref().and_then(|gpus| gpus.gpu(&pci)).is_some_and(|gpu| gpu.cuda.is_some());
        if is_shown {
            gpu.copies = trying.copies(&pci).transpose();
            if gpu.copies.is_none() && unknown.is_empty() {
                unknown.push(OF_A_MODEL.to_owned());
            }
            for form in GpuForm::ALL {
                gpu.memory.extend(trying.form(&pci, form));
            }
        }
        tried.push(gpu);
    }
    Ok((tried, unknown))
}

/// What trying a GPU's memory takes.
struct Trying<'a> {
    session: &'a Session,
    worker: Worker,
    nics: &'a [String],
    deadline: Instant,
    progress: &'a mut Progress,
}

impl Trying<'_> {
    /// How fast it copies; nothing where nobody knows, of a model's.
    fn copies(&mut self, pci: &str) -> Result<Option<Copies>, String> {
        self.progress.at(&format!("{pci}: copying"));
        match self.worker.ask(MeasureCopies(pci.to_owned())) {
            Ok(copies) => copies.map_err(|error| error.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Memory of a kind, alone and then with each NIC, as long as there is time and memory.
    fn form(&mut self, pci: &str, form: GpuForm) -> Vec<GpuMemory> {
        let mut tried = Vec::new();
        for nic in std::iter::once(None).chain(self.nics.iter().map(|nic| Some(nic.as_str()))) {
            if self.session.host.interrupted() || Instant::now() >= self.deadline {
                break;
            }
            self.progress.at(&format!("{pci}: {} {}", form.call(), nic.unwrap_or_default()));
            let memory = self
                .worker
                .ask(TryGpuMemory { gpu: pci.to_owned(), form, device: nic.map(str::to_owned) })
                .unwrap_or_else(|failure| lost(pci, form, nic, failure));
            let has_memory = memory.allocation_error.is_none();
            tried.push(memory);
            if !has_memory {
                break;
            }
        }
        tried
    }
}

/// What a child that was lost leaves.
fn lost(pci: &str, form: GpuForm, nic: Option<&str>, failure: Failure) -> GpuMemory {
    let memory = GpuMemory { gpu: pci.to_owned(), form, device: nic.map(str::to_owned), ..GpuMemory::default() };
    match nic {
        None => GpuMemory { allocation_error: Some(GpuError::NotAsked { why: failure.to_string() }), ..memory },
        Some(_) => GpuMemory { device_error: Some(failure.to_string()), ..memory },
    }
}
