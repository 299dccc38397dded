//! `rdmadoctor gpu`.

use std::time::{Duration, Instant};

use clap::Args;

use super::beside::{Beside, usable};
use super::gather::Look;
use super::progress::Progress;
use super::session::Session;
use super::{UsageError, exit};
use crate::catalog::Catalog;
use crate::checks::{self, Facts, GpuTried, Level, Wanted, survey};
use crate::facts::Problem;
use crate::gpu::{GpuError, GpuForm, GpuName};
use crate::worker::{Failure, GpuMemory, Worker};

/// Longest wait for one answer: the first one brings a GPU up and makes a context.
const ANSWER: Duration = Duration::from_secs(10);
/// How long everything may be tried.
const TIME: Duration = Duration::from_secs(30);

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
    session.only_this_host("gpu")?;
    if let Some(unknown) = arguments.engine.iter().find(|engine| !checks::is_engine_path_known(engine)) {
        let known = checks::engine_paths_known().join(", ");
        return Err(UsageError(format!("the way of `{unknown}` to GPU memory is not known; known are those of {known}")).into());
    }
    let started = Instant::now();
    let mut progress = Progress::new("gpu", session.quiet());
    let look = Look {
        session,
        level: Level::Standard,
        pid: None,
        modules: &[],
        needs_attempts: false,
        beside: Beside::gpus_only(),
        started,
        budget: Level::Standard.budget(),
    };
    let facts = look.gather(&Catalog::load(None)?, &[], Wanted::default(), &mut progress)?;
    let chosen = chosen(&facts, arguments.gpu.as_ref())?;
    let tried = if arguments.no_try {
        chosen.into_iter().map(|pci| GpuTried { pci, ..GpuTried::default() }).collect()
    } else {
        try_all(session, &facts, chosen, started + TIME, &mut progress)?
    };
    let mut document = survey(&facts, tried, &arguments.engine);
    drop(progress);
    if document.gpus.is_empty() {
        document.problems.push(why_none(&facts));
    }
    if session.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    } else if started.elapsed() >= TIME {
        document.stopped = Some("the time for it was used up".to_owned());
    }
    session.print(&document)?;
    let is_bad = document.gpus.iter().any(|gpu| {
        let tried: Vec<_> = gpu.kinds.iter().flat_map(|kind| &kind.ways).collect();
        let has_none = !tried.is_empty() && tried.iter().all(|way| way.refusal.is_some());
        let is_wrong = |kind: &checks::KindReport| matches!(kind.contents, Some(crate::worker::Contents::Wrong { .. }));
        has_none || gpu.kinds.iter().any(is_wrong)
    });
    let fails = document.engines.iter().any(|engine| engine.works == Some(false));
    Ok(match () {
        () if session.interrupted() => exit::INTERRUPTED,
        () if is_bad || fails || !document.problems.is_empty() => exit::FAILED,
        () => exit::OK,
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

/// Tries each GPU's memory, or says what a modelled host's would give.
fn try_all(
    session: &Session,
    facts: &Facts,
    gpus: Vec<String>,
    deadline: Instant,
    progress: &mut Progress,
) -> anyhow::Result<Vec<GpuTried>> {
    let nics: Vec<String> = usable(facts).into_iter().map(|device| device.name.clone()).collect();
    if let Some(modelled) = session.modelled_gpu_memory(&nics) {
        let of = |pci: String| {
            let memory = modelled.iter().filter(|memory| memory.gpu == pci).cloned().collect();
            GpuTried { pci, memory, copies: None }
        };
        return Ok(gpus.into_iter().map(of).collect());
    }
    let mut worker = session.worker_within(ANSWER)?;
    let mut tried = Vec::new();
    for pci in gpus {
        let mut gpu = GpuTried { pci: pci.clone(), ..GpuTried::default() };
        let is_shown = facts.gpus.as_ref().and_then(|gpus| gpus.gpu(&pci)).is_some_and(|gpu| gpu.cuda.is_some());
        if is_shown {
            progress.at(&format!("{pci}: copying"));
            gpu.copies = Some(match worker.copies(&pci) {
                Ok(copies) => copies.map_err(|error| error.to_string()),
                Err(failure) => Err(failure.to_string()),
            });
            for form in GpuForm::ALL {
                try_form(session, &mut worker, &pci, form, &nics, deadline, &mut gpu.memory, progress);
            }
        }
        tried.push(gpu);
    }
    Ok(tried)
}

#[allow(clippy::too_many_arguments, reason = "one step of a loop, taken out for its length")]
fn try_form(
    session: &Session,
    worker: &mut Worker,
    pci: &str,
    form: GpuForm,
    nics: &[String],
    deadline: Instant,
    tried: &mut Vec<GpuMemory>,
    progress: &mut Progress,
) {
    for nic in std::iter::once(None).chain(nics.iter().map(Some)) {
        if session.interrupted() || Instant::now() >= deadline {
            return;
        }
        progress.at(&format!("{pci}: {} {}", form.call(), nic.map(String::as_str).unwrap_or_default()));
        let nic = nic.map(String::as_str);
        let memory = worker.gpu_memory_as(pci, form, nic).unwrap_or_else(|failure| lost(pci, form, nic, failure));
        let has_memory = memory.allocation_error.is_none();
        tried.push(memory);
        if !has_memory {
            return;
        }
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
