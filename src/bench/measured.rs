//! What was measured on a device, from memory to memory of the same host by way of the device, and what its way could carry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::{BandwidthResult, BenchReport, Buffer, LatencyResult};
use crate::host::topo::Topology;
use crate::text;
use crate::transfer::{Operation, StageMemory};

/// What was measured on a device, back to itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LoopbackReport {
    /// RDMA device.
    pub device: String,
    /// PCI address of the GPU that one end has its memory from, the other being of the host; absent where both are of the host. Write takes
    /// data out of GPU memory, read brings it there.
    pub gpu: Option<String>,
    /// What bounds its way from host memory to the wire; absent where nothing tells, and with a GPU, which slows its link down while idle.
    pub path: Option<PathLimit>,
    /// Latency.
    pub ping: Option<BenchReport<LatencyResult>>,
    /// Bandwidth.
    pub bw: Option<BenchReport<BandwidthResult>>,
    /// Why nothing was measured.
    pub not_run: Option<String>,
    /// Whether that was for want of time, or an interruption, and not for the device.
    pub is_missing: bool,
    /// The time that latency took.
    pub ping_elapsed_us: u64,
    /// The time that bandwidth took.
    pub bw_elapsed_us: u64,
    /// What an earlier run had, to compare with.
    #[serde(skip)]
    pub earlier: Vec<BandwidthResult>,
}

/// What a way carries at most in each direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathLimit {
    /// The rate.
    pub bits_per_second: u64,
    /// Whose it is: the port's, or that of the narrowest PCI Express link.
    pub bounded_by: String,
}

impl PathLimit {
    /// The smaller of the port's rate and its PCI Express link as they are now. A device without a PCI function is bounded by neither.
    #[must_use]
    pub fn of(device: &str, port_bits_per_second: Option<u64>, topology: &Topology) -> Option<Self> {
        let nic = topology.nics.iter().find(|nic| nic.name == device)?;
        let port = port_bits_per_second.map(|rate| Self { bits_per_second: rate, bounded_by: "the port's rate".to_owned() });
        let link = nic.path.bits_per_second.map(|rate| Self {
            bits_per_second: rate,
            bounded_by: match nic.path.narrowest() {
                Some(segment) => format!("the PCI Express link between {} and {}", segment.upper, segment.lower),
                None => format!("the PCI Express link of {}", nic.address),
            },
        });
        port.into_iter().chain(link).min_by_key(|limit| limit.bits_per_second)
    }
}

impl LoopbackReport {
    /// One on which nothing was measured yet.
    #[must_use]
    pub fn new(device: &str, path: Option<PathLimit>) -> Self {
        Self {
            device: device.to_owned(),
            gpu: None,
            path,
            ping: None,
            bw: None,
            not_run: None,
            is_missing: false,
            ping_elapsed_us: 0,
            bw_elapsed_us: 0,
            earlier: Vec::new(),
        }
    }

    /// One of a GPU's memory, on which nothing was measured yet.
    #[must_use]
    pub fn of_gpu(gpu: &str, device: &str) -> Self {
        Self { gpu: Some(gpu.to_owned()), ..Self::new(device, None) }
    }

    /// What findings and steps are about.
    #[must_use]
    pub fn subject(&self) -> String {
        self.gpu.as_ref().map_or_else(|| self.device.clone(), |gpu| format!("{gpu}/{}", self.device))
    }

    /// The command that measures the same alone.
    #[must_use]
    pub fn command(&self) -> String {
        let memory =
            self.gpu.as_ref().map_or_else(String::new, |gpu| format!(" --memory {} --to-memory host", text::word(&format!("cuda:{gpu}"))));
        format!("rdmadoctor bw {}{memory}", text::word(&self.device))
    }

    /// What was found out about the GPU's memory when it was opened; absent without a GPU, and where it was not opened.
    #[must_use]
    pub fn gpu_memory(&self) -> Option<&StageMemory> {
        self.gpu.as_ref()?;
        let of_bw = self.bw.iter().filter_map(|bw| bw.connection.as_ref());
        let of_ping = self.ping.iter().filter_map(|ping| ping.connection.as_ref());
        of_bw.chain(of_ping).find_map(|connection| connection.local.memory.as_ref())
    }

    /// Whether its figures are of a simulated device.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.ping.as_ref().is_some_and(BenchReport::is_simulated) || self.bw.as_ref().is_some_and(BenchReport::is_simulated)
    }

    /// Whether latency was asked for and there is not a single figure of it, nor an interruption to blame.
    #[must_use]
    pub fn moves_nothing(&self) -> bool {
        self.ping.as_ref().is_some_and(|ping| {
            let has_trouble = !ping.problems.is_empty() || ping.results.iter().any(|row| row.failure.is_some());
            has_trouble && ping.results.iter().all(|row| row.latencies.is_none())
        })
    }

    /// The bandwidth with the best median among an operation's.
    #[must_use]
    pub fn best(&self, operation: Operation) -> Option<&BandwidthResult> {
        let median = |row: &BandwidthResult| row.bytes_per_second.map_or(0.0, |rate| rate.median);
        let rows = self.bw.iter().flat_map(|bw| &bw.results);
        rows.filter(|row| row.operation == operation && row.bytes_per_second.is_some())
            .max_by(|left, right| median(left).total_cmp(&median(right)))
    }

    /// The latency of the shortest messages of the first operation that has one.
    #[must_use]
    pub fn shortest(&self) -> Option<&LatencyResult> {
        let rows = self.ping.iter().flat_map(|ping| &ping.results);
        rows.filter(|row| row.latencies.is_some()).min_by_key(|row| row.size_bytes)
    }

    /// What an earlier run had for the same measurement.
    #[must_use]
    pub fn earlier_of(&self, row: &BandwidthResult) -> Option<&BandwidthResult> {
        self.earlier.iter().find(|other| key(other) == key(row))
    }
}

/// What makes two bandwidths comparable.
fn key(row: &BandwidthResult) -> (Operation, &str, Buffer, u64, u32, bool) {
    (row.operation, &row.memory, row.buffer, row.size_bytes, row.queue_pairs, row.bidirectional)
}
