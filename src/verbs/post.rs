//! Work requests made ready before they are needed, posting and polling.
//!
//! A ring's requests are linked into chains once; posting a chain is one call, and polling fills an array that is there already. So
//! moving messages allocates nothing, locks nothing and, where the provider does not, makes no system call.
#![allow(unsafe_code, reason = "calls the operations of an open context and reads what they fill")]

use std::mem;
use std::ptr;

use nix::errno::Errno;
use rdma_sys::*;

use super::{AddressHandle, CallError, CompletionQueue, QueuePair, Region};

/// What a send request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendKind {
    /// Writes into the other side's memory.
    Write,
    /// As [`SendKind::Write`], and consumes a receive request with immediate data.
    WriteWithImmediate,
    /// Reads the other side's memory.
    Read,
    /// Fills a receive request.
    Send,
    /// As [`SendKind::Send`], with immediate data.
    SendWithImmediate,
}

/// Where datagrams go.
#[derive(Clone)]
pub struct Datagrams {
    /// The way.
    pub handle: AddressHandle,
    /// The other side's queue pair.
    pub queue_pair: u32,
    pub queue_key: u32,
}

/// Requests of a ring: all of one kind and size.
pub struct SendRingInit<'a> {
    /// What they do.
    pub kind: SendKind,
    /// Local memory.
    pub local: &'a Region,
    /// The other side's address and key, for writes and reads.
    pub remote: (u64, u32),
    /// Bytes of each.
    pub size: u32,
    /// For each request the offset into local memory and from the remote address; a multiple of `batch` and `signal_chains` of them.
    pub offsets: &'a [(usize, u64)],
    /// Requests in a chain, which is posted at once.
    pub batch: usize,
    /// Chains of which the last request of the last one makes a completion.
    pub signal_chains: usize,
    /// Whether payload travels in the request.
    pub inline: bool,
    /// Comes back in completions.
    pub id: u64,
    /// Where datagrams go, on such a queue pair.
    pub datagrams: Option<Datagrams>,
}

/// A ring of send requests in chains.
pub struct SendRing {
    requests: Box<[ibv_send_wr]>,
    /// What the requests point to.
    _entries: Box<[ibv_sge]>,
    batch: usize,
    chains: usize,
    next: usize,
    /// Lives as long as the requests name it.
    _memory: (Region, Option<Datagrams>),
}

// SAFETY: the pointers lead into the ring's own boxes, which move with it.
unsafe impl Send for SendRing {}

impl SendRing {
    /// Links the requests. Lengths that do not divide into chains lose their rest.
    #[must_use]
    pub fn new(init: &SendRingInit<'_>) -> Self {
        let batch = init.batch.clamp(1, init.offsets.len().max(1));
        let chains = init.offsets.len() / batch;
        let mut entries: Box<[ibv_sge]> = init
            .offsets
            .iter()
            .map(|(offset, _)| {
                assert!(offset + init.size as usize <= init.local.length(), "requests stay within the region");
                ibv_sge { addr: init.local.address() + *offset as u64, length: init.size, lkey: init.local.local_key() }
            })
            .collect();
        let opcode = match init.kind {
            SendKind::Write => ibv_wr_opcode::IBV_WR_RDMA_WRITE,
            SendKind::WriteWithImmediate => ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM,
            SendKind::Read => ibv_wr_opcode::IBV_WR_RDMA_READ,
            SendKind::Send => ibv_wr_opcode::IBV_WR_SEND,
            SendKind::SendWithImmediate => ibv_wr_opcode::IBV_WR_SEND_WITH_IMM,
        };
        let signal = batch * init.signal_chains.max(1);
        let inline = if init.inline { ibv_send_flags::IBV_SEND_INLINE.0 } else { 0 };
        let mut requests: Box<[ibv_send_wr]> = (0..chains * batch)
            .map(|index| {
                // SAFETY: all-zero is a valid value of this structure of numbers and pointers.
                let mut request: ibv_send_wr = unsafe { mem::zeroed() };
                request.wr_id = init.id;
                request.sg_list = &raw mut entries[index];
                request.num_sge = 1;
                request.opcode = opcode;
                request.send_flags = inline | if (index + 1) % signal == 0 { ibv_send_flags::IBV_SEND_SIGNALED.0 } else { 0 };
                request.imm_data_invalidated_rkey_union.imm_data = 0x7264_6d61_u32.to_be();
                match &init.datagrams {
                    Some(to) => request.wr.ud = ud_t { ah: to.handle.raw(), remote_qpn: to.queue_pair, remote_qkey: to.queue_key },
                    // The other side's device refuses what is not its memory, wherever it is said to be.
                    None => {
                        request.wr.rdma = rdma_t { remote_addr: init.remote.0.wrapping_add(init.offsets[index].1), rkey: init.remote.1 };
                    }
                }
                request
            })
            .collect();
        for index in 0..requests.len() {
            if index % batch != batch - 1 {
                requests[index].next = &raw mut requests[index + 1];
            }
        }
        Self { requests, _entries: entries, batch, chains, next: 0, _memory: (init.local.clone(), init.datagrams.clone()) }
    }

    /// Requests of a chain.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Posts the next chain.
    ///
    /// # Errors
    /// `ibv_post_send` failed.
    #[inline]
    pub fn post_next(&mut self, queue_pair: &QueuePair) -> Result<(), CallError> {
        self.post_from(queue_pair, self.next * self.batch)
    }

    /// Posts the last `count` requests of the next chain, all of them if it has fewer.
    ///
    /// # Errors
    /// `ibv_post_send` failed.
    #[inline]
    pub fn post(&mut self, queue_pair: &QueuePair, count: usize) -> Result<(), CallError> {
        self.post_from(queue_pair, self.next * self.batch + self.batch - count.clamp(1, self.batch))
    }

    #[inline]
    fn post_from(&mut self, queue_pair: &QueuePair, first: usize) -> Result<(), CallError> {
        self.next = if self.next + 1 == self.chains { 0 } else { self.next + 1 };
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair lives, the chain ends within the ring, and the memory that it names is held.
        let returned = unsafe { ibv_post_send(queue_pair.raw, &raw mut self.requests[first], &raw mut bad) };
        if returned == 0 { Ok(()) } else { Err(refused("ibv_post_send", queue_pair, returned)) }
    }
}

#[cold]
fn refused(call: &str, queue_pair: &QueuePair, returned: i32) -> CallError {
    let object = format!("{} queue pair {}", queue_pair.pd.context().name(), queue_pair.number());
    CallError::check(call, &object, returned).err().unwrap_or_else(|| CallError::last(call, &object))
}

/// A ring of receive requests in chains.
pub struct ReceiveRing {
    requests: Box<[ibv_recv_wr]>,
    /// What the requests point to.
    _entries: Box<[ibv_sge]>,
    batch: usize,
    chains: usize,
    next: usize,
    _memory: Region,
}

// SAFETY: as for `SendRing`.
unsafe impl Send for ReceiveRing {}

impl ReceiveRing {
    /// Links requests of `size` bytes at `offsets`, which are a multiple of `batch`.
    #[must_use]
    pub fn new(local: &Region, size: u32, offsets: &[usize], batch: usize, id: u64) -> Self {
        let batch = batch.clamp(1, offsets.len().max(1));
        let chains = offsets.len() / batch;
        let mut entries: Box<[ibv_sge]> = offsets
            .iter()
            .map(|offset| {
                assert!(offset + size as usize <= local.length(), "requests stay within the region");
                ibv_sge { addr: local.address() + *offset as u64, length: size, lkey: local.local_key() }
            })
            .collect();
        let mut requests: Box<[ibv_recv_wr]> = (0..chains * batch)
            .map(|index| ibv_recv_wr { wr_id: id, next: ptr::null_mut(), sg_list: &raw mut entries[index], num_sge: 1 })
            .collect();
        for index in 0..requests.len() {
            if index % batch != batch - 1 {
                requests[index].next = &raw mut requests[index + 1];
            }
        }
        Self { requests, _entries: entries, batch, chains, next: 0, _memory: local.clone() }
    }

    /// Requests of a chain.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Posts the next chain.
    ///
    /// # Errors
    /// `ibv_post_recv` failed.
    #[inline]
    pub fn post(&mut self, queue_pair: &QueuePair) -> Result<(), CallError> {
        let first = self.next * self.batch;
        self.next = if self.next + 1 == self.chains { 0 } else { self.next + 1 };
        let mut bad = ptr::null_mut();
        // SAFETY: as in `SendRing::post`.
        let returned = unsafe { ibv_post_recv(queue_pair.raw, &raw mut self.requests[first], &raw mut bad) };
        if returned == 0 { Ok(()) } else { Err(refused("ibv_post_recv", queue_pair, returned)) }
    }
}

/// Room for completions.
pub struct Completions(Box<[Completion]>);

#[repr(transparent)]
pub struct Completion(ibv_wc);

impl Completion {
    /// What the request was given as its identity.
    #[must_use]
    #[inline]
    pub fn id(&self) -> u64 {
        self.0.wr_id
    }

    /// `enum ibv_wc_status`: 0 is success.
    #[must_use]
    #[inline]
    pub fn status(&self) -> u32 {
        self.0.status
    }

    /// The provider's own code beside a status that is no success.
    #[must_use]
    pub fn vendor_error(&self) -> u32 {
        self.0.vendor_err
    }

    /// Bytes that a receive got.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> u32 {
        self.0.byte_len
    }

    #[must_use]
    pub fn queue_pair(&self) -> u32 {
        self.0.qp_num
    }
}

impl Completions {
    /// Room for `count` at a time.
    #[must_use]
    pub fn new(count: usize) -> Self {
        // SAFETY: all-zero is a valid value of this structure of numbers.
        Self((0..count.max(1)).map(|_| Completion(unsafe { mem::zeroed() })).collect())
    }
}

impl CompletionQueue {
    /// Takes the completions that are there, as many as there is room for.
    ///
    /// # Errors
    /// `ibv_poll_cq` failed.
    #[inline]
    pub fn poll<'a>(&self, room: &'a mut Completions) -> Result<&'a [Completion], CallError> {
        let count = room.0.len() as i32;
        // SAFETY: the queue lives; a `Completion` is an ibv_wc, and there are `count` of them.
        let got = unsafe { ibv_poll_cq(self.0.raw, count, room.0.as_mut_ptr().cast::<ibv_wc>()) };
        match usize::try_from(got) {
            Ok(got) => Ok(&room.0[..got.min(room.0.len())]),
            Err(_) => Err(self.poll_failed(got)),
        }
    }

    /// Takes a completion, if one is there.
    ///
    /// # Errors
    /// `ibv_poll_cq` failed.
    #[inline]
    pub fn poll_one<'a>(&self, room: &'a mut Completions) -> Result<Option<&'a Completion>, CallError> {
        // SAFETY: the queue lives; a `Completion` is an ibv_wc, and there is room for one at least.
        match unsafe { ibv_poll_cq(self.0.raw, 1, room.0.as_mut_ptr().cast::<ibv_wc>()) } {
            0 => Ok(None),
            1 => Ok(room.0.first()),
            got => Err(self.poll_failed(got)),
        }
    }

    #[cold]
    fn poll_failed(&self, got: i32) -> CallError {
        let name = self.0.context.name();
        Errno::clear();
        CallError::check("ibv_poll_cq", name, got).err().unwrap_or_else(|| CallError::last("ibv_poll_cq", name))
    }
}
