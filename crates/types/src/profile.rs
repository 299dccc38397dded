//! The transfer profile as a file holds it.

mod gpu;
mod measured;
mod queue_pairs;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LinkLayer, OutcomeKind, PortState, QpState, Transport, Word};

pub use gpu::{FailedPath, GpuNic, GpuPath, ProfiledGpu, WorkingPath};
pub use measured::{Measurement, Memory};
pub use queue_pairs::{JointLimit, JointPoint, Limit, QueuePairRequest, QueuePairs};

/// The schema that profiles name.
pub const PROFILE_SCHEMA: &str = "rdmadoctor/profile/1";

/// What attempts and measurements proved of one host, for the engines that run on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`PROFILE_SCHEMA`].
    pub schema: String,
    /// When it was written, in UTC, as RFC 3339 writes it.
    pub created: String,
    /// Version of the program that wrote it.
    pub tool_version: String,
    /// Whether every entry was attempted or measured on this very host; otherwise see `unvalidated`.
    pub validated: bool,
    /// The host, and what its entries depend on.
    pub host: ProfiledHost,
    /// One entry a port of an RDMA device.
    #[serde(default)]
    pub devices: Vec<ProfiledPort>,
    /// The GPUs, in the order of their PCI addresses, which is CUDA's with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    #[serde(default)]
    pub gpus: Vec<ProfiledGpu>,
    /// Engines, by name and version.
    #[serde(default)]
    pub engines: Vec<ProfiledEngine>,
    /// Entries that were neither attempted nor measured.
    #[serde(default)]
    pub unvalidated: Vec<Unvalidated>,
    /// What stands behind the values, by id.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
}

/// The host that a profile belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfiledHost {
    /// Its name; for people only.
    pub name: String,
    /// The modelled host that this is, in place of a real one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What entries depend on.
    #[serde(default)]
    pub fingerprint: Vec<FingerprintField>,
}

/// A version, parameter, limit or identity that entries depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FingerprintField {
    /// Such as `kernel.release` or `device.mlx5_0.firmware`.
    pub field: String,
    /// Its value then.
    pub value: String,
}

/// A value with the id of what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Proven<T> {
    /// The value.
    pub value: T,
    /// Id of its evidence.
    pub evidence: String,
}

/// A port of an RDMA device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfiledPort {
    /// Name of the device, such as `mlx5_0`.
    pub name: String,
    /// Number of the port, from 1.
    pub port: u32,
    /// Family of the device, such as `mlx5` or `erdma`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// `RoCE`, `InfiniBand`, `iWARP` or `unspecified`.
    pub transport: Word<Transport>,
    /// `Ethernet` or `InfiniBand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_layer: Option<Word<LinkLayer>>,
    /// `active`, `down` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Word<PortState>>,
    /// PCI address; absent for software devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// NUMA node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Address to use. Its index is not kept: it is looked up by value and type when the profile is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<ProfiledGid>,
    /// Path MTU in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_bytes: Option<Proven<u32>>,
    /// Limits of queue pairs and the request to make.
    pub qp: QueuePairs,
    /// Entries of a completion queue to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cq_depth: Option<Proven<u32>>,
    /// Queue pairs that fill the link between two processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_pairs_per_connection: Option<Proven<u32>>,
    /// Traffic class that the host sets for this port; absent where it sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_class: Option<Proven<u32>>,
    /// RDMA reads that a queue pair may have outstanding, as the device publishes it for both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rd_atomic: Option<Proven<u32>>,
    /// How far a queue pair comes that is connected with itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// Sizes of memory regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Throughput and latency.
    #[serde(default)]
    pub measurements: Vec<Measurement>,
}

/// An entry of a GID table, without its index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfiledGid {
    /// The identifier.
    pub value: String,
    /// `RoCE v2`, `IB/RoCE v1`; absent where the driver keeps no types.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Network interface that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netdev: Option<String>,
    /// The IPv4 address, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// Id of its evidence.
    pub evidence: String,
}

/// The walk of a queue pair through its states by `ibv_modify_qp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The last state reached; `RTS` is what engines need that exchange addresses by themselves.
    pub reached: Word<QpState>,
    /// The refusal that ended it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Id of its evidence.
    pub evidence: String,
}

/// What an engine's release meets on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfiledEngine {
    /// Its name in the catalog.
    pub name: String,
    /// The release's version.
    pub version: String,
    /// Over all devices: the best of them.
    pub verdict: EngineVerdict,
    /// Settings with which the devices grant everything.
    #[serde(default)]
    pub settings: Vec<EngineSetting>,
    /// Device by device.
    #[serde(default)]
    pub devices: Vec<EngineDevice>,
    /// What would help where settings do not.
    #[serde(default)]
    pub remedies: Vec<String>,
}

/// What is known of an engine on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EngineVerdict {
    /// Everything that it asks by itself is granted.
    Works,
    /// With the settings.
    WorksWithSettings,
    /// It was not tried.
    Unknown,
    /// Something that it needs is refused, and no setting changes that.
    Fails,
}

/// A setting of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EngineSetting {
    /// Such as `SLIME_MAX_CQ_DEPTH`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// `env`, `flag` or `config`.
    pub kind: String,
    /// Id of the attempt that was granted with it.
    pub evidence: String,
}

/// An engine on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EngineDevice {
    /// The device.
    pub name: String,
    /// What is known.
    pub verdict: EngineVerdict,
    /// What stands in the way.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
    /// Ids of the attempts that decide: one a queue pair of the engine.
    #[serde(default)]
    pub evidence: Vec<String>,
}

/// Something that keeps an engine from working.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Obstacle {
    /// What, with what would pass.
    pub summary: String,
    /// Id of its evidence.
    pub evidence: String,
}

/// An entry without attempt or measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unvalidated {
    /// Such as `devices/mlx5_0/1/measurements`.
    pub entry: String,
    /// Why.
    pub why: String,
}

/// What stands behind a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Its id in this profile.
    pub id: String,
    /// What kind of evidence it is.
    pub kind: EvidenceKind,
    /// When it was found, in UTC, as RFC 3339 writes it.
    pub at: String,
    /// One sentence.
    pub summary: String,
    /// The device, for an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What was tried, for an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<QueuePairRequest>,
    /// What came of it: `granted`, `refused`, `crashed`, `hung`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word<OutcomeKind>>,
}

/// Kinds of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// A queue pair that was asked for.
    Attempt,
    /// A queue pair that was connected with itself.
    Connection,
    /// A transfer that was timed.
    Measurement,
    /// Memory that was registered with a device.
    Registration,
    /// What the verbs library answered.
    Query,
    /// What a file of the kernel says.
    File,
}

impl ProfiledPort {
    /// Whether it can be used.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state.as_ref().is_some_and(|state| *state == PortState::Active)
    }
}

impl Profile {
    /// The evidence of an id.
    #[must_use]
    pub fn evidence(&self, id: &str) -> Option<&Evidence> {
        self.evidence.iter().find(|evidence| evidence.id == id)
    }
}
