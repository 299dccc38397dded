//! Memory that a device registers, and transfers that were timed.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What memory can be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Largest memory region that the device publishes.
    pub max_region_bytes: u64,
    /// What the engine wants to register at once (`--kv-bytes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_bytes: Option<u64>,
    /// Into how many regions that must be divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<u64>,
    /// Limit on locked memory; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memlock_bytes: Option<u64>,
    /// Id of its evidence.
    pub evidence: String,
    /// Largest piece of host memory that was registered at once when the profile was written; absent where none was tried or granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_bytes: Option<u64>,
    /// Smallest piece that was refused; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_bytes: Option<u64>,
    /// Id of the evidence of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_evidence: Option<String>,
}

/// One measurement: of a port with itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// `write` or `read`.
    pub op: String,
    /// `host`, or a GPU's memory with its path.
    pub memory: String,
    /// Size of a message.
    pub size_bytes: u64,
    /// Queue pairs in use.
    pub queue_pairs: u32,
    /// Throughput, where it was measured: the median of some repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// Median latency, where it was measured: half of the way to and fro for a write, all of it for a read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    /// 99th percentile of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// Whether the bytes that arrived were compared.
    pub verified: bool,
    /// Id of its evidence.
    pub evidence: String,
}
