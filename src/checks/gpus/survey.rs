//! The document of `gpu`: each GPU, what each way to a NIC needs of it, and what was tried.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{Cause, RefusedMemory, causes};
use super::engine_paths::{EnginePath, path_of};
use super::prerequisites::{Prerequisite, prerequisites};
use crate::catalog::Engine;
use crate::devices::Problem;
use crate::facts::Facts;
use crate::gpu::{AllocKind, Copies, GpuError, GpuFacts, Path};
use crate::host::modules::NvidiaFlavour;
use crate::host::topo::Affinity;
use crate::schema;
use crate::survey::{GpuTried, GpusTried};
use crate::transfer::Refusal;
use crate::worker::{Contents, GpuMemory};

/// What was found of this host's GPUs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GpuSurvey {
    /// `rdmadoctor/gpu/1`.
    pub schema: String,
    pub driver: DriverReport,
    pub gpus: Vec<GpuReport>,
    /// Ways of the engines that were named.
    pub engines: Vec<EnginePath>,
    /// What cannot be known of this host where it is captured or modelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// What stood in the way of looking.
    pub problems: Vec<Problem>,
    /// Why not everything was tried.
    pub stopped: Option<String>,
}

/// The GPUs' driver.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct DriverReport {
    /// Version of the kernel's module.
    pub version: Option<String>,
    /// Open or closed.
    pub flavour: Option<NvidiaFlavour>,
    /// The newest version of CUDA that it takes.
    pub cuda_version: Option<String>,
    /// Why NVML cannot be used.
    pub nvml_error: Option<GpuError>,
    /// Why CUDA cannot be used.
    pub cuda_error: Option<GpuError>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GpuReport {
    /// Its number among those that CUDA shows.
    pub ordinal: Option<u32>,
    /// What the driver says of it.
    pub facts: GpuFacts,
    /// What each way to a NIC needs.
    pub prerequisites: Vec<Prerequisite>,
    /// Copies from and to locked host memory, the ceiling of staged transfers; absent where none were made.
    pub copies: Option<Copies>,
    /// Why none were.
    pub copies_error: Option<String>,
    /// Kinds of its memory that were tried.
    pub kinds: Vec<KindReport>,
    /// NICs, the nearest first.
    pub nics: Vec<NearReport>,
}

/// A kind of memory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KindReport {
    /// How it is allocated.
    pub form: AllocKind,
    /// As `--memory` takes it.
    pub kind: String,
    /// How much was tried.
    pub bytes: u64,
    /// How long its allocation took, with a context where there was none yet.
    pub allocated_in_us: Option<u64>,
    /// Why there is none.
    pub allocation_error: Option<GpuError>,
    /// Whether what was written into it was read back.
    pub contents: Option<Contents>,
    /// Why there is no dma-buf of it; absent where there was one, or none of it.
    pub export_error: Option<GpuError>,
    /// Why that is, the surest first.
    pub export_causes: Vec<Cause>,
    /// Each way into each NIC.
    pub ways: Vec<WayReport>,
}

/// A way into a NIC that was tried.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WayReport {
    /// The NIC.
    pub device: String,
    /// The way.
    pub path: Path,
    /// How long the registration took.
    pub elapsed_us: Option<u64>,
    pub refusal: Option<Refusal>,
    /// Why, the surest first.
    pub causes: Vec<Cause>,
}

/// A NIC and how near it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct NearReport {
    /// The NIC.
    pub device: String,
    /// How near.
    pub affinity: Affinity,
}

impl GpuSurvey {
    /// Whether memory that was tried has no way at all or is wrong, a named engine does not work, or there is nothing to try.
    pub(crate) fn has_failed(&self) -> bool {
        let is_bad = |gpu: &GpuReport| {
            let mut ways = gpu.kinds.iter().flat_map(|kind| &kind.ways).peekable();
            let is_wrong = |kind: &KindReport| matches!(kind.contents, Some(Contents::Wrong { .. }));
            ways.peek().is_some() && ways.all(|way| way.refusal.is_some()) || gpu.kinds.iter().any(is_wrong)
        };
        let fails = self.engines.iter().any(|engine| engine.works == Some(false));
        fails || !self.problems.is_empty() || self.gpus.iter().any(is_bad)
    }
}

/// Brings together what is known and what was tried.
pub(crate) fn survey(tried: GpusTried, engines: &[&Engine]) -> GpuSurvey {
    let GpusTried { facts, gpus: tried, unknown, stopped } = tried;
    let facts = &facts;
    let gpus = facts.gpus.as_ref();
    let driver = DriverReport {
        version: facts.modules.nvidia.as_ref().and_then(|nvidia| nvidia.version.clone()),
        flavour: facts.modules.nvidia.as_ref().and_then(|nvidia| nvidia.flavour),
        cuda_version: gpus.and_then(|gpus| gpus.cuda.driver_version.clone()),
        nvml_error: gpus.and_then(|gpus| gpus.nvml.error.clone()),
        cuda_error: gpus.and_then(|gpus| gpus.cuda.error.clone()),
    };
    let reports: Vec<GpuReport> = tried.into_iter().filter_map(|tried| Some(report(facts, gpus?.gpu(&tried.pci)?, tried))).collect();
    let engines = engines.iter().flat_map(|engine| reports.iter().filter_map(|gpu| path_of(engine, gpu))).collect();
    let problems = if reports.is_empty() { vec![why_none(facts)] } else { Vec::new() };
    GpuSurvey { schema: schema::GPU.to_owned(), driver, gpus: reports, engines, unknown, problems, stopped }
}

fn why_none(facts: &Facts) -> Problem {
    let summary = match facts.nvidia_gpus().next() {
        None => "there is no NVIDIA GPU here",
        Some(_) => "there is an NVIDIA GPU, and its driver does not answer",
    };
    Problem { summary: summary.to_owned(), next_step: Some("`rdmadoctor probe --only 07xx` says why".to_owned()) }
}

fn report(facts: &Facts, gpu: &GpuFacts, tried: GpuTried) -> GpuReport {
    let shown = facts.gpus.iter().flat_map(|gpus| &gpus.cuda.gpus).find(|shown| shown.pci == gpu.pci);
    let topology = &facts.host.topology;
    let near = topology.gpus.iter().find(|near| near.address == gpu.pci).map(|near| near.nics.as_slice()).unwrap_or_default();
    let affinity = |nic: &String| topology.pairs.iter().find(|pair| pair.gpu == gpu.pci && pair.nic == *nic).map(|pair| pair.affinity);
    let mut kinds: Vec<KindReport> = Vec::new();
    for memory in &tried.memory {
        let index = match kinds.iter().position(|kind| kind.form == memory.form) {
            Some(index) => index,
            None => {
                kinds.push(kind(facts, gpu, shown.map(|shown| shown.ordinal), memory));
                kinds.len() - 1
            }
        };
        kinds[index].ways.extend(ways(facts, memory));
    }
    let (copies, copies_error) = match tried.copies {
        Some(Ok(copies)) => (Some(copies), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    GpuReport {
        ordinal: shown.map(|shown| shown.ordinal),
        facts: gpu.clone(),
        prerequisites: prerequisites(facts, gpu),
        copies,
        copies_error,
        kinds,
        nics: near.iter().map(|nic| NearReport { device: nic.clone(), affinity: affinity(nic).unwrap_or(Affinity::Unknown) }).collect(),
    }
}

fn kind(facts: &Facts, gpu: &GpuFacts, ordinal: Option<u32>, memory: &GpuMemory) -> KindReport {
    let name = ordinal.map_or_else(|| gpu.pci.clone(), |ordinal| ordinal.to_string());
    let word = if memory.form == AllocKind::Plain { String::new() } else { format!(":{}", memory.form.name()) };
    let export_causes = memory.export_error.as_ref().map(|error| {
        let refusal = Refusal::Gpu { error: error.clone() };
        let path = Path::Dmabuf;
        causes(facts, &RefusedMemory { form: memory.form, path, refusal: &refusal, gpu: &gpu.pci, device: None, bytes: memory.bytes })
    });
    KindReport {
        form: memory.form,
        kind: format!("cuda:{name}{word}"),
        bytes: memory.bytes,
        allocated_in_us: memory.allocated_in_us,
        allocation_error: memory.allocation_error.clone(),
        contents: memory.contents.clone(),
        export_error: memory.export_error.clone(),
        export_causes: export_causes.unwrap_or_default(),
        ways: Vec::new(),
    }
}

fn ways(facts: &Facts, memory: &GpuMemory) -> Vec<WayReport> {
    let Some(device) = &memory.device else { return Vec::new() };
    let way = |path: Path, elapsed_us: Option<u64>, refusal: Option<Refusal>| {
        let causes = refusal.as_ref().map(|refusal| {
            let device = Some(device.as_str());
            causes(facts, &RefusedMemory { form: memory.form, path, refusal, gpu: &memory.gpu, device, bytes: memory.bytes })
        });
        WayReport { device: device.clone(), path, elapsed_us, refusal, causes: causes.unwrap_or_default() }
    };
    if let Some(why) = &memory.device_error {
        return vec![way(Path::Auto, None, Some(Refusal::NotTried { why: why.clone() }))];
    }
    if !memory.paths.is_empty() {
        return memory.paths.iter().map(|tried| way(tried.path, tried.elapsed_us, tried.refusal.clone())).collect();
    }
    // A modelled host tells of the two usual ways.
    let of = |path: Path, registration: &crate::worker::Registration| {
        way(path, registration.elapsed_us, registration.error.clone().map(|error| Refusal::Verbs { error }))
    };
    let by_address = memory.by_address.as_ref().map(|registration| of(Path::Peermem, registration));
    let by_dma_buf = match (&memory.by_dma_buf, &memory.export_error) {
        (Some(registration), _) => Some(of(Path::Dmabuf, registration)),
        (None, Some(error)) => Some(way(Path::Dmabuf, None, Some(Refusal::Gpu { error: error.clone() }))),
        (None, None) => None,
    };
    by_address.into_iter().chain(by_dma_buf).collect()
}
