//! What is told and answered about the order of writes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gpu::WritesOrdering;

/// Data and then a flag, written by one end and looked for by the other, both in one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPlan {
    /// The end that writes.
    pub writer: u8,
    /// The end that looks.
    pub reader: u8,
    /// Bytes of data, of which a multiple of 8 is used.
    pub size_bytes: u32,
    /// How often.
    pub iterations: u64,
    /// How the reader knows.
    pub signal: Signal,
    /// Whether writes are flushed to the GPU (cuFlushGPUDirectRDMAWrites) before the data is looked at.
    pub flush: bool,
    /// Whether the reader's memory is registered with IBV_ACCESS_RELAXED_ORDERING.
    pub relaxed: bool,
    /// Longest time without any progress.
    pub patience_ms: u64,
}

/// How a reader knows that data is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// By a number in the same memory, written behind the data.
    Flag,
    /// By the completion of that write, which carries immediate data.
    Completion,
}

/// Who looks at data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderReader {
    /// The processor, at memory of the host.
    Processor,
    /// A kernel of the GPU.
    Gpu,
    /// The processor, by copies out of the GPU's memory.
    Copies,
}

/// What a reader saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderFacts {
    pub reader: OrderReader,
    /// Times that data and flag were written.
    pub iterations: u64,
    /// Times that it knew, and saw older data.
    pub stale_iterations: u64,
    /// Numbers of 8 bytes that were older, in all.
    pub stale_words: u64,
    /// The first such time, counted from 1.
    pub first_stale: Option<u64>,
    /// Time of all.
    pub elapsed_ns: u64,
    /// What the GPU promises of its own reads, where it is a GPU's memory.
    pub promised: Option<WritesOrdering>,
    pub not_tried: Option<String>,
}
