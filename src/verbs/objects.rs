//! Protection domain, completion queue, shared receive queue, memory region and queue pair, each freed when dropped.
#![allow(unsafe_code, reason = "calls through the verbs table and owns what it returns")]

use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::Arc;

use nix::errno::Errno;
use rdma_sys::*;
use rdmadoctor_types::QpState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CallError, CompletionChannel, Context, Gid, MTU_BYTES};

/// A protection domain: queue pairs and memory regions of one work together.
#[derive(Clone)]
pub struct ProtectionDomain(pub(super) Arc<PdInner>);

pub(super) struct PdInner {
    pub context: Context,
    pub raw: *mut ibv_pd,
}

// SAFETY: as for the context that it belongs to.
unsafe impl Send for PdInner {}
// SAFETY: as above.
unsafe impl Sync for PdInner {}

impl Drop for PdInner {
    fn drop(&mut self) {
        // SAFETY: freed once; what was made in it holds this and is gone.
        unsafe { (self.context.0.verbs.ibv_dealloc_pd)(self.raw) };
    }
}

#[derive(Clone)]
pub struct CompletionQueue(pub(super) Arc<CqInner>);

pub(super) struct CqInner {
    pub context: Context,
    pub raw: *mut ibv_cq,
    /// Held so that it outlives the queue.
    channel: Option<CompletionChannel>,
}

// SAFETY: as for the context that it belongs to.
unsafe impl Send for CqInner {}
// SAFETY: as above.
unsafe impl Sync for CqInner {}

impl Drop for CqInner {
    fn drop(&mut self) {
        // Destroying waits for events that nobody has acknowledged.
        if let Some(channel) = &self.channel {
            channel.drain();
        }
        // SAFETY: freed once; queue pairs that use it hold this and are gone.
        unsafe { (self.context.0.verbs.ibv_destroy_cq)(self.raw) };
    }
}

#[derive(Clone)]
pub struct SharedReceiveQueue(Arc<SrqInner>);

struct SrqInner {
    pd: ProtectionDomain,
    raw: *mut ibv_srq,
}

// SAFETY: as for the context that it belongs to.
unsafe impl Send for SrqInner {}
// SAFETY: as above.
unsafe impl Sync for SrqInner {}

impl Drop for SrqInner {
    fn drop(&mut self) {
        // SAFETY: freed once; queue pairs that use it hold this and are gone.
        unsafe { (self.pd.0.context.0.verbs.ibv_destroy_srq)(self.raw) };
    }
}

/// Host memory registered with a device. It owns its buffer, so the memory outlives the registration.
pub struct MemoryRegion {
    pd: ProtectionDomain,
    raw: *mut ibv_mr,
    /// Freed after the registration is gone.
    buffer: Box<[u8]>,
}

impl MemoryRegion {
    /// The registered memory.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // SAFETY: deregistered once, before the buffer is freed.
        unsafe { (self.pd.0.context.0.verbs.ibv_dereg_mr)(self.raw) };
    }
}

/// Capacities of a queue pair (`struct ibv_qp_cap`), as asked or as written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueuePairCaps {
    /// Work requests on the send queue.
    pub max_send_wr: u32,
    /// Work requests on the receive queue.
    pub max_recv_wr: u32,
    /// Scatter-gather entries in a send request.
    pub max_send_sge: u32,
    /// Scatter-gather entries in a receive request.
    pub max_recv_sge: u32,
    /// Bytes that a send request may carry inline.
    pub max_inline_data: u32,
}

/// What a queue pair is made from.
pub struct QueuePairInit<'a> {
    /// The verbs code of the type, such as `IBV_QPT_RC`.
    pub qp_type: u32,
    /// The capacities asked.
    pub caps: QueuePairCaps,
    /// For sends; and for receives, unless the call is given another one for those.
    pub cq: &'a CompletionQueue,
    /// Takes the place of the receive queue.
    pub srq: Option<&'a SharedReceiveQueue>,
}

pub struct QueuePair {
    pub(super) pd: ProtectionDomain,
    pub(super) raw: *mut ibv_qp,
    pub(super) caps: QueuePairCaps,
    pub(super) qp_type: u32,
    /// The connection that made it, which then destroys it.
    pub(super) manager: Option<super::manager::ConnectionId>,
    /// Held so that they outlive the queue pair.
    pub(super) _uses: (CompletionQueue, CompletionQueue, Option<SharedReceiveQueue>),
}

// SAFETY: as for the context that it belongs to.
unsafe impl Send for QueuePair {}

impl Drop for QueuePair {
    fn drop(&mut self) {
        if let Some(id) = &self.manager {
            id.destroy_qp();
            return;
        }
        // SAFETY: destroyed once, before what it uses.
        unsafe { (self.pd.0.context.0.verbs.ibv_destroy_qp)(self.raw) };
    }
}

/// A step of the way from RESET to RTS, with the attributes that ibv_modify_qp(3) requires for a reliable connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange {
    /// RESET to INIT.
    Init {
        /// The port to use, from 1.
        port: u8,
    },
    /// INIT to RTR: the other side is known.
    ReadyToReceive {
        /// The port to use, from 1.
        port: u8,
        /// The other side's queue-pair number.
        remote_qp_num: u32,
        /// The other side's identifier.
        remote_gid: Gid,
        /// Index of the own identifier.
        gid_index: u8,
        /// The other side's local identifier; 0 on Ethernet.
        remote_lid: u16,
        /// Whether addresses carry a global routing header: always on Ethernet.
        is_global: bool,
        /// Path MTU.
        mtu_bytes: u32,
    },
    /// RTR to RTS.
    ReadyToSend,
}

impl StateChange {
    /// The state that it leads to.
    #[must_use]
    pub fn target(self) -> QpState {
        match self {
            Self::Init { .. } => QpState::Init,
            Self::ReadyToReceive { .. } => QpState::Rtr,
            Self::ReadyToSend => QpState::Rts,
        }
    }
}

impl Context {
    /// Makes a protection domain.
    ///
    /// # Errors
    /// `ibv_alloc_pd` failed.
    pub fn alloc_pd(&self) -> Result<ProtectionDomain, CallError> {
        Errno::clear();
        // SAFETY: the context is open.
        let raw = unsafe { (self.0.verbs.ibv_alloc_pd)(self.0.raw) };
        if raw.is_null() {
            return Err(CallError::last("ibv_alloc_pd", self.name()));
        }
        Ok(ProtectionDomain(Arc::new(PdInner { context: self.clone(), raw })))
    }

    /// Makes a completion queue of at least `entries`.
    ///
    /// # Errors
    /// `ibv_create_cq` failed. A depth that does not fit the call's type is EINVAL.
    pub fn create_cq(&self, entries: u32) -> Result<CompletionQueue, CallError> {
        self.create_cq_on(entries, None)
    }

    /// As [`Context::create_cq`]; its events go to `channel`.
    ///
    /// # Errors
    /// As there.
    pub fn create_cq_on(&self, entries: u32, channel: Option<&CompletionChannel>) -> Result<CompletionQueue, CallError> {
        let Ok(entries) = c_int::try_from(entries) else {
            Errno::EINVAL.set();
            return Err(CallError::last("ibv_create_cq", self.name()));
        };
        Errno::clear();
        let events = channel.map_or(ptr::null_mut(), |channel| channel.0.raw);
        // SAFETY: the context is open; the channel, if there is one, lives as long as the queue; there is no context pointer.
        let raw = unsafe { (self.0.verbs.ibv_create_cq)(self.0.raw, entries, ptr::null_mut(), events, 0) };
        if raw.is_null() {
            return Err(CallError::last("ibv_create_cq", self.name()));
        }
        Ok(CompletionQueue(Arc::new(CqInner { context: self.clone(), raw, channel: channel.cloned() })))
    }
}

impl CompletionQueue {
    /// Entries that the queue really has.
    #[must_use]
    pub fn entries(&self) -> u32 {
        // SAFETY: the queue lives; libibverbs keeps the granted number in it.
        u32::try_from(unsafe { (*self.0.raw).cqe }).unwrap_or(0)
    }
}

impl ProtectionDomain {
    /// The device that it belongs to.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.0.context
    }

    /// Registers `buffer` for local use.
    ///
    /// # Errors
    /// `ibv_reg_mr` failed: ENOMEM says that the pages cannot be locked (RLIMIT_MEMLOCK), see ibv_reg_mr(3).
    pub fn register(&self, mut buffer: Box<[u8]>) -> Result<MemoryRegion, CallError> {
        let context = &self.0.context.0;
        let access = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0 as c_int;
        Errno::clear();
        // SAFETY: the buffer moves into the returned region, its address stays, and it is freed after the registration.
        let raw = unsafe { (context.verbs.ibv_reg_mr)(self.0.raw, buffer.as_mut_ptr().cast::<c_void>(), buffer.len(), access) };
        if raw.is_null() {
            return Err(CallError::last("ibv_reg_mr", &context.name));
        }
        Ok(MemoryRegion { pd: self.clone(), raw, buffer })
    }

    /// Makes a shared receive queue.
    ///
    /// # Errors
    /// `ibv_create_srq` failed: EOPNOTSUPP or ENOSYS where the device has none.
    pub fn create_srq(&self, max_wr: u32, max_sge: u32) -> Result<SharedReceiveQueue, CallError> {
        let context = &self.0.context.0;
        let mut init = ibv_srq_init_attr { srq_context: ptr::null_mut(), attr: ibv_srq_attr { max_wr, max_sge, srq_limit: 0 } };
        Errno::clear();
        // SAFETY: the domain lives and `init` outlives the call.
        let raw = unsafe { (context.verbs.ibv_create_srq)(self.0.raw, &raw mut init) };
        if raw.is_null() {
            return Err(CallError::last("ibv_create_srq", &context.name));
        }
        Ok(SharedReceiveQueue(Arc::new(SrqInner { pd: self.clone(), raw })))
    }

    /// Makes a queue pair.
    ///
    /// # Errors
    /// `ibv_create_qp` failed; errno 0 says that the provider refused without setting one.
    pub fn create_qp(&self, asked: &QueuePairInit<'_>) -> Result<QueuePair, CallError> {
        self.create_qp_on(asked, asked.cq)
    }

    /// As [`ProtectionDomain::create_qp`], with a completion queue of its own for receives.
    ///
    /// # Errors
    /// As there.
    pub fn create_qp_on(&self, asked: &QueuePairInit<'_>, recv_cq: &CompletionQueue) -> Result<QueuePair, CallError> {
        let context = &self.0.context.0;
        let mut init = asked.raw(recv_cq);
        Errno::clear();
        // SAFETY: everything that `init` points to lives, and the queue pair keeps it alive.
        let raw = unsafe { (context.verbs.ibv_create_qp)(self.0.raw, &raw mut init) };
        if raw.is_null() {
            return Err(CallError::last("ibv_create_qp", &context.name));
        }
        Ok(QueuePair {
            pd: self.clone(),
            raw,
            caps: init.cap.into(),
            qp_type: asked.qp_type,
            manager: None,
            _uses: (asked.cq.clone(), recv_cq.clone(), asked.srq.cloned()),
        })
    }
}

impl QueuePairInit<'_> {
    /// What the calls take. It points to what `self` borrows, and to `recv_cq`.
    pub(super) fn raw(&self, recv_cq: &CompletionQueue) -> ibv_qp_init_attr {
        ibv_qp_init_attr {
            qp_context: ptr::null_mut(),
            send_cq: self.cq.0.raw,
            recv_cq: recv_cq.0.raw,
            srq: self.srq.map_or(ptr::null_mut(), |srq| srq.0.raw),
            cap: ibv_qp_cap {
                max_send_wr: self.caps.max_send_wr,
                max_recv_wr: self.caps.max_recv_wr,
                max_send_sge: self.caps.max_send_sge,
                max_recv_sge: self.caps.max_recv_sge,
                max_inline_data: self.caps.max_inline_data,
            },
            qp_type: self.qp_type,
            sq_sig_all: 0,
        }
    }
}

impl From<ibv_qp_cap> for QueuePairCaps {
    fn from(raw: ibv_qp_cap) -> Self {
        Self {
            max_send_wr: raw.max_send_wr,
            max_recv_wr: raw.max_recv_wr,
            max_send_sge: raw.max_send_sge,
            max_recv_sge: raw.max_recv_sge,
            max_inline_data: raw.max_inline_data,
        }
    }
}

impl QueuePair {
    /// The capacities that the device wrote back; they may be larger than asked.
    #[must_use]
    pub fn caps(&self) -> QueuePairCaps {
        self.caps
    }

    /// The queue-pair number.
    #[must_use]
    pub fn number(&self) -> u32 {
        // SAFETY: the queue pair lives.
        unsafe { (*self.raw).qp_num }
    }

    /// Moves the queue pair on to its next state.
    ///
    /// # Errors
    /// `ibv_modify_qp` failed.
    pub fn modify(&mut self, change: StateChange) -> Result<(), CallError> {
        // SAFETY: all-zero is a valid value of this structure of numbers.
        let mut attr: ibv_qp_attr = unsafe { mem::zeroed() };
        let mask = match change {
            StateChange::Init { port } => {
                attr.qp_state = ibv_qp_state::IBV_QPS_INIT;
                attr.port_num = port;
                attr.qp_access_flags = (ibv_access_flags::IBV_ACCESS_LOCAL_WRITE
                    | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE
                    | ibv_access_flags::IBV_ACCESS_REMOTE_READ)
                    .0;
                ibv_qp_attr_mask::IBV_QP_STATE
                    | ibv_qp_attr_mask::IBV_QP_PKEY_INDEX
                    | ibv_qp_attr_mask::IBV_QP_PORT
                    | ibv_qp_attr_mask::IBV_QP_ACCESS_FLAGS
            }
            StateChange::ReadyToReceive { port, remote_qp_num, remote_gid, gid_index, remote_lid, is_global, mtu_bytes } => {
                attr.qp_state = ibv_qp_state::IBV_QPS_RTR;
                attr.path_mtu = MTU_BYTES.iter().position(|bytes| *bytes == mtu_bytes).unwrap_or(1) as u32;
                attr.dest_qp_num = remote_qp_num;
                attr.max_dest_rd_atomic = 1;
                attr.min_rnr_timer = 12;
                attr.ah_attr.port_num = port;
                attr.ah_attr.dlid = remote_lid;
                attr.ah_attr.is_global = u8::from(is_global);
                attr.ah_attr.grh.dgid = ibv_gid { raw: remote_gid.0 };
                attr.ah_attr.grh.sgid_index = gid_index;
                attr.ah_attr.grh.hop_limit = 64;
                ibv_qp_attr_mask::IBV_QP_STATE
                    | ibv_qp_attr_mask::IBV_QP_AV
                    | ibv_qp_attr_mask::IBV_QP_PATH_MTU
                    | ibv_qp_attr_mask::IBV_QP_DEST_QPN
                    | ibv_qp_attr_mask::IBV_QP_RQ_PSN
                    | ibv_qp_attr_mask::IBV_QP_MAX_DEST_RD_ATOMIC
                    | ibv_qp_attr_mask::IBV_QP_MIN_RNR_TIMER
            }
            StateChange::ReadyToSend => {
                attr.qp_state = ibv_qp_state::IBV_QPS_RTS;
                attr.timeout = 14;
                attr.retry_cnt = 7;
                attr.rnr_retry = 7;
                attr.max_rd_atomic = 1;
                ibv_qp_attr_mask::IBV_QP_STATE
                    | ibv_qp_attr_mask::IBV_QP_TIMEOUT
                    | ibv_qp_attr_mask::IBV_QP_RETRY_CNT
                    | ibv_qp_attr_mask::IBV_QP_RNR_RETRY
                    | ibv_qp_attr_mask::IBV_QP_SQ_PSN
                    | ibv_qp_attr_mask::IBV_QP_MAX_QP_RD_ATOMIC
            }
        };
        let context = &self.pd.0.context.0;
        Errno::clear();
        // SAFETY: the queue pair lives and `attr` outlives the call.
        let returned = unsafe { (context.verbs.ibv_modify_qp)(self.raw, &raw mut attr, mask.0 as c_int) };
        CallError::check("ibv_modify_qp", &format!("{} to {}", context.name, change.target()), returned)
    }
}
