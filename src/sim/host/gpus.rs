//! What the GPU driver's libraries would say on a modelled host.

use super::{Gpu, HostModel, Nvidia};
use crate::gpu::{CudaAttributes, CudaFacts, CudaGpu, GpuError, GpuFacts, GpusFacts, LIBCUDA, LIBNVIDIA_ML, NvmlFacts, WritesOrdering};

/// The deadline that a library which hangs lets pass.
const DEADLINE_MS: u64 = 10_000;

/// Whether a word says why a library does not answer.
pub(super) fn is_error(word: &str) -> bool {
    matches!(word, "missing" | "hang" | "crash") || GpuError::is_name(word)
}

impl HostModel {
    /// What NVML and CUDA say; nothing where the kernel has no driver, or there is no GPU of NVIDIA's.
    #[must_use]
    pub fn gpus(&self) -> Option<GpusFacts> {
        let nvidia = self.nvidia.as_ref().filter(|_| self.has_module("nvidia"))?;
        let gpus: Vec<&Gpu> = self.gpus.iter().filter(|gpu| gpu.id.starts_with("10de:")).collect();
        if gpus.is_empty() {
            return None;
        }
        let nvml_error = nvidia.nvml_error.as_deref().map(|word| error_of(word, LIBNVIDIA_ML, "nvmlInit_v2", "host"));
        let nvml = match nvml_error {
            Some(error) => NvmlFacts { error: Some(error), ..NvmlFacts::default() },
            None => NvmlFacts {
                driver_version: Some(nvidia.version.clone()),
                library_version: Some(nvidia.version.clone()),
                gpu_count: u32::try_from(gpus.len()).ok(),
                answered_in_us: Some(0),
                error: None,
            },
        };
        let facts = gpus.iter().enumerate().map(|(index, gpu)| gpu.facts(index, nvml.error.is_some())).collect();
        let mut all = GpusFacts { nvml, gpus: facts, ..GpusFacts::default() };
        all.join(self.cuda(nvidia, &gpus));
        Some(all)
    }

    fn cuda(&self, nvidia: &Nvidia, gpus: &[&Gpu]) -> CudaFacts {
        let driver_version = Some(nvidia.cuda_version.clone().unwrap_or_else(|| "12.4".to_owned()));
        let word = nvidia.cuda_error.as_deref();
        // Without the module for unified memory, cuInit says so.
        if let Some(word) = word.or_else(|| if self.has_module("nvidia_uvm") { None } else { Some("CUDA_ERROR_UNKNOWN") }) {
            return CudaFacts { error: Some(error_of(word, LIBCUDA, "cuInit", "host")), driver_version, ..CudaFacts::default() };
        }
        let shown = gpus.iter().enumerate().map(|(index, gpu)| CudaGpu {
            ordinal: u32::try_from(index).unwrap_or(u32::MAX),
            pci: gpu.pci.clone(),
            attributes: CudaAttributes {
                gpu_direct_rdma_supported: Some(gpu.gpudirect_rdma),
                flush_by_host: Some(!gpu.unordered_writes),
                flush_by_stream: Some(!gpu.unordered_writes),
                writes_ordering: Some(if gpu.unordered_writes { WritesOrdering::None } else { WritesOrdering::Owner }),
                with_vmm_supported: Some(gpu.gpudirect_rdma),
                dma_buf_supported: Some(self.gives_dma_buf(gpu)),
            },
        });
        CudaFacts { driver_version, answered_in_us: Some(0), gpus: shown.collect(), ..CudaFacts::default() }
    }
}

impl Gpu {
    fn facts(&self, index: usize, is_nvml_lost: bool) -> GpuFacts {
        let error = if is_nvml_lost {
            Some(GpuError::NotAsked { why: "NVML cannot be used".to_owned() })
        } else {
            self.error.as_deref().map(|word| error_of(word, LIBNVIDIA_ML, "nvmlDeviceGetHandleByPciBusId_v2", &self.pci))
        };
        let mut facts = GpuFacts { pci: self.pci.clone(), answered_in_us: Some(self.answers_in_ms * 1000), error, ..GpuFacts::default() };
        if facts.error.is_some() {
            return facts;
        }
        facts.uuid = Some(self.uuid.clone().unwrap_or_else(|| format!("GPU-00000000-0000-0000-0000-{index:012}")));
        facts.name = Some(self.product.clone());
        facts.memory_bytes = self.memory_gib.map(|size| size << 30);
        facts.memory_used_bytes = self.memory_gib.map(|_| 1 << 30);
        facts.bar1_bytes = Some(self.bar1_gib << 30);
        facts.bar1_used_bytes = Some(self.bar1_used_gib << 30);
        facts.link_generation = self.link.map(|link| link.generation_now.unwrap_or(link.generation).into());
        facts.link_generation_max = self.link.map(|link| link.generation.into());
        facts.link_lanes = self.link.map(|link| link.lanes_now.unwrap_or(link.lanes).into());
        facts.link_lanes_max = self.link.map(|link| link.lanes.into());
        facts.is_divided = Some(self.divided);
        facts.is_persistent = Some(!self.not_persistent);
        facts.has_ecc = Some(true);
        facts.uncorrected_errors = Some(self.uncorrected_errors);
        facts.is_retirement_pending = Some(false);
        facts.has_remapping_failed = Some(false);
        facts.recovery_action = Some(self.recovery_action.clone().unwrap_or_else(|| "none".to_owned()));
        facts
    }
}

fn error_of(word: &str, library: &str, call: &str, object: &str) -> GpuError {
    let library = library.to_owned();
    match word {
        "missing" => GpuError::LibraryMissing { library },
        "hang" => GpuError::Hung { library, deadline_ms: DEADLINE_MS, held_in: None },
        "crash" => GpuError::Crashed { library, signal: "SIGSEGV".to_owned() },
        name => GpuError::named(call, object, name),
    }
}

#[cfg(test)]
mod tests {
    use crate::gpu::GpuErrorKind;
    use crate::sim::HostModel;

    #[test]
    fn modelled_gpus_answer() {
        let mut host = HostModel::find("h100x8-cx7").unwrap();
        let gpus = host.gpus().unwrap();
        assert_eq!((gpus.gpus.len(), gpus.cuda.gpus.len(), gpus.nvml.gpu_count), (8, 8, Some(8)));
        assert!(gpus.gpus.iter().all(|gpu| gpu.error.is_none() && gpu.cuda.unwrap().dma_buf_supported == Some(true)));
        host.gpus[0].error = Some("hang".to_owned());
        host.nvidia.as_mut().unwrap().cuda_error = Some("CUDA_ERROR_SYSTEM_NOT_READY".to_owned());
        let gpus = host.gpus().unwrap();
        assert_eq!(gpus.gpus[0].error.as_ref().unwrap().kind(), GpuErrorKind::NoAnswer);
        assert_eq!(gpus.cuda.error.unwrap().kind(), GpuErrorKind::NotInitialised);
        host.modules.loaded.retain(|module| module.name != "nvidia");
        assert_eq!(host.gpus(), None);
    }
}
