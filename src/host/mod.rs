//! Readers of /sys, /proc, /dev, /etc and /lib/modules under a root, so that `/` can be a host mounted elsewhere or a model.
//!
//! Readers only read: they run no program and change nothing. What is absent is `None`; what is there and cannot be read or understood
//! is a [`ReadError`] among the facts' problems, beside everything else that was read.

mod directories;
mod entry;
mod error;
mod ethtool;
pub mod families;
pub mod family;
pub mod limits;
pub mod log;
pub mod modules;
pub mod net;
pub mod net_counters;
pub mod part;
pub mod pci;
pub mod pcie;
pub mod rdma;
pub mod rdma_counters;
pub mod rdma_objects;
mod reader;
mod root;
pub mod system;
pub mod topo;
mod tree;
pub mod verbs_files;
pub mod vpd;

pub use entry::{Kind, Metadata, Source};
pub use error::{ReadError, ReadFailure};
pub use root::{Root, TEXT_LIMIT_BYTES, being_read};
pub use tree::Node;
