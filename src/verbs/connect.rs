//! Connecting queue pairs whose addresses were exchanged: paths, state changes, address handles.
#![allow(unsafe_code, reason = "calls through the verbs table")]

use std::ffi::c_int;
use std::mem;
use std::sync::Arc;

use nix::errno::Errno;
use rdma_sys::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CallError, Gid, MTU_BYTES, ProtectionDomain, QueuePair};

/// Key of all datagram queue pairs that rdmadoctor makes.
pub const QUEUE_KEY: u32 = 0x1111_1111;

/// The way from a port to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The own port, from 1.
    pub port: u8,
    /// Index of the own identifier.
    pub gid_index: u8,
    /// The other side's identifier.
    pub remote_gid: Gid,
    /// The other side's local identifier; 0 on Ethernet.
    pub remote_lid: u16,
    /// Whether packets carry a global routing header: always on Ethernet.
    pub is_global: bool,
    /// Path MTU.
    pub mtu_bytes: u32,
}

/// How patient a reliable connection is, and how many reads it may have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reliability {
    /// Exponent of the acknowledgement timeout, in units of 4.096 us.
    pub timeout: u8,
    /// How often a packet is sent again.
    pub retries: u8,
    /// How often a receiver that is not ready is tried again; 7 is for ever.
    pub receiver_retries: u8,
    /// Reads under way.
    pub reads: u8,
}

impl Path {
    fn raw(&self) -> ibv_ah_attr {
        // SAFETY: all-zero is a valid value of this structure of numbers.
        let mut raw: ibv_ah_attr = unsafe { mem::zeroed() };
        raw.port_num = self.port;
        raw.dlid = self.remote_lid;
        raw.is_global = u8::from(self.is_global);
        raw.grh.dgid = ibv_gid { raw: self.remote_gid.0 };
        raw.grh.sgid_index = self.gid_index;
        raw.grh.hop_limit = 64;
        raw
    }
}

/// A way for datagrams.
#[derive(Clone)]
pub struct AddressHandle(Arc<Inner>);

struct Inner {
    pd: ProtectionDomain,
    raw: *mut ibv_ah,
}

// SAFETY: as for the protection domain that it belongs to.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: destroyed once; requests that name it hold it.
        unsafe { (self.pd.0.context.0.verbs.ibv_destroy_ah)(self.raw) };
    }
}

impl AddressHandle {
    pub(super) fn raw(&self) -> *mut ibv_ah {
        self.0.raw
    }
}

impl ProtectionDomain {
    /// Makes an address handle.
    ///
    /// # Errors
    /// `ibv_create_ah` failed: the address cannot be resolved.
    pub fn create_address_handle(&self, path: &Path) -> Result<AddressHandle, CallError> {
        let mut attr = path.raw();
        let context = self.context();
        Errno::clear();
        // SAFETY: the domain lives and `attr` outlives the call.
        let raw = unsafe { (context.0.verbs.ibv_create_ah)(self.0.raw, &raw mut attr) };
        if raw.is_null() {
            return Err(CallError::last("ibv_create_ah", &format!("{} to {}", context.name(), path.remote_gid)));
        }
        Ok(AddressHandle(Arc::new(Inner { pd: self.clone(), raw })))
    }
}

impl QueuePair {
    fn change(&mut self, attr: &mut ibv_qp_attr, mask: ibv_qp_attr_mask, target: &str) -> Result<(), CallError> {
        let context = &self.pd.context().0;
        Errno::clear();
        // SAFETY: the queue pair lives and `attr` outlives the call.
        let returned = unsafe { (context.verbs.ibv_modify_qp)(self.raw, attr, mask.0 as c_int) };
        CallError::check("ibv_modify_qp", &format!("{} to {target}", context.name), returned)
    }

    /// RESET to INIT, after which receive requests can be posted. The masks are those of ibv_modify_qp(3) for each type.
    ///
    /// # Errors
    /// `ibv_modify_qp` failed.
    pub fn initialise(&mut self, port: u8) -> Result<(), CallError> {
        // SAFETY: all-zero is a valid value of this structure of numbers.
        let mut attr: ibv_qp_attr = unsafe { mem::zeroed() };
        attr.qp_state = ibv_qp_state::IBV_QPS_INIT;
        attr.port_num = port;
        let mask = ibv_qp_attr_mask::IBV_QP_STATE | ibv_qp_attr_mask::IBV_QP_PKEY_INDEX | ibv_qp_attr_mask::IBV_QP_PORT;
        let mask = if self.qp_type == ibv_qp_type::IBV_QPT_UD {
            attr.qkey = QUEUE_KEY;
            mask | ibv_qp_attr_mask::IBV_QP_QKEY
        } else {
            let write = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE;
            attr.qp_access_flags = write.0;
            if self.qp_type == ibv_qp_type::IBV_QPT_RC {
                attr.qp_access_flags |= ibv_access_flags::IBV_ACCESS_REMOTE_READ.0;
            }
            mask | ibv_qp_attr_mask::IBV_QP_ACCESS_FLAGS
        };
        self.change(&mut attr, mask, "INIT")
    }

    /// INIT to RTR and on to RTS.
    ///
    /// # Errors
    /// `ibv_modify_qp` failed.
    pub fn connect(&mut self, path: &Path, remote_qp_num: u32, reliability: Reliability) -> Result<(), CallError> {
        // SAFETY: all-zero is a valid value of this structure of numbers.
        let mut attr: ibv_qp_attr = unsafe { mem::zeroed() };
        attr.qp_state = ibv_qp_state::IBV_QPS_RTR;
        let mut mask = ibv_qp_attr_mask::IBV_QP_STATE;
        let is_reliable = self.qp_type == ibv_qp_type::IBV_QPT_RC;
        if self.qp_type != ibv_qp_type::IBV_QPT_UD {
            attr.path_mtu = MTU_BYTES.iter().position(|bytes| *bytes == path.mtu_bytes).unwrap_or(1) as u32;
            attr.dest_qp_num = remote_qp_num;
            attr.ah_attr = path.raw();
            mask = mask
                | ibv_qp_attr_mask::IBV_QP_AV
                | ibv_qp_attr_mask::IBV_QP_PATH_MTU
                | ibv_qp_attr_mask::IBV_QP_DEST_QPN
                | ibv_qp_attr_mask::IBV_QP_RQ_PSN;
        }
        if is_reliable {
            attr.max_dest_rd_atomic = reliability.reads;
            // 0.64 ms (IBTA 1.5, table 45).
            attr.min_rnr_timer = 12;
            mask = mask | ibv_qp_attr_mask::IBV_QP_MAX_DEST_RD_ATOMIC | ibv_qp_attr_mask::IBV_QP_MIN_RNR_TIMER;
        }
        self.change(&mut attr, mask, "RTR")?;
        attr.qp_state = ibv_qp_state::IBV_QPS_RTS;
        let mut mask = ibv_qp_attr_mask::IBV_QP_STATE | ibv_qp_attr_mask::IBV_QP_SQ_PSN;
        if is_reliable {
            attr.timeout = reliability.timeout;
            attr.retry_cnt = reliability.retries;
            attr.rnr_retry = reliability.receiver_retries;
            attr.max_rd_atomic = reliability.reads;
            mask = mask
                | ibv_qp_attr_mask::IBV_QP_TIMEOUT
                | ibv_qp_attr_mask::IBV_QP_RETRY_CNT
                | ibv_qp_attr_mask::IBV_QP_RNR_RETRY
                | ibv_qp_attr_mask::IBV_QP_MAX_QP_RD_ATOMIC;
        }
        self.change(&mut attr, mask, "RTS")
    }
}
