//! The documents of `ping` and `bw`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counters::{Carried, CounterKeeper, HostSide};
use super::statistics::{Latencies, Spread};
use crate::devices::Problem;
use crate::gpu::WritesOrdering;
use crate::transfer::{CompletionMode, Connect, Mismatch, Operation, OrderReader, Signal, StageMemory, Transport};

/// What `ping` or `bw` found.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BenchReport<R> {
    /// `rdmadoctor/ping/1` or `rdmadoctor/bw/1`.
    pub schema: String,
    /// How both ends were connected; absent where they were not.
    pub connection: Option<ConnectionReport>,
    /// Each measurement.
    pub results: Vec<R>,
    /// The order of writes, where it was looked at (`ping --litmus`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ordering: Vec<OrderingResult>,
    /// What deserves a look.
    pub notices: Vec<Notice>,
    /// What stood in the way of measuring at all.
    pub problems: Vec<Problem>,
    /// Why not everything was measured.
    pub stopped: Option<String>,
}

impl<R> BenchReport<R> {
    /// Whether its figures are of a simulated device, so that nothing follows from them.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_simulated)
    }
}

/// Where `peer` listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listening {
    /// `rdmadoctor/peer/1`.
    pub schema: String,
    pub address: String,
    /// The TCP port.
    pub port: u16,
    /// What clients must know; absent where it was given.
    pub token: Option<String>,
    /// The directory of the modelled network that clients must be hosts of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sim_network: Option<String>,
}

/// How both ends are connected.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionReport {
    /// Type of the queue pairs.
    pub transport: Transport,
    pub connect: Connect,
    /// Path MTU.
    pub mtu_bytes: u32,
    /// This end.
    pub local: EndReport,
    /// The other end.
    pub remote: EndReport,
    /// Memory registered on each end, half of it for what is sent.
    pub memory_bytes: u64,
    /// Where the other end is: absent where it is on this host.
    pub peer: Option<String>,
    /// Whether a device is simulated: figures then say how fast that is done, and nothing of a device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_simulated: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EndReport {
    /// RDMA device.
    pub device: String,
    pub port: u8,
    /// Index of its address.
    pub gid_index: u8,
    /// The address.
    pub gid: String,
    pub reason: String,
    /// Its memory; absent where it was not opened.
    pub memory: Option<StageMemory>,
}

/// Which memory messages touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Buffer {
    /// One small place, over and over, as perftest does: caches and address translation stay warm.
    Hot,
    /// Places all over the memory, as transfers of KV caches do.
    Spread,
}

/// Whether what arrived is what was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// Messages whose contents and surroundings were compared.
    pub messages: u64,
    /// The longest of them.
    pub bytes: u64,
    /// The first difference.
    pub mismatch: Option<Mismatch>,
}

/// Why something could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureReport {
    /// What was being done.
    pub step: String,
    /// What came back.
    pub summary: String,
    /// Work-completion status, where it was one.
    pub status: Option<u32>,
    /// What the device and the host say.
    pub evidence: Vec<String>,
    /// Likely causes, the likeliest first.
    pub causes: Vec<String>,
    /// What to do.
    pub next_step: Option<String>,
}

impl FailureReport {
    /// As a problem of a document that has no figures then.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        let causes: String = self.causes.iter().map(|cause| format!("; likely: {cause}")).collect();
        Problem { summary: format!("{}: {}{causes}", self.step, self.summary), next_step: self.next_step }
    }
}

/// How much a counter grew during a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CounterDelta {
    /// Whose counter.
    #[serde(default)]
    pub side: HostSide,
    /// Who keeps it.
    #[serde(default)]
    pub keeper: CounterKeeper,
    /// RDMA device or network interface.
    pub device: String,
    pub name: String,
    /// By how much.
    pub delta: u64,
    /// What that means, where it means trouble.
    pub meaning: Option<String>,
}

/// Something that deserves a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// What was seen.
    pub summary: String,
    /// What it may come from.
    pub causes: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BandwidthResult {
    /// What moved data.
    pub operation: Operation,
    /// Kind of memory.
    pub memory: String,
    /// Which memory was touched.
    pub buffer: Buffer,
    /// Bytes of a message.
    pub size_bytes: u64,
    /// Whether both ends sent at once; the figures are then those of both directions together.
    pub bidirectional: bool,
    pub queue_pairs: u32,
    /// Requests under way on each.
    pub depth: u32,
    /// Requests posted at once, of which the last makes a completion.
    pub batch: u32,
    /// Whether payload travelled in the request.
    pub inline: bool,
    /// How completions were waited for.
    pub completion: CompletionMode,
    /// Messages, in all repeats.
    pub messages: u64,
    /// Of the repeats; absent where nothing was measured.
    pub bytes_per_second: Option<Spread>,
    /// Of the median.
    pub messages_per_second: Option<f64>,
    /// Processor time for 2^30 bytes; of both ends where they are in one process.
    pub cpu_us_per_gib: Option<f64>,
    /// Where an end's memory is staged: the ceilings of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedReport>,
    /// Unreliable messages that did not arrive, in percent.
    pub lost_percent: Option<f64>,
    /// Whether what arrived is what was sent; absent where it was not looked at.
    pub verification: Option<Verification>,
    /// Counters that grew.
    pub counters: Vec<CounterDelta>,
    /// What the devices have counted of the data, where that can be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Carried>,
    /// Why it could not be measured.
    pub failure: Option<FailureReport>,
}

/// A staged transfer beside its ceilings, measured in turn with it: the same chunks in the same places.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StagedReport {
    /// Bytes of a chunk at most.
    pub chunk_bytes: u64,
    /// The copies alone; of both ends at once where both are a GPU's.
    pub copies_bytes_per_second: Spread,
    /// The provider alone, from and to the locked memory.
    pub provider_bytes_per_second: Spread,
    /// How much of the smaller one is reached: the median of the repeats' ratios.
    pub share_percent: f64,
}

/// The order in which data and a flag behind it were seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OrderingResult {
    /// Kind of memory that they were written to, and the way to it.
    pub memory: String,
    /// Bytes of data.
    pub size_bytes: u64,
    /// How the reader knew.
    pub signal: Signal,
    /// Whether writes were flushed to the GPU before it looked.
    pub flush: bool,
    /// Whether the memory was registered with IBV_ACCESS_RELAXED_ORDERING.
    pub relaxed_ordering: bool,
    /// Who looked; absent where nobody could.
    pub reader: Option<OrderReader>,
    /// What the GPU promises, where it is a GPU's memory.
    pub promised: Option<WritesOrdering>,
    /// How often both were written.
    pub iterations: u64,
    /// How often the reader knew, and saw older data.
    pub stale_iterations: u64,
    /// Numbers of 8 bytes that were older, in all.
    pub stale_words: u64,
    /// The first such time, counted from 1.
    pub first_stale: Option<u64>,
    /// Time of all.
    pub elapsed_ms: f64,
    pub not_tried: Option<String>,
    /// Why it could not be looked at.
    pub failure: Option<FailureReport>,
}

/// What `bw --devices` found.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AtOnce {
    /// `rdmadoctor/bw-at-once/1`.
    pub schema: String,
    /// Each device alone, as `bw` prints it.
    pub alone: Vec<BenchReport<BandwidthResult>>,
    /// All of them at once.
    pub together: Vec<TogetherResult>,
    /// What deserves a look.
    pub notices: Vec<Notice>,
    /// What stood in the way of measuring all at once.
    pub problems: Vec<Problem>,
    /// Why not everything was measured.
    pub stopped: Option<String>,
}

/// A bandwidth of several devices at once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TogetherResult {
    /// What moved data.
    pub operation: Operation,
    /// Bytes of a message.
    pub size_bytes: u64,
    /// Which memory was touched.
    pub buffer: Buffer,
    /// Sum of what each device reached alone.
    pub alone_bytes_per_second: f64,
    /// Sum of all at once, over the repeats.
    pub together_bytes_per_second: Spread,
    /// How much of the sum is left when all are at work.
    pub kept_percent: f64,
    /// Each device's part.
    pub devices: Vec<Share>,
}

/// A device's part of a bandwidth.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// RDMA device.
    pub device: String,
    /// How completions were waited for, both times.
    pub completion: CompletionMode,
    pub alone_bytes_per_second: f64,
    /// With the others at work.
    pub together_bytes_per_second: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LatencyResult {
    /// What moved data.
    pub operation: Operation,
    /// Kind of memory.
    pub memory: String,
    /// Bytes of a message.
    pub size_bytes: u64,
    /// Whether payload travelled in the request.
    pub inline: bool,
    /// How completions were waited for.
    pub completion: CompletionMode,
    /// Whether the figures are half of the way to and fro (write, send), or all of it (read).
    pub is_half_round_trip: bool,
    /// Of all repeats; absent where nothing was measured.
    pub latencies: Option<Latencies>,
    /// Medians of the repeats.
    pub p50_us: Option<Spread>,
    /// Whether what arrived is what was sent; absent where it was not looked at.
    pub verification: Option<Verification>,
    /// Counters that grew.
    pub counters: Vec<CounterDelta>,
    /// What the devices have counted of the data, where that can be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Carried>,
    /// Why it could not be measured.
    pub failure: Option<FailureReport>,
}
