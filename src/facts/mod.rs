//! What is known of a host: what sysfs says and what the verbs library says, brought together.

mod caps;
mod devices;
pub mod host;
mod limits;
mod modules;
mod topo;
mod tracked;

pub use caps::{Caps, DeviceCaps, Remark};
pub use devices::{Device, Devices, Gid, Port, Problem, Views, collect};
pub use limits::{HostLimits, read as limits};
pub use modules::Modules;
pub use topo::Topo;
pub use tracked::{MadeOf, Tracked, watched};
