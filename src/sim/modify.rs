//! `ibv_modify_qp` and `ibv_query_qp`. Which steps there are, and what each needs, is the model's word; here stand the values.
#![allow(unsafe_code, reason = "entry points of a C interface")]

use std::ffi::c_int;
use std::ptr;

use rdma_sys::*;
use rdmadoctor_types::{LinkLayer, QpState};

use super::device::{Home, failed};
use super::provider::{Locked, Provider};
use super::queues::errno_of;
use super::world::{Qp, Waiting};
use crate::catalog::device::StateMachine;
use crate::catalog::{AttributeMask as Mask, Effect, ModifyRequest};
use crate::request::QpType;
use crate::verbs::{Gid, MTU_BYTES};

pub unsafe extern "C" fn modify_qp(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, mask: c_int) -> c_int {
    // SAFETY: a queue pair that was made, and attributes.
    let (home, qpn, attr) = unsafe { (Home::of((*qp).context), (*qp).qp_num, &*attr) };
    let mask = mask as u32;
    let parameters = [("state", u64::from(attr.qp_state))];
    let parameters = if mask & Mask::STATE != 0 { &parameters[..] } else { &[] };
    let modified = home.enter("ibv_modify_qp", parameters).and_then(|mut locked| {
        let state = locked.modify(home, qpn, attr, mask)?;
        locked.advance(qpn);
        Ok(state)
    });
    match modified {
        // libibverbs keeps what was asked, whatever the device made of it (libibverbs/cmd.c, ibv_cmd_modify_qp).
        // SAFETY: as above.
        Ok(asked) => unsafe { (*qp).state = asked },
        Err(errno) => return failed(errno),
    }
    0
}

pub unsafe extern "C" fn query_qp(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, _mask: c_int, init: *mut ibv_qp_init_attr) -> c_int {
    // SAFETY: a queue pair that was made.
    let (home, qpn, raw) = unsafe { (Home::of((*qp).context), (*qp).qp_num, &*qp) };
    let locked = match home.enter("ibv_query_qp", &[]) {
        Ok(locked) => locked,
        Err(errno) => return failed(errno),
    };
    let Some(state) = locked.qps.get(&qpn) else { return failed(libc::EINVAL) };
    let actual = QpState::from_code(state.state).unwrap_or(QpState::Error);
    let (told, max_inline_data) = home.at().model.told(&home.provider.kernel, actual, state.caps.max_inline_data);
    let cap = || ibv_qp_cap {
        max_send_wr: state.caps.max_send_wr,
        max_recv_wr: state.caps.max_recv_wr,
        max_send_sge: state.caps.max_send_sge,
        max_recv_sge: state.caps.max_recv_sge,
        max_inline_data,
    };
    // SAFETY: two structures to fill; the attributes are numbers, which a copy of their bytes copies.
    unsafe {
        attr.write(ptr::read(&raw const state.attr));
        (*attr).qp_state = told.code();
        (*attr).cur_qp_state = told.code();
        (*attr).cap = cap();
        init.write(ibv_qp_init_attr {
            qp_context: raw.qp_context,
            send_cq: raw.send_cq,
            recv_cq: raw.recv_cq,
            srq: raw.srq,
            cap: cap(),
            qp_type: state.qp_type,
            sq_sig_all: c_int::from(state.signals_all),
        });
        // libibverbs keeps what it was told (libibverbs/cmd.c, ibv_cmd_query_qp).
        (*qp).state = told.code();
    }
    0
}

impl Provider {
    /// Finds the way to an address on Ethernet (core/addr.c, rdma_resolve_ip): none is needed where the address holds the hardware's.
    pub fn resolve(&self, gid: Gid) -> Result<(), i32> {
        match gid.scope() {
            "empty" => Err(libc::EINVAL),
            "link_local" => Ok(()),
            _ if self.knows(gid) => Ok(()),
            _ => Err(libc::ETIMEDOUT),
        }
    }
}

impl Locked {
    /// Gives the state that was asked.
    fn modify(&mut self, home: Home, qpn: u32, attr: &ibv_qp_attr, mask: u32) -> Result<u32, i32> {
        let qp = self.world.qps.get_mut(&qpn).ok_or(libc::EINVAL)?;
        // core/uverbs_cmd.c, modify_qp: no bits that it does not know, no states that there are not.
        if mask & !(Mask::STANDARD) != 0 || mask & Mask::CUR_STATE != 0 && attr.cur_qp_state != qp.state {
            return Err(libc::EINVAL);
        }
        let asked = if mask & Mask::STATE != 0 { attr.qp_state } else { qp.state };
        let (Some(from), Some(to)) = (QpState::from_code(qp.state), QpState::from_code(asked)) else { return Err(libc::EINVAL) };
        let qp_type = QpType::from_code(qp.qp_type).ok_or(libc::EINVAL)?;
        let device = home.at();
        let given = |bit: u32| mask & bit != 0;
        let port_number = if given(Mask::PORT) { attr.port_num } else { qp.attr.port_num };
        let port = device.port(port_number);
        // SAFETY: any bytes are an address.
        let dgid = Gid(unsafe { attr.ah_attr.grh.dgid.raw });
        let is_global = attr.ah_attr.is_global != 0;
        let own = port.and_then(|port| port.gids.get(usize::from(attr.ah_attr.grh.sgid_index))).filter(|entry| !entry.gid.is_empty());
        let request = ModifyRequest {
            attributes: Some(Mask(mask)),
            has_global_route: is_global,
            has_local_gid: own.is_some(),
            is_remote_ipv4: dgid.ipv4().is_some(),
            ..ModifyRequest::new(qp_type, from, to)
        };
        let effect = device.model.modify(&request).map_err(|refusal| errno_of(&refusal))?;
        let Effect::Moved(reached) = effect else { return Ok(asked) };
        let is_lenient = device.model.connection.state_machine.value == StateMachine::ErdmaCompat;
        if !is_lenient {
            check_values(device, port, attr, mask)?;
        }
        if given(Mask::AV) && is_global && port.is_some_and(|port| port.link_layer == LinkLayer::Ethernet) {
            home.provider.resolve(dgid)?;
        }
        qp.keep(attr, mask);
        match reached {
            QpState::Error => self.fail_qp(qpn),
            QpState::Reset => self.reset(qpn),
            state => {
                if let Some(qp) = self.qps.get_mut(&qpn) {
                    qp.state = state.code();
                }
            }
        }
        Ok(asked)
    }

    fn reset(&mut self, qpn: u32) {
        self.clean_completions(qpn);
        if let Some(qp) = self.qps.get_mut(&qpn) {
            qp.state = ibv_qp_state::IBV_QPS_RESET;
            qp.sends.clear();
            qp.receives.clear();
            qp.freed = qp.posted;
            qp.taken = 0;
            qp.waiting = Waiting::Nothing;
            (qp.timeouts, qp.not_ready) = (0, 0);
        }
    }
}

/// Values out of range are EINVAL (core/verbs.c and rxe_qp.c, rxe_qp_chk_attr; other drivers check the same or leave it to firmware).
fn check_values(device: &super::provider::Device, port: Option<&super::provider::Port>, attr: &ibv_qp_attr, mask: u32) -> Result<(), i32> {
    let given = |bit: u32| mask & bit != 0;
    let published = &device.model.published;
    let above = |value: u8, most: i32| i32::from(value) > most;
    let mtu = port.map_or(0, |port| port.active_mtu_bytes);
    let is_wrong = given(Mask::PORT) && port.is_none()
        || given(Mask::PKEY_INDEX) && attr.pkey_index >= device.model.port.pkey_table_length.value.max(1)
        || given(Mask::PATH_MTU) && (attr.path_mtu == 0 || MTU_BYTES.get(attr.path_mtu as usize).is_none_or(|bytes| *bytes > mtu))
        || given(Mask::TIMEOUT) && attr.timeout > 31
        || given(Mask::RETRY_CNT) && attr.retry_cnt > 7
        || given(Mask::RNR_RETRY) && attr.rnr_retry > 7
        || given(Mask::MIN_RNR_TIMER) && attr.min_rnr_timer > 31
        || given(Mask::MAX_QP_RD_ATOMIC) && above(attr.max_rd_atomic, published.max_qp_init_rd_atom.value)
        || given(Mask::MAX_DEST_RD_ATOMIC) && above(attr.max_dest_rd_atomic, published.max_qp_rd_atom.value)
        || given(Mask::DEST_QPN) && attr.dest_qp_num >= 1 << 24;
    if is_wrong { Err(libc::EINVAL) } else { Ok(()) }
}

impl Qp {
    /// Keeps the attributes that a call gave.
    fn keep(&mut self, from: &ibv_qp_attr, mask: u32) {
        let to = &mut self.attr;
        macro_rules! keep {
            ($($bit:ident: $($field:ident),+;)*) => { $(if mask & Mask::$bit != 0 { $(to.$field = from.$field;)+ })* };
        }
        keep! {
            ACCESS_FLAGS: qp_access_flags;
            PKEY_INDEX: pkey_index;
            PORT: port_num;
            QKEY: qkey;
            AV: ah_attr;
            PATH_MTU: path_mtu;
            TIMEOUT: timeout;
            RETRY_CNT: retry_cnt;
            RNR_RETRY: rnr_retry;
            RQ_PSN: rq_psn;
            MAX_QP_RD_ATOMIC: max_rd_atomic;
            ALT_PATH: alt_ah_attr, alt_pkey_index, alt_port_num, alt_timeout;
            MIN_RNR_TIMER: min_rnr_timer;
            SQ_PSN: sq_psn;
            MAX_DEST_RD_ATOMIC: max_dest_rd_atomic;
            PATH_MIG_STATE: path_mig_state;
            DEST_QPN: dest_qp_num;
        }
    }
}
