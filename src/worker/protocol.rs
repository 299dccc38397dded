//! Messages between parent and child: one JSON document a line over a socket. Both sides are always the same program, so there are no
//! versions.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gpu::{GpuReply, GpuRequest};
use super::{GpuMemory, Outcome, QpRequest, Registration};
use crate::catalog::HostModel;
use crate::gpu::GpuForm;
use crate::host::Root;
use crate::host::part::{Asked, Part, PartFacts};
use crate::host::rdma_objects::ObjectsFacts;
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

/// Where files are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Files {
    /// Below this directory.
    Below(PathBuf),
    /// A modelled host's.
    Modelled(Box<HostModel>),
}

impl Files {
    /// The root of them.
    #[must_use]
    pub fn root(&self) -> Root {
        match self {
            Self::Below(directory) => Root::dir(directory),
            Self::Modelled(model) => model.root(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Read a part of a host's files.
    Read { files: Files, part: Part, asked: Asked },
    /// List the devices, open none.
    List { provider: Provider },
    /// Open a device and query it.
    Query { provider: Provider, device: String },
    /// Try these requests one after another.
    Attempts { provider: Provider, device: String, requests: Vec<QpRequest> },
    /// Make as many queue pairs as possible, up to `ceiling`, then free them.
    Count { provider: Provider, device: String, request: QpRequest, ceiling: u32 },
    /// Make a queue pair and connect it with itself.
    Connect { provider: Provider, device: String, port: u8, gid_index: Option<u8>, request: QpRequest },
    /// Register host memory, and give it back.
    Register { provider: Provider, device: String, bytes: u64 },
    /// Allocate GPU memory, export it, register it with a device, and give it back.
    GpuMemory { provider: Provider, gpu: String, form: GpuForm, device: Option<String> },
    /// Ask the kernel who holds objects of RDMA devices.
    Objects,
    /// Ask the GPUs' driver.
    Gpu(GpuRequest),
    /// Move data.
    Transfer { provider: Provider, command: transfer::Command },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Part(PartFacts),
    /// A path that takes long to read, in case that it never ends.
    Slow(Option<PathBuf>),
    /// Paths are read, one after another.
    Reading,
    /// Without what only an open device tells.
    Listed(Inventory),
    Queried(Box<VerbsDevice>),
    /// One for each request of `Attempts`, in their order.
    Attempt(Outcome),
    /// Now and then while counting, so that a long count is not taken for a hang.
    Counting,
    Counted(Counted),
    Connected(Connected),
    Registered(Registration),
    GpuMemory(Box<GpuMemory>),
    Objects(ObjectsFacts),
    Gpu(GpuReply),
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
    /// What became of the process that opened and queried it, if that did not end well.
    #[serde(default)]
    pub loss: Option<Loss>,
    /// What it publishes.
    pub attributes: Option<DeviceAttributes>,
    /// What its ports publish.
    pub ports: Vec<PortAttributes>,
}

/// How a process was lost that opened and queried a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Loss {
    /// It died.
    #[error("the provider crashed with {signal} when the device was opened and queried{}", last(.printed))]
    Crashed {
        /// The signal's name.
        signal: String,
        /// The last lines that it had printed.
        printed: Vec<String>,
    },
    /// It gave no answer.
    #[error("no answer in {deadline_ms} ms when the device was opened and queried{}", place(.held_in))]
    Hung {
        /// The deadline that passed, in milliseconds.
        deadline_ms: u64,
        /// Where the kernel held it.
        held_in: Option<String>,
    },
    /// It was not begun, because others had taken too long.
    #[error("it was not asked: devices before it did not answer")]
    NotAsked,
}

fn last(printed: &[String]) -> String {
    printed.last().map(|line| format!("; its last words were {line:?}")).unwrap_or_default()
}

fn place(held_in: &Option<String>) -> String {
    held_in.as_ref().map(|place| format!("; the kernel held it in {place}")).unwrap_or_default()
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
