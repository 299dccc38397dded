//! Memory that was registered to see how much goes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verbs::CallError;
use crate::worker::GpuMemory;

/// Registrations that were tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryTried {
    /// Of host memory, by device.
    pub host: Vec<HostMemory>,
    /// Of GPU memory, at level deep.
    pub gpu: Vec<GpuMemory>,
}

/// How much host memory a device registers in one piece.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostMemory {
    pub device: String,
    /// No larger piece was meant to be tried: half of the memory that is free, and 1 GiB at most.
    pub most_bytes: u64,
    /// The largest piece that was granted.
    pub largest_bytes: Option<u64>,
    /// How long that took.
    pub largest_us: Option<u64>,
    /// The smallest piece that was refused.
    pub refused: Option<RefusedMemory>,
    /// The size at which the library crashed or hung, and how.
    pub failure: Option<String>,
    /// Why nothing more was tried, where none of these ended it: no time.
    pub stopped: Option<String>,
}

/// A piece that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedMemory {
    /// Its size.
    pub bytes: u64,
    /// The refusal.
    pub error: CallError,
}
