//! GPU memory: the window onto it, and what CUDA says of it.

use super::answers;
use super::ways::{Feasibility, dma_buf_matters, peer_memory_way};
use crate::checks::{Action, Finding};
use crate::facts::Facts;
use crate::gpu::{CudaAttributes, GpuFacts, WritesOrdering};
use crate::host::pcie::PcieFunction;
use crate::units::about_size;

pub(super) fn windows(facts: &Facts) -> Vec<Finding> {
    let judge = |function: &PcieFunction| {
        let address = function.address();
        let source = format!("/sys/bus/pci/devices/{address}/resource");
        let firmware = "turn on `Above 4G decoding` and resizable BAR in the firmware's set-up";
        let Some(window) = function.window() else {
            return Finding::skip(address, "the window onto its memory cannot be seen");
        };
        if !window.is_assigned {
            return Finding::fail(address, "the window onto its memory has no address")
                .saw_not(source, "not assigned", "an address")
                .remedy(Action::Reboot, firmware, &[]);
        }
        let size = about_size(window.size_bytes);
        match facts.gpus.as_ref().and_then(|gpus| gpus.gpu(address)?.memory_bytes) {
            None => Finding::pass(address, format!("a window of {size} onto its memory")).saw(source, size),
            Some(memory) if window.size_bytes >= memory => {
                Finding::pass(address, format!("all of its {} can be reached", about_size(memory))).saw(source, size)
            }
            Some(memory) => Finding::warn(address, format!("only {size} of its {} can be reached at once", about_size(memory)))
                .saw_not(source, size, format!("{}, its memory", about_size(memory)))
                .remedy(Action::Reboot, firmware, &[]),
        }
    };
    facts.nvidia_gpus().map(judge).collect()
}

/// A finding for each GPU that CUDA shows.
fn of_each(facts: &Facts, judge: impl Fn(&GpuFacts, CudaAttributes) -> Finding) -> Vec<Finding> {
    match answers(facts) {
        Ok(gpus) => {
            let each = gpus.gpus.iter().map(|gpu| match gpu.cuda {
                Some(attributes) => judge(gpu, attributes),
                None => Finding::skip(&gpu.pci, "CUDA says nothing about it"),
            });
            each.collect()
        }
        Err(skipped) => skipped,
    }
}

fn word(value: Option<bool>) -> &'static str {
    match value {
        Some(true) => "1",
        Some(false) => "0",
        None => "not known to this driver",
    }
}

pub(super) fn attributes(facts: &Facts) -> Vec<Finding> {
    let needs_peer_memory = peer_memory_way(facts) == Feasibility::Open;
    of_each(facts, |gpu, said| {
        let (direct, dma_buf) = (said.gpu_direct_rdma_supported, said.dma_buf_supported);
        let finding = match (direct, dma_buf) {
            (Some(false), Some(false) | None) => Finding::fail(&gpu.pci, "CUDA says that its memory can be registered in no way"),
            (Some(false), Some(true)) if needs_peer_memory => {
                Finding::warn(&gpu.pci, "CUDA says that its memory cannot be registered by peer memory, as a dma-buf only")
            }
            (None, None) => return Finding::skip(&gpu.pci, "CUDA does not say whether its memory can be registered"),
            _ => {
                return Finding::pass(&gpu.pci, "CUDA says that its memory can be registered")
                    .saw("GPU_DIRECT_RDMA_SUPPORTED", word(direct))
                    .saw("DMA_BUF_SUPPORTED", word(dma_buf))
                    .saw("GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED", word(said.with_vmm_supported));
            }
        };
        finding
            .saw_not("CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED", word(direct), "1")
            .saw_not("CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED", word(dma_buf), "1")
            .remedy(Action::Replace, "install the open kernel modules, or use another GPU", &[])
    })
}

pub(super) fn dma_buf(facts: &Facts) -> Vec<Finding> {
    if let Some(findings) = dma_buf_matters(facts) {
        return findings;
    }
    let version = facts.gpus.as_ref().and_then(|gpus| gpus.cuda.driver_version.clone()).unwrap_or_default();
    of_each(facts, |gpu, said| match said.dma_buf_supported {
        Some(true) => Finding::pass(&gpu.pci, "CUDA makes dma-bufs of its memory").saw("CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED", "1"),
        None => Finding::skip(&gpu.pci, format!("CUDA {version} does not know of dma-bufs, which came with 11.7")),
        Some(false) => Finding::fail(&gpu.pci, "CUDA makes no dma-bufs of its memory")
            .saw_not("CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED", "0", "1")
            .saw("cuDriverGetVersion", &version)
            .remedy(
                Action::Replace,
                "install the open kernel modules of a current driver, or make peer memory work",
                &["cat /proc/driver/nvidia/version"],
            ),
    })
}

pub(super) fn ordering(facts: &Facts) -> Vec<Finding> {
    of_each(facts, |gpu, said| {
        let flush = format!("by the host: {}, by a stream: {}", word(said.flush_by_host), word(said.flush_by_stream));
        let finding = match said.writes_ordering {
            None => return Finding::skip(&gpu.pci, "CUDA does not say in which order writes become visible"),
            Some(WritesOrdering::AllDevices) => Finding::pass(&gpu.pci, "all GPUs see in order what NICs write into its memory"),
            Some(WritesOrdering::Owner) => Finding::pass(&gpu.pci, "it sees in order what NICs write into its memory"),
            Some(WritesOrdering::None) if said.flush_by_host == Some(true) || said.flush_by_stream == Some(true) => {
                Finding::pass(&gpu.pci, "engines have to flush what NICs write into its memory, and can")
            }
            Some(WritesOrdering::None) => {
                Finding::warn(&gpu.pci, "what NICs write into its memory is seen in no order, and CUDA has no way to flush it")
                    .saw_not("CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING", "0", "100 or 200, or a way to flush")
                    .remedy(Action::Tune, "use an engine that flushes by a read over the NIC", &["export NCCL_NET_FORCE_FLUSH=1"])
            }
        };
        finding.saw("CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS", flush)
    })
}

pub(super) fn room(facts: &Facts) -> Vec<Finding> {
    let gpus = match answers(facts) {
        Ok(gpus) => gpus,
        Err(skipped) => return skipped,
    };
    let judge = |gpu: &GpuFacts| {
        let Some((total, used)) = gpu.bar1_bytes.zip(gpu.bar1_used_bytes) else {
            return Finding::skip(&gpu.pci, "NVML does not say how much of the window is used");
        };
        let seen = format!("{} of {}", about_size(used), about_size(total));
        // Nine tenths: what is left takes little more.
        if total > 0 && used >= total / 10 * 9 {
            Finding::warn(&gpu.pci, format!("{seen} of the window onto its memory are used"))
                .saw_not("nvmlDeviceGetBAR1MemoryInfo", seen, "room for what will be registered")
                .remedy(Action::Tune, "end what holds registrations of its memory", &["nvidia-smi", "rdma resource show mr"])
        } else {
            Finding::pass(&gpu.pci, format!("{seen} of the window onto its memory are used"))
        }
    };
    gpus.gpus.iter().map(judge).collect()
}

pub(super) fn not_divided(facts: &Facts) -> Vec<Finding> {
    let gpus = match answers(facts) {
        Ok(gpus) => gpus,
        Err(skipped) => return skipped,
    };
    let judge = |gpu: &GpuFacts| match gpu.is_divided {
        Some(true) => Finding::warn(&gpu.pci, "it is divided (MIG)").saw_not("nvmlDeviceGetMigMode", "on", "off").remedy(
            Action::Reset,
            "turn it off where the whole GPU is meant",
            &[&command!("nvidia-smi -i {} -mig 0", gpu.pci)],
        ),
        Some(false) => Finding::pass(&gpu.pci, "it is not divided"),
        None => Finding::skip(&gpu.pci, "whether it is divided is not known"),
    };
    gpus.gpus.iter().map(judge).collect()
}
