//! The document of `bw --all-pairs`: each GPU with each NIC by each way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::statistics::Spread;
use crate::devices::Problem;
use crate::gpu::Path;
use crate::transfer::Operation;

/// What was measured between GPUs and NICs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Pairs {
    /// `rdmadoctor/bw-pairs/1`.
    pub schema: String,
    /// Bytes of a message.
    pub size_bytes: u64,
    /// Whether a device is simulated: figures then say how fast that is done, and nothing of a device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_simulated: bool,
    /// A cell for each GPU, NIC, operation and way.
    pub cells: Vec<PairCell>,
    /// What stood in the way of measuring at all.
    pub problems: Vec<Problem>,
    /// Why not everything was measured.
    pub stopped: Option<String>,
}

impl Pairs {
    /// Whether a pair has no way, something arrived as it was not sent, or nothing could be measured.
    pub(crate) fn has_failed(&self) -> bool {
        let works = |pair: &PairCell| {
            self.cells.iter().any(|cell| cell.gpu == pair.gpu && cell.device == pair.device && cell.bytes_per_second.is_some())
        };
        self.cells.is_empty() || self.cells.iter().any(|cell| cell.is_right == Some(false) || !works(cell))
    }
}

/// A figure, or why there is none.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PairCell {
    /// The GPU's PCI address.
    pub gpu: String,
    /// The NIC, connected with itself; the other end has host memory.
    pub device: String,
    /// Write takes data out of GPU memory, read brings it there.
    pub operation: Operation,
    /// The way from GPU memory to the NIC.
    pub path: Path,
    /// Of the repeats; absent where nothing was measured.
    pub bytes_per_second: Option<Spread>,
    /// Whether what arrived was what was sent; absent where it was not compared.
    pub is_right: Option<bool>,
    /// Why there is no figure.
    pub reason: Option<String>,
    /// Likely causes of that, the surest first.
    pub causes: Vec<String>,
}
