//! Memory that is tried: registered with a device, exported from a GPU.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gpu::{AllocKind, GpuError, Path};
use crate::verbs::CallError;

/// A registration that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registration {
    /// How long it took; absent where it was refused.
    pub elapsed_us: Option<u64>,
    /// The refusal.
    pub error: Option<CallError>,
}

impl From<Result<Duration, CallError>> for Registration {
    fn from(tried: Result<Duration, CallError>) -> Self {
        match tried {
            Ok(elapsed) => Self { elapsed_us: Some(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)), error: None },
            Err(error) => Self { elapsed_us: None, error: Some(error) },
        }
    }
}

/// GPU memory that was tried, alone or with a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuMemory {
    /// The GPU's address.
    pub gpu: String,
    /// How it was allocated.
    #[serde(default)]
    pub form: AllocKind,
    /// The RDMA device; absent where only the export was tried.
    pub device: Option<String>,
    /// How much memory.
    pub bytes: u64,
    /// Why there was no memory to try.
    pub allocation_error: Option<GpuError>,
    /// Why there was no dma-buf of it.
    pub export_error: Option<GpuError>,
    /// Why the device could not be opened.
    pub device_error: Option<String>,
    /// By its address (ibv_reg_mr), which takes a peer-memory client.
    pub by_address: Option<Registration>,
    /// By its dma-buf (ibv_reg_dmabuf_mr).
    pub by_dma_buf: Option<Registration>,
    /// How long its allocation took, with a context where there was none yet.
    #[serde(default)]
    pub allocated_in_us: Option<u64>,
    /// Whether what was written into it was read back, on the GPU's side and by copies; where that failed, how.
    #[serde(default)]
    pub contents: Option<Contents>,
    /// Each way into the device, with who refused it.
    #[serde(default)]
    pub paths: Vec<PathTried>,
}

/// Whether memory held what was written into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Contents {
    /// It did.
    Right,
    /// It did not.
    Wrong {
        /// How many bytes differ.
        wrong_bytes: u64,
    },
    /// It cannot be written or read.
    Failed {
        /// Why not.
        error: GpuError,
    },
}

/// A way into the NIC that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathTried {
    pub path: Path,
    /// How long the registration took; absent where it was refused.
    pub elapsed_us: Option<u64>,
    /// Why it is none.
    pub refusal: Option<Refusal>,
}

/// Who refused a way into the NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Refusal {
    /// The GPU's driver.
    #[error("{error}")]
    Gpu { error: GpuError },
    #[error("{error}")]
    Verbs { error: CallError },
    #[error("{why}")]
    NotTried {
        /// Why not.
        why: String,
    },
}

impl From<GpuError> for Refusal {
    fn from(error: GpuError) -> Self {
        Self::Gpu { error }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self::Verbs { error }
    }
}
