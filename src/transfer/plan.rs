//! Plans that ends are told, and the figures that they answer with. All of it travels: to the child as lines, to another host in frames.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StageMemory;
use super::layout::LEAST_BYTES;
use crate::gpu::MemoryKind;
use crate::verbs::{PortAttributes, Reliability};

/// What moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// RDMA write.
    Write,
    /// RDMA read.
    Read,
    /// Send and receive.
    Send,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Send => "send",
        })
    }
}

/// Type of the queue pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Reliable connection.
    Rc,
    /// Unreliable connection: write and send.
    Uc,
    /// Unreliable datagram: send, no longer than the path MTU.
    Ud,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rc => "RC",
            Self::Uc => "UC",
            Self::Ud => "UD",
        })
    }
}

/// How completions are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum CompletionMode {
    /// By asking again and again: fastest, and takes a processor.
    Poll,
    /// By sleeping until an event.
    Event,
}

/// How queue pairs find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Connect {
    /// Addresses are exchanged out of band.
    Oob,
    /// By rdma_cm.
    Cm,
}

/// Which memory messages touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessPattern {
    /// One place.
    One,
    /// One page, or one place for what is larger.
    Hot,
    /// All of it.
    Spread,
}

/// What an end keeps while it is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPlan {
    /// RDMA device.
    pub device: String,
    /// Its port.
    pub port: u8,
    /// Memory to register; half for sending, half for receiving.
    pub memory_bytes: u64,
    /// What is enough of it, where not so much can be locked.
    pub least_bytes: u64,
    /// The own address, with port 0, for connections by rdma_cm.
    pub manager: Option<SocketAddr>,
    /// Which memory.
    #[serde(default)]
    pub memory: MemoryKind,
    /// Whether the other end is in this process too, which staged memory needs.
    #[serde(default)]
    pub with_staged: bool,
}

impl EndpointPlan {
    /// The memory that it takes at most.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        self.memory_bytes.max(LEAST_BYTES as u64)
    }
}

/// What an open end has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFacts {
    pub port: PortAttributes,
    /// Its P_Key table, without empty entries.
    pub pkeys: Vec<u16>,
    /// Published limits.
    pub max_qp_wr: u32,
    pub max_cqe: u32,
    /// Reads that a queue pair may have under way on both sides.
    pub max_reads: u8,
    /// Most bytes inline that a queue pair of this kind was granted.
    pub max_inline_bytes: u32,
    /// Address of the memory.
    pub address: u64,
    /// Its key for the other side.
    pub key: u32,
    /// Its length.
    pub memory_bytes: u64,
    /// TCP-like port on which rdma_cm listens.
    pub manager_port: Option<u16>,
    #[serde(default)]
    pub memory: StageMemory,
    /// Processors that its process may run on, if they can be counted.
    #[serde(default)]
    pub processors: Option<usize>,
    /// What simulates its device; absent where that is real.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Simulated>,
}

/// What simulates the device of an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Simulated {
    /// The directory in which it meets other processes.
    pub network: Option<PathBuf>,
}

/// Receive requests that are posted before the other side may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivePlan {
    /// Bytes of each.
    pub size_bytes: u32,
    /// Bytes between the beginning of the memory and where messages go, for unaligned ones.
    pub shift_bytes: u32,
    /// Where in memory messages go.
    pub touch: AccessPattern,
    /// How many on each queue pair.
    pub depth: u32,
}

/// Queue pairs of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// Their type.
    pub transport: Transport,
    /// How many.
    pub queue_pairs: u32,
    /// Send requests on each.
    pub send_depth: u32,
    /// Bytes inline in each.
    pub inline_bytes: u32,
    /// How completions are waited for.
    pub completing: CompletionMode,
    /// Index of the own address.
    pub gid_index: u8,
    /// Path MTU.
    pub mtu_bytes: u32,
    /// Whether packets carry a global header.
    pub is_global: bool,
    /// Patience.
    pub reliability: Reliability,
    /// Receive requests, where messages arrive.
    pub receive: Option<ReceivePlan>,
    /// Whether receivers tell senders over the wire how many receive requests there are: not needed within a process.
    pub tells_credit: bool,
}

impl LinkPlan {
    /// Send requests of each queue pair that only tell of receive requests.
    pub(super) fn telling(&self) -> u32 {
        u32::from(self.tells_credit && self.receive.is_some())
    }
}

/// What the other side has to know of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// Numbers of its queue pairs; empty where rdma_cm tells them.
    pub queue_pairs: Vec<u32>,
    /// The address at the index that was asked.
    pub gid: String,
    /// Receive requests that each queue pair has to begin with.
    pub receives: u32,
    /// Where it is told of the other side's, if it is to be told over the wire.
    pub credit: Option<RemoteCounter>,
}

/// Memory for counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteCounter {
    pub address: u64,
    pub key: u32,
}

/// The other side of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteEnd {
    pub queue_pairs: Vec<u32>,
    /// Its address.
    pub gid: String,
    /// Its local identifier.
    pub lid: u16,
    /// Address of its memory.
    pub address: u64,
    /// Key of its memory.
    pub key: u32,
    /// Length of its memory.
    pub memory_bytes: u64,
    /// Receive requests that each of its queue pairs has to begin with.
    pub receives: u32,
    /// Where it is told of those of this end.
    pub credit: Option<RemoteCounter>,
}

/// How an end joins its other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinPlan {
    /// The other side.
    pub remote: RemoteEnd,
    /// By rdma_cm: whom to call, or nobody for the side that is called.
    pub call: Option<SocketAddr>,
    /// What marks requests of this connection.
    pub mark: u64,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// After so many messages on each queue pair.
    Iterations(u64),
    /// After so long.
    TimeMs(u64),
    /// When told to.
    UntilTold,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// As many messages as possible.
    Bandwidth,
    /// One message at a time, to and fro.
    Latency,
}

/// One end's part of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPlan {
    /// What is measured.
    pub kind: RunKind,
    /// What moves data.
    pub operation: Operation,
    /// Whether with immediate data.
    pub immediate: bool,
    /// Bytes of a message.
    pub size_bytes: u32,
    /// Bytes between the beginning of the memory and the message, on both sides.
    pub shift_bytes: u32,
    /// Where in memory messages lie.
    pub touch: AccessPattern,
    /// Requests under way on each queue pair.
    pub depth: u32,
    /// Requests posted at once.
    pub batch: u32,
    /// Whether payload travels in the request.
    pub inline: bool,
    /// Whether this end begins: sends, or pings.
    pub sends: bool,
    /// Whether messages arrive here.
    pub receives: bool,
    /// When it ends.
    pub limit: Limit,
    /// How long it goes on receiving after it has sent everything, since another process may still send.
    pub linger_ms: u64,
    /// Longest time without any progress.
    pub patience_ms: u64,
    /// What is done of a staged transfer, and in which steps.
    #[serde(default)]
    pub staged: BouncePlan,
}

/// What is done of a staged transfer. Parts of it, with the same chunks in the same places, are the ceilings that the whole is measured by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BouncePlan {
    /// Which part.
    pub part: StagedPart,
    /// Bytes of a chunk at most; 0 for what is usual.
    pub chunk_bytes: u32,
}

/// A part of a staged transfer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagedPart {
    /// Copies and the provider, all at once.
    #[default]
    All,
    /// The copies alone, both ways at once where both ends are a GPU's.
    Copies,
    /// The provider alone, from and to the locked memory.
    Provider,
}

impl RunPlan {
    /// Whether each message takes a receive request of the other side.
    #[must_use]
    pub fn arrives(&self) -> bool {
        self.operation == Operation::Send || (self.immediate && self.operation == Operation::Write)
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Messages done.
    pub messages: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Time taken.
    pub elapsed_ns: u64,
}

/// What one end measured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunResult {
    /// What it sent (or read).
    pub sent: Progress,
    /// What arrived.
    pub received: Progress,
    /// Processor time of the whole process.
    pub cpu_ns: u64,
    /// Latencies: nanoseconds, and how often.
    pub latencies: Vec<(u64, u64)>,
}

/// A part of the memory with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternSpan {
    /// Whether it is of the half for receiving.
    pub receiving: bool,
    /// What the pattern depends on besides the place.
    pub iteration: u64,
    /// Bytes from the beginning of the half's data.
    pub shift_bytes: u32,
    /// Length.
    pub length_bytes: u32,
}

/// Where memory is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mismatch {
    /// Offset from the beginning of the message; negative or beyond its end for a guard byte.
    pub offset_bytes: i64,
    /// What should be there.
    pub expected: u8,
    pub found: u8,
    /// How many bytes differ.
    pub wrong_bytes: u64,
    /// Whether the byte lies around the message, where nothing may be written.
    pub is_guard: bool,
}
