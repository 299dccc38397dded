//! Entry points of librdmacm. Only reliable connections (RDMA_PS_TCP), and only with an event channel.
#![allow(unsafe_code, reason = "entry points of a C interface")]

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::sockaddr;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use rdma_sys::*;

use super::connect::{Event, EventQueue, Id, Offer, Phase};
use super::device::{close_device, null, open_device};
use super::provider::{self, Provider};
use super::{events, queues};

/// An event channel as C sees it, and what it belongs to. In each of these the public structure comes first.
#[repr(C)]
struct RawChannel {
    public: rdma_event_channel,
    provider: &'static Provider,
    number: u32,
}

#[repr(C)]
struct RawId {
    public: rdma_cm_id,
    provider: &'static Provider,
    number: u32,
}

#[repr(C)]
struct RawEvent {
    public: rdma_cm_event,
    provider: &'static Provider,
    /// Whose destruction waits for the acknowledgement.
    of: u32,
    /// What the public structure points to.
    _private_data: Vec<u8>,
}

/// Ports that are given out where none is asked for (ip(7), ip_local_port_range).
const FIRST_PORT: u16 = 32768;
const LAST_PORT: u16 = 60999;

fn failed(errno: i32) -> c_int {
    Errno::set_raw(errno);
    -1
}

fn answered(result: Result<(), i32>) -> c_int {
    result.map_or_else(failed, |()| 0)
}

/// # Safety
/// `id` is what `create_id` or an event gave and nobody has destroyed.
unsafe fn of(id: *mut rdma_cm_id) -> (&'static Provider, u32) {
    // SAFETY: the caller's terms.
    unsafe { ((*id.cast::<RawId>()).provider, (*id.cast::<RawId>()).number) }
}

/// Lets faults act that name the call; those of a device only where the identifier has one.
fn enter(provider: &'static Provider, number: u32, call: &str) -> Result<provider::Locked, i32> {
    let device = provider.lock().ids.get(&number).ok_or(libc::EINVAL)?.device;
    match device {
        Some(device) => provider.enter(device, call, &[]),
        None => {
            provider.faults.at_call("", call, &[])?;
            Ok(provider.lock())
        }
    }
}

pub fn create_event_channel(slot: usize) -> *mut rdma_event_channel {
    let Some(provider) = provider::of_slot(slot) else { return null(libc::ENODEV) };
    if let Err(errno) = provider.faults.at_call("", "rdma_create_event_channel", &[]) {
        return null(errno);
    }
    let Ok(event_fd) = EventFd::from_value_and_flags(0, EfdFlags::EFD_SEMAPHORE | EfdFlags::EFD_CLOEXEC) else { return null(libc::EMFILE) };
    let mut locked = provider.lock();
    let number = locked.new_id();
    let public = rdma_event_channel { fd: event_fd.as_raw_fd() };
    locked.event_queues.insert(number, EventQueue { event_fd: event_fd.into(), events: VecDeque::new() });
    Box::into_raw(Box::new(RawChannel { public, provider, number })).cast()
}

pub unsafe extern "C" fn destroy_event_channel(channel: *mut rdma_event_channel) {
    // SAFETY: a channel that was made and nobody has destroyed.
    let channel = unsafe { Box::from_raw(channel.cast::<RawChannel>()) };
    channel.provider.lock().event_queues.remove(&channel.number);
}

/// A C object for an identifier.
fn object(provider: &'static Provider, number: u32, channel: *mut rdma_event_channel, context: *mut c_void) -> *mut rdma_cm_id {
    // SAFETY: all-zero is a valid value of this structure of numbers and pointers.
    let mut public: rdma_cm_id = unsafe { mem::zeroed() };
    (public.channel, public.context, public.ps) = (channel, context, rdma_port_space::RDMA_PS_TCP);
    public.qp_type = ibv_qp_type::IBV_QPT_RC;
    Box::into_raw(Box::new(RawId { public, provider, number })).cast()
}

pub unsafe extern "C" fn create_id(
    channel: *mut rdma_event_channel,
    id: *mut *mut rdma_cm_id,
    context: *mut c_void,
    space: rdma_port_space::Type,
) -> c_int {
    if channel.is_null() || space != rdma_port_space::RDMA_PS_TCP {
        return failed(libc::EPROTONOSUPPORT);
    }
    // SAFETY: a channel that was made.
    let (provider, channel_number) = unsafe { ((*channel.cast::<RawChannel>()).provider, (*channel.cast::<RawChannel>()).number) };
    if let Err(errno) = provider.faults.at_call("", "rdma_create_id", &[]) {
        return failed(errno);
    }
    let number = provider.lock().new_id();
    let made = object(provider, number, channel, context);
    provider.lock().ids.insert(number, Id { raw: made.expose_provenance(), ..Id::new(channel_number) });
    // SAFETY: a pointer to fill.
    unsafe { id.write(made) };
    0
}

pub unsafe extern "C" fn destroy_id(id: *mut rdma_cm_id) -> c_int {
    // SAFETY: an identifier that was made and nobody has destroyed.
    unsafe {
        let (provider, number) = of(id);
        // As rdma_destroy_id(3): until all of its events are acknowledged.
        let mut locked = provider.wait_acknowledged_id(provider.lock(), number);
        let device = locked.ids.get(&number).and_then(|id| id.device).filter(|_| !(*id).verbs.is_null());
        locked.forget_id(number);
        drop(locked);
        if let Some(device) = device {
            release_context(provider, device);
        }
        drop(Box::from_raw(id.cast::<RawId>()));
    }
    0
}

/// The open device that all identifiers of it share.
fn hold_context(provider: &'static Provider, device: usize) -> Result<*mut ibv_context, i32> {
    if let Some((raw, uses)) = provider.lock().manager_contexts.get_mut(&device) {
        *uses += 1;
        return Ok(ptr::with_exposed_provenance_mut(*raw));
    }
    // SAFETY: a device that lives for ever.
    let opened = unsafe { open_device((&raw const provider.devices[device].raw).cast::<ibv_device>().cast_mut()) };
    if opened.is_null() {
        return Err(Errno::last_raw());
    }
    let mut locked = provider.lock();
    let known = locked.manager_contexts.get_mut(&device).map(|(raw, uses)| {
        *uses += 1;
        *raw
    });
    match known {
        None => {
            locked.manager_contexts.insert(device, (opened.expose_provenance(), 1));
            Ok(opened)
        }
        // Another thread was quicker.
        Some(raw) => {
            drop(locked);
            // SAFETY: just opened, and known to nobody.
            unsafe { close_device(opened) };
            Ok(ptr::with_exposed_provenance_mut(raw))
        }
    }
}

fn release_context(provider: &'static Provider, device: usize) {
    let mut locked = provider.lock();
    let Some((raw, uses)) = locked.manager_contexts.get_mut(&device) else { return };
    *uses -= 1;
    let raw = *raw;
    if *uses == 0 {
        locked.manager_contexts.remove(&device);
        drop(locked);
        // SAFETY: opened by `hold_context`, and the last user has gone.
        unsafe { close_device(ptr::with_exposed_provenance_mut(raw)) };
    }
}

/// # Safety
/// A pointer to an address of IPv4 or IPv6, as its family says.
unsafe fn address(raw: *const sockaddr) -> Option<SocketAddr> {
    // SAFETY: the caller's terms.
    let storage = unsafe { SockaddrStorage::from_raw(raw, None) }?;
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::new(IpAddr::V6(v6.ip()), v6.port())))
}

/// Shows an identifier's device and addresses to C.
///
/// # Safety
/// `id` is an identifier that was made.
unsafe fn show(id: *mut rdma_cm_id, verbs: *mut ibv_context, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
    // SAFETY: a live structure; each address is copied with its own length, which a sockaddr_storage has room for.
    unsafe {
        if !verbs.is_null() {
            ((*id).verbs, (*id).port_num) = (verbs, 1);
        }
        let shown = &mut (*id).route.addr;
        for (address, place) in [(local, (&raw mut shown.src_addr_union).cast::<u8>()), (remote, (&raw mut shown.dst_addr_union).cast())] {
            if let Some(storage) = address.map(SockaddrStorage::from) {
                ptr::copy_nonoverlapping(storage.as_ptr().cast::<u8>(), place, storage.len() as usize);
            }
        }
    }
}

/// Binds to an address and the device that has it.
///
/// # Safety
/// `id` is an identifier that was made.
unsafe fn bind(id: *mut rdma_cm_id, local: SocketAddr, device: Option<usize>) -> Result<(), i32> {
    // SAFETY: the caller's terms.
    let (provider, number) = unsafe { of(id) };
    let locked = provider.lock();
    if locked.ids.get(&number).ok_or(libc::EINVAL)?.phase != Phase::Idle {
        return Err(libc::EINVAL);
    }
    let is_taken = |port: u16, counts: fn(Phase) -> bool| {
        let clashes = |other: SocketAddr| {
            other.port() == port && (other.ip() == local.ip() || other.ip().is_unspecified() || local.ip().is_unspecified())
        };
        locked.ids.values().any(|id| counts(id.phase) && id.local.is_some_and(clashes))
    };
    let port = match local.port() {
        0 => {
            // Processes begin at different ones, as they cannot see each other's.
            let first = locked.own_place() * 97 + number;
            let span = u32::from(LAST_PORT - FIRST_PORT);
            let mut ports = (0..span).map(|step| FIRST_PORT + ((first + step) % span) as u16);
            ports.find(|port| !is_taken(*port, |_| true)).ok_or(libc::EADDRNOTAVAIL)?
        }
        // A connection that came in has the port of its listener, and stands in nobody's way.
        port if is_taken(port, |phase| matches!(phase, Phase::Bound | Phase::Listening)) => return Err(libc::EADDRINUSE),
        port => port,
    };
    let local = SocketAddr::new(local.ip(), port);
    drop(locked);
    let verbs = device.map(|device| hold_context(provider, device)).transpose()?;
    let mut locked = provider.lock();
    if let Some(state) = locked.ids.get_mut(&number) {
        (state.device, state.local, state.phase) = (device, Some(local), Phase::Bound);
    }
    // SAFETY: the caller's terms.
    unsafe { show(id, verbs.unwrap_or(ptr::null_mut()), Some(local), None) };
    Ok(())
}

pub unsafe extern "C" fn bind_addr(id: *mut rdma_cm_id, wanted: *mut sockaddr) -> c_int {
    // SAFETY: an identifier that was made, and an address.
    unsafe {
        let (provider, number) = of(id);
        let Some(local) = address(wanted) else { return failed(libc::EAFNOSUPPORT) };
        let device = match enter(provider, number, "rdma_bind_addr") {
            Ok(locked) => locked.device_at(local.ip()),
            Err(errno) => return failed(errno),
        };
        if device.is_none() && !local.ip().is_unspecified() {
            // core/cma.c, cma_translate_addr: no interface of a device has it.
            return failed(libc::ENODEV);
        }
        answered(bind(id, local, device))
    }
}

pub unsafe extern "C" fn resolve_addr(id: *mut rdma_cm_id, source: *mut sockaddr, target: *mut sockaddr, _timeout_ms: c_int) -> c_int {
    // SAFETY: an identifier that was made, and addresses, the first of which may be null.
    unsafe {
        let (provider, number) = of(id);
        let Some(remote) = address(target) else { return failed(libc::EAFNOSUPPORT) };
        let asked = (!source.is_null()).then(|| address(source)).flatten();
        let locked = match enter(provider, number, "rdma_resolve_addr") {
            Ok(locked) => locked,
            Err(errno) => return failed(errno),
        };
        let Some(state) = locked.ids.get(&number) else { return failed(libc::EINVAL) };
        let (phase, route) = (state.phase, locked.route_to(remote.ip()));
        drop(locked);
        if !matches!(phase, Phase::Idle | Phase::Bound) {
            return failed(libc::EINVAL);
        }
        if phase == Phase::Idle {
            let own = asked.filter(|asked| !asked.ip().is_unspecified());
            let (device, local) = match (own, route) {
                (Some(own), _) => (provider.lock().device_at(own.ip()), own),
                (None, Some((device, own))) => (Some(device), SocketAddr::new(own, 0)),
                // Nowhere to bind to; the event tells.
                (None, None) => (None, SocketAddr::new(if remote.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u8; 16].into() }, 0)),
            };
            if own.is_some() && device.is_none() {
                return failed(libc::ENODEV);
            }
            if let Err(errno) = bind(id, local, device) {
                return failed(errno);
            }
        }
        let mut locked = provider.lock();
        let Some(state) = locked.ids.get_mut(&number) else { return failed(libc::EINVAL) };
        state.remote = Some(remote);
        let is_reached = route.is_some() && state.device.is_some();
        if is_reached {
            state.phase = Phase::AddressResolved;
            locked.raise(number, rdma_cm_event_type::RDMA_CM_EVENT_ADDR_RESOLVED, 0, Offer::default());
        } else {
            locked.raise(number, rdma_cm_event_type::RDMA_CM_EVENT_ADDR_ERROR, -libc::ETIMEDOUT, Offer::default());
        }
        show(id, ptr::null_mut(), None, Some(remote));
    }
    0
}

pub unsafe extern "C" fn resolve_route(id: *mut rdma_cm_id, _timeout_ms: c_int) -> c_int {
    // SAFETY: an identifier that was made.
    let (provider, number) = unsafe { of(id) };
    answered(enter(provider, number, "rdma_resolve_route").and_then(|mut locked| {
        let state = locked.ids.get_mut(&number).filter(|id| id.phase == Phase::AddressResolved).ok_or(libc::EINVAL)?;
        state.phase = Phase::RouteResolved;
        locked.raise(number, rdma_cm_event_type::RDMA_CM_EVENT_ROUTE_RESOLVED, 0, Offer::default());
        Ok(())
    }))
}

pub unsafe extern "C" fn create_qp(id: *mut rdma_cm_id, pd: *mut ibv_pd, init: *mut ibv_qp_init_attr) -> c_int {
    // SAFETY: an identifier that was made, a domain, and attributes.
    unsafe {
        let (provider, number) = of(id);
        // librdmacm makes a domain of its own where none is given, and queues; that is not simulated.
        if pd.is_null() || (*pd).context != (*id).verbs || !(*id).qp.is_null() {
            return failed(libc::EINVAL);
        }
        let qp = queues::create_qp(pd, init);
        if qp.is_null() {
            return -1;
        }
        let mut locked = provider.lock();
        if let Some(state) = locked.ids.get_mut(&number) {
            state.qpn = Some((*qp).qp_num);
        }
        let device = locked.ids.get(&number).and_then(|id| id.device);
        let is_iwarp = device.is_some_and(|device| provider.devices[device].is_iwarp());
        if let Some(made) = locked.qps.get_mut(&(*qp).qp_num) {
            made.attr.port_num = 1;
            // librdmacm/cma.c, ucma_init_conn_qp; iWARP's devices do nothing of it.
            if !is_iwarp {
                made.state = ibv_qp_state::IBV_QPS_INIT;
            }
        }
        (*qp).state = ibv_qp_state::IBV_QPS_INIT;
        ((*id).qp, (*id).pd) = (qp, pd);
    }
    0
}

pub unsafe extern "C" fn destroy_qp(id: *mut rdma_cm_id) {
    // SAFETY: an identifier that was made, with the queue pair that it made.
    unsafe {
        let (provider, number) = of(id);
        if !(*id).qp.is_null() && queues::destroy_qp((*id).qp) == 0 {
            (*id).qp = ptr::null_mut();
            if let Some(state) = provider.lock().ids.get_mut(&number) {
                state.qpn = None;
            }
        }
    }
}

pub unsafe extern "C" fn listen(id: *mut rdma_cm_id, _backlog: c_int) -> c_int {
    // SAFETY: an identifier that was made.
    let (provider, number) = unsafe { of(id) };
    answered(enter(provider, number, "rdma_listen").and_then(|mut locked| {
        let local = locked.ids.get(&number).filter(|id| id.phase == Phase::Bound).and_then(|id| id.local).ok_or(libc::EINVAL)?;
        if let Some(network) = &provider.network {
            network.open_listener(&locked.listens_at(local)).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        }
        if let Some(state) = locked.ids.get_mut(&number) {
            state.phase = Phase::Listening;
        }
        Ok(())
    }))
}

/// # Safety
/// Parameters, whose data is as long as they say, or null.
unsafe fn offer(parameters: *const rdma_conn_param) -> Offer {
    // SAFETY: the caller's terms.
    unsafe {
        let Some(given) = parameters.as_ref() else { return Offer::default() };
        let private_data = match given.private_data.is_null() {
            true => Vec::new(),
            false => std::slice::from_raw_parts(given.private_data.cast::<u8>(), given.private_data_len.into()).to_vec(),
        };
        Offer {
            qpn: given.qp_num,
            gid: [0; 16],
            private_data,
            responder_resources: given.responder_resources,
            initiator_depth: given.initiator_depth,
            flow_control: given.flow_control,
            retry_count: given.retry_count,
            rnr_retry_count: given.rnr_retry_count,
            srq: given.srq,
        }
    }
}

pub unsafe extern "C" fn connect(id: *mut rdma_cm_id, parameters: *mut rdma_conn_param) -> c_int {
    // SAFETY: an identifier that was made, and parameters.
    let ((provider, number), offer) = unsafe { (of(id), offer(parameters)) };
    answered(enter(provider, number, "rdma_connect").and_then(|mut locked| locked.ask(number, offer)))
}

pub unsafe extern "C" fn accept(id: *mut rdma_cm_id, parameters: *mut rdma_conn_param) -> c_int {
    // SAFETY: an identifier that was made, and parameters.
    let ((provider, number), offer) = unsafe { (of(id), offer(parameters)) };
    answered(enter(provider, number, "rdma_accept").and_then(|mut locked| locked.accept(number, offer)))
}

pub unsafe extern "C" fn reject(id: *mut rdma_cm_id, data: *const c_void, length: u8) -> c_int {
    // SAFETY: an identifier that was made, and data of that length.
    let ((provider, number), data) = unsafe {
        (of(id), if data.is_null() { Vec::new() } else { std::slice::from_raw_parts(data.cast::<u8>(), length.into()).to_vec() })
    };
    answered(enter(provider, number, "rdma_reject").and_then(|mut locked| locked.reject(number, data)))
}

pub unsafe extern "C" fn disconnect(id: *mut rdma_cm_id) -> c_int {
    // SAFETY: an identifier that was made.
    let (provider, number) = unsafe { of(id) };
    answered(enter(provider, number, "rdma_disconnect").and_then(|mut locked| locked.disconnect(number)))
}

/// No option changes what is simulated.
pub unsafe extern "C" fn set_option(_id: *mut rdma_cm_id, _level: c_int, _name: c_int, _value: *mut c_void, _length: usize) -> c_int {
    0
}

/// In network byte order.
pub unsafe extern "C" fn get_src_port(id: *mut rdma_cm_id) -> u16 {
    // SAFETY: an identifier that was made.
    let (provider, number) = unsafe { of(id) };
    let local = provider.lock().ids.get(&number).and_then(|id| id.local);
    local.map_or(0, |local| local.port().to_be())
}

pub unsafe extern "C" fn get_cm_event(channel: *mut rdma_event_channel, event: *mut *mut rdma_cm_event) -> c_int {
    // SAFETY: a channel that was made, and a pointer to fill.
    unsafe {
        let (provider, number) = ((*channel.cast::<RawChannel>()).provider, (*channel.cast::<RawChannel>()).number);
        if let Err(errno) = provider.faults.at_call("", "rdma_get_cm_event", &[]) {
            return failed(errno);
        }
        loop {
            if let Err(error) = events::take((*channel).fd) {
                return failed(error as i32);
            }
            // An event of an identifier that was destroyed meanwhile is gone.
            let Some(next) = provider.lock().event_queues.get_mut(&number).and_then(|queue| queue.events.pop_front()) else { continue };
            match given(provider, channel, next) {
                Ok(made) => event.write(made),
                Err(errno) => return failed(errno),
            }
            return 0;
        }
    }
}

/// The C object of an event. A request brings an identifier, which becomes one of the application's now.
///
/// # Safety
/// `channel` is a channel that was made.
unsafe fn given(provider: &'static Provider, channel: *mut rdma_event_channel, event: Event) -> Result<*mut rdma_cm_event, i32> {
    let Event { kind, id: number, listener, status, offer } = event;
    let (raw, device, local, remote) = {
        let locked = provider.lock();
        let state = locked.ids.get(&number).ok_or(libc::EINVAL)?;
        (state.raw, state.device, state.local, state.remote)
    };
    let mut id: *mut rdma_cm_id = ptr::with_exposed_provenance_mut(raw);
    let mut listening = ptr::null_mut();
    if let Some(listener) = listener {
        let raw = provider.lock().ids.get(&listener).map_or(0, |id| id.raw);
        listening = ptr::with_exposed_provenance_mut::<rdma_cm_id>(raw);
        let verbs = device.map(|device| hold_context(provider, device)).transpose()?.unwrap_or(ptr::null_mut());
        // rdma_get_cm_event(3): the new one has the listener's context.
        // SAFETY: a listener is not destroyed before its events are acknowledged, or they are gone.
        let context = unsafe { listening.as_ref() }.map_or(ptr::null_mut(), |listening| listening.context);
        id = object(provider, number, channel, context);
        // SAFETY: just made.
        unsafe { show(id, verbs, local, remote) };
        if let Some(state) = provider.lock().ids.get_mut(&number) {
            state.raw = id.expose_provenance();
        }
    }
    let of = listener.unwrap_or(number);
    if let Some(state) = provider.lock().ids.get_mut(&of) {
        state.unacknowledged += 1;
    }
    // SAFETY: all-zero is a valid value of these structures of numbers and pointers.
    let (mut public, mut conn): (rdma_cm_event, rdma_conn_param) = unsafe { (mem::zeroed(), mem::zeroed()) };
    if !offer.private_data.is_empty() {
        conn.private_data = offer.private_data.as_ptr().cast();
        conn.private_data_len = u8::try_from(offer.private_data.len()).unwrap_or(u8::MAX);
    }
    (conn.responder_resources, conn.initiator_depth) = (offer.responder_resources, offer.initiator_depth);
    (conn.flow_control, conn.retry_count, conn.rnr_retry_count) = (offer.flow_control, offer.retry_count, offer.rnr_retry_count);
    (conn.srq, conn.qp_num) = (offer.srq, offer.qpn);
    (public.id, public.listen_id, public.event, public.status) = (id, listening, kind, status);
    public.param.conn = conn;
    Ok(Box::into_raw(Box::new(RawEvent { public, provider, of, _private_data: offer.private_data })).cast())
}

pub unsafe extern "C" fn ack_cm_event(event: *mut rdma_cm_event) -> c_int {
    // SAFETY: an event that was given and nobody has acknowledged.
    let event = unsafe { Box::from_raw(event.cast::<RawEvent>()) };
    if let Some(state) = event.provider.lock().ids.get_mut(&event.of) {
        state.unacknowledged = state.unacknowledged.saturating_sub(1);
    }
    event.provider.acknowledged.notify_all();
    0
}
