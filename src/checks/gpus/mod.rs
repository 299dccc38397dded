//! 07: GPUs and their memory.

mod causes;
mod driver;
mod engine_paths;
mod memory;
mod prerequisites;
mod survey;
mod tried;
mod ways;

pub use causes::{Cause, RefusedMemory, Sureness, causes};
pub use engine_paths::{EnginePath, is_known as is_engine_path_known, known as engine_paths_known};
pub use prerequisites::{Met, Prerequisite};
pub use survey::{DriverReport, GpuReport, GpuSurvey, GpuTried, KindReport, NearReport, WayReport, survey};

use super::{Check, Facts, Finding};
use crate::gpu::GpusFacts;

pub(super) const CHECKS: &[Check] = &[
    driver::BOUND,
    driver::UNIFIED_MEMORY,
    ways::A_WAY_TO_REGISTER,
    ways::OPEN_DRIVER,
    ways::KERNEL_VERSION,
    ways::KERNEL_OPTIONS,
    ways::NIC_DRIVER,
    ways::PEER_MEMORY_IS_LOADED,
    memory::WINDOWS,
    memory::ATTRIBUTES,
    memory::NOT_DIVIDED,
    driver::ONE_VERSION,
    driver::NODES,
    driver::CUDA,
    driver::NVML,
    memory::DMA_BUF,
    memory::ORDERING,
    memory::ROOM,
    tried::EXPORT,
    tried::REGISTRATION,
];

fn no_gpu() -> Vec<Finding> {
    vec![Finding::skip("host", "there is no NVIDIA GPU here")]
}

/// What the GPUs' driver said, or why there is nothing.
pub(super) fn answers(facts: &Facts) -> Result<&GpusFacts, Vec<Finding>> {
    match &facts.gpus {
        Some(gpus) => Ok(gpus),
        None if facts.nvidia_gpus().next().is_none() && facts.modules.nvidia.is_none() => Err(no_gpu()),
        None => Err(vec![Finding::skip("host", "the GPU driver was not asked")]),
    }
}
