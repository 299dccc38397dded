//! Readers of /sys, /proc, /dev, /etc and /lib/modules under a root, so that `/` can be a host mounted elsewhere or a model.
//!
//! Readers only read: they run no program and change nothing. What is absent is `None`; what is there and cannot be read or understood
//! is a `ReadError` among the facts' problems, beside everything else that was read.

mod directories;
mod entry;
mod error;
mod ethtool;
pub mod families;
pub mod family;
pub(crate) mod limits;
pub mod log;
pub mod modules;
pub(crate) mod net;
pub(crate) mod net_counters;
pub(crate) mod part;
pub(crate) mod pci;
pub mod pcie;
pub mod rdma;
pub(crate) mod rdma_counters;
pub(crate) mod rdma_objects;
mod reader;
mod root;
pub(crate) mod system;
pub(crate) mod topo;
mod tree;
pub(crate) mod verbs_files;
pub mod vpd;

pub(crate) use entry::{Kind, Metadata, Source};
pub(crate) use error::{ReadError, ReadFailure};
pub use root::Root;
pub(crate) use root::{TEXT_LIMIT_BYTES, being_read};
pub use tree::Node;
