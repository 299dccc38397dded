//! The receiving side: checks a message against the queue pair and the memory that it names, does it, and answers.

use rdma_sys::*;
use serde::{Deserialize, Serialize};

use super::memory::{self, REMOTE_ATOMIC, REMOTE_READ, REMOTE_WRITE};
use super::post::flushed;
use super::provider::Locked;
use super::requester::Counted;
use super::world::{Completion, Frees, Operation, Receive};
use crate::verbs::Gid;

/// A message between queue pairs. It is whole: there are no packets.
#[derive(Serialize, Deserialize)]
pub struct Message {
    pub service: Service,
    pub src_qpn: u32,
    pub src_gid: [u8; 16],
    pub dst_qpn: u32,
    pub dst_gid: [u8; 16],
    pub dst_lid: u16,
    pub operation: Operation,
    pub imm: Option<u32>,
    pub is_solicited: bool,
    pub qkey: u32,
    pub hop_limit: u8,
    pub traffic_class: u8,
    /// Travels beside the rest.
    #[serde(skip)]
    pub payload: Vec<u8>,
}

/// What is promised for a message.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// It is answered.
    Reliable,
    /// It is not.
    Unreliable,
    /// It is not, and there is no connection.
    Datagram,
}

/// The answer to a message.
#[derive(Serialize, Deserialize)]
pub enum Answer {
    /// Done; with what was fetched, which travels beside the rest.
    Done(Vec<u8>),
    /// No receive is posted; to be tried again after a time.
    NotReady {
        /// The time's code, `min_rnr_timer`.
        timer: u8,
    },
    /// Not done.
    Refused(Refused),
    /// Nobody there, or not for this message. Told between processes, so that nobody has to wait; the requester acts as if it had.
    Silence,
}

/// Why a message was not done.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Refused {
    /// Key, bounds, domain or access do not permit it.
    Access,
    /// The queue pair does not take such a request, or its receive is too short.
    Request,
    /// The receiver could not do its part.
    Operation,
}

/// Bytes before the payload of a datagram (IBTA 1.5, 11.4.1.2; `struct ibv_grh`).
const GRH: usize = 40;

impl Locked {
    /// Does what a message asks.
    pub fn respond(&mut self, message: Message) -> Answer {
        let Some(qp) = self.qps.get(&message.dst_qpn) else { return Answer::Silence };
        let device = &self.provider.devices[qp.device];
        let port = qp.attr.port_num.max(1);
        let is_here = if message.dst_gid == [0; 16] {
            device.port(port).is_some_and(|port| port.lid == message.dst_lid)
        } else {
            device.has(Gid(message.dst_gid))
        };
        let listens = matches!(
            qp.state,
            ibv_qp_state::IBV_QPS_RTR | ibv_qp_state::IBV_QPS_RTS | ibv_qp_state::IBV_QPS_SQD | ibv_qp_state::IBV_QPS_SQE
        );
        let fits = match message.service {
            Service::Reliable => qp.qp_type == ibv_qp_type::IBV_QPT_RC && qp.attr.dest_qp_num == message.src_qpn,
            Service::Unreliable => qp.qp_type == ibv_qp_type::IBV_QPT_UC && qp.attr.dest_qp_num == message.src_qpn,
            Service::Datagram => qp.qp_type == ibv_qp_type::IBV_QPT_UD && qp.attr.qkey == message.qkey,
        };
        if !is_here || !listens || !fits || self.port_is_down(qp.device, port) {
            return Answer::Silence;
        }
        let (device, from) = (qp.device, message.src_qpn);
        self.count(device, from, Counted::Received, message.payload.len());
        match message.operation {
            Operation::Send => self.receive(message),
            Operation::Write { addr, rkey } => self.write(message, addr, rkey),
            operation => {
                let answer = self.fetch(message.dst_qpn, operation);
                if let Answer::Done(bytes) = &answer {
                    self.count(device, from, Counted::Sent, bytes.len());
                }
                answer
            }
        }
    }

    /// Ends the connection for a message that cannot be done, as a reliable responder does; others just drop it.
    fn refuse(&mut self, qpn: u32, why: Refused) -> Answer {
        let Some(qp) = self.qps.get(&qpn) else { return Answer::Silence };
        if qp.qp_type == ibv_qp_type::IBV_QPT_RC {
            let kind = match why {
                Refused::Access => ibv_event_type::IBV_EVENT_QP_ACCESS_ERR,
                Refused::Request => ibv_event_type::IBV_EVENT_QP_REQ_ERR,
                Refused::Operation => ibv_event_type::IBV_EVENT_QP_FATAL,
            };
            let (context, raw) = (qp.context, qp.raw);
            self.push_event(context, kind, raw);
            self.fail_qp(qpn);
        }
        Answer::Refused(why)
    }

    fn write(&mut self, message: Message, addr: u64, rkey: u32) -> Answer {
        let qpn = message.dst_qpn;
        let Some(qp) = self.qps.get(&qpn) else { return Answer::Silence };
        if qp.attr.qp_access_flags & REMOTE_WRITE == 0 {
            return self.refuse(qpn, Refused::Request);
        }
        let Some(span) = self.remote_span(qp.pd, rkey, addr, message.payload.len() as u64, REMOTE_WRITE) else {
            return self.refuse(qpn, Refused::Access);
        };
        let Some(imm) = message.imm else {
            self.land(qpn, span, &message.payload);
            return Answer::Done(Vec::new());
        };
        let timer = qp.attr.min_rnr_timer;
        let Some((receive, frees)) = self.take_receive(qpn) else { return Answer::NotReady { timer } };
        self.land(qpn, span, &message.payload);
        let length = message.payload.len() as u32;
        self.complete_receive(&message, &receive, frees, ibv_wc_opcode::IBV_WC_RECV_RDMA_WITH_IMM, length, Some(imm));
        Answer::Done(Vec::new())
    }

    /// Brings what was written into memory, or lets it be late.
    fn land(&mut self, qpn: u32, span: memory::Span, payload: &[u8]) {
        let device = self.qps.get(&qpn).map_or(0, |qp| qp.device);
        let late = self.provider.faults.late(&self.provider.devices[device].name, payload.len());
        if late.is_some() {
            self.arrive();
        }
        match late {
            Some(true) => self.write_late(span, payload.to_vec()),
            Some(false) | None => memory::scatter(&[span], payload),
        }
    }

    fn fetch(&mut self, qpn: u32, operation: Operation) -> Answer {
        // A read pushes what was written before it.
        self.arrive();
        let Some(qp) = self.qps.get(&qpn) else { return Answer::Silence };
        let (addr, rkey, length, access) = match operation {
            Operation::Read { addr, rkey, length } => (addr, rkey, length, REMOTE_READ),
            Operation::CompareSwap { addr, rkey, .. } | Operation::FetchAdd { addr, rkey, .. } => (addr, rkey, 8, REMOTE_ATOMIC),
            Operation::Send | Operation::Write { .. } => return Answer::Silence,
        };
        if qp.attr.qp_access_flags & access == 0 || qp.attr.max_dest_rd_atomic == 0 {
            return self.refuse(qpn, Refused::Request);
        }
        let Some(span) = self.remote_span(qp.pd, rkey, addr, length, access) else { return self.refuse(qpn, Refused::Access) };
        let old = match operation {
            Operation::CompareSwap { compare, swap, .. } => memory::atomic(span, |old| if old == compare { swap } else { old }),
            Operation::FetchAdd { add, .. } => memory::atomic(span, |old| old.wrapping_add(add)),
            _ => return Answer::Done(memory::gather(&[span])),
        };
        match old {
            Some(old) => Answer::Done(old.to_ne_bytes().to_vec()),
            // Eight bytes that are not aligned to eight (IBTA 1.5, 9.4.5).
            None => self.refuse(qpn, Refused::Request),
        }
    }

    fn receive(&mut self, mut message: Message) -> Answer {
        let qpn = message.dst_qpn;
        let Some(qp) = self.qps.get(&qpn) else { return Answer::Silence };
        let (pd, cq, timer) = (qp.pd, qp.recv_cq, qp.attr.min_rnr_timer);
        if message.service == Service::Datagram {
            let mut bytes = header(&message);
            bytes.append(&mut message.payload);
            message.payload = bytes;
        }
        let Some((receive, frees)) = self.take_receive(qpn) else { return Answer::NotReady { timer } };
        let spans = self.spans(pd, &receive.pieces, true);
        let failure = match &spans {
            None => Some((ibv_wc_status::IBV_WC_LOC_PROT_ERR, Refused::Operation)),
            Some(spans) if memory::length_of(spans) < message.payload.len() => Some((ibv_wc_status::IBV_WC_LOC_LEN_ERR, Refused::Request)),
            Some(_) => None,
        };
        if let Some((status, why)) = failure {
            let completion = Completion { status, ..flushed(receive.wr_id, ibv_wc_opcode::IBV_WC_RECV, qpn, frees) };
            self.complete(cq, completion, false);
            return self.refuse(qpn, why);
        }
        let missing = self.qps.get(&qpn).map_or(0, |qp| self.provider.faults.short_by(&self.provider.devices[qp.device].name));
        let length = message.payload.len().saturating_sub(missing as usize);
        memory::scatter(spans.as_deref().unwrap_or_default(), &message.payload[..length]);
        self.complete_receive(&message, &receive, frees, ibv_wc_opcode::IBV_WC_RECV, length as u32, message.imm);
        Answer::Done(Vec::new())
    }

    /// The next posted receive, and what its completion will free.
    fn take_receive(&mut self, qpn: u32) -> Option<(Receive, Frees)> {
        let world = &mut *self.world;
        let qp = world.qps.get_mut(&qpn)?;
        let Some(id) = qp.srq else { return qp.receives.pop_front().map(|receive| (receive, Frees::Receive)) };
        let srq = world.srqs.get_mut(&id)?;
        let receive = srq.queue.pop_front()?;
        if srq.limit > 0 && (srq.queue.len() as u32) < srq.limit {
            // Once; it is armed again by ibv_modify_srq.
            srq.limit = 0;
            let (context, raw) = (srq.context, srq.raw);
            self.push_event(context, ibv_event_type::IBV_EVENT_SRQ_LIMIT_REACHED, raw);
        }
        Some((receive, Frees::Shared { srq: id }))
    }

    fn complete_receive(
        &mut self,
        message: &Message,
        receive: &Receive,
        frees: Frees,
        opcode: ibv_wc_opcode::Type,
        byte_len: u32,
        imm: Option<u32>,
    ) {
        let Some(cq) = self.qps.get(&message.dst_qpn).map(|qp| qp.recv_cq) else { return };
        let grh = if message.service == Service::Datagram { ibv_wc_flags::IBV_WC_GRH.0 } else { 0 };
        let with_imm = if imm.is_some() { ibv_wc_flags::IBV_WC_WITH_IMM.0 } else { 0 };
        let completion = Completion {
            wr_id: receive.wr_id,
            status: ibv_wc_status::IBV_WC_SUCCESS,
            opcode,
            byte_len,
            imm: imm.unwrap_or(0),
            flags: grh | with_imm,
            qp_num: message.dst_qpn,
            src_qp: message.src_qpn,
            frees,
        };
        self.complete(cq, completion, message.is_solicited);
    }
}

/// The global routing header that stands before a datagram, in the form of IPv6 (IBTA 1.5, 8.3).
fn header(message: &Message) -> Vec<u8> {
    let mut header = Vec::with_capacity(GRH + message.payload.len());
    header.extend_from_slice(&(6_u32 << 28 | u32::from(message.traffic_class) << 20).to_be_bytes());
    header.extend_from_slice(&(message.payload.len() as u16).to_be_bytes());
    // The next header is the base transport header.
    header.extend_from_slice(&[0x1b, message.hop_limit]);
    header.extend_from_slice(&message.src_gid);
    header.extend_from_slice(&message.dst_gid);
    header
}
