//! What is known of a host: what sysfs says and what the verbs library says, brought together.

mod caps;
mod devices;
mod gpus;
pub mod host;
mod limits;
mod memory;
mod modules;
mod topo;
mod tracked;

pub use caps::{Caps, DeviceCaps, Remark};
pub use devices::{Device, Devices, Gid, Port, Problem, Views, collect};
pub use gpus::collect as gpus;
pub use limits::{HostLimits, read as limits};
pub use memory::{HostMemory, MemoryTried, RefusedMemory, gpu as try_gpu_memory, host as try_host_memory, most_bytes, spare_bytes};
pub use modules::Modules;
pub use topo::Topo;
pub use tracked::{MadeOf, Tracked, watched};
