//! What the GPUs' driver says, as values that can be written down and read back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GpuError;

/// What the driver's libraries say of this host's GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpusFacts {
    /// NVML itself.
    pub nvml: NvmlFacts,
    /// The CUDA driver library itself.
    pub cuda: CudaFacts,
    /// The GPUs, by PCI address.
    pub gpus: Vec<GpuFacts>,
}

/// What NVML says of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvmlFacts {
    /// Why it cannot be used.
    pub error: Option<GpuError>,
    /// Version of the kernel's driver, by nvmlSystemGetDriverVersion.
    pub driver_version: Option<String>,
    /// Version of the library, by nvmlSystemGetNVMLVersion.
    pub library_version: Option<String>,
    /// How many GPUs it knows.
    pub gpu_count: Option<u32>,
    /// How long nvmlInit and these answers took.
    pub answered_in_us: Option<u64>,
}

/// What the CUDA driver library says of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CudaFacts {
    /// Why it cannot be used.
    pub error: Option<GpuError>,
    /// The newest version of CUDA that the driver takes, such as `13.0`, by cuDriverGetVersion.
    pub driver_version: Option<String>,
    /// What CUDA_VISIBLE_DEVICES was: it hides GPUs from CUDA, not from NVML.
    pub visible_devices: Option<String>,
    /// How long cuInit took.
    pub answered_in_us: Option<u64>,
    /// The GPUs that it shows.
    pub gpus: Vec<CudaGpu>,
}

/// A GPU as CUDA shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CudaGpu {
    /// Its number among those that CUDA shows.
    pub ordinal: u32,
    /// Its PCI address, as sysfs writes it.
    pub pci: String,
    /// What bears on RDMA.
    pub attributes: CudaAttributes,
}

/// Attributes of a GPU that bear on RDMA (`CUdevice_attribute` of cuda.h). An absent one is one that this driver does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CudaAttributes {
    /// CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED: peer-memory clients can have its memory.
    pub gpu_direct_rdma_supported: Option<bool>,
    /// CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, bit 0: cuFlushGPUDirectRDMAWrites works.
    pub flush_by_host: Option<bool>,
    /// The same, bit 1: streams can flush.
    pub flush_by_stream: Option<bool>,
    /// CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING.
    pub writes_ordering: Option<WritesOrdering>,
    /// CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED: memory of cuMemCreate can be registered.
    pub with_vmm_supported: Option<bool>,
    /// CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED.
    pub dma_buf_supported: Option<bool>,
}

/// To whom writes of other devices into GPU memory become visible in order without a flush (`CUGPUDirectRDMAWritesOrdering`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WritesOrdering {
    /// To nobody: a flush is needed.
    None,
    /// To the GPU that has the memory.
    Owner,
    /// To all GPUs.
    AllDevices,
}

/// What is known of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuFacts {
    /// Its PCI address, as sysfs writes it.
    pub pci: String,
    pub uuid: Option<String>,
    /// Its product name.
    pub name: Option<String>,
    /// Why NVML does not answer for it.
    pub error: Option<GpuError>,
    /// How long NVML took to find it and to answer.
    pub answered_in_us: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// What of its memory is used, with what the driver keeps for itself.
    pub memory_used_bytes: Option<u64>,
    /// The window onto its memory.
    pub bar1_bytes: Option<u64>,
    /// What of the window is used.
    pub bar1_used_bytes: Option<u64>,
    /// Generation of its PCIe link now. Idle GPUs slow their link down.
    pub link_generation: Option<u32>,
    /// Generation that GPU and slot can.
    pub link_generation_max: Option<u32>,
    /// Lanes of its PCIe link now.
    pub link_lanes: Option<u32>,
    /// Lanes that GPU and slot can.
    pub link_lanes_max: Option<u32>,
    /// Whether it is divided (MIG).
    pub is_divided: Option<bool>,
    /// Whether the driver keeps it ready while nobody uses it (persistence mode).
    pub is_persistent: Option<bool>,
    /// Whether its memory corrects errors (ECC).
    pub has_ecc: Option<bool>,
    /// Uncorrected memory errors since the driver was loaded.
    pub uncorrected_errors: Option<u64>,
    /// Whether pages or rows of its memory are to be retired, which a reset does.
    pub is_retirement_pending: Option<bool>,
    /// Whether a row could not be replaced by a spare one.
    pub has_remapping_failed: Option<bool>,
    /// What NVML asks for: `none`, `gpu_reset`, `node_reboot`, `drain_p2p` or `drain_and_reset` (`nvmlDeviceGpuRecoveryAction_t`).
    pub recovery_action: Option<String>,
    /// What CUDA says of it; absent where CUDA cannot be used, or does not show it.
    pub cuda: Option<CudaAttributes>,
}

impl GpusFacts {
    /// A GPU by its address.
    #[must_use]
    pub fn gpu(&self, pci: &str) -> Option<&GpuFacts> {
        self.gpus.iter().find(|gpu| gpu.pci == pci)
    }

    /// Gives each GPU what CUDA says of it; one that only CUDA shows is put in.
    pub fn join(&mut self, cuda: CudaFacts) {
        for shown in &cuda.gpus {
            match self.gpus.iter_mut().find(|gpu| gpu.pci == shown.pci) {
                Some(gpu) => gpu.cuda = Some(shown.attributes),
                None => self.gpus.push(GpuFacts { pci: shown.pci.clone(), cuda: Some(shown.attributes), ..GpuFacts::default() }),
            }
        }
        self.gpus.sort_by(|one, other| one.pci.cmp(&other.pci));
        self.cuda = cuda;
    }
}

/// An address as sysfs writes it: NVML gives eight digits of domain, CUDA four, either in capitals.
pub(super) fn plain_address(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    match text.split_once(':') {
        Some((domain, rest)) => match u32::from_str_radix(domain, 16) {
            Ok(domain) => format!("{domain:04x}:{rest}"),
            Err(_) => text,
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_sysfs_writes_them() {
        assert_eq!(plain_address("00000000:1B:00.0"), "0000:1b:00.0");
        assert_eq!(plain_address("0000:1B:00.0"), "0000:1b:00.0");
        assert_eq!(plain_address("nonsense"), "nonsense");
    }

    #[test]
    fn both_libraries_answers_come_together() {
        let known = GpuFacts { pci: "0000:1b:00.0".to_owned(), ..GpuFacts::default() };
        let mut facts = GpusFacts { gpus: vec![known], ..GpusFacts::default() };
        let attributes = CudaAttributes { dma_buf_supported: Some(true), ..CudaAttributes::default() };
        let shown = |ordinal, pci: &str| CudaGpu { ordinal, pci: pci.to_owned(), attributes };
        facts.join(CudaFacts { gpus: vec![shown(0, "0000:1b:00.0"), shown(1, "0000:0a:00.0")], ..CudaFacts::default() });
        assert_eq!(facts.gpus.iter().map(|gpu| gpu.pci.as_str()).collect::<Vec<_>>(), ["0000:0a:00.0", "0000:1b:00.0"]);
        assert_eq!(facts.gpu("0000:1b:00.0").unwrap().cuda, Some(attributes));
    }
}
