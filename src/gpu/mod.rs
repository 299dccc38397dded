//! NVIDIA's GPUs, asked through the CUDA driver library and NVML, which are both loaded at run time.
//!
//! Both hang on sick hosts, and both are other people's code: only the sacrificial child process (`crate::worker`) calls what stands here,
//! so a crash or a hang is an answer like any other. NVML tells of a GPU without making a context on it; `cuInit` opens all GPUs, makes
//! no context either, and is asked for what only CUDA knows.

mod cuda;
mod error;
mod facts;
mod memory;
mod nvml;

pub use cuda::LIBCUDA;
pub use error::{GpuError, GpuErrorKind};
pub use facts::{CudaAttributes, CudaFacts, CudaGpu, GpuFacts, GpusFacts, NvmlFacts, WritesOrdering};
pub use memory::{Buffer, Context, DmaBuf};
pub use nvml::{GpuId, LIBNVIDIA_ML, Nvml};

pub use cuda::read as read_cuda;
