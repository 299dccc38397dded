//! What is known of a host: one tree that checks judge, that a capture keeps, and that can be read back.

pub mod host;
mod level;
mod memory;
mod modules;
mod source;
mod topo;
mod tree;

pub(crate) use level::Level;
pub(crate) use memory::{HostMemory, MemoryTried, RefusedMemory};
pub(crate) use modules::Modules;
pub(crate) use source::{Needs, Source};
pub(crate) use topo::Topo;
pub use tree::Wanted;
pub(crate) use tree::{Facts, VerbsFacts, WantedEngine, family_of, is_active, is_infiniband, is_iwarp, is_roce, packages};
