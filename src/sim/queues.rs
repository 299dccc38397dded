//! Entry points that make and free completion queues, shared receive queues and queue pairs.
#![allow(unsafe_code, reason = "entry points of a C interface")]

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem;

use nix::sys::signal::{Signal, raise};
use rdma_sys::*;

use super::device::{Home, failed, null};
use super::events;
use super::provider::Locked;
use super::world::{Armed, Cq, Qp, Srq, Waiting};
use crate::catalog::ObjectKind;
use crate::catalog::Refusal;
use crate::request::QpType;
use crate::verbs::{EFADV_QP_DRIVER_TYPE_SRD, QueuePairCaps};

/// The errno of a refusal; where a provider dies of the request instead, so does this process.
pub fn errno_of(refusal: &Refusal) -> i32 {
    if let Some(signal) = refusal.signal.and_then(|signal| Signal::try_from(signal).ok()) {
        // SAFETY: the default action needs no handler code.
        let _ = unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) };
        let _ = raise(signal);
    }
    refusal.errno
}

pub unsafe extern "C" fn create_cq(
    context: *mut ibv_context,
    entries: c_int,
    cq_context: *mut c_void,
    channel: *mut ibv_comp_channel,
    vector: c_int,
) -> *mut ibv_cq {
    // SAFETY: an open device, and a channel of it or none.
    let (home, channel_id) = unsafe { (Home::of(context), (!channel.is_null()).then(|| events::channel_id(channel))) };
    let made = home.enter("ibv_create_cq", &[("cq_depth", entries as u64)]).and_then(|mut locked| {
        // core/uverbs_cmd.c, create_cq: a vector that the device does not have.
        if vector != 0 {
            return Err(libc::EINVAL);
        }
        let granted = home.at().model.create_cq(i64::from(entries)).map_err(|refusal| errno_of(&refusal))?;
        locked.has_room(home.device, ObjectKind::CompletionQueue)?;
        let handle = locked.new_id();
        // SAFETY: all-zero is a valid value: null pointers, numbers, and locks in their initial state.
        let mut raw: Box<ibv_cq> = Box::new(unsafe { mem::zeroed() });
        raw.context = context;
        raw.channel = channel;
        raw.cq_context = cq_context;
        raw.handle = handle;
        raw.cqe = c_int::try_from(granted).unwrap_or(c_int::MAX);
        let raw = Box::into_raw(raw);
        if let Some(channel) = channel_id.and_then(|id| locked.channels.get_mut(&id)) {
            channel.uses += 1;
        }
        locked.cqs.insert(
            handle,
            Cq {
                raw: raw.expose_provenance(),
                context: home.context,
                cq_context: cq_context.expose_provenance(),
                capacity: granted as usize,
                queue: VecDeque::new(),
                channel: channel_id,
                armed: Armed::No,
                is_overrun: false,
                uses: 0,
                unacknowledged: 0,
            },
        );
        Ok(raw)
    });
    made.unwrap_or_else(null)
}

pub unsafe extern "C" fn resize_cq(cq: *mut ibv_cq, entries: c_int) -> c_int {
    // SAFETY: a queue that was made.
    let (home, id) = unsafe { (Home::of((*cq).context), (*cq).handle) };
    let resized = home.enter("ibv_resize_cq", &[("cq_depth", entries as u64)]).and_then(|mut locked| {
        let granted = home.at().model.create_cq(i64::from(entries)).map_err(|refusal| errno_of(&refusal))?;
        let state = locked.cqs.get_mut(&id).ok_or(libc::EINVAL)?;
        // ibv_resize_cq(3): not below what is in it.
        if state.queue.len() > granted as usize {
            return Err(libc::EINVAL);
        }
        state.capacity = granted as usize;
        Ok(granted)
    });
    match resized {
        // SAFETY: as above.
        Ok(granted) => unsafe { (*cq).cqe = c_int::try_from(granted).unwrap_or(c_int::MAX) },
        Err(errno) => return failed(errno),
    }
    0
}

pub unsafe extern "C" fn destroy_cq(cq: *mut ibv_cq) -> c_int {
    // SAFETY: a queue that was made and nobody has freed.
    unsafe {
        let (home, id) = (Home::of((*cq).context), (*cq).handle);
        let freed = home.enter_to_destroy("ibv_destroy_cq").and_then(|locked| {
            if locked.cqs.get(&id).is_some_and(|cq| cq.uses > 0) {
                return Err(libc::EBUSY);
            }
            let mut locked = home.provider.wait_acknowledged(locked, id);
            locked.forget_cq(id);
            Ok(())
        });
        match freed {
            Ok(()) => drop(Box::from_raw(cq)),
            Err(errno) => return failed(errno),
        }
    }
    0
}

pub unsafe extern "C" fn create_srq(pd: *mut ibv_pd, init: *mut ibv_srq_init_attr) -> *mut ibv_srq {
    // SAFETY: a domain, and attributes that are read and written back.
    let (home, context, pd_id, init) = unsafe { (Home::of((*pd).context), (*pd).context, (*pd).handle, &mut *init) };
    let parameters = [("max_wr", u64::from(init.attr.max_wr)), ("max_sge", u64::from(init.attr.max_sge))];
    let made = home.enter("ibv_create_srq", &parameters).and_then(|mut locked| {
        let granted = home.at().model.create_srq(init.attr.max_wr, init.attr.max_sge).map_err(|refusal| errno_of(&refusal))?;
        locked.has_room(home.device, ObjectKind::SharedReceiveQueue)?;
        (init.attr.max_wr, init.attr.max_sge) = (granted.max_wr, granted.max_sge);
        let handle = locked.new_id();
        // SAFETY: all-zero is a valid value: null pointers, numbers, and locks in their initial state.
        let mut raw: Box<ibv_srq> = Box::new(unsafe { mem::zeroed() });
        raw.context = context;
        raw.srq_context = init.srq_context;
        raw.pd = pd;
        raw.handle = handle;
        let raw = Box::into_raw(raw);
        let srq = Srq {
            raw: raw.expose_provenance(),
            pd: pd_id,
            context: home.context,
            max_wr: granted.max_wr,
            max_sge: granted.max_sge,
            // ibv_create_srq(3): srq_limit is not used when one is made.
            limit: 0,
            queue: VecDeque::new(),
            taken: 0,
            uses: 0,
        };
        locked.srqs.insert(handle, srq);
        locked.use_pd(pd_id);
        Ok(raw)
    });
    made.unwrap_or_else(null)
}

pub unsafe extern "C" fn modify_srq(srq: *mut ibv_srq, attr: *mut ibv_srq_attr, mask: c_int) -> c_int {
    // SAFETY: a queue that was made, and attributes.
    let (home, id, attr) = unsafe { (Home::of((*srq).context), (*srq).handle, &*attr) };
    let modified = home.enter("ibv_modify_srq", &[]).and_then(|mut locked| {
        let resizes = mask & ibv_srq_attr_mask::IBV_SRQ_MAX_WR.0 as c_int != 0;
        let limits = mask & ibv_srq_attr_mask::IBV_SRQ_LIMIT.0 as c_int != 0;
        let granted = if resizes {
            let sge = locked.srqs.get(&id).map_or(1, |srq| srq.max_sge);
            Some(home.at().model.create_srq(attr.max_wr, sge).map_err(|refusal| errno_of(&refusal))?.max_wr)
        } else {
            None
        };
        let state = locked.srqs.get_mut(&id).ok_or(libc::EINVAL)?;
        let max_wr = granted.unwrap_or(state.max_wr);
        if max_wr < state.taken || limits && attr.srq_limit > max_wr {
            return Err(libc::EINVAL);
        }
        state.max_wr = max_wr;
        if limits {
            state.limit = attr.srq_limit;
        }
        Ok(())
    });
    modified.map_or_else(failed, |()| 0)
}

pub unsafe extern "C" fn query_srq(srq: *mut ibv_srq, attr: *mut ibv_srq_attr) -> c_int {
    // SAFETY: a queue that was made.
    let (home, id) = unsafe { (Home::of((*srq).context), (*srq).handle) };
    match home.enter("ibv_query_srq", &[]).and_then(|locked| {
        let state = locked.srqs.get(&id).ok_or(libc::EINVAL)?;
        Ok(ibv_srq_attr { max_wr: state.max_wr, max_sge: state.max_sge, srq_limit: state.limit })
    }) {
        // SAFETY: a structure to fill.
        Ok(state) => unsafe { attr.write(state) },
        Err(errno) => return failed(errno),
    }
    0
}

pub unsafe extern "C" fn destroy_srq(srq: *mut ibv_srq) -> c_int {
    // SAFETY: a queue that was made and nobody has freed.
    unsafe {
        let (home, id) = (Home::of((*srq).context), (*srq).handle);
        let freed = home.enter_to_destroy("ibv_destroy_srq").and_then(|mut locked| {
            if locked.srqs.get(&id).is_some_and(|srq| srq.uses > 0) {
                return Err(libc::EBUSY);
            }
            if let Some(gone) = locked.srqs.remove(&id) {
                locked.release_pd(gone.pd);
            }
            let context = home.context;
            let raw = srq.expose_provenance();
            locked.drop_events(context, raw);
            Ok(())
        });
        match freed {
            Ok(()) => drop(Box::from_raw(srq)),
            Err(errno) => return failed(errno),
        }
    }
    0
}

pub unsafe extern "C" fn create_qp(pd: *mut ibv_pd, init: *mut ibv_qp_init_attr) -> *mut ibv_qp {
    // SAFETY: what the caller gives is handed on.
    unsafe { create("ibv_create_qp", pd, init, None) }
}

/// libefa's call for a type of its own: providers/efa/verbs.c, `efadv_create_driver_qp`.
pub unsafe extern "C" fn efadv_create_driver_qp(pd: *mut ibv_pd, init: *mut ibv_qp_init_attr, driver_qp_type: u32) -> *mut ibv_qp {
    // SAFETY: a domain, whose context lives.
    let is_efa = unsafe { Home::of((*pd).context) }.at().model.driver == "efa";
    // SAFETY: attributes that are read.
    let (is_driver_type, is_srd) = (unsafe { (*init).qp_type } == QpType::Srd.code(), driver_qp_type == EFADV_QP_DRIVER_TYPE_SRD);
    match () {
        () if !is_efa => null(libc::EOPNOTSUPP),
        () if !is_driver_type => null(libc::EINVAL),
        // hw/efa/efa_verbs.c, efa_create_qp: a type that it does not know.
        () if !is_srd => null(libc::EOPNOTSUPP),
        // SAFETY: what the caller gives is handed on.
        () => unsafe { create("efadv_create_driver_qp", pd, init, Some(QpType::Srd)) },
    }
}

/// Makes a queue pair, by the standard call or by a provider's own, which says of which type.
unsafe fn create(call: &'static str, pd: *mut ibv_pd, init: *mut ibv_qp_init_attr, own_type: Option<QpType>) -> *mut ibv_qp {
    // SAFETY: a domain, and attributes that are read and written back.
    let (home, context, pd_id, init) = unsafe { (Home::of((*pd).context), (*pd).context, (*pd).handle, &mut *init) };
    // SAFETY: queues that were made, or null.
    let (send_cq, recv_cq, srq) = unsafe {
        (init.send_cq.as_ref().map(|cq| cq.handle), init.recv_cq.as_ref().map(|cq| cq.handle), init.srq.as_ref().map(|srq| srq.handle))
    };
    let asked = QueuePairCaps {
        max_send_wr: init.cap.max_send_wr,
        max_recv_wr: init.cap.max_recv_wr,
        max_send_sge: init.cap.max_send_sge,
        max_recv_sge: init.cap.max_recv_sge,
        max_inline_data: init.cap.max_inline_data,
    };
    let parameters = [
        ("max_send_wr", u64::from(asked.max_send_wr)),
        ("max_recv_wr", u64::from(asked.max_recv_wr)),
        ("max_send_sge", u64::from(asked.max_send_sge)),
        ("max_recv_sge", u64::from(asked.max_recv_sge)),
        ("max_inline_data", u64::from(asked.max_inline_data)),
        ("qp_type", u64::from(init.qp_type)),
        ("srq", u64::from(srq.is_some())),
    ];
    let made = home.enter(call, &parameters).and_then(|mut locked| {
        let model = &home.at().model;
        let caps = match own_type.or_else(|| QpType::from_code(init.qp_type)) {
            None => return Err(model.queue_pairs.other_types.value.0),
            Some(kind) => {
                let granted = model.create_qp(kind, asked, srq.is_some()).map_err(|refusal| errno_of(&refusal))?.caps;
                // What only a call of the provider's own makes.
                if let Some(errno) = model.standard_call_refuses(kind).filter(|_| own_type.is_none()) {
                    return Err(errno.0);
                }
                granted
            }
        };
        // core/uverbs_cmd.c, create_qp: both queues must exist.
        let (Some(send_cq), Some(recv_cq)) = (send_cq, recv_cq) else { return Err(libc::EINVAL) };
        locked.has_room(home.device, ObjectKind::QueuePair)?;
        let qpn = locked.new_qpn().ok_or(libc::ENOMEM)?;
        // SAFETY: all-zero is a valid value: null pointers, numbers, and locks in their initial state.
        let mut raw: Box<ibv_qp> = Box::new(unsafe { mem::zeroed() });
        raw.context = context;
        raw.qp_context = init.qp_context;
        raw.pd = pd;
        (raw.send_cq, raw.recv_cq, raw.srq) = (init.send_cq, init.recv_cq, init.srq);
        (raw.handle, raw.qp_num) = (qpn, qpn);
        raw.state = ibv_qp_state::IBV_QPS_RESET;
        raw.qp_type = init.qp_type;
        let raw = Box::into_raw(raw);
        init.cap = ibv_qp_cap {
            max_send_wr: caps.max_send_wr,
            max_recv_wr: caps.max_recv_wr,
            max_send_sge: caps.max_send_sge,
            max_recv_sge: caps.max_recv_sge,
            max_inline_data: caps.max_inline_data,
        };
        let qp = Qp {
            raw: raw.expose_provenance(),
            device: home.device,
            context: home.context,
            pd: pd_id,
            qp_type: init.qp_type,
            send_cq,
            recv_cq,
            srq,
            caps,
            signals_all: init.sq_sig_all != 0,
            state: ibv_qp_state::IBV_QPS_RESET,
            // SAFETY: all-zero is a valid value of this structure of numbers.
            attr: unsafe { mem::zeroed() },
            sends: VecDeque::new(),
            posted: 0,
            freed: 0,
            receives: VecDeque::new(),
            taken: 0,
            waiting: Waiting::Nothing,
            timeouts: 0,
            not_ready: 0,
        };
        locked.qps.insert(qpn, qp);
        locked.use_pd(pd_id);
        for cq in [send_cq, recv_cq] {
            if let Some(cq) = locked.cqs.get_mut(&cq) {
                cq.uses += 1;
            }
        }
        if let Some(srq) = srq.and_then(|id| locked.srqs.get_mut(&id)) {
            srq.uses += 1;
        }
        Ok(raw)
    });
    made.unwrap_or_else(null)
}

pub unsafe extern "C" fn destroy_qp(qp: *mut ibv_qp) -> c_int {
    // SAFETY: a queue pair that was made and nobody has freed.
    unsafe {
        match Home::of((*qp).context).enter_to_destroy("ibv_destroy_qp") {
            Ok(mut locked) => {
                locked.forget_qp((*qp).qp_num);
                drop(Box::from_raw(qp));
            }
            Err(errno) => return failed(errno),
        }
    }
    0
}

impl Locked {
    /// A number that no queue pair has. Numbers come round, so that one that was freed is not given again at once.
    fn new_qpn(&mut self) -> Option<u32> {
        let range = self.provider.network.as_ref().map_or(super::link::FIRST_QPN..1 << 24, super::link::Network::qpns);
        for _ in 0..=self.qps.len() {
            let candidate = self.next_qpn;
            self.next_qpn = if candidate + 1 < range.end { candidate + 1 } else { range.start };
            if !self.qps.contains_key(&candidate) {
                return Some(candidate);
            }
        }
        None
    }

    /// Removes a queue pair with its completions, as providers do when one is destroyed (libmlx5, __mlx5_cq_clean).
    pub fn forget_qp(&mut self, qpn: u32) {
        self.clean_completions(qpn);
        let Some(gone) = self.qps.remove(&qpn) else { return };
        self.release_pd(gone.pd);
        for cq in [gone.send_cq, gone.recv_cq] {
            if let Some(cq) = self.cqs.get_mut(&cq) {
                cq.uses = cq.uses.saturating_sub(1);
            }
        }
        if let Some(srq) = gone.srq.and_then(|id| self.srqs.get_mut(&id)) {
            srq.uses = srq.uses.saturating_sub(1);
        }
        self.drop_events(gone.context, gone.raw);
    }

    fn forget_cq(&mut self, id: u32) {
        let Some(gone) = self.cqs.remove(&id) else { return };
        if let Some(channel) = gone.channel.and_then(|id| self.channels.get_mut(&id)) {
            channel.uses = channel.uses.saturating_sub(1);
            channel.drop_events_of(id);
        }
        self.drop_events(gone.context, gone.raw);
    }
}
