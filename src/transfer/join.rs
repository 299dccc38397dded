//! Connecting: by addresses that were exchanged, or by rdma_cm, both sides of which may be in this process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::end::{End, Link};
use super::{JoinPlan, TransferError, Transport};
use crate::verbs::{ConnectionEvent, ConnectionId, Datagrams, ErrorNumber, Gid, Path, QUEUE_KEY, event_errno};

/// How long rdma_cm may take for each step of a connection.
const STEP_MS: i32 = 2000;
const DEADLINE: Duration = Duration::from_secs(8);

/// Joins ends of this process with their other sides.
pub fn join(ends: &mut [(&mut End, &JoinPlan)]) -> Result<(), TransferError> {
    let mut calls = Vec::new();
    for (end, plan) in ends.iter_mut() {
        let remote = &plan.remote;
        let Some(link) = end.link.as_mut() else { return Err(TransferError::Unusable { why: "there are no queue pairs".to_owned() }) };
        if remote.address.checked_add(remote.memory_bytes).is_none() {
            let why =
                format!("the other side's memory of {} bytes at {:#x} goes beyond all addresses", remote.memory_bytes, remote.address);
            return Err(TransferError::Unusable { why });
        }
        link.remote = (remote.address, remote.key, remote.memory_bytes);
        link.credit.begin(remote.credit, remote.receives)?;
        if end.manager.is_none() {
            by_addresses(end, plan)?;
        }
    }
    for (index, (end, plan)) in ends.iter_mut().enumerate() {
        if end.manager.is_some() {
            calls.push(Call::begin(index, end, plan)?);
        }
    }
    let until = Instant::now() + DEADLINE;
    while calls.iter().any(|call| !call.is_done()) {
        let mut moved = false;
        for call in &mut calls {
            let (end, plan) = &mut ends[call.index];
            moved |= call.turn(end, plan)?;
        }
        if !moved {
            if Instant::now() > until {
                let during = calls.iter().find(|call| !call.is_done()).map_or("", |call| call.during);
                return Err(TransferError::Manager {
                    event: "no event".to_owned(),
                    during: during.to_owned(),
                    detail: format!("after {} ms", DEADLINE.as_millis()),
                });
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(())
}

fn by_addresses(end: &mut End, plan: &JoinPlan) -> Result<(), TransferError> {
    let End { link, pd, plan: stage, .. } = end;
    let Some(Link { plan: link_plan, queue_pairs, datagrams, .. }) = link.as_mut() else { return Ok(()) };
    let remote = &plan.remote;
    let remote_gid: Gid = remote.gid.parse().unwrap_or(Gid([0; 16]));
    let path = Path {
        port: stage.port,
        gid_index: link_plan.gid_index,
        remote_gid,
        remote_lid: remote.lid,
        is_global: link_plan.is_global,
        mtu_bytes: link_plan.mtu_bytes,
    };
    if remote.queue_pairs.len() != queue_pairs.len() {
        let why = format!("the other side has {} queue pairs, this one {}", remote.queue_pairs.len(), queue_pairs.len());
        return Err(TransferError::Unusable { why });
    }
    for (index, queue_pair) in queue_pairs.iter_mut().enumerate() {
        queue_pair.connect(&path, remote.queue_pairs[index], link_plan.reliability)?;
        if link_plan.transport == Transport::Ud {
            let handle = pd.create_address_handle(&path)?;
            datagrams[index] = Some(Datagrams { handle, queue_pair: remote.queue_pairs[index], queue_key: QUEUE_KEY });
        }
    }
    Ok(())
}

/// One side's way to all of its connections by rdma_cm, one after another.
struct Call {
    index: usize,
    call: Option<SocketAddr>,
    /// The connection that is being made.
    current: Option<ConnectionId>,
    established: usize,
    wanted: usize,
    during: &'static str,
}

impl Call {
    fn begin(index: usize, end: &mut End, plan: &JoinPlan) -> Result<Self, TransferError> {
        let wanted = end.link.as_ref().map_or(0, |link| link.plan.queue_pairs as usize);
        let mut call =
            Self { index, call: plan.call, current: None, established: 0, wanted, during: "waiting for the other side's request" };
        call.resolve(end)?;
        Ok(call)
    }

    fn is_done(&self) -> bool {
        self.established == self.wanted
    }

    /// Begins the next connection, on the side that calls.
    fn resolve(&mut self, end: &End) -> Result<(), TransferError> {
        let (Some(to), Some(manager), Some(from)) = (self.call, &end.manager, end.plan.manager) else { return Ok(()) };
        if self.is_done() {
            return Ok(());
        }
        let id = manager.channel.create_id()?;
        id.resolve_address(from, to, STEP_MS)?;
        self.during = "resolving the address";
        self.current = Some(id);
        Ok(())
    }

    fn turn(&mut self, end: &mut End, plan: &JoinPlan) -> Result<bool, TransferError> {
        let Some(manager) = &end.manager else { return Ok(false) };
        let Some(event) = manager.channel.next()? else { return Ok(false) };
        let is_ours = self.current.as_ref().is_some_and(|id| id.number() == event.of);
        match (event.kind, event.request) {
            ("CONNECT_REQUEST", Some(id)) => {
                // Somebody else's, or one of an attempt that was given up: dropping it rejects it.
                if event.private_data.get(..8) != Some(&plan.mark.to_be_bytes()[..]) || self.call.is_some() {
                    return Ok(true);
                }
                let id = make(end, id)?;
                id.accept(reliability(end))?;
                self.during = "waiting for the other side after accepting";
                self.current = Some(id);
            }
            ("ADDR_RESOLVED", _) if is_ours => {
                self.during = "resolving the route";
                self.current.as_ref().map_or(Ok(()), |id| id.resolve_route(STEP_MS))?;
            }
            ("ROUTE_RESOLVED", _) if is_ours => {
                if let Some(id) = self.current.take() {
                    let id = make(end, id)?;
                    id.connect(&plan.mark.to_be_bytes(), reliability(end))?;
                    self.during = "waiting for the other side's answer";
                    self.current = Some(id);
                }
            }
            ("ESTABLISHED", _) if is_ours => {
                self.established += 1;
                self.current = None;
                self.resolve(end)?;
            }
            (_, _) if is_ours => return Err(self.failed(&ConnectionEvent { request: None, ..event })),
            // Of a connection of a step that has ended.
            _ => {}
        }
        Ok(true)
    }

    fn failed(&self, event: &ConnectionEvent) -> TransferError {
        let detail = match (event.kind, event_errno(event.status)) {
            (_, Some(ErrorNumber(libc::ETIMEDOUT))) => {
                "no answer (ETIMEDOUT): is rdmadoctor listening there, and does the network let it pass?".to_owned()
            }
            (_, Some(errno)) => errno.to_string(),
            // enum ib_cm_rej_reason (include/rdma/ib_cm.h): 8 is an invalid service ID.
            ("REJECTED", None) if event.status == 8 => "reason 8: nobody listens there".to_owned(),
            (_, None) => format!("status {}", event.status),
        };
        TransferError::Manager { event: event.kind.to_owned(), during: self.during.to_owned(), detail }
    }
}

fn reliability(end: &End) -> crate::verbs::Reliability {
    end.link
        .as_ref()
        .map_or(crate::verbs::Reliability { timeout: 14, retries: 7, receiver_retries: 7, reads: 1 }, |link| link.plan.reliability)
}

/// Makes the queue pair of a connection, with its receive requests.
fn make(end: &mut End, id: ConnectionId) -> Result<ConnectionId, TransferError> {
    let End { link, pd, region, .. } = end;
    if let Some(link) = link.as_mut() {
        let queue_pair = id.create_qp(pd, &link.init(), &link.recv_cq)?;
        link.add(queue_pair, region)?;
        link.ids.push(id.clone());
    }
    Ok(id)
}
