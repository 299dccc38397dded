//! What is known of a host: what sysfs says and what the verbs library says, brought together.

mod caps;
mod devices;
mod gpus;
pub mod host;
mod limits;
mod modules;
mod topo;

pub use caps::{Caps, DeviceCaps, Remark};
pub use devices::{Device, Devices, Gid, Port, Problem, Views, collect};
pub use gpus::collect as gpus;
pub use limits::{HostLimits, read as limits};
pub use modules::Modules;
pub use topo::Topo;
