//! Messages between parent and child: one JSON document a line over a socket. Both sides are always the same program, so there are no
//! versions.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Outcome, QpRequest};
use crate::sim::SimConfig;
use crate::transfer;
use crate::verbs::{CallError, DeviceAttributes, LoadError, PortAttributes};

/// Which implementation of verbs the child uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// libibverbs, found by the dynamic linker or at this path.
    Library(Option<PathBuf>),
    /// Device models. Nothing of the real host is touched.
    Simulated(SimConfig),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// List the devices and query each.
    Inventory { provider: Provider },
    /// Try these requests one after another.
    Attempts { provider: Provider, device: String, requests: Vec<QpRequest> },
    /// Make as many queue pairs as possible, up to `ceiling`, then free them.
    Count { provider: Provider, device: String, request: QpRequest, ceiling: u32 },
    /// Make a queue pair and connect it with itself.
    Connect { provider: Provider, device: String, port: u8, request: QpRequest },
    /// Move data.
    Transfer { provider: Provider, command: transfer::Command },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Inventory(Inventory),
    /// One for each request of `Attempts`, in their order.
    Attempt(Outcome),
    /// Now and then while counting, so that a long count is not taken for a hang.
    Counting,
    Counted(Counted),
    Connected(Connected),
    Transfer(transfer::Answer),
    /// The device could not be opened, or the library not loaded: nothing of the request was done.
    CannotStart(OpenDevice),
}

/// What the verbs library says about this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    /// Why the library cannot be used; then there are no devices.
    pub library_error: Option<LoadError>,
    /// Why the list of devices cannot be had.
    pub list_error: Option<CallError>,
    /// The devices that the library knows.
    pub devices: Vec<VerbsDevice>,
    /// Whether rdma_cm can be used: nothing, or why not.
    pub connection_manager_error: Option<String>,
    /// What library and providers printed, among it providers that cannot be loaded.
    pub printed: Vec<String>,
}

/// A device as verbs sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerbsDevice {
    /// Name.
    pub name: String,
    /// `enum ibv_node_type`: 1 is a channel adapter, 4 an iWARP adapter.
    pub node_type: i32,
    /// `enum ibv_transport_type`: 0 is InfiniBand (RoCE too), 1 iWARP.
    pub transport_type: i32,
    /// Why it cannot be opened or queried.
    pub error: Option<CallError>,
    /// What it publishes.
    pub attributes: Option<DeviceAttributes>,
    /// What its ports publish.
    pub ports: Vec<PortAttributes>,
}

/// Why the child could not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum OpenDevice {
    /// The library cannot be used.
    #[error("{0}")]
    Library(LoadError),
    /// A call failed on the way.
    #[error("{0}")]
    Call(CallError),
    /// The library knows no device of this name.
    #[error("libibverbs does not know the device {0}")]
    Unknown(String),
}

/// How many queue pairs existed at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// Queue pairs that were granted.
    pub granted: u32,
    /// The refusal that ended it; absent when the ceiling did.
    pub refused: Option<CallError>,
}

/// How far a queue pair came when it was connected with itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connected {
    /// The last state reached: RESET, INIT, RTR or RTS.
    pub reached: String,
    /// GID index used; absent where the port has no usable entry.
    pub gid_index: Option<u32>,
    /// The refusal that ended it; absent when RTS was reached.
    pub refused: Option<CallError>,
}
