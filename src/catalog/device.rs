//! The types of a device file.
//!
//! A file describes what an application sees through libibverbs, so provider and kernel together: where the provider refuses first, its
//! errno stands here.

use rdmadoctor_types::{LinkLayer, NodeType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{CompletionQueues, MemoryRegions, QueuePairs, SharedReceiveQueues};
use super::{Errno, Figure};
use crate::catalog::Fault;

/// A device family, or a variant of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceModel {
    /// Always `rdmadoctor/device/1`.
    pub schema: String,
    /// The name by which it is asked for, such as `mlx5-6.12`.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// The family that it belongs to, such as `mlx5`.
    pub family: String,
    /// The kernel driver, as sysfs names it.
    pub driver: String,
    /// What a reader should know before trusting it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// How the device presents itself.
    pub identity: Identity,
    /// What `ibv_query_device` answers.
    pub published: Published,
    /// Ports and their GID tables.
    pub port: Port,
    /// Queue pairs.
    pub queue_pairs: QueuePairs,
    /// Shared receive queues.
    pub shared_receive_queues: SharedReceiveQueues,
    /// Completion queues.
    pub completion_queues: CompletionQueues,
    /// Memory regions.
    pub memory_regions: MemoryRegions,
    /// What a call answers when the device has no more of an object.
    pub exhausted: Exhausted,
    /// How queue pairs come up and take work.
    pub connection: Connection,
    /// Which software it takes.
    pub software: Software,
    /// What goes wrong on it, as `--fault` writes it, wherever the model is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub faults: Vec<Fault>,
}

/// How the device presents itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// What its names begin with; a number follows.
    pub device_prefix: String,
    /// PCI vendor and device as `1ded:107f`, `*` for any device; none for software devices.
    #[serde(default)]
    pub pci: Vec<String>,
    /// `vendor_id` of the device attributes.
    pub vendor_id: Figure<u32>,
    /// `vendor_part_id` of the device attributes.
    pub vendor_part_id: Figure<u32>,
    /// `fw_ver` of the device attributes.
    pub firmware: Figure<String>,
    /// `node_type`.
    pub node_type: Figure<NodeType>,
    /// `transport_type`.
    pub transport: Figure<Transport>,
    /// `link_layer` of its ports.
    pub link_layer: Figure<LinkLayer>,
}

/// `enum ibv_transport_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// InfiniBand and RoCE.
    Infiniband,
    /// iWARP.
    Iwarp,
    /// Neither, as EFA.
    Unspecified,
}

impl Transport {
    /// The code of `enum ibv_transport_type`.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Infiniband => 0,
            Self::Iwarp => 1,
            Self::Unspecified => 4,
        }
    }
}

/// What `ibv_query_device` answers, under the names of `struct ibv_device_attr`. What is absent is published as 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the names are those of ibv_query_device(3), which crate::verbs::DeviceAttributes explains")]
pub struct Published {
    pub max_mr_size_bytes: Figure<u64>,
    pub page_size_cap: Figure<u64>,
    pub max_qp: Figure<i32>,
    pub max_qp_wr: Figure<i32>,
    pub flags: Option<Figure<Vec<String>>>,
    pub max_sge: Figure<i32>,
    pub max_sge_rd: Figure<i32>,
    pub max_cq: Figure<i32>,
    pub max_cqe: Figure<i32>,
    pub max_mr: Figure<i32>,
    pub max_pd: Figure<i32>,
    pub max_qp_rd_atom: Figure<i32>,
    pub max_res_rd_atom: Option<Figure<i32>>,
    pub max_qp_init_rd_atom: Figure<i32>,
    pub atomic: Option<Figure<Atomic>>,
    pub max_mw: Option<Figure<i32>>,
    pub max_raw_ethy_qp: Option<Figure<i32>>,
    pub max_mcast_grp: Option<Figure<i32>>,
    pub max_mcast_qp_attach: Option<Figure<i32>>,
    pub max_ah: Option<Figure<i32>>,
    pub max_srq: Option<Figure<i32>>,
    pub max_srq_wr: Option<Figure<i32>>,
    pub max_srq_sge: Option<Figure<i32>>,
    pub max_pkeys: Option<Figure<u16>>,
    pub local_ca_ack_delay: Option<Figure<u8>>,
    pub ports: Figure<u32>,
}

/// Atomic operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Atomic {
    /// None.
    None,
    /// Atomic among queue pairs of the device.
    Hca,
    /// Atomic with the processor too.
    Global,
}

impl Atomic {
    /// As `crate::verbs::DeviceAttributes::atomic` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hca => "hca",
            Self::Global => "global",
        }
    }
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Entries in the GID table.
    pub gid_table_length: Figure<i32>,
    /// What the entries are.
    pub gids: Figure<GidShape>,
    /// Entries in the P_Key table.
    pub pkey_table_length: Figure<u16>,
    /// Largest path MTU.
    pub max_mtu_bytes: Figure<u32>,
    /// Largest message.
    pub max_message_bytes: Figure<u32>,
}

/// What stands in a GID table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GidShape {
    /// One entry, made of the network interface's hardware address: iWARP.
    HardwareAddress,
    /// Each address of the network interface twice, as RoCE v1 and as RoCE v2.
    RoceBoth,
    /// Each address of the network interface once, as RoCE v2.
    RoceV2,
    /// Subnet prefix and GUID: InfiniBand.
    Guid,
    /// One link-local entry that the device gives: EFA.
    Device,
}

/// What a call answers when the device has no more of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exhausted {
    /// Queue pairs.
    pub queue_pairs: Figure<Errno>,
    /// Completion queues.
    pub completion_queues: Figure<Errno>,
    /// Memory regions.
    pub memory_regions: Figure<Errno>,
    /// Protection domains.
    pub protection_domains: Figure<Errno>,
    /// Shared receive queues.
    #[serde(default)]
    pub shared_receive_queues: Option<Figure<Errno>>,
}

/// How queue pairs come up and take work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The state machine.
    pub state_machine: Figure<StateMachine>,
    /// Whether rdma_cm connects.
    pub rdma_cm: Figure<RdmaCm>,
    /// What a failed post returns.
    pub failed_post_returns: Figure<PostReturns>,
    /// What `ibv_query_qp` tells otherwise than it is.
    #[serde(default)]
    pub query_qp: Option<QueryQp>,
}

/// What `ibv_query_qp` tells otherwise than it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryQp {
    /// Whether it tells the state, by kernel; where it does not, that is always RESET.
    pub tells_state: Vec<ByKernel>,
    /// The state that it tells of a queue pair without a connection is INIT.
    pub idle_is_init: Figure<bool>,
    /// What it tells as `max_inline_data`, whatever was granted.
    #[serde(default)]
    pub max_inline_data: Option<Figure<u32>>,
}

/// How `ibv_modify_qp` moves a queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateMachine {
    /// The table of the InfiniBand specification, with the attributes that each step needs.
    Infiniband,
    /// iWARP: steps to INIT and RTR do nothing, and the step to RTS needs a connection made by rdma_cm.
    Iwarp,
    /// Alibaba's compat mode: as InfiniBand, for IPv4-mapped RoCE addresses only.
    ErdmaCompat,
    /// EFA: no peer in the queue pair, so no attributes of one.
    Srd,
}

/// Whether rdma_cm connects queue pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RdmaCm {
    /// Nothing else does.
    Mandatory,
    /// It can.
    Optional,
    /// It cannot.
    None,
}

/// What a failed post returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostReturns {
    /// An errno value, as ibv_post_send(3) promises.
    Errno,
    /// A negated errno value.
    NegatedErrno,
}

/// Which software a device takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Software {
    /// First kernel with the driver, such as `6.1`.
    pub min_kernel: Figure<String>,
    /// First rdma-core with the provider.
    pub min_rdma_core: Figure<u32>,
    /// Smallest and largest kernel ABI that the provider takes.
    pub abi: Figure<[u32; 2]>,
    /// `abi_version` of the kernel's driver.
    pub kernel_abi: Figure<u32>,
    /// Whether dma-buf regions can be registered, by kernel, where that differs from what the family's file says: the entry of the newest
    /// kernel that is not newer than the host's counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dma_buf: Vec<ByKernel>,
    /// First rdma-core whose provider registers dma-buf regions.
    #[serde(default)]
    pub dma_buf_min_rdma_core: Option<Figure<u32>>,
    /// Whether there is on-demand paging.
    pub on_demand_paging: Figure<bool>,
    /// Whether relaxed ordering has an effect, by kernel.
    pub relaxed_ordering: Vec<ByKernel>,
}

/// Whether a kernel has something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByKernel {
    /// From this kernel on, such as `6.12`; `0` for any.
    pub kernel: String,
    /// Whether it has it.
    pub supported: Figure<bool>,
}
