//! What to measure, and between which ends: whatever nobody names is chosen when it is planned.

use std::time::Instant;

use super::settings::Settings;
use crate::gpu::MemoryKind;
use crate::transfer::{CompletionMode, Connect, Limit, Operation, RunKind, Transport};

/// What to measure. The default is what `bw` does without options.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Bandwidth or latency.
    pub kind: RunKind,
    /// The device of this end; the first with an active port otherwise.
    pub device: Option<String>,
    /// Its port; the first active one otherwise.
    pub port: Option<u32>,
    /// The device of the other end; this one, or on another host the first that is reached, otherwise.
    pub to: Option<String>,
    /// The host of the other end; this one otherwise.
    pub peer: Option<PeerAddress>,
    /// Memory of both ends.
    pub memory: MemoryKind,
    /// Memory of the other end, where it is another kind.
    pub to_memory: Option<MemoryKind>,
    /// Index of this end's address.
    pub gid_index: Option<u8>,
    /// Path MTU; the smaller one of both ports otherwise.
    pub mtu_bytes: Option<u32>,
    /// How queue pairs find each other.
    pub connect: Option<Connect>,
    /// Type of the queue pairs; RC where the device has it.
    pub transport: Option<Transport>,
    /// What moves data; none for all that the type of queue pair has.
    pub operations: Vec<Operation>,
    /// Whether writes and sends carry immediate data.
    pub immediate: bool,
    /// Sizes of messages.
    pub sizes: Vec<u64>,
    /// Queue pairs that send at once.
    pub queue_pairs: u32,
    /// Outstanding requests on each queue pair; found by trying otherwise.
    pub depth: Option<u32>,
    /// Requests posted at once; found by trying otherwise.
    pub batch: Option<u32>,
    /// When a repeat ends.
    pub limit: Limit,
    /// How often each figure is measured.
    pub repeats: u32,
    /// How completions are waited for.
    pub completion: Option<CompletionMode>,
    /// Whether to use one small place of memory over and over.
    pub hot: bool,
    /// Whether to use places all over the memory.
    pub spread: bool,
    /// Whether both ends send at once.
    pub bidirectional: bool,
    /// Whether contents are compared before anything is measured.
    pub verify: bool,
    /// How often the order of writes is looked at, if it is.
    pub litmus: Option<u64>,
    /// When measuring ends, whatever is left to measure.
    pub until: Option<Instant>,
}

/// Another host on which `rdmadoctor peer` runs.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// `HOST` or `HOST:PORT`.
    pub host: String,
    /// What both sides know.
    pub token: String,
}

impl std::fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is nobody else's business.
        f.debug_struct("PeerAddress").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            kind: RunKind::Bandwidth,
            device: None,
            port: None,
            to: None,
            peer: None,
            memory: MemoryKind::Host,
            to_memory: None,
            gid_index: None,
            mtu_bytes: None,
            connect: None,
            transport: None,
            operations: Vec::new(),
            immediate: false,
            sizes: vec![4 << 10, 64 << 10, 1 << 20],
            queue_pairs: 1,
            depth: None,
            batch: None,
            limit: Limit::TimeMs(300),
            repeats: 3,
            completion: None,
            hot: true,
            spread: true,
            bidirectional: false,
            verify: true,
            litmus: None,
            until: None,
        }
    }
}

impl Request {
    /// What `ping` does without options.
    #[must_use]
    pub fn latency() -> Self {
        Self { kind: RunKind::Latency, sizes: vec![64, 4 << 10], spread: false, ..Self::default() }
    }

    /// The same of one device, back to itself.
    #[must_use]
    pub fn of_device(&self, device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..self.clone() }
    }

    /// Whether an operation is measured.
    #[must_use]
    pub fn wants(&self, operation: Operation) -> bool {
        self.operations.is_empty() || self.operations.contains(&operation)
    }

    /// Whether the time for it is over.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Whether a GPU has to be brought up for it.
    #[must_use]
    pub fn needs_cuda(&self) -> bool {
        self.memory.needs_cuda() || self.to_memory.as_ref().is_some_and(MemoryKind::needs_cuda)
    }

    /// The longest message.
    pub(super) fn largest(&self) -> u64 {
        self.sizes.iter().copied().max().unwrap_or(1)
    }

    /// The operations that are asked for, or all of the type.
    fn operations(&self, transport: Transport) -> Vec<Operation> {
        if !self.operations.is_empty() {
            return self.operations.clone();
        }
        match transport {
            Transport::Rc => vec![Operation::Write, Operation::Read, Operation::Send],
            Transport::Uc => vec![Operation::Write, Operation::Send],
            Transport::Ud => vec![Operation::Send],
        }
    }

    /// What is to be measured, once type of queue pair and path MTU are chosen. Whether memory is staged is known when it is opened.
    pub(super) fn settings(&self, transport: Transport, mtu_bytes: u32, patience_ms: u64) -> Settings {
        Settings {
            operations: self.operations(transport),
            transport,
            immediate: self.immediate,
            sizes: self.sizes.clone(),
            queue_pairs: self.queue_pairs,
            completing: self.completion,
            hot: self.hot,
            spread: self.spread,
            bidirectional: self.bidirectional,
            limit: self.limit,
            repeats: self.repeats,
            verify: self.verify,
            depth: self.depth,
            batch: self.batch,
            mtu_bytes,
            staged: false,
            patience_ms,
        }
    }
}
