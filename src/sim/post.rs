//! Posting work requests. Everything is copied out of the caller's structures here, inline data included.
#![allow(unsafe_code, reason = "entry points of a C interface")]

use std::ffi::c_int;
use std::{ptr, slice};

use rdma_sys::*;

use super::device::Home;
use super::provider::Locked;
use super::world::{Completion, Datagram, Frees, Operation, Payload, Piece, Receive, Send};
use crate::catalog::device::StateMachine;

const SIGNALED: u32 = 1 << 1;
const SOLICITED: u32 = 1 << 2;
const INLINE: u32 = 1 << 3;

/// # Safety
/// `list` has `count` entries.
unsafe fn pieces(list: *const ibv_sge, count: c_int) -> Vec<Piece> {
    if count <= 0 || list.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's terms.
    let list = unsafe { slice::from_raw_parts(list, count as usize) };
    list.iter().map(|sge| Piece { addr: sge.addr, length: sge.length, lkey: sge.lkey }).collect()
}

/// # Safety
/// Each piece is memory of the caller.
unsafe fn copy(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.length > 0) {
        // SAFETY: the caller's terms.
        bytes.extend_from_slice(unsafe {
            slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(piece.addr as usize), piece.length as usize)
        });
    }
    bytes
}

pub unsafe extern "C" fn post_send(qp: *mut ibv_qp, first: *mut ibv_send_wr, bad: *mut *mut ibv_send_wr) -> c_int {
    // SAFETY: a queue pair that was made, and a list of requests that ends with a null pointer.
    unsafe {
        let (home, qpn) = (Home::of((*qp).context), (*qp).qp_num);
        let parameters = first.as_ref().map(|wr| [("opcode", u64::from(wr.opcode)), ("num_sge", wr.num_sge as u64)]);
        let mut result = 0;
        match home.enter("ibv_post_send", parameters.as_ref().map_or(&[], |parameters| &parameters[..])) {
            Err(errno) => {
                *bad = first;
                result = failed_post(home, errno);
            }
            Ok(mut locked) => {
                let mut at = first;
                while let Some(wr) = at.as_ref() {
                    if let Err(errno) = locked.post_one_send(home, qpn, wr) {
                        *bad = at;
                        result = failed_post(home, errno);
                        break;
                    }
                    at = wr.next;
                }
                locked.advance(qpn);
            }
        }
        result
    }
}

/// A fault without errno fails like a call that returns -1.
fn failed_post(home: Home, errno: i32) -> c_int {
    if errno == 0 { -1 } else { home.at().failed_post(errno) }
}

pub unsafe extern "C" fn post_recv(qp: *mut ibv_qp, first: *mut ibv_recv_wr, bad: *mut *mut ibv_recv_wr) -> c_int {
    // SAFETY: a queue pair that was made, and a list of requests that ends with a null pointer.
    unsafe {
        let (home, qpn) = (Home::of((*qp).context), (*qp).qp_num);
        post_receives(home, "ibv_post_recv", first, bad, |locked, receive| locked.post_one_receive(home, qpn, receive))
    }
}

pub unsafe extern "C" fn post_srq_recv(srq: *mut ibv_srq, first: *mut ibv_recv_wr, bad: *mut *mut ibv_recv_wr) -> c_int {
    // SAFETY: a queue that was made, and a list of requests that ends with a null pointer.
    unsafe {
        let (home, id) = (Home::of((*srq).context), (*srq).handle);
        post_receives(home, "ibv_post_srq_recv", first, bad, |locked, receive| locked.post_one_shared(id, receive))
    }
}

unsafe fn post_receives(
    home: Home,
    call: &str,
    first: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
    post: impl Fn(&mut Locked, Receive) -> Result<(), i32>,
) -> c_int {
    // SAFETY: a list of requests that ends with a null pointer.
    unsafe {
        let parameters = first.as_ref().map(|wr| [("num_sge", wr.num_sge as u64)]);
        let mut locked = match home.enter(call, parameters.as_ref().map_or(&[], |parameters| &parameters[..])) {
            Ok(locked) => locked,
            Err(errno) => {
                *bad = first;
                return failed_post(home, errno);
            }
        };
        let mut at = first;
        while let Some(wr) = at.as_ref() {
            let receive = Receive { wr_id: wr.wr_id, pieces: pieces(wr.sg_list, wr.num_sge) };
            let posted = if wr.num_sge < 0 { Err(libc::EINVAL) } else { post(&mut locked, receive) };
            if let Err(errno) = posted {
                *bad = at;
                return failed_post(home, errno);
            }
            at = wr.next;
        }
        0
    }
}

impl Locked {
    /// # Safety
    /// The request's pieces are an array, and inline ones are memory of the caller.
    unsafe fn post_one_send(&mut self, home: Home, qpn: u32, wr: &ibv_send_wr) -> Result<(), i32> {
        let qp = self.world.qps.get(&qpn).ok_or(libc::EINVAL)?;
        // Alibaba's compat mode has the connection up with RTR.
        let is_compat = home.at().model.connection.state_machine.value == StateMachine::ErdmaCompat;
        let first = if is_compat { ibv_qp_state::IBV_QPS_RTR } else { ibv_qp_state::IBV_QPS_RTS };
        if qp.state < first {
            return Err(libc::EINVAL);
        }
        if qp.posted - qp.freed >= u64::from(qp.caps.max_send_wr) {
            return Err(libc::ENOMEM);
        }
        if wr.num_sge < 0 || wr.num_sge as u32 > qp.caps.max_send_sge {
            return Err(libc::EINVAL);
        }
        // SAFETY: the caller's terms.
        let pieces = unsafe { pieces(wr.sg_list, wr.num_sge) };
        let length = pieces.iter().map(|piece| u64::from(piece.length)).sum::<u64>();
        let (operation, has_imm) = operation(wr, length).ok_or(libc::EINVAL)?;
        let is_datagram = qp.qp_type == ibv_qp_type::IBV_QPT_UD;
        let permitted = match qp.qp_type {
            ibv_qp_type::IBV_QPT_RC => true,
            ibv_qp_type::IBV_QPT_UC => !operation.fetches(),
            ibv_qp_type::IBV_QPT_UD => operation == Operation::Send,
            _ => false,
        };
        if !permitted {
            return Err(libc::EINVAL);
        }
        let is_inline = wr.send_flags & INLINE != 0;
        if is_inline && (operation.fetches() || length > u64::from(qp.caps.max_inline_data)) {
            return Err(libc::EINVAL);
        }
        let to = if is_datagram {
            // SAFETY: the member of the union that a datagram's request fills.
            let ud = unsafe { wr.wr.ud };
            // SAFETY: an address handle that was made, or null.
            let ah = unsafe { ud.ah.as_ref() }.and_then(|ah| self.world.ahs.get(&ah.handle)).filter(|ah| ah.pd == qp.pd);
            let ah = ah.ok_or(libc::EINVAL)?;
            Some(Datagram {
                dgid: ah.dgid,
                dlid: ah.dlid,
                sgid_index: ah.sgid_index,
                hop_limit: ah.hop_limit,
                traffic_class: ah.traffic_class,
                qpn: ud.remote_qpn,
                qkey: ud.remote_qkey,
            })
        } else {
            None
        };
        let send = Send {
            position: qp.posted,
            wr_id: wr.wr_id,
            operation,
            // SAFETY: both members of the union have one form.
            imm: has_imm.then_some(unsafe { wr.imm_data_invalidated_rkey_union.imm_data }),
            is_signaled: qp.signals_all || wr.send_flags & SIGNALED != 0,
            is_solicited: wr.send_flags & SOLICITED != 0,
            // SAFETY: the caller's terms.
            payload: if is_inline { Payload::Inline(unsafe { copy(&pieces) }) } else { Payload::Pieces(pieces) },
            to,
        };
        if let Some(qp) = self.qps.get_mut(&qpn) {
            qp.posted += 1;
            qp.sends.push_back(send);
        }
        Ok(())
    }

    fn post_one_receive(&mut self, home: Home, qpn: u32, receive: Receive) -> Result<(), i32> {
        let qp = self.world.qps.get_mut(&qpn).ok_or(libc::EINVAL)?;
        // iWARP stays where it is until it is connected, and takes receives there.
        let is_iwarp = home.at().model.connection.state_machine.value == StateMachine::Iwarp;
        if qp.srq.is_some() || qp.state == ibv_qp_state::IBV_QPS_RESET && !is_iwarp || receive.pieces.len() > qp.caps.max_recv_sge as usize
        {
            return Err(libc::EINVAL);
        }
        if qp.taken >= qp.caps.max_recv_wr {
            return Err(libc::ENOMEM);
        }
        qp.taken += 1;
        if qp.state == ibv_qp_state::IBV_QPS_ERR {
            let cq = qp.recv_cq;
            self.complete(cq, flushed(receive.wr_id, ibv_wc_opcode::IBV_WC_RECV, qpn, Frees::Receive), false);
        } else {
            qp.receives.push_back(receive);
        }
        Ok(())
    }

    fn post_one_shared(&mut self, id: u32, receive: Receive) -> Result<(), i32> {
        let srq = self.world.srqs.get_mut(&id).ok_or(libc::EINVAL)?;
        if receive.pieces.len() > srq.max_sge as usize {
            return Err(libc::EINVAL);
        }
        if srq.taken >= srq.max_wr {
            return Err(libc::ENOMEM);
        }
        srq.taken += 1;
        srq.queue.push_back(receive);
        Ok(())
    }
}

/// The completion of a request that an error kept from being done.
pub fn flushed(wr_id: u64, opcode: ibv_wc_opcode::Type, qp_num: u32, frees: Frees) -> Completion {
    let status = ibv_wc_status::IBV_WC_WR_FLUSH_ERR;
    Completion { wr_id, status, opcode, byte_len: 0, imm: 0, flags: 0, qp_num, src_qp: 0, frees }
}

/// What a request does, and whether it has immediate data; `None` for what is not simulated.
fn operation(wr: &ibv_send_wr, length: u64) -> Option<(Operation, bool)> {
    // SAFETY: members of the union that the opcodes below fill; all of them are numbers.
    let (rdma, atomic) = unsafe { (wr.wr.rdma, wr.wr.atomic) };
    let (addr, rkey) = (rdma.remote_addr, rdma.rkey);
    Some(match wr.opcode {
        ibv_wr_opcode::IBV_WR_SEND => (Operation::Send, false),
        ibv_wr_opcode::IBV_WR_SEND_WITH_IMM => (Operation::Send, true),
        ibv_wr_opcode::IBV_WR_RDMA_WRITE => (Operation::Write { addr, rkey }, false),
        ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM => (Operation::Write { addr, rkey }, true),
        ibv_wr_opcode::IBV_WR_RDMA_READ => (Operation::Read { addr, rkey, length }, false),
        ibv_wr_opcode::IBV_WR_ATOMIC_CMP_AND_SWP => {
            let (compare, swap) = (atomic.compare_add, atomic.swap);
            (Operation::CompareSwap { addr: atomic.remote_addr, rkey: atomic.rkey, compare, swap }, false)
        }
        ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD => {
            (Operation::FetchAdd { addr: atomic.remote_addr, rkey: atomic.rkey, add: atomic.compare_add }, false)
        }
        _ => return None,
    })
}
