//! The state of a simulated network as seen by one process: plain data, guarded by one lock, reached from C objects by their numbers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rdma_sys::*;

use super::connect::{EventQueue, Id};
use crate::catalog::ObjectKind;
use crate::verbs::QueuePairCaps;

/// Everything that exists. Addresses of C objects are kept as numbers: this side never follows them, it only hands them back.
#[derive(Default)]
pub struct World {
    pub next_id: u32,
    pub next_qpn: u32,
    pub devices: Vec<DeviceState>,
    pub contexts: HashMap<u32, ContextState>,
    pub pds: HashMap<u32, Pd>,
    /// By key, which serves as lkey and as rkey.
    pub mrs: HashMap<u32, Mr>,
    pub channels: HashMap<u32, Channel>,
    pub cqs: HashMap<u32, Cq>,
    pub srqs: HashMap<u32, Srq>,
    /// By queue-pair number.
    pub qps: HashMap<u32, Qp>,
    pub ahs: HashMap<u32, Ah>,
    pub event_queues: HashMap<u32, EventQueue>,
    /// Connections and listeners of rdma_cm.
    pub ids: HashMap<u32, Id>,
    /// The devices that rdma_cm has opened: address of the context, and how many identifiers use it.
    pub manager_contexts: HashMap<usize, (usize, u32)>,
    pub timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    pub clock_runs: bool,
    pub next_token: u64,
    /// What was written to memory of this host and has not arrived.
    pub late: Vec<(super::memory::Span, Vec<u8>)>,
}

/// What a device has become.
#[derive(Default)]
pub struct DeviceState {
    pub is_removed: bool,
    pub ports_down: Vec<bool>,
}

/// What is to happen at a time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A queue pair has waited long enough.
    QueuePair { qpn: u32, token: u64 },
    /// A fault that waits for a time may be due.
    Faults,
}

/// An open device.
pub struct ContextState {
    pub device: usize,
    /// Readable while there are events, as the kernel's file is.
    pub event_fd: OwnedFd,
    pub events: VecDeque<AsyncEvent>,
}

#[derive(Clone, Copy)]
pub struct AsyncEvent {
    pub kind: ibv_event_type,
    /// Address of the object, or number of the port.
    pub element: usize,
}

pub struct Pd {
    pub device: usize,
    pub context: u32,
    pub uses: u32,
}

/// A memory region.
#[derive(Clone, Copy)]
pub struct Mr {
    pub pd: u32,
    /// The address by which work requests name its first byte.
    pub iova: u64,
    /// Where its first byte is.
    pub host: usize,
    pub length: u64,
    pub access: u32,
    /// Whether it is a mapping of our own, of a dma-buf.
    pub is_mapped: bool,
    /// Whether it is memory of a GPU, which this processor reaches through CUDA only.
    pub is_gpu: bool,
}

pub struct Channel {
    pub context: u32,
    /// A semaphore that counts the events. The C object shows its number.
    pub event_fd: OwnedFd,
    /// Completion queues with an event each.
    pub events: VecDeque<u32>,
    pub uses: u32,
}

/// Which completions raise an event.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Armed {
    #[default]
    No,
    Solicited,
    Any,
}

pub struct Cq {
    pub raw: usize,
    pub context: u32,
    pub cq_context: usize,
    pub capacity: usize,
    pub queue: VecDeque<Completion>,
    pub channel: Option<u32>,
    pub armed: Armed,
    pub is_overrun: bool,
    pub uses: u32,
    /// Events that `ibv_get_cq_event` gave and `ibv_ack_cq_events` has not taken back.
    pub unacknowledged: u32,
}

/// A completion, and what polling it frees.
#[derive(Clone, Copy)]
pub struct Completion {
    pub wr_id: u64,
    pub status: ibv_wc_status::Type,
    pub opcode: ibv_wc_opcode::Type,
    pub byte_len: u32,
    /// In network order, as posted.
    pub imm: u32,
    pub flags: u32,
    pub qp_num: u32,
    pub src_qp: u32,
    pub frees: Frees,
}

/// Which places in a queue a completion frees when it is polled, as an index moves on in hardware queues.
#[derive(Clone, Copy)]
pub enum Frees {
    /// All of the send queue before this position.
    Sends { before: u64 },
    /// One of the receive queue.
    Receive,
    /// One of a shared receive queue.
    Shared { srq: u32 },
}

pub struct Srq {
    pub raw: usize,
    pub pd: u32,
    pub context: u32,
    pub max_wr: u32,
    pub max_sge: u32,
    /// Fewer entries than this raise an event once; 0 for none.
    pub limit: u32,
    pub queue: VecDeque<Receive>,
    /// Entries posted and not yet freed.
    pub taken: u32,
    pub uses: u32,
}

pub struct Ah {
    pub pd: u32,
    pub dgid: [u8; 16],
    pub dlid: u16,
    pub sgid_index: u8,
    pub hop_limit: u8,
    pub traffic_class: u8,
}

pub struct Qp {
    pub raw: usize,
    pub device: usize,
    pub context: u32,
    pub pd: u32,
    pub qp_type: ibv_qp_type::Type,
    pub send_cq: u32,
    pub recv_cq: u32,
    pub srq: Option<u32>,
    pub caps: QueuePairCaps,
    pub signals_all: bool,
    pub state: ibv_qp_state::Type,
    /// What `ibv_modify_qp` has set so far.
    pub attr: ibv_qp_attr,
    pub sends: VecDeque<Send>,
    /// Positions in the send queue: the next one, and the first that is not free.
    pub posted: u64,
    pub freed: u64,
    pub receives: VecDeque<Receive>,
    /// Receives posted and not yet freed.
    pub taken: u32,
    pub waiting: Waiting,
    pub timeouts: u8,
    pub not_ready: u8,
}

/// What the first send of a queue pair waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    Nothing,
    /// A time to pass.
    Pause(u64),
    /// A peer in another process to answer.
    Answer(u64),
}

/// A piece of memory of a work request.
#[derive(Clone, Copy)]
pub struct Piece {
    pub addr: u64,
    pub length: u32,
    pub lkey: u32,
}

/// A posted receive.
pub struct Receive {
    pub wr_id: u64,
    pub pieces: Vec<Piece>,
}

/// A posted send.
pub struct Send {
    pub position: u64,
    pub wr_id: u64,
    pub operation: Operation,
    pub imm: Option<u32>,
    pub is_signaled: bool,
    pub is_solicited: bool,
    pub payload: Payload,
    pub to: Option<Datagram>,
}

/// What a send request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Operation {
    Send,
    Write { addr: u64, rkey: u32 },
    Read { addr: u64, rkey: u32, length: u64 },
    CompareSwap { addr: u64, rkey: u32, compare: u64, swap: u64 },
    FetchAdd { addr: u64, rkey: u32, add: u64 },
}

impl Operation {
    /// The opcode of its completion.
    pub fn completes_as(self) -> ibv_wc_opcode::Type {
        match self {
            Self::Send => ibv_wc_opcode::IBV_WC_SEND,
            Self::Write { .. } => ibv_wc_opcode::IBV_WC_RDMA_WRITE,
            Self::Read { .. } => ibv_wc_opcode::IBV_WC_RDMA_READ,
            Self::CompareSwap { .. } => ibv_wc_opcode::IBV_WC_COMP_SWAP,
            Self::FetchAdd { .. } => ibv_wc_opcode::IBV_WC_FETCH_ADD,
        }
    }

    /// Whether the peer's memory is read, and local memory written.
    pub fn fetches(self) -> bool {
        matches!(self, Self::Read { .. } | Self::CompareSwap { .. } | Self::FetchAdd { .. })
    }
}

/// Where a send's data is.
pub enum Payload {
    /// Copied when it was posted.
    Inline(Vec<u8>),
    /// In memory regions, until it is sent.
    Pieces(Vec<Piece>),
}

/// Where a datagram goes.
#[derive(Clone, Copy)]
pub struct Datagram {
    pub dgid: [u8; 16],
    pub dlid: u16,
    pub sgid_index: u8,
    pub hop_limit: u8,
    pub traffic_class: u8,
    pub qpn: u32,
    pub qkey: u32,
}

impl World {
    /// A number that no other object has.
    pub fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// A number by which a later answer or timer is told from earlier ones.
    pub fn new_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Whether messages can pass through a port.
    pub fn port_is_down(&self, device: usize, port: u8) -> bool {
        self.devices.get(device).is_some_and(|state| state.is_removed || state.ports_down.get(usize::from(port)).copied().unwrap_or(false))
    }

    /// Whether there are fewer objects of a kind on a device than that.
    pub fn has_fewer(&self, device: usize, of: ObjectKind, than: u64) -> bool {
        let everywhere = match of {
            ObjectKind::ProtectionDomain => self.pds.len(),
            ObjectKind::MemoryRegion => self.mrs.len(),
            ObjectKind::CompletionQueue => self.cqs.len(),
            ObjectKind::SharedReceiveQueue => self.srqs.len(),
            ObjectKind::QueuePair => self.qps.len(),
        };
        // Counting is only worth its time near the limit.
        (everywhere as u64) < than || (self.count(device, of) as u64) < than
    }

    fn count(&self, device: usize, of: ObjectKind) -> usize {
        let in_context = |context: &u32| self.contexts.get(context).is_some_and(|state| state.device == device);
        let in_pd = |pd: &u32| self.pds.get(pd).is_some_and(|pd| pd.device == device);
        match of {
            ObjectKind::ProtectionDomain => self.pds.values().filter(|pd| pd.device == device).count(),
            ObjectKind::MemoryRegion => self.mrs.values().filter(|mr| in_pd(&mr.pd)).count(),
            ObjectKind::CompletionQueue => self.cqs.values().filter(|cq| in_context(&cq.context)).count(),
            ObjectKind::SharedReceiveQueue => self.srqs.values().filter(|srq| in_context(&srq.context)).count(),
            ObjectKind::QueuePair => self.qps.values().filter(|qp| qp.device == device).count(),
        }
    }
}
