//! What `ping` and `bw` share: the options of both, the choice of both ends, and the way from there to a report.

mod choose;
mod end;
mod run;

pub(super) use choose::choose;
pub(super) use end::Hosts;
pub(super) use run::{known, run};

use std::time::{Duration, Instant};

use clap::Args;

use super::session::Session;
use super::{UsageError, exit, values};
use crate::bench::{ConnectionReport, EndChoice, Known, Notice, Settings};
use crate::devices::Problem;
use crate::gpu::MemoryKind;
use crate::transfer::{Completing, Connect, Operation, RunKind, Transport};

/// Options of `ping` and `bw`.
#[derive(Debug, Clone, Args)]
#[group(id = "ends")]
pub struct Arguments {
    /// Only this device; the first with an active port otherwise.
    #[arg(value_name = "DEV")]
    device: Option<String>,
    /// To this device, instead of back to the same one.
    #[arg(long, value_name = "DEV2")]
    to: Option<String>,
    /// To another host, where `rdmadoctor peer` runs; --to then names a device there.
    #[arg(long, value_name = "HOST[:PORT]")]
    peer: Option<String>,
    #[command(flatten)]
    secret: super::token::Arguments,
    /// What moves data; all that the type of queue pair has otherwise.
    #[arg(long, value_enum, value_name = "OPERATION,…", value_delimiter = ',')]
    op: Vec<Operation>,
    /// Type of the queue pairs; RC where the device has it.
    #[arg(long, value_enum, value_name = "TYPE")]
    transport: Option<Transport>,
    /// Writes and sends carry immediate data.
    #[arg(long)]
    immediate: bool,
    /// Measure for this long each time.
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = values::duration, conflicts_with = "iterations")]
    duration: Duration,
    /// Measure so many messages on each queue pair each time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,
    /// Measure so often; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Wait for completions by asking again and again, or by sleeping until an event; `bw` sleeps where a message takes 10 ms, and with one
    /// processor where that moves more, and both ask otherwise. No event tells of the writes of `ping` without `--immediate`: it asks.
    #[arg(long, value_enum, value_name = "HOW")]
    completion: Option<Completing>,
    /// Connect by exchanged addresses or by rdma_cm; chosen from the device otherwise.
    #[arg(long, value_enum, value_name = "HOW")]
    connect: Option<Connect>,
    /// Index of the own address; chosen by type, scope and reachability otherwise.
    #[arg(long, value_name = "INDEX")]
    gid_index: Option<u8>,
    /// Path MTU; the smaller one of both ports otherwise.
    #[arg(long, value_name = "BYTES", value_parser = mtu)]
    mtu: Option<u32>,
    /// Which memory both ends have: host, host:huge, host:pinned, or cuda:GPU[:FORM][:PATH]. GPU is a number, a PCI address or a UUID; FORM is
    /// vmm, vmm-noflag, async or managed; PATH is auto, peermem, dmabuf, data-direct or staged.
    #[arg(long, value_name = "KIND", default_value = "host", add = super::complete::memory_kinds())]
    memory: MemoryKind,
    /// Which memory the other end has, where it is to be another kind.
    #[arg(long, value_name = "KIND", add = super::complete::memory_kinds())]
    to_memory: Option<MemoryKind>,
    /// Do not compare what arrives with what was sent before measuring.
    #[arg(long)]
    no_verify: bool,
}

/// The longest message: 1 GiB.
const LONGEST: u64 = 1 << 30;

fn mtu(text: &str) -> Result<u32, String> {
    let valid = [256, 512, 1024, 2048, 4096];
    text.parse()
        .ok()
        .filter(|bytes| valid.contains(bytes))
        .ok_or_else(|| format!("`{text}` is no path MTU; valid are 256, 512, 1024, 2048, 4096"))
}

/// A size of a message.
pub fn message_size(text: &str) -> Result<u64, String> {
    values::size(text).and_then(|size| {
        if (1..=LONGEST).contains(&size) { Ok(size) } else { Err(format!("`{text}` is out of range; messages have 1 byte to 1 GiB")) }
    })
}

impl Arguments {
    /// The same of one device, back to itself.
    pub fn of_device(&self, device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..self.clone() }
    }

    /// Whether it is said which ends, or which memory.
    pub fn names_an_end(&self) -> bool {
        let has_memory = self.memory != MemoryKind::Host || self.to_memory.is_some();
        self.device.is_some() || self.to.is_some() || self.peer.is_some() || has_memory
    }

    /// Whether an operation is measured.
    pub fn wants(&self, operation: Operation) -> bool {
        self.op.is_empty() || self.op.contains(&operation)
    }

    /// The same for a NIC with itself, with this memory on this end and the host's on the other.
    pub fn of_pair(&self, nic: &str, memory: MemoryKind, operations: &[Operation]) -> Self {
        let (device, to_memory) = (Some(nic.to_owned()), Some(MemoryKind::Host));
        Self { device, memory, to_memory, op: operations.to_vec(), ..self.clone() }
    }
}

/// What only one of the commands has.
pub struct Own {
    /// Bandwidth or latency.
    pub kind: RunKind,
    /// Sizes of messages.
    pub sizes: Vec<u64>,
    /// Queue pairs.
    pub queue_pairs: u32,
    /// Which buffers.
    pub hot: bool,
    /// As above.
    pub spread: bool,
    /// Both ends send.
    pub bidirectional: bool,
    /// Given depths.
    pub depth: Option<u32>,
    /// As above.
    pub batch: Option<u32>,
    /// How often the order of writes is looked at, if it is.
    pub litmus: Option<u64>,
    /// When measuring ends, whatever is left to measure.
    pub until: Option<Instant>,
}

impl Own {
    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Why there is nothing to measure.
pub(super) enum Obstacle {
    /// A mistake of the caller's.
    Usage(UsageError),
    /// The host's.
    Problem(Problem),
}

impl From<UsageError> for Obstacle {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

/// Both ends, and what to do with them.
pub(super) struct Chosen {
    pub ends: [EndChoice; 2],
    pub settings: Settings,
    pub connection: ConnectionReport,
    /// What is known of both ends that bears on failures.
    pub hints: Known,
    /// What disagrees between both ends.
    notices: Vec<Notice>,
    pub mark: u64,
}

/// Says that figures are too noisy to quote.
pub fn noise(figures: &[String]) -> Option<Notice> {
    (!figures.is_empty()).then(|| Notice {
        summary: format!("too noisy to quote, by how much repeats differ: {}", figures.join(", ")),
        causes: vec!["something else uses the device or the processors; a longer --duration and more --repeats steady it".to_owned()],
    })
}

/// Exit code of a document.
pub fn code(session: &Session, has_problems: bool, has_failed: bool) -> u8 {
    match () {
        () if session.host.interrupted() => exit::INTERRUPTED,
        () if has_problems || has_failed => exit::FAILED,
        () => exit::OK,
    }
}
