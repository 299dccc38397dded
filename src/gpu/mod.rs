//! NVIDIA's GPUs, asked through the CUDA driver library and NVML, which are both loaded at run time.
//!
//! Both hang on sick hosts, and both are other people's code: only the sacrificial child process (`crate::worker`) calls what stands here,
//! so a crash or a hang is an answer like any other. NVML tells of a GPU without making a context on it; `cuInit` opens all GPUs, makes
//! no context either, and is asked for what only CUDA knows.

mod context;
mod copies;
mod cuda;
mod error;
mod export;
mod facts;
mod kernels;
mod kind;
mod memory;
mod nvml;
mod pinned;
pub mod reach;
mod stream;

pub use context::Context;
pub use copies::{Copies, CopyFigures, measure as measure_copies};
pub use cuda::LIBCUDA;
pub use error::{GpuError, GpuErrorKind};
pub use export::{DmaBuf, Mapping, whole_pages};
pub use facts::{CudaAttributes, CudaFacts, CudaGpu, GpuFacts, GpusFacts, NvmlFacts, WritesOrdering};
pub use kernels::{Differing, Kernels, Seen, Watched, Watching};
pub use kind::{GpuForm, GpuName, MemoryKind, Path};
pub use memory::Buffer;
pub use nvml::{GpuId, LIBNVIDIA_ML, Nvml};

pub use cuda::read as read_cuda;
pub use pinned::Pinned;
pub use stream::{Direction, Event, Stream};
