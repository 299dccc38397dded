//! GPUs: what their driver says, GPU by GPU, so that one that hangs does not hide the others; and their memory, tried by each path.

use std::time::{Duration, Instant};

use super::{Host, Look, Say, SurveyError};
use crate::catalog::Catalog;
use crate::facts::{Facts, Level, Source};
use crate::gpu::{AllocKind, Copies, CudaFacts, GpuError, GpuFacts, GpuId, GpuName, GpusFacts, LIBCUDA, LIBNVIDIA_ML, NvmlFacts};
use crate::worker::{Failure, GpuMemory, Lost, MeasureCopies, ReadCuda, ReadNvml, ReadNvmlGpu, ReadUsableGpus, TryGpuMemory, Worker};

/// Longest wait for one answer: bringing a GPU up takes its driver a second or two.
const ANSWER: Duration = Duration::from_secs(8);

/// Longest wait for GPU memory, a registration of it, or copies: the first one brings a GPU up and makes a context.
const MEMORY_ANSWER: Duration = Duration::from_secs(10);

/// Longest wait for CUDA to tell its GPUs, where nobody has asked it yet.
const CUDA_ANSWER: Duration = Duration::from_secs(20);

/// How long everything may be tried.
const TIME: Duration = Duration::from_secs(30);

/// What nobody knows of a model's GPUs.
const OF_A_MODEL: &str =
    "how fast copies are, whether contents are right, and how long anything takes: nothing is tried, a model says what would be granted";

/// Shortest wait: less tells nothing of a library that is being loaded on a busy host.
const LEAST: Duration = Duration::from_millis(500);

/// Asks NVML of each GPU at an address of `addresses`, of all that it knows where there are none, then CUDA. After `deadline` nothing more
/// is asked or waited for.
#[must_use]
pub fn collect(worker: &mut Worker, addresses: &[String], deadline: Instant) -> GpusFacts {
    // A part is kept for CUDA, which an NVML that hangs must not take.
    let wait = |worker: &mut Worker, share: u32| {
        worker.wait_at_most((deadline.saturating_duration_since(Instant::now()) / share).clamp(LEAST, ANSWER));
    };
    wait(worker, 2);
    let nvml =
        worker.ask(ReadNvml).unwrap_or_else(|failure| NvmlFacts { error: Some(error_of(LIBNVIDIA_ML, failure)), ..NvmlFacts::default() });
    let ids: Vec<GpuId> = match addresses {
        [] => (0..nvml.gpu_count.unwrap_or(0)).map(GpuId::Index).collect(),
        addresses => addresses.iter().cloned().map(GpuId::Pci).collect(),
    };
    let late = || GpuError::NotAsked { why: "the time for asking GPUs was used up".to_owned() };
    let mut facts = GpusFacts { nvml, ..GpusFacts::default() };
    for id in ids {
        let is_late = Instant::now() >= deadline || worker.interrupted();
        let answer = match &facts.nvml.error {
            Some(_) => Err(GpuError::NotAsked { why: "NVML cannot be used".to_owned() }),
            None if is_late => Err(late()),
            None => {
                wait(worker, 2);
                worker.ask(ReadNvmlGpu(id.clone())).map_err(|failure| error_of(LIBNVIDIA_ML, failure))
            }
        };
        facts.gpus.push(answer.unwrap_or_else(|error| GpuFacts { pci: id.to_string(), error: Some(error), ..GpuFacts::default() }));
    }
    let cuda = if Instant::now() >= deadline || worker.interrupted() {
        CudaFacts { error: Some(late()), ..CudaFacts::default() }
    } else {
        wait(worker, 1);
        worker.ask(ReadCuda).unwrap_or_else(|failure| CudaFacts { error: Some(error_of(LIBCUDA, failure)), ..CudaFacts::default() })
    };
    facts.join(cuda);
    facts
}

/// Why a library gave no answer, by what became of the child.
fn error_of(library: &str, failure: Failure) -> GpuError {
    let library = library.to_owned();
    match failure {
        Failure::Lost(Lost::Crashed { signal, .. }) => GpuError::Crashed { library, signal },
        Failure::Lost(Lost::Hung { deadline_ms, held_in }) => GpuError::Hung { library, deadline_ms, held_in },
        other => GpuError::NotAsked { why: other.to_string() },
    }
}

/// What was tried of a GPU.
#[derive(Debug, Default)]
pub(crate) struct GpuTried {
    /// Its address.
    pub pci: String,
    /// Its memory, alone and with NICs.
    pub memory: Vec<GpuMemory>,
    pub copies: Option<Result<Copies, String>>,
}

pub(crate) struct GpusTried {
    /// What is known of the host beside.
    pub facts: Facts,
    pub gpus: Vec<GpuTried>,
    /// What cannot be known of a host that is captured or modelled.
    pub unknown: Vec<String>,
    /// Why not everything was tried.
    pub stopped: Option<String>,
}

impl Host {
    /// What the driver says of the GPUs at these addresses.
    pub(crate) fn gpus(&self, addresses: &[String], deadline: Instant, say: Say<'_>) -> Result<GpusFacts, SurveyError> {
        say("asking the GPU driver");
        Ok(collect(&mut self.worker()?, addresses, deadline))
    }

    /// The GPUs whose memory can hold data that moves.
    pub(crate) fn usable_gpus(&self) -> Result<CudaFacts, SurveyError> {
        let lost = |failure: Failure| CudaFacts { error: Some(GpuError::NotAsked { why: failure.to_string() }), ..CudaFacts::default() };
        Ok(self.worker_within(CUDA_ANSWER)?.ask(ReadUsableGpus).unwrap_or_else(lost))
    }

    /// Tries memory of each GPU that CUDA shows, alone and then with each device.
    pub(crate) fn gpu_memory(
        &self,
        gpus: &GpusFacts,
        devices: &[String],
        deadline: Instant,
        say: Say<'_>,
    ) -> Result<Vec<GpuMemory>, SurveyError> {
        let mut worker = self.worker_within(MEMORY_ANSWER)?;
        let shown = gpus.gpus.iter().filter(|gpu| gpu.cuda.is_some());
        Ok(shown.flat_map(|gpu| try_form(&mut worker, &gpu.pci, AllocKind::Plain, devices, deadline, say)).collect())
    }

    /// Tries each kind of memory of each GPU, or of `wanted`, by each way with each NIC, and how fast it copies; nothing where it `only_looks`. Of
    /// a capture, what was tried then.
    pub(crate) fn try_gpus(&self, wanted: Option<&GpuName>, only_looks: bool, say: Say<'_>) -> Result<GpusTried, SurveyError> {
        let captured = self.captured();
        if captured.is_none() {
            self.only_with_devices("gpu")?;
        }
        let started = Instant::now();
        let catalog = Catalog::default();
        let facts = self.facts(&Look::at(Level::Standard, [Source::Verbs, Source::Gpus].into_iter().collect(), &catalog), say)?;
        let gpus = chosen(&facts, wanted)?;
        let (gpus, unknown) = match captured {
            Some(_) => of_capture(&facts, gpus),
            None if only_looks => (gpus.into_iter().map(|pci| GpuTried { pci, ..GpuTried::default() }).collect(), Vec::new()),
            None => self.try_each(&facts, gpus, started + TIME, say)?,
        };
        let stopped = match () {
            () if self.interrupted() => Some("interrupted"),
            () if captured.is_none() && started.elapsed() >= TIME => Some("the time for it was used up"),
            () => None,
        };
        Ok(GpusTried { facts, gpus, unknown, stopped: stopped.map(str::to_owned) })
    }

    fn try_each(
        &self,
        facts: &Facts,
        gpus: Vec<String>,
        deadline: Instant,
        say: Say<'_>,
    ) -> Result<(Vec<GpuTried>, Vec<String>), SurveyError> {
        let nics: Vec<String> = facts.usable().map(|(device, _)| device.name.clone()).collect();
        let mut worker = self.worker_within(MEMORY_ANSWER)?;
        let (mut tried, mut unknown) = (Vec::new(), Vec::new());
        for pci in gpus {
            let mut gpu = GpuTried { pci: pci.clone(), ..GpuTried::default() };
            if facts.gpus.as_ref().and_then(|gpus| gpus.gpu(&pci)).is_some_and(|gpu| gpu.cuda.is_some()) {
                say(&format!("{pci}: copying"));
                gpu.copies = match worker.ask(MeasureCopies(pci.clone())) {
                    Ok(copies) => copies.map_err(|error| error.to_string()).transpose(),
                    Err(failure) => Some(Err(failure.to_string())),
                };
                if gpu.copies.is_none() && unknown.is_empty() {
                    unknown.push(OF_A_MODEL.to_owned());
                }
                for form in AllocKind::ALL {
                    gpu.memory.extend(try_form(&mut worker, &pci, form, &nics, deadline, say));
                }
            }
            tried.push(gpu);
        }
        Ok((tried, unknown))
    }
}

/// Memory of a kind, alone and then with each device, as long as there is time and memory.
fn try_form(worker: &mut Worker, gpu: &str, form: AllocKind, devices: &[String], deadline: Instant, say: Say<'_>) -> Vec<GpuMemory> {
    let mut tried = Vec::new();
    for device in std::iter::once(None).chain(devices.iter().map(Some)) {
        if worker.interrupted() || Instant::now() >= deadline {
            break;
        }
        say(&format!("{gpu}: {} {}", form.call(), device.map_or("", String::as_str)));
        let memory = worker.ask(TryGpuMemory { gpu: gpu.to_owned(), form, device: device.cloned() }).unwrap_or_else(|failure| {
            let lost = GpuMemory { gpu: gpu.to_owned(), form, device: device.cloned(), ..GpuMemory::default() };
            match device {
                None => GpuMemory { allocation_error: Some(error_of(LIBCUDA, failure)), ..lost },
                Some(_) => GpuMemory { device_error: Some(failure.to_string()), ..lost },
            }
        });
        let has_memory = memory.allocation_error.is_none();
        tried.push(memory);
        if !has_memory {
            break;
        }
    }
    tried
}

/// Addresses of the GPUs that are looked at.
fn chosen(facts: &Facts, wanted: Option<&GpuName>) -> Result<Vec<String>, SurveyError> {
    let gpus = facts.gpus.as_ref();
    let all: Vec<String> = gpus.iter().flat_map(|gpus| &gpus.gpus).map(|gpu| gpu.pci.clone()).collect();
    let Some(wanted) = wanted else { return Ok(all) };
    let found = match wanted {
        GpuName::Pci(pci) => all.iter().find(|known| *known == pci).cloned(),
        GpuName::Ordinal(ordinal) => {
            gpus.iter().flat_map(|gpus| &gpus.cuda.gpus).find(|shown| shown.ordinal == *ordinal).map(|shown| shown.pci.clone())
        }
        GpuName::Uuid(uuid) => {
            let is_it = |known: &&GpuFacts| {
                known.uuid.as_ref().is_some_and(|known| known.to_ascii_lowercase().starts_with(&uuid.to_ascii_lowercase()))
            };
            gpus.iter().flat_map(|gpus| &gpus.gpus).find(is_it).map(|gpu| gpu.pci.clone())
        }
    };
    found.map(|pci| vec![pci]).ok_or_else(|| {
        let known = if all.is_empty() { "this host has none".to_owned() } else { format!("known are {}", all.join(", ")) };
        SurveyError::Unsuited(format!("unknown GPU `{wanted}`; {known}"))
    })
}

/// What a capture has of the GPUs' memory, and what it cannot know.
fn of_capture(facts: &Facts, gpus: Vec<String>) -> (Vec<GpuTried>, Vec<String>) {
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
