//! GPUs of a profile.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Proven;

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProfiledGpu {
    /// Its place among the GPUs, from 0.
    pub index: u32,
    /// PCI address.
    pub pci: String,
    /// The driver's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// NUMA node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// How its memory reaches a NIC; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<GpuPath>,
    /// RDMA devices, best first.
    #[serde(default)]
    pub nics: Vec<GpuNic>,
    /// Id of the evidence of `nics`.
    pub evidence: String,
}

/// How a GPU's memory reaches a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GpuPath {
    /// `dmabuf`, `peermem` or `staged`.
    pub kind: String,
    /// The NIC with which that was seen: the nearest that has a way at all. Others may have another, see `nics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<String>,
    /// Id of its evidence.
    pub evidence: String,
    /// Other ways that work too, such as `peermem`, for an engine that knows no dma-bufs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<WorkingPath>,
    /// The ways that failed.
    #[serde(default)]
    pub failed: Vec<FailedPath>,
}

/// A way that works as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkingPath {
    /// `dmabuf` or `peermem`.
    pub kind: String,
    /// Id of its evidence.
    pub evidence: String,
}

/// A way that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FailedPath {
    /// `dmabuf` or `peermem`.
    pub kind: String,
    /// Why.
    pub why: String,
    /// Id of its evidence.
    pub evidence: String,
}

/// A NIC as a GPU sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GpuNic {
    /// Name of the RDMA device.
    pub name: String,
    /// `pix`, `pxb`, `phb`, `node`, `sys` or `unknown`, as `nvidia-smi topo -m` counts.
    pub affinity: String,
    /// How the GPU's memory reaches this NIC: `dmabuf`, `peermem` or `staged`; absent where that was not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Proven<String>>,
}
