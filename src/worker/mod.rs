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

pub use crate::request::{Contents, GpuMemory, Outcome, QpRequest, QpType, Registration, SrqRequest};
pub use attempts::{Connect, Connected, Count, Counted};
pub use child::serve;
pub use devices::{Inventory, Lost, OpenDevice, VerbsDevice};
pub use gpu::{MeasureCopies, ReadCuda, ReadNvml, ReadNvmlGpu, ReadUsableGpus};
pub use local::Bench;
pub use memory::{ReadObjects, Register, TryGpuMemory};
pub use parent::{Failure, Worker, WorkerOptions};
pub use question::Question;
pub use target::{ModelledHost, Target};

/// The hidden subcommand that turns the program into a child.
pub const SUBCOMMAND: &str = "__worker";
