//! All that is unsafe about RDMA: the loaded table of entry points over rdma-sys types, and objects that free themselves in order.
//!
//! Every object holds what it was made from, so a queue pair keeps its completion queue and protection domain alive, these keep
//! their context, and the context keeps the table: dropping in any order frees in the right one. errno is cleared before a call and
//! read right after it, because a provider may refuse without setting any (rdma-core providers/bnxt_re/verbs.c does).

mod attributes;
mod channel;
mod connect;
mod context;
mod direct;
mod efa;
mod error;
mod manager;
mod memory;
mod objects;
mod post;
mod preference;
mod regions;
mod table;

pub use attributes::{DeviceAttributes, ExtendedAttributes, Gid, OnDemandPaging, PortAttributes};
pub use channel::CompletionChannel;
pub use connect::{AddressHandle, Path, QUEUE_KEY, Reliability};
pub use context::{Context, DeviceHandle, DeviceList, MTU_BYTES};
pub use direct::DATA_DIRECT;
pub use efa::EFADV_QP_DRIVER_TYPE_SRD;
pub use error::{CallError, ErrorNumber, LoadError};
pub use manager::{ConnectionEvent, ConnectionId, EventChannel, event_errno};
pub use memory::{Memory, Region};
pub use objects::{
    CompletionQueue, MemoryRegion, ProtectionDomain, QueuePair, QueuePairCaps, QueuePairInit, SharedReceiveQueue, StateChange,
};
pub use post::{Completion, Completions, Datagrams, ReceiveRing, SendKind, SendRing, SendRingInit};
pub use preference::GidPreference;
pub use regions::Route;
pub use table::{ConnectionManager, LIBIBVERBS, LIBRDMACM, Verbs};
