//! Verbs in a sacrificial child process.
//!
//! A provider may crash, and a call into the kernel may never return. So the process that the user started loads no verbs library: a
//! child of its own does, answers questions one after another, and is replaced when it dies or passes its deadline. The kernel frees
//! what a dead child held, and a child dies with its parent. A file of sysfs may never answer either, so files of a host are read by such
//! a child too.

mod attempts;
mod child;
mod devices;
mod files;
mod gpu;
mod local;
mod memory;
mod modelled;
mod moving;
mod parent;
mod process;
mod question;
mod target;
mod watching;

pub(crate) use crate::request::{Contents, GpuMemory, Registration};
pub use crate::request::{Outcome, QpRequest, QpType, SrqRequest};
pub(crate) use attempts::Counted;
pub use attempts::{Connect, Connected, Count};
pub(crate) use child::serve;
pub(crate) use devices::{Inventory, OpenError};
pub use devices::{Lost, VerbsDevice};
pub(crate) use gpu::{MeasureCopies, ReadUsableGpus};
pub use gpu::{ReadCuda, ReadNvml, ReadNvmlGpu};
pub use local::OpenDevice;
pub(crate) use memory::{ReadObjects, Register, TryGpuMemory};
pub use parent::{Failure, Worker, WorkerOptions};
pub(crate) use target::ModelledHost;
pub use target::Target;

/// The hidden subcommand that turns the program into a child.
pub const SUBCOMMAND: &str = "__worker";
