//! 07: GPUs and their memory.

mod causes;
mod driver;
mod engine_paths;
mod memory;
mod prerequisites;
mod refusals;
mod survey;
mod tried;
mod ways;

pub(crate) use causes::Cause;
pub(crate) use engine_paths::EnginePath;
pub(crate) use prerequisites::Met;
pub(crate) use refusals::refusals;
pub(crate) use survey::survey;
pub(crate) use survey::{GpuReport, GpuSurvey, KindReport, WayReport};

use super::Source::{GpuMemory, Gpus, Limits, Log, Modules, Pcie, Rdma, System};
use super::{Check, Facts, Finding, page};
use crate::gpu::GpusFacts;

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-0701"), needs: &[Pcie], depends_on: &["RD-0209", "RD-0211", "RD-1106"], run: driver::gpus_are_bound },
    Check { page: page("RD-0702"), needs: &[Pcie, Modules], depends_on: &["RD-0209", "RD-0211"], run: driver::unified_memory },
    Check {
        page: page("RD-0703"),
        needs: &[Rdma, Pcie, System, Modules, Gpus],
        depends_on: &["RD-0208", "RD-0704", "RD-0705", "RD-0706", "RD-0707", "RD-0708"],
        run: ways::a_way_to_register,
    },
    Check { page: page("RD-0704"), needs: &[Pcie, System, Modules], depends_on: &["RD-0208"], run: ways::open_driver },
    Check { page: page("RD-0705"), needs: &[Pcie, System, Modules], depends_on: &["RD-0208"], run: ways::kernel_version },
    Check { page: page("RD-0706"), needs: &[Pcie, System, Modules], depends_on: &["RD-0208"], run: ways::kernel_options },
    Check { page: page("RD-0707"), needs: &[Rdma, Pcie, System, Modules], depends_on: &["RD-0208"], run: ways::nic_driver },
    Check {
        page: page("RD-0708"),
        needs: &[Rdma, Pcie, System, Modules, Gpus],
        depends_on: &["RD-0208", "RD-0209", "RD-0211"],
        run: ways::peer_memory_is_loaded,
    },
    Check { page: page("RD-0709"), needs: &[Pcie, Gpus], depends_on: &[], run: memory::windows },
    Check { page: page("RD-0710"), needs: &[Pcie, Modules, Gpus], depends_on: &["RD-0704", "RD-0705"], run: memory::attributes },
    Check { page: page("RD-0711"), needs: &[Pcie, Modules, Gpus], depends_on: &[], run: memory::not_divided },
    Check { page: page("RD-0712"), needs: &[Pcie, Log, Modules, Gpus], depends_on: &["RD-0206"], run: driver::one_version },
    Check { page: page("RD-0713"), needs: &[Pcie, Limits, Modules], depends_on: &["RD-0702"], run: driver::nodes },
    Check {
        page: page("RD-0714"),
        needs: &[Pcie, Limits, Modules, Gpus],
        depends_on: &["RD-0701", "RD-0702", "RD-0712", "RD-0713", "RD-1105", "RD-1106", "RD-1116"],
        run: driver::cuda,
    },
    Check {
        page: page("RD-0715"),
        needs: &[Pcie, Limits, Modules, Gpus],
        depends_on: &["RD-0701", "RD-0712", "RD-0713", "RD-1105", "RD-1106"],
        run: driver::nvml,
    },
    Check {
        page: page("RD-0716"),
        needs: &[Pcie, Modules, Gpus],
        depends_on: &["RD-0704", "RD-0705", "RD-0706", "RD-0714"],
        run: memory::dma_buf,
    },
    Check { page: page("RD-0717"), needs: &[Pcie, Modules, Gpus], depends_on: &["RD-0714"], run: memory::ordering },
    Check { page: page("RD-0718"), needs: &[Pcie, Modules, Gpus], depends_on: &["RD-0709"], run: memory::room },
    Check {
        page: page("RD-0719"),
        needs: &[Pcie, Modules, Gpus, GpuMemory],
        depends_on: &["RD-0704", "RD-0705", "RD-0706", "RD-0714", "RD-0716", "RD-1116"],
        run: tried::export,
    },
    Check {
        page: page("RD-0720"),
        needs: &[Rdma, Pcie, System, Log, Modules, Gpus, GpuMemory],
        depends_on: &["RD-0208", "RD-0703", "RD-0707", "RD-0708", "RD-0718", "RD-0719", "RD-0306", "RD-0501"],
        run: tried::registration,
    },
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
