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
pub(crate) mod reach;
mod stream;

pub use context::Context;
pub(crate) use copies::{Copies, CopyFigures, measure as measure_copies};
pub(crate) use cuda::LIBCUDA;
pub(crate) use error::GpuError;
pub use error::GpuErrorKind;
pub(crate) use export::Mapping;
pub(crate) use facts::{CudaAttributes, CudaFacts, CudaGpu, GpuFacts, NvmlFacts};
pub use facts::{GpusFacts, WritesOrdering};
pub(crate) use kernels::{Differing, Kernels};
pub use kernels::{Seen, Watched};
pub(crate) use kind::{AllocKind, GpuName};
pub use kind::{MemoryKind, Path};
pub(crate) use memory::Buffer;
pub use nvml::GpuId;
pub(crate) use nvml::{LIBNVIDIA_ML, Nvml};

pub(crate) use cuda::read as read_cuda;
pub(crate) use pinned::Pinned;
pub use stream::Event;
pub(crate) use stream::{Direction, Stream};
