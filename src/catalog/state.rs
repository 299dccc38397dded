//! How `ibv_modify_qp` moves a queue pair of each kind of device.

use rdmadoctor_types::{LinkLayer, QpState};

use super::device::{DeviceModel, StateMachine};
use super::{Aspect, Certainty, Errno, Refusal};
use crate::request::QpType;

/// Which attributes a call sets, as `enum ibv_qp_attr_mask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AttributeMask(pub u32);

#[allow(missing_docs, reason = "the names are those of enum ibv_qp_attr_mask")]
impl AttributeMask {
    pub const STATE: u32 = 1;
    pub const CUR_STATE: u32 = 1 << 1;
    pub const EN_SQD_ASYNC_NOTIFY: u32 = 1 << 2;
    pub const ACCESS_FLAGS: u32 = 1 << 3;
    pub const PKEY_INDEX: u32 = 1 << 4;
    pub const PORT: u32 = 1 << 5;
    pub const QKEY: u32 = 1 << 6;
    pub const AV: u32 = 1 << 7;
    pub const PATH_MTU: u32 = 1 << 8;
    pub const TIMEOUT: u32 = 1 << 9;
    pub const RETRY_CNT: u32 = 1 << 10;
    pub const RNR_RETRY: u32 = 1 << 11;
    pub const RQ_PSN: u32 = 1 << 12;
    pub const MAX_QP_RD_ATOMIC: u32 = 1 << 13;
    pub const ALT_PATH: u32 = 1 << 14;
    pub const MIN_RNR_TIMER: u32 = 1 << 15;
    pub const SQ_PSN: u32 = 1 << 16;
    pub const MAX_DEST_RD_ATOMIC: u32 = 1 << 17;
    pub const PATH_MIG_STATE: u32 = 1 << 18;
    pub const CAP: u32 = 1 << 19;
    pub const DEST_QPN: u32 = 1 << 20;
    /// Every attribute of a standard call (the kernel's IB_QP_ATTR_STANDARD_BITS).
    pub const STANDARD: u32 = (1 << 21) - 1;
    pub const RATE_LIMIT: u32 = 1 << 25;
}

/// What decides the answer to a change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModifyRequest {
    /// Type of the queue pair.
    pub qp_type: QpType,
    /// The state that the device has it in; on iWARP that is RESET until rdma_cm connects.
    pub from: QpState,
    /// The state asked.
    pub to: QpState,
    /// Which attributes are given; absent to leave them unchecked.
    pub attributes: Option<AttributeMask>,
    /// Whether rdma_cm made a connection for it.
    pub has_cm_connection: bool,
    /// Whether the address handle has a global route (`is_global`).
    pub has_global_route: bool,
    /// Whether `sgid_index` names an entry of the GID table that is not empty.
    pub has_local_gid: bool,
    /// Whether the remote GID is an IPv4-mapped address.
    pub is_remote_ipv4: bool,
}

impl ModifyRequest {
    /// A change with every attribute as it should be, and no connection by rdma_cm.
    #[must_use]
    pub fn new(qp_type: QpType, from: QpState, to: QpState) -> Self {
        Self {
            qp_type,
            from,
            to,
            attributes: None,
            has_cm_connection: false,
            has_global_route: true,
            has_local_gid: true,
            is_remote_ipv4: true,
        }
    }
}

/// What a granted change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The device has the queue pair in this state now.
    Moved(QpState),
    /// The call succeeds, and the device does nothing.
    Nothing,
}

/// Attributes that a step needs and those that it may have besides, by type; `None` where there is no such step. As the kernel's
/// qp_state_table (drivers/infiniband/core/verbs.c), less the types that applications cannot make.
fn step(qp_type: QpType, from: QpState, to: QpState) -> Option<(u32, u32)> {
    use AttributeMask as M;
    use QpState::{Error, Init, Reset, Rtr, Rts, Sqd, Sqe};
    let by_type = |rc: u32, uc: u32, ud: u32, raw: u32| match qp_type {
        QpType::RC | QpType::XrcSend => rc,
        QpType::UC => uc,
        QpType::UD | QpType::Driver | QpType::Srd => ud,
        QpType::RawPacket => raw,
    };
    let reliable = matches!(qp_type, QpType::RC);
    let path = M::AV | M::PATH_MTU | M::DEST_QPN | M::RQ_PSN;
    let responder = if reliable { M::MAX_DEST_RD_ATOMIC | M::MIN_RNR_TIMER } else { 0 };
    let requester = M::TIMEOUT | M::RETRY_CNT | M::RNR_RETRY | M::MAX_QP_RD_ATOMIC | M::SQ_PSN;
    let connected = M::PKEY_INDEX | M::PORT | M::ACCESS_FLAGS;
    let datagram = M::PKEY_INDEX | M::PORT | M::QKEY;
    let migration = M::ALT_PATH | M::ACCESS_FLAGS;
    let running = M::CUR_STATE | migration | M::PATH_MIG_STATE;
    let rnr = if reliable { M::MIN_RNR_TIMER } else { 0 };
    let rate = M::RATE_LIMIT;
    Some(match (from, to) {
        (Reset | Init | Rtr | Rts | Sqd | Sqe | Error, Reset) => (0, 0),
        (Init | Rtr | Rts | Sqd | Sqe | Error, Error) => (0, 0),
        (Reset, Init) => (by_type(connected, connected, datagram, M::PORT), 0),
        (Init, Init) => (0, by_type(connected, connected, datagram, 0)),
        (Init, Rtr) => {
            let optional = migration | M::PKEY_INDEX;
            (by_type(path | responder, path, 0, 0), by_type(optional, optional, M::PKEY_INDEX | M::QKEY, 0))
        }
        (Rtr, Rts) => (by_type(requester, M::SQ_PSN, M::SQ_PSN, 0), by_type(running | rnr, running, M::CUR_STATE | M::QKEY, rate)),
        (Rts, Rts) => (0, by_type(running | rnr, running, M::CUR_STATE | M::QKEY, rate)),
        (Rts, Sqd) => (0, by_type(M::EN_SQD_ASYNC_NOTIFY, M::EN_SQD_ASYNC_NOTIFY, M::EN_SQD_ASYNC_NOTIFY, 0)),
        (Sqd, Rts) => (0, by_type(running | rnr, running, M::CUR_STATE | M::QKEY, 0)),
        (Sqd, Sqd) => {
            let uc = M::AV | migration | M::PKEY_INDEX | M::PATH_MIG_STATE;
            let rc = uc | M::PORT | requester & !M::SQ_PSN | M::MAX_DEST_RD_ATOMIC | M::MIN_RNR_TIMER;
            (0, by_type(rc, uc, M::PKEY_INDEX | M::QKEY, 0))
        }
        (Sqe, Rts) => (0, by_type(0, M::CUR_STATE | M::ACCESS_FLAGS, M::CUR_STATE | M::QKEY, 0)),
        _ => return None,
    })
}

impl DeviceModel {
    /// What `ibv_modify_qp` answers to a change of state.
    ///
    /// # Errors
    /// The refusal.
    pub fn modify(&self, request: &ModifyRequest) -> Result<Effect, Refusal> {
        let machine = &self.connection.state_machine;
        let refuse =
            |certainty: Certainty| Err(Refusal::new(Errno::EINVAL, Aspect::State, certainty.max(machine.certainty), &machine.source));
        let Some(allowed) = (match machine.value {
            StateMachine::Infiniband | StateMachine::Srd => Self::follows_table(request),
            StateMachine::Iwarp => return self.modify_iwarp(request),
            StateMachine::ErdmaCompat => Some(true),
        }) else {
            return refuse(Certainty::Source);
        };
        if !allowed {
            return refuse(Certainty::Source);
        }
        let is_connected = matches!(request.qp_type, QpType::RC | QpType::UC | QpType::XrcSend);
        if request.to == QpState::Rtr && is_connected {
            let is_ethernet = self.identity.link_layer.value == LinkLayer::Ethernet;
            if is_ethernet && !request.has_global_route || request.has_global_route && !request.has_local_gid {
                return refuse(Certainty::Source);
            }
            if machine.value == StateMachine::ErdmaCompat && !request.is_remote_ipv4 {
                return refuse(Certainty::Source);
            }
        }
        Ok(Effect::Moved(request.to))
    }

    /// Whether the table of states has the step, and the attributes are those of the step; `None` where there is no such step.
    fn follows_table(request: &ModifyRequest) -> Option<bool> {
        let (needed, optional) = step(request.qp_type, request.from, request.to)?;
        Some(
            request
                .attributes
                .is_none_or(|AttributeMask(given)| given & needed == needed && given & !(needed | optional | AttributeMask::STATE) == 0),
        )
    }

    /// iWARP as in the drivers erdma (erdma_qp.c) and siw (siw_qp.c): their states are idle, ready to send, closing, terminated and error.
    fn modify_iwarp(&self, request: &ModifyRequest) -> Result<Effect, Refusal> {
        let machine = &self.connection.state_machine;
        if request.attributes.is_some_and(|AttributeMask(given)| given & !AttributeMask::STANDARD != 0) {
            return Err(Refusal::new(Errno::EOPNOTSUPP, Aspect::State, machine.certainty, &machine.source));
        }
        match (request.from, request.to) {
            (QpState::Rts, QpState::Error | QpState::Sqd | QpState::Sqe) => Ok(Effect::Moved(QpState::Error)),
            (QpState::Rts, _) => Ok(Effect::Nothing),
            (QpState::Error, _) => Ok(Effect::Nothing),
            (_, QpState::Rts) if !request.has_cm_connection => {
                Err(Refusal::new(Errno::EINVAL, Aspect::State, machine.certainty, &machine.source))
            }
            (_, QpState::Rts | QpState::Error) => Ok(Effect::Moved(request.to)),
            _ => Ok(Effect::Nothing),
        }
    }
}
