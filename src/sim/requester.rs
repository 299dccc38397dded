//! The sending side: takes one request after another, makes a message of it, and completes it by the answer.

use std::time::{Duration, Instant};

use rdma_sys::*;

use super::memory;
use super::post::flushed;
use super::provider::Locked;
use super::responder::{Answer, Message, Refused, Service};
use super::world::{Completion, Frees, Operation, Payload, Send, Timer, Waiting};

/// How long a peer in another process may take to answer before it is given up. A peer that dies is noticed at once; this is for one
/// that is stopped, and long because a test machine may be busy.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait for one of `retry_cnt` retries. `timeout` can ask for hours; nobody learns anything from waiting.
const LONGEST_RETRY: Duration = Duration::from_millis(500);

/// Which way something crosses the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Sent,
    Received,
}

/// What became of the first request of a queue.
enum Step {
    /// It is done, well or not; go on with the next.
    Done,
    Waits,
}

impl Locked {
    /// Counts what a device sends to a queue pair, or gets from it. What stays on the device does not cross the wire, and a port does not
    /// count it.
    pub fn count(&self, device: usize, other_qpn: u32, what: Counted, bytes: usize) {
        if self.qps.get(&other_qpn).is_some_and(|other| other.device == device) {
            return;
        }
        let devices = &self.provider.devices;
        let instead = self.provider.faults.detour(&devices[device].name);
        let by = instead.and_then(|to| devices.iter().position(|device| device.name == to)).unwrap_or(device);
        let mtu_bytes = devices[by].ports.first().map_or(1024, |port| port.active_mtu_bytes);
        match what {
            Counted::Sent => self.provider.counting.sent(by, bytes, mtu_bytes),
            Counted::Received => self.provider.counting.received(by, bytes, mtu_bytes),
        }
    }

    /// Runs the requests of a queue pair as far as they go now.
    pub fn advance(&mut self, qpn: u32) {
        loop {
            let Some(qp) = self.qps.get(&qpn) else { return };
            match qp.state {
                ibv_qp_state::IBV_QPS_ERR | ibv_qp_state::IBV_QPS_SQE => return self.flush_sends(qpn),
                // RTR is where Alibaba's compat mode sends already; elsewhere nothing can be posted in it.
                ibv_qp_state::IBV_QPS_RTS | ibv_qp_state::IBV_QPS_RTR => {}
                _ => return,
            }
            if qp.waiting != Waiting::Nothing || qp.sends.is_empty() {
                return;
            }
            if matches!(self.send_first(qpn), Step::Waits) {
                return;
            }
        }
    }

    fn send_first(&mut self, qpn: u32) -> Step {
        let message = match self.message(qpn) {
            Ok(message) => message,
            Err(status) => return self.finish_badly(qpn, status),
        };
        let Some(message) = message else { return Step::Done };
        let (device, port) = self.qps.get(&qpn).map_or((0, 1), |qp| (qp.device, qp.attr.port_num.max(1)));
        let name = &self.provider.devices[device].name;
        if self.provider.faults.port_down_at_message(name, port) {
            self.take_port_down(device, port);
        }
        if self.port_is_down(device, port) {
            return self.take_answer(qpn, Answer::Silence);
        }
        self.count(device, message.dst_qpn, Counted::Sent, message.payload.len());
        let network = self.provider.network.as_ref();
        match network.filter(|network| !network.qpns().contains(&message.dst_qpn)) {
            None => {
                let answer = self.respond(message);
                self.take_answer(qpn, answer)
            }
            Some(network) => {
                let token = self.new_token();
                let is_acknowledged = message.service == Service::Reliable;
                let sent = network.send(self.provider, qpn, token, message);
                match (sent, is_acknowledged) {
                    (Err(_), _) => self.take_answer(qpn, Answer::Silence),
                    (Ok(()), false) => self.take_answer(qpn, Answer::Done(Vec::new())),
                    (Ok(()), true) => {
                        self.wait(qpn, Waiting::Answer(token), token, ANSWER_TIMEOUT);
                        Step::Waits
                    }
                }
            }
        }
    }

    fn wait(&mut self, qpn: u32, waiting: Waiting, token: u64, time: Duration) {
        if let Some(qp) = self.qps.get_mut(&qpn) {
            qp.waiting = waiting;
        }
        self.set_timer(Instant::now() + time, Timer::QueuePair { qpn, token });
    }

    /// The message of the first request; the status of an error that is found on this side.
    fn message(&mut self, qpn: u32) -> Result<Option<Message>, ibv_wc_status::Type> {
        let Some(qp) = self.qps.get(&qpn) else { return Ok(None) };
        let Some(send) = qp.sends.front() else { return Ok(None) };
        let device = &self.provider.devices[qp.device];
        let mut payload = match &send.payload {
            Payload::Inline(bytes) => bytes.clone(),
            Payload::Pieces(pieces) => {
                let spans = self.spans(qp.pd, pieces, send.operation.fetches()).ok_or(ibv_wc_status::IBV_WC_LOC_PROT_ERR)?;
                let length = memory::length_of(&spans);
                let most = if send.to.is_some() {
                    device.port(qp.attr.port_num).map_or(0, |port| port.active_mtu_bytes)
                } else {
                    device.model.port.max_message_bytes.value
                };
                let is_atomic = matches!(send.operation, Operation::CompareSwap { .. } | Operation::FetchAdd { .. });
                if length > most as usize || is_atomic && length != 8 {
                    return Err(ibv_wc_status::IBV_WC_LOC_LEN_ERR);
                }
                if send.operation.fetches() { Vec::new() } else { memory::gather(&spans) }
            }
        };
        if send.operation.fetches() && qp.attr.max_rd_atomic == 0 {
            return Err(ibv_wc_status::IBV_WC_LOC_QP_OP_ERR);
        }
        self.provider.faults.corrupt(&device.name, &mut payload);
        let route = &qp.attr.ah_attr.grh;
        let own = |index: u8| {
            let port = device.port(qp.attr.port_num);
            port.and_then(|port| port.gids.get(usize::from(index))).map_or([0; 16], |entry| entry.gid.0)
        };
        let (service, dst_qpn, dst_gid, dst_lid, src_gid) = match (&send.to, qp.qp_type) {
            (Some(to), _) => (Service::Datagram, to.qpn, to.dgid, to.dlid, own(to.sgid_index)),
            (None, kind) => {
                let service = if kind == ibv_qp_type::IBV_QPT_UC { Service::Unreliable } else { Service::Reliable };
                let is_global = qp.attr.ah_attr.is_global != 0;
                let dgid = if is_global { remote_gid(route) } else { [0; 16] };
                let sgid = if is_global { own(route.sgid_index) } else { [0; 16] };
                (service, qp.attr.dest_qp_num, dgid, qp.attr.ah_attr.dlid, sgid)
            }
        };
        // ibv_post_send(3): the queue pair's own key stands for one with the high bit set.
        let qkey = send.to.map_or(0, |to| if to.qkey & 1 << 31 != 0 { qp.attr.qkey } else { to.qkey });
        let (hop_limit, traffic_class) = send.to.map_or((route.hop_limit, route.traffic_class), |to| (to.hop_limit, to.traffic_class));
        Ok(Some(Message {
            service,
            src_qpn: qpn,
            src_gid,
            dst_qpn,
            dst_gid,
            dst_lid,
            operation: send.operation,
            imm: send.imm,
            is_solicited: send.is_solicited,
            qkey,
            hop_limit,
            traffic_class,
            payload,
        }))
    }

    /// An answer from another process; one to a message that is given up already counts no more.
    pub fn take_late_answer(&mut self, qpn: u32, token: u64, answer: Answer) {
        let Some(qp) = self.qps.get_mut(&qpn) else { return };
        if qp.waiting == Waiting::Answer(token) {
            qp.waiting = Waiting::Nothing;
            self.take_answer(qpn, answer);
            self.advance(qpn);
        }
    }

    /// Lets a timer go off.
    pub fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Faults => {
                for device in 0..self.devices.len() {
                    self.check_ports(device);
                    if self.provider.faults.device_removed_by_now(&self.provider.devices[device].name) {
                        self.remove_device(device);
                    }
                }
            }
            Timer::QueuePair { qpn, token } => {
                let Some(qp) = self.qps.get_mut(&qpn) else { return };
                let was = qp.waiting;
                if was == Waiting::Pause(token) || was == Waiting::Answer(token) {
                    qp.waiting = Waiting::Nothing;
                    if was == Waiting::Answer(token) {
                        self.finish_badly(qpn, ibv_wc_status::IBV_WC_RETRY_EXC_ERR);
                    }
                    self.advance(qpn);
                }
            }
        }
    }

    fn take_answer(&mut self, qpn: u32, answer: Answer) -> Step {
        let Some(qp) = self.qps.get_mut(&qpn) else { return Step::Waits };
        let is_acknowledged = qp.qp_type == ibv_qp_type::IBV_QPT_RC;
        if let Answer::Done(bytes) = &answer
            && !bytes.is_empty()
        {
            let (device, from) = (qp.device, qp.attr.dest_qp_num);
            self.count(device, from, Counted::Received, bytes.len());
        }
        let Some(qp) = self.qps.get_mut(&qpn) else { return Step::Waits };
        match answer {
            Answer::Done(bytes) => self.finish_well(qpn, &bytes),
            // Nobody tells the sender of a datagram what became of it.
            _ if !is_acknowledged => self.finish_well(qpn, &[]),
            Answer::Refused(why) => self.finish_badly(
                qpn,
                match why {
                    Refused::Access => ibv_wc_status::IBV_WC_REM_ACCESS_ERR,
                    Refused::Request => ibv_wc_status::IBV_WC_REM_INV_REQ_ERR,
                    Refused::Operation => ibv_wc_status::IBV_WC_REM_OP_ERR,
                },
            ),
            Answer::NotReady { timer } => {
                if qp.attr.rnr_retry != 7 && qp.not_ready >= qp.attr.rnr_retry {
                    return self.finish_badly(qpn, ibv_wc_status::IBV_WC_RNR_RETRY_EXC_ERR);
                }
                qp.not_ready = qp.not_ready.saturating_add(1);
                self.pause(qpn, rnr_time(timer))
            }
            Answer::Silence => {
                if qp.timeouts >= qp.attr.retry_cnt {
                    return self.finish_badly(qpn, ibv_wc_status::IBV_WC_RETRY_EXC_ERR);
                }
                qp.timeouts += 1;
                // 4.096 us times two to the power of it; 0 never ends (ibv_modify_qp(3)), which means trying again for ever.
                let time = match qp.attr.timeout {
                    0 => {
                        qp.timeouts = 0;
                        LONGEST_RETRY
                    }
                    exponent => Duration::from_nanos(4096 << exponent.min(31)).min(LONGEST_RETRY),
                };
                self.pause(qpn, time)
            }
        }
    }

    fn pause(&mut self, qpn: u32, time: Duration) -> Step {
        let token = self.new_token();
        self.wait(qpn, Waiting::Pause(token), token, time);
        Step::Waits
    }

    fn take_first(&mut self, qpn: u32) -> Option<(Send, u32)> {
        let qp = self.qps.get_mut(&qpn)?;
        (qp.timeouts, qp.not_ready) = (0, 0);
        let cq = qp.send_cq;
        qp.sends.pop_front().map(|send| (send, cq))
    }

    fn finish_well(&mut self, qpn: u32, fetched: &[u8]) -> Step {
        let Some(qp) = self.qps.get(&qpn) else { return Step::Waits };
        let mut byte_len = 0;
        if let Some(send) = qp.sends.front()
            && send.operation.fetches()
            && let Payload::Pieces(pieces) = &send.payload
        {
            // Looked up again: the region may be gone since the request was sent.
            match self.spans(qp.pd, pieces, true) {
                Some(spans) => {
                    let mut bytes = fetched.to_vec();
                    self.provider.faults.corrupt(&self.provider.devices[qp.device].name, &mut bytes);
                    memory::scatter(&spans, &bytes);
                }
                None => return self.finish_badly(qpn, ibv_wc_status::IBV_WC_LOC_PROT_ERR),
            }
            byte_len = u32::try_from(fetched.len()).unwrap_or(u32::MAX);
        }
        if let Some((send, cq)) = self.take_first(qpn)
            && send.is_signaled
        {
            let completion = Completion {
                wr_id: send.wr_id,
                status: ibv_wc_status::IBV_WC_SUCCESS,
                opcode: send.operation.completes_as(),
                byte_len,
                imm: 0,
                flags: 0,
                qp_num: qpn,
                src_qp: 0,
                frees: Frees::Sends { before: send.position + 1 },
            };
            self.complete(cq, completion, false);
        }
        Step::Done
    }

    /// Completes the first request with an error, signalled or not, and stops the queue.
    fn finish_badly(&mut self, qpn: u32, status: ibv_wc_status::Type) -> Step {
        if let Some((send, cq)) = self.take_first(qpn) {
            let frees = Frees::Sends { before: send.position + 1 };
            let completion = Completion { status, ..flushed(send.wr_id, send.operation.completes_as(), qpn, frees) };
            self.complete(cq, completion, false);
        }
        match self.qps.get_mut(&qpn) {
            // Only the sending side of what has no connection stops (IBTA 1.5, 10.3.1.6).
            Some(qp) if qp.qp_type != ibv_qp_type::IBV_QPT_RC && qp.state != ibv_qp_state::IBV_QPS_ERR => {
                qp.state = ibv_qp_state::IBV_QPS_SQE;
                self.flush_sends(qpn);
            }
            Some(_) => self.fail_qp(qpn),
            None => {}
        }
        Step::Waits
    }

    /// Brings a queue pair into the error state: what is posted comes back, in order.
    pub fn fail_qp(&mut self, qpn: u32) {
        let Some(qp) = self.qps.get_mut(&qpn) else { return };
        if qp.state == ibv_qp_state::IBV_QPS_ERR {
            return;
        }
        qp.state = ibv_qp_state::IBV_QPS_ERR;
        let (context, raw, cq, has_srq) = (qp.context, qp.raw, qp.recv_cq, qp.srq.is_some());
        self.flush_sends(qpn);
        while let Some(receive) = self.qps.get_mut(&qpn).and_then(|qp| qp.receives.pop_front()) {
            self.complete(cq, flushed(receive.wr_id, ibv_wc_opcode::IBV_WC_RECV, qpn, Frees::Receive), false);
        }
        if has_srq {
            self.push_event(context, ibv_event_type::IBV_EVENT_QP_LAST_WQE_REACHED, raw);
        }
    }

    fn flush_sends(&mut self, qpn: u32) {
        if let Some(qp) = self.qps.get_mut(&qpn) {
            qp.waiting = Waiting::Nothing;
        }
        while let Some((send, cq)) = self.take_first(qpn) {
            let frees = Frees::Sends { before: send.position + 1 };
            self.complete(cq, flushed(send.wr_id, send.operation.completes_as(), qpn, frees), false);
        }
    }
}

#[allow(unsafe_code, reason = "reads a union whose members have the same bytes")]
fn remote_gid(route: &ibv_global_route) -> [u8; 16] {
    // SAFETY: any bytes are an address.
    unsafe { route.dgid.raw }
}

/// How long a receiver that is not ready asks to wait: code 0 is the longest, the others grow (IBTA 1.5, table 46).
fn rnr_time(code: u8) -> Duration {
    const HUNDREDTHS_OF_MS: [u64; 32] = [
        65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288,
        16384, 24576, 32768, 49152,
    ];
    Duration::from_micros(HUNDREDTHS_OF_MS[usize::from(code & 31)] * 10)
}
