//! Connections made by rdma_cm: who listens where, and what the two sides tell each other until their queue pairs are up.
//!
//! What one side says is a [`Word`]; it is heard at once in the same installation, and by way of the link between processes elsewhere.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rdma_sys::*;
use serde::{Deserialize, Serialize};

use super::memory::{REMOTE_ATOMIC, REMOTE_READ, REMOTE_WRITE};
use super::provider::{Device, Locked};
use super::{config::GidType, events};
use crate::catalog::device::{RdmaCm, StateMachine};

/// `enum ib_cm_rej_reason` (include/rdma/ib_cm.h): nobody listens, and the other side's application does not want to.
const NOBODY_LISTENS: i32 = 8;
const NOT_WANTED: i32 = 28;

/// Room for private data that InfiniBand's messages have, which is told whole (include/rdma/ib_cm.h, less what rdma_cm takes of a request).
const REQUEST_DATA: usize = 56;
const REPLY_DATA: usize = 196;

/// An event channel.
pub struct EventQueue {
    pub event_fd: OwnedFd,
    pub events: VecDeque<Event>,
}

/// Something that an application learns by `rdma_get_cm_event`.
pub struct Event {
    pub kind: rdma_cm_event_type::Type,
    /// The identifier that it is about; a new one, for a request.
    pub id: u32,
    /// The one that listens, for a request.
    pub listener: Option<u32>,
    pub status: i32,
    pub offer: Offer,
}

/// One side of a connection, or a listener.
pub struct Id {
    /// Address of the C object; 0 as long as the application has not heard of it.
    pub raw: usize,
    pub channel: u32,
    pub device: Option<usize>,
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
    pub phase: Phase,
    pub qpn: Option<u32>,
    pub peer: Option<End>,
    /// What this side asked for.
    pub own: Offer,
    /// What the other side said of itself.
    pub other: Offer,
    /// Events that were given out and not yet acknowledged.
    pub unacknowledged: u32,
}

/// How far an identifier has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Idle,
    Bound,
    AddressResolved,
    RouteResolved,
    Listening,
    /// A request was sent, or has come.
    Asked,
    Requested,
    /// Accepted, and the other side has not yet said that it is ready.
    Accepted,
    Connected,
    Over,
}

/// One side of a connection, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub place: u32,
    pub id: u32,
}

/// What a side offers: its queue pair, and what `rdma_conn_param` says.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Offer {
    pub qpn: u32,
    pub gid: [u8; 16],
    pub private_data: Vec<u8>,
    pub responder_resources: u8,
    pub initiator_depth: u8,
    pub flow_control: u8,
    pub retry_count: u8,
    pub rnr_retry_count: u8,
    pub srq: u8,
}

/// What one side tells the other.
#[derive(Serialize, Deserialize)]
pub struct Word {
    pub from: End,
    /// Number 0 is whoever listens.
    pub to: End,
    pub saying: Saying,
}

#[derive(Serialize, Deserialize)]
pub enum Saying {
    Request { target: SocketAddr, source: SocketAddr, is_iwarp: bool, offer: Offer },
    Accept { offer: Offer },
    Reject { status: i32, private_data: Vec<u8> },
    Ready,
    Disconnect,
}

impl Device {
    /// Whether connections are iWARP's.
    pub fn is_iwarp(&self) -> bool {
        self.model.connection.state_machine.value == StateMachine::Iwarp
    }

    /// Whether rdma_cm knows it by this address.
    fn is_at(&self, address: IpAddr) -> bool {
        self.model.connection.rdma_cm.value != RdmaCm::None && self.ports.iter().any(|port| port.addresses.contains(&address))
    }

    /// The identifier that packets of an address carry, and its index.
    fn gid_of(&self, address: IpAddr) -> (u8, [u8; 16]) {
        let wanted = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let gids = self.ports.first().map_or(&[][..], |port| &port.gids);
        let is_wanted = |kind: GidType| gids.iter().position(|entry| entry.gid.0 == wanted && entry.kind == kind);
        let index = is_wanted(GidType::RoceV2).or_else(|| is_wanted(GidType::RoceV1)).unwrap_or(0);
        (u8::try_from(index).unwrap_or(0), gids.get(index).map_or([0; 16], |entry| entry.gid.0))
    }
}

impl Locked {
    /// The device of an address.
    pub fn device_at(&self, address: IpAddr) -> Option<usize> {
        self.provider.devices.iter().position(|device| device.is_at(address))
    }

    /// The device by which an address is reached that is not on this host, and the own address: the one that has most in common with it.
    pub fn route_to(&self, address: IpAddr) -> Option<(usize, IpAddr)> {
        if let Some(device) = self.device_at(address) {
            return Some((device, address));
        }
        if !self.provider.reaches(address) {
            return None;
        }
        let own = self.provider.devices.iter().enumerate().flat_map(|(index, device)| {
            let addresses = device.ports.iter().flat_map(|port| &port.addresses).copied();
            addresses.filter(move |own| device.is_at(*own) && own.is_ipv4() == address.is_ipv4()).map(move |own| (index, own))
        });
        own.max_by_key(|(_, own)| common_bits(*own, address))
    }

    pub fn own_place(&self) -> u32 {
        self.provider.network.as_ref().map_or(0, super::link::Network::place)
    }

    /// Hands an event to whoever waits for it.
    pub fn raise(&mut self, id: u32, kind: rdma_cm_event_type::Type, status: i32, offer: Offer) {
        let Some(channel) = self.ids.get(&id).map(|id| id.channel) else { return };
        self.queue_event(channel, Event { kind, id, listener: None, status, offer });
    }

    fn queue_event(&mut self, channel: u32, event: Event) {
        if let Some(queue) = self.event_queues.get_mut(&channel) {
            queue.events.push_back(event);
            events::raise(&queue.event_fd);
        }
    }

    /// Tells the other side something. False where there is nobody.
    pub fn tell(&mut self, to: End, from: u32, saying: Saying) -> bool {
        let place = self.own_place();
        let word = Word { from: End { place, id: from }, to, saying };
        if to.place == place {
            self.hear(word);
            return true;
        }
        let provider = self.provider;
        provider.network.as_ref().is_some_and(|network| network.tell(provider, to.place, word).is_ok())
    }

    /// Takes what the other side says.
    pub fn hear(&mut self, word: Word) {
        let Word { from, to, saying } = word;
        let knows = |id: Option<&Id>| id.is_some_and(|id| id.peer == Some(from));
        match saying {
            Saying::Request { target, source, is_iwarp, offer } => self.hear_request(from, target, source, is_iwarp, offer),
            _ if to.id == 0 => {}
            Saying::Reject { status, private_data } => {
                let Some(id) = self.ids.get_mut(&to.id).filter(|id| id.phase == Phase::Asked) else { return };
                id.phase = Phase::Over;
                let qpn = id.qpn;
                self.raise(to.id, rdma_cm_event_type::RDMA_CM_EVENT_REJECTED, status, Offer { private_data, ..Offer::default() });
                // librdmacm leaves the queue pair of a rejected connection in error (librdmacm/cma.c, rdma_get_cm_event).
                if let Some(qpn) = qpn {
                    self.fail_qp(qpn);
                }
            }
            Saying::Accept { mut offer } => {
                let Some(id) = self.ids.get_mut(&to.id).filter(|id| id.phase == Phase::Asked) else { return };
                (id.peer, id.other, id.phase) = (Some(from), offer.clone(), Phase::Connected);
                self.bring_up(to.id);
                let is_iwarp = self.is_iwarp(to.id);
                pad(&mut offer.private_data, if is_iwarp { 0 } else { REPLY_DATA });
                self.tell(from, to.id, Saying::Ready);
                self.raise(to.id, rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED, 0, turned(offer));
            }
            Saying::Ready => {
                let Some(id) = self.ids.get_mut(&to.id).filter(|id| id.phase == Phase::Accepted && id.peer == Some(from)) else { return };
                id.phase = Phase::Connected;
                self.raise(to.id, rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED, 0, Offer::default());
            }
            Saying::Disconnect => {
                if !knows(self.ids.get(&to.id)) {
                    return;
                }
                let Some(id) = self.ids.get_mut(&to.id) else { return };
                let (was, qpn) = (id.phase, id.qpn);
                id.phase = Phase::Over;
                match was {
                    // It was never taken: the application learns that when it tries to.
                    Phase::Requested => {}
                    Phase::Accepted | Phase::Connected => {
                        // An iWARP connection is one stream for both sides; queue pairs of InfiniBand stay until their own side acts.
                        if let Some(qpn) = qpn.filter(|_| self.is_iwarp(to.id)) {
                            self.fail_qp(qpn);
                        }
                        self.raise(to.id, rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED, 0, Offer::default());
                    }
                    _ => {}
                }
            }
        }
    }

    fn is_iwarp(&self, id: u32) -> bool {
        let device = self.ids.get(&id).and_then(|id| id.device);
        device.is_some_and(|device| self.provider.devices[device].is_iwarp())
    }

    fn hear_request(&mut self, from: End, target: SocketAddr, source: SocketAddr, is_iwarp: bool, mut offer: Offer) {
        let device = self.device_at(target.ip()).filter(|device| self.provider.devices[*device].is_iwarp() == is_iwarp);
        let is_down = device.is_some_and(|device| self.port_is_down(device, 1));
        let listens = |id: &Id| {
            let fits = |local: SocketAddr| local.port() == target.port() && (local.ip().is_unspecified() || local.ip() == target.ip());
            id.phase == Phase::Listening && id.local.is_some_and(fits)
        };
        let listener = self.ids.iter().find(|(_, id)| listens(id)).map(|(number, id)| (*number, id.channel));
        let (Some(device), Some((listener, channel)), false) = (device, listener, is_down) else {
            // TCP's refusal, or that of the communication manager.
            let status = if is_iwarp { -libc::ECONNREFUSED } else { NOBODY_LISTENS };
            self.tell(from, 0, Saying::Reject { status, private_data: Vec::new() });
            return;
        };
        let number = self.new_id();
        let id = Id {
            device: Some(device),
            local: Some(target),
            remote: Some(source),
            phase: Phase::Requested,
            peer: Some(from),
            other: offer.clone(),
            ..Id::new(channel)
        };
        self.ids.insert(number, id);
        pad(&mut offer.private_data, if is_iwarp { 0 } else { REQUEST_DATA });
        let kind = rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST;
        self.queue_event(channel, Event { kind, id: number, listener: Some(listener), status: 0, offer: turned(offer) });
    }

    /// What this side says of itself.
    fn offer(&self, id: &Id, parameters: Offer) -> Offer {
        let device = id.device.map(|device| &self.provider.devices[device]);
        let gid = device.zip(id.local).map_or([0; 16], |(device, local)| device.gid_of(local.ip()).1);
        Offer { qpn: id.qpn.unwrap_or(parameters.qpn), gid, ..parameters }
    }

    /// Asks whoever listens at the resolved address.
    pub fn ask(&mut self, number: u32, parameters: Offer) -> Result<(), i32> {
        let id = self.ids.get(&number).ok_or(libc::EINVAL)?;
        let (Phase::RouteResolved, Some(device), Some(source), Some(target)) = (id.phase, id.device, id.local, id.remote) else {
            return Err(libc::EINVAL);
        };
        let offer = self.offer(id, parameters);
        if let Some(id) = self.ids.get_mut(&number) {
            (id.own, id.phase) = (offer.clone(), Phase::Asked);
        }
        let is_iwarp = self.provider.devices[device].is_iwarp();
        let is_here = self.device_at(target.ip()).is_some();
        let listener = self.provider.network.as_ref().and_then(|network| network.listener(target));
        let place = if is_here && listener.is_none() { Some(self.own_place()) } else { listener };
        let is_told = !self.port_is_down(device, 1)
            && place.is_some_and(|place| {
                let saying = Saying::Request { target, source, is_iwarp, offer };
                self.tell(End { place, id: 0 }, number, saying)
            });
        if !is_told && let Some(id) = self.ids.get_mut(&number) {
            id.phase = Phase::Over;
            // A host that is there, where nothing listens, refuses; a link that is down, and a host that nobody simulates, answer nothing.
            let (kind, status) = match (self.port_is_down(device, 1) || !is_here && self.provider.network.is_none(), is_iwarp) {
                (true, _) => (rdma_cm_event_type::RDMA_CM_EVENT_UNREACHABLE, -libc::ETIMEDOUT),
                (false, true) => (rdma_cm_event_type::RDMA_CM_EVENT_REJECTED, -libc::ECONNREFUSED),
                (false, false) => (rdma_cm_event_type::RDMA_CM_EVENT_REJECTED, NOBODY_LISTENS),
            };
            self.raise(number, kind, status, Offer::default());
        }
        Ok(())
    }

    /// Takes a request.
    pub fn accept(&mut self, number: u32, parameters: Offer) -> Result<(), i32> {
        let id = self.ids.get(&number).ok_or(libc::EINVAL)?;
        let (Phase::Requested, Some(peer)) = (id.phase, id.peer) else { return Err(libc::EINVAL) };
        let offer = self.offer(id, parameters);
        if let Some(id) = self.ids.get_mut(&number) {
            (id.own, id.phase) = (offer.clone(), Phase::Accepted);
        }
        self.bring_up(number);
        self.tell(peer, number, Saying::Accept { offer });
        Ok(())
    }

    /// Refuses a request.
    pub fn reject(&mut self, number: u32, private_data: Vec<u8>) -> Result<(), i32> {
        let is_iwarp = self.is_iwarp(number);
        let id = self.ids.get_mut(&number).ok_or(libc::EINVAL)?;
        let (Phase::Requested, Some(peer)) = (id.phase, id.peer) else { return Err(libc::EINVAL) };
        id.phase = Phase::Over;
        let status = if is_iwarp { -libc::ECONNREFUSED } else { NOT_WANTED };
        self.tell(peer, number, Saying::Reject { status, private_data });
        Ok(())
    }

    /// Ends a connection; both sides learn of it.
    pub fn disconnect(&mut self, number: u32) -> Result<(), i32> {
        let id = self.ids.get_mut(&number).ok_or(libc::EINVAL)?;
        let was_up = matches!(id.phase, Phase::Accepted | Phase::Connected);
        let (qpn, peer) = (id.qpn, id.peer);
        if !was_up && id.phase != Phase::Over {
            return Err(libc::EINVAL);
        }
        id.phase = Phase::Over;
        if let Some(qpn) = qpn {
            self.fail_qp(qpn);
        }
        if let Some(peer) = peer.filter(|_| was_up) {
            self.tell(peer, number, Saying::Disconnect);
            self.raise(number, rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED, 0, Offer::default());
        }
        Ok(())
    }

    /// Forgets an identifier with the events that nobody has fetched, and tells the other side.
    pub fn forget_id(&mut self, number: u32) {
        let Some(id) = self.ids.get(&number) else { return };
        let (channel, phase, peer, local, is_iwarp) = (id.channel, id.phase, id.peer, id.local, self.is_iwarp(number));
        let mut orphans = Vec::new();
        if let Some(queue) = self.event_queues.get_mut(&channel) {
            queue.events.retain(|event| {
                let is_of = event.id == number || event.listener == Some(number);
                if is_of {
                    events::take_at_once(&queue.event_fd);
                    orphans.extend(event.listener.filter(|listener| *listener == number).map(|_| event.id));
                }
                !is_of
            });
        }
        for orphan in orphans {
            self.forget_id(orphan);
        }
        match (phase, peer) {
            (Phase::Requested, Some(peer)) => {
                let status = if is_iwarp { -libc::ECONNREFUSED } else { NOT_WANTED };
                self.tell(peer, number, Saying::Reject { status, private_data: Vec::new() });
            }
            (Phase::Accepted | Phase::Connected, Some(peer)) => {
                self.tell(peer, number, Saying::Disconnect);
            }
            _ => {}
        }
        self.ids.remove(&number);
        if let (Phase::Listening, Some(local), Some(network)) = (phase, local, self.provider.network.as_ref()) {
            network.close_listener(&self.listens_at(local));
        }
    }

    /// The addresses that a listener answers at: one, or all.
    pub fn listens_at(&self, local: SocketAddr) -> Vec<SocketAddr> {
        if !local.ip().is_unspecified() {
            return vec![local];
        }
        let own = self.provider.devices.iter().flat_map(|device| device.ports.iter().flat_map(|port| &port.addresses));
        own.filter(|own| own.is_ipv4() == local.is_ipv4()).map(|own| SocketAddr::new(*own, local.port())).collect()
    }

    /// Moves a connection's queue pair to RTS, with what both sides have said.
    fn bring_up(&mut self, number: u32) {
        let Some(id) = self.ids.get(&number) else { return };
        let (Some(device), Some(local), Some(qpn)) = (id.device, id.local, id.qpn) else { return };
        let at = &self.provider.devices[device];
        let (sgid_index, _) = at.gid_of(local.ip());
        let (own, other, is_iwarp) = (id.own.clone(), id.other.clone(), at.is_iwarp());
        let Some(qp) = self.qps.get_mut(&qpn) else { return };
        let attr = &mut qp.attr;
        attr.port_num = 1;
        attr.dest_qp_num = other.qpn;
        attr.ah_attr.is_global = 1;
        attr.ah_attr.port_num = 1;
        attr.ah_attr.grh.dgid = ibv_gid { raw: other.gid };
        attr.ah_attr.grh.sgid_index = sgid_index;
        attr.ah_attr.grh.hop_limit = 64;
        attr.max_rd_atomic = own.initiator_depth.min(other.responder_resources);
        attr.max_dest_rd_atomic = own.responder_resources;
        let reads = if is_iwarp { REMOTE_READ } else { REMOTE_READ | REMOTE_ATOMIC };
        attr.qp_access_flags = REMOTE_WRITE | if own.responder_resources > 0 || is_iwarp { reads } else { 0 };
        // TCP repeats until the connection ends, and knows of no receiver that is not ready.
        attr.timeout = 18;
        (attr.retry_cnt, attr.rnr_retry) = if is_iwarp { (7, 0) } else { (own.retry_count.min(7), own.rnr_retry_count.min(7)) };
        qp.state = ibv_qp_state::IBV_QPS_RTS;
    }
}

impl Id {
    pub fn new(channel: u32) -> Self {
        Self {
            raw: 0,
            channel,
            device: None,
            local: None,
            remote: None,
            phase: Phase::Idle,
            qpn: None,
            peer: None,
            own: Offer::default(),
            other: Offer::default(),
            unacknowledged: 0,
        }
    }
}

/// An offer as the other side's application sees it: what the one will start, the other will serve.
fn turned(offer: Offer) -> Offer {
    Offer { responder_resources: offer.initiator_depth, initiator_depth: offer.responder_resources, ..offer }
}

fn pad(data: &mut Vec<u8>, to: usize) {
    if data.len() < to {
        data.resize(to, 0);
    }
}

/// How many bits two addresses of a kind have in common from their beginning.
fn common_bits(left: IpAddr, right: IpAddr) -> u32 {
    match (left, right) {
        (IpAddr::V4(left), IpAddr::V4(right)) => (left.to_bits() ^ right.to_bits()).leading_zeros(),
        (IpAddr::V6(left), IpAddr::V6(right)) => (left.to_bits() ^ right.to_bits()).leading_zeros(),
        _ => 0,
    }
}
