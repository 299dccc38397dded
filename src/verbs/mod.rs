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

pub use attributes::{DeviceAttributes, Gid};
pub(crate) use attributes::{ExtendedAttributes, OnDemandPaging, PortAttributes};
pub(crate) use channel::CompletionChannel;
pub(crate) use connect::{AddressHandle, QUEUE_KEY};
pub use connect::{Path, Reliability};
pub use context::{Context, DeviceList};
pub(crate) use context::{DeviceHandle, MTU_BYTES};
pub(crate) use direct::DATA_DIRECT;
pub(crate) use efa::EFADV_QP_DRIVER_TYPE_SRD;
pub(crate) use error::LoadError;
pub use error::{CallError, ErrorNumber};
pub(crate) use manager::{ConnectionEvent, ConnectionId, EventChannel, event_errno};
pub(crate) use memory::{Memory, Region};
pub(crate) use objects::{CompletionQueue, ProtectionDomain, QueuePair};
pub use objects::{QueuePairCaps, QueuePairInit, StateChange};
pub(crate) use post::{Completion, Completions, Datagrams, ReceiveRing, SendKind, SendRing, SendRingInit};
pub(crate) use preference::GidPreference;
pub(crate) use regions::Route;
pub(crate) use table::LIBIBVERBS;
pub use table::{ConnectionManager, Verbs};
