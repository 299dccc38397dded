//! Completion queues at work: adding completions, polling, arming.
#![allow(unsafe_code, reason = "entry points of a C interface")]

use std::collections::VecDeque;
use std::ffi::c_int;

use rdma_sys::*;

use super::device::{Home, failed};
use super::provider::Locked;
use super::world::{Armed, Completion, Frees};

pub unsafe extern "C" fn poll_cq(cq: *mut ibv_cq, entries: c_int, wc: *mut ibv_wc) -> c_int {
    // SAFETY: a queue that was made.
    let (home, id) = unsafe { (Home::of((*cq).context), (*cq).handle) };
    // Polling stays in the process, so it works on a device that is gone, too; and it is not counted as a call of the device.
    if let Err(errno) = home.provider.faults.at_call(&home.at().name, "ibv_poll_cq", &[]) {
        return -failed(errno).abs();
    }
    let mut locked = home.provider.lock();
    let mut polled = 0;
    while polled < entries {
        let Some(completion) = locked.cqs.get_mut(&id).and_then(|cq| cq.queue.pop_front()) else { break };
        locked.free_places(&completion);
        // SAFETY: the caller's array has room for `entries`.
        unsafe { wc.add(polled as usize).write(completion.as_wc()) };
        polled += 1;
    }
    polled
}

pub unsafe extern "C" fn req_notify_cq(cq: *mut ibv_cq, solicited_only: c_int) -> c_int {
    // SAFETY: a queue that was made.
    let (home, id) = unsafe { (Home::of((*cq).context), (*cq).handle) };
    match home.enter("ibv_req_notify_cq", &[]) {
        Ok(mut locked) => {
            if let Some(state) = locked.cqs.get_mut(&id) {
                // Armed for any completion, it stays so.
                state.armed = if solicited_only == 0 || state.armed == Armed::Any { Armed::Any } else { Armed::Solicited };
            }
            0
        }
        Err(errno) => failed(errno),
    }
}

impl Completion {
    fn as_wc(&self) -> ibv_wc {
        ibv_wc {
            wr_id: self.wr_id,
            status: self.status,
            opcode: self.opcode,
            vendor_err: 0,
            byte_len: self.byte_len,
            imm_data_invalidated_rkey_union: imm_data_invalidated_rkey_union_t { imm_data: self.imm },
            qp_num: self.qp_num,
            src_qp: self.src_qp,
            wc_flags: self.flags,
            pkey_index: 0,
            slid: 0,
            sl: 0,
            dlid_path_bits: 0,
        }
    }
}

impl Locked {
    fn free_places(&mut self, completion: &Completion) {
        match completion.frees {
            Frees::Shared { srq } => {
                if let Some(srq) = self.srqs.get_mut(&srq) {
                    srq.taken = srq.taken.saturating_sub(1);
                }
            }
            Frees::Sends { before } => {
                if let Some(qp) = self.qps.get_mut(&completion.qp_num) {
                    qp.freed = qp.freed.max(before);
                }
            }
            Frees::Receive => {
                if let Some(qp) = self.qps.get_mut(&completion.qp_num) {
                    qp.taken = qp.taken.saturating_sub(1);
                }
            }
        }
    }

    /// Adds a completion. One too many breaks the queue: what is in it can still be polled, nothing comes after, and its queue pairs
    /// fail (IBTA 1.5, 11.6.3.2).
    pub fn complete(&mut self, cq: u32, completion: Completion, is_solicited: bool) {
        let Some(state) = self.cqs.get_mut(&cq) else { return };
        if state.is_overrun {
            return;
        }
        if state.queue.len() >= state.capacity {
            state.is_overrun = true;
            let (context, raw) = (state.context, state.raw);
            self.push_event(context, ibv_event_type::IBV_EVENT_CQ_ERR, raw);
            let users: Vec<u32> = self.qps.iter().filter(|(_, qp)| qp.send_cq == cq || qp.recv_cq == cq).map(|(qpn, _)| *qpn).collect();
            for qpn in users {
                self.fail_qp(qpn);
            }
            return;
        }
        let raises = match state.armed {
            Armed::No => false,
            Armed::Any => true,
            // Errors count as solicited (ibv_req_notify_cq(3)).
            Armed::Solicited => is_solicited || completion.status != ibv_wc_status::IBV_WC_SUCCESS,
        };
        state.queue.push_back(completion);
        if raises {
            state.armed = Armed::No;
            if let Some(channel) = state.channel {
                let world = &mut *self.world;
                if let Some(channel) = world.channels.get_mut(&channel) {
                    channel.push(cq);
                }
            }
        }
    }

    /// Takes completions of a queue pair out, with what they would free in a shared receive queue.
    pub fn clean_completions(&mut self, qpn: u32) {
        let world = &mut *self.world;
        let Some(qp) = world.qps.get(&qpn) else { return };
        for id in [qp.send_cq, qp.recv_cq] {
            let Some(cq) = world.cqs.get_mut(&id) else { continue };
            for gone in take_of(&mut cq.queue, qpn) {
                if let Frees::Shared { srq } = gone.frees
                    && let Some(srq) = world.srqs.get_mut(&srq)
                {
                    srq.taken = srq.taken.saturating_sub(1);
                }
            }
        }
    }
}

/// Removes and gives the completions of a queue pair.
fn take_of(queue: &mut VecDeque<Completion>, qpn: u32) -> Vec<Completion> {
    let taken = queue.iter().filter(|completion| completion.qp_num == qpn).copied().collect();
    queue.retain(|completion| completion.qp_num != qpn);
    taken
}
