//! Connections made by rdma_cm: identifiers, their events, and the queue pairs that belong to them.
#![allow(unsafe_code, reason = "calls through the table of librdmacm and owns what it returns")]

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use rdma_sys::*;

use super::context::ContextInner;
use super::{CallError, CompletionQueue, ConnectionManager, Context, ProtectionDomain, QueuePair, QueuePairInit, Reliability, Verbs};

/// The file where a connection's events arrive. Reading it does not block.
#[derive(Clone)]
pub struct EventChannel(Arc<ChannelInner>);

struct ChannelInner {
    manager: Arc<ConnectionManager>,
    raw: *mut rdma_event_channel,
}

// SAFETY: librdmacm locks what threads share (rdma_cm(7)).
unsafe impl Send for ChannelInner {}
// SAFETY: as above.
unsafe impl Sync for ChannelInner {}

impl Drop for ChannelInner {
    fn drop(&mut self) {
        // SAFETY: destroyed once; identifiers hold it and are gone.
        unsafe { (self.manager.rdma_destroy_event_channel)(self.raw) };
    }
}

/// One side of a connection, or a listener.
#[derive(Clone)]
pub struct ConnectionId(Arc<IdInner>);

struct IdInner {
    channel: EventChannel,
    raw: *mut rdma_cm_id,
}

// SAFETY: as for the channel.
unsafe impl Send for IdInner {}
// SAFETY: as above.
unsafe impl Sync for IdInner {}

impl Drop for IdInner {
    fn drop(&mut self) {
        // SAFETY: destroyed once; its queue pair holds it and is gone, and its events are acknowledged as soon as they are read.
        unsafe { (self.channel.0.manager.rdma_destroy_id)(self.raw) };
    }
}

/// What happened to a connection.
pub struct ConnectionEvent {
    /// `enum rdma_cm_event_type`, by the names of rdma_cma.h without their prefix.
    pub kind: &'static str,
    /// Why something failed: an errno, or the reason of a rejection.
    pub status: i32,
    /// To which identifier; a listener's, for a request.
    pub of: usize,
    /// The identifier that a request brings.
    pub request: Option<ConnectionId>,
    /// What the other side sent along.
    pub private_data: Vec<u8>,
}

/// `enum rdma_cm_event_type` of rdma_cma.h.
const EVENTS: [&str; 16] = [
    "ADDR_RESOLVED",
    "ADDR_ERROR",
    "ROUTE_RESOLVED",
    "ROUTE_ERROR",
    "CONNECT_REQUEST",
    "CONNECT_RESPONSE",
    "CONNECT_ERROR",
    "UNREACHABLE",
    "REJECTED",
    "ESTABLISHED",
    "DISCONNECTED",
    "DEVICE_REMOVAL",
    "MULTICAST_JOIN",
    "MULTICAST_ERROR",
    "ADDR_CHANGE",
    "TIMEWAIT_EXIT",
];

impl EventChannel {
    /// Makes a channel, which opens /dev/infiniband/rdma_cm.
    ///
    /// # Errors
    /// `rdma_create_event_channel` failed: ENODEV or ENOENT where rdma_ucm is not loaded.
    pub fn new(manager: &Arc<ConnectionManager>) -> Result<Self, CallError> {
        Errno::clear();
        // SAFETY: no arguments.
        let raw = unsafe { (manager.rdma_create_event_channel)() };
        if raw.is_null() {
            return Err(CallError::last("rdma_create_event_channel", "/dev/infiniband/rdma_cm"));
        }
        let channel = Self(Arc::new(ChannelInner { manager: manager.clone(), raw }));
        super::channel::no_wait(channel.as_fd(), "the event channel of rdma_cm")?;
        Ok(channel)
    }

    /// Makes an identifier for reliable connections.
    ///
    /// # Errors
    /// `rdma_create_id` failed.
    pub fn create_id(&self) -> Result<ConnectionId, CallError> {
        let mut raw = ptr::null_mut();
        Errno::clear();
        // SAFETY: the channel lives and `raw` outlives the call.
        let returned = unsafe { (self.0.manager.rdma_create_id)(self.0.raw, &raw mut raw, ptr::null_mut(), rdma_port_space::RDMA_PS_TCP) };
        CallError::check("rdma_create_id", "rdma_cm", returned)?;
        Ok(ConnectionId(Arc::new(IdInner { channel: self.clone(), raw })))
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// `rdma_get_cm_event` failed.
    pub fn next(&self) -> Result<Option<ConnectionEvent>, CallError> {
        let mut event = ptr::null_mut();
        Errno::clear();
        // SAFETY: the channel lives and `event` outlives the call.
        let returned = unsafe { (self.0.manager.rdma_get_cm_event)(self.0.raw, &raw mut event) };
        if returned != 0 && matches!(Errno::last(), Errno::EAGAIN | Errno::EINTR) {
            return Ok(None);
        }
        CallError::check("rdma_get_cm_event", "rdma_cm", returned)?;
        // SAFETY: the call gave an event, which is valid until it is acknowledged below, once. The data of a connection, which all kinds
        // but those of datagrams have, is `private_data_len` bytes long.
        unsafe {
            let kind = EVENTS.get((*event).event as usize).copied().unwrap_or("an unknown event");
            let is_request = kind == "CONNECT_REQUEST";
            let conn = &(*event).param.conn;
            let private_data = match conn.private_data.is_null() {
                true => Vec::new(),
                false => std::slice::from_raw_parts(conn.private_data.cast::<u8>(), conn.private_data_len.into()).to_vec(),
            };
            let event_of = if is_request { (*event).listen_id } else { (*event).id };
            let request = is_request.then(|| ConnectionId(Arc::new(IdInner { channel: self.clone(), raw: (*event).id })));
            let told = ConnectionEvent { kind, status: (*event).status, of: event_of as usize, request, private_data };
            (self.0.manager.rdma_ack_cm_event)(event);
            Ok(Some(told))
        }
    }
}

impl AsFd for EventChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel lives, and its file with it.
        unsafe { BorrowedFd::borrow_raw((*self.0.raw).fd) }
    }
}

impl ConnectionId {
    fn manager(&self) -> &ConnectionManager {
        &self.0.channel.0.manager
    }

    /// What [`ConnectionEvent::of`] names it.
    #[must_use]
    pub fn number(&self) -> usize {
        self.0.raw as usize
    }

    /// Binds it to an address, and so to the device that has it.
    ///
    /// # Errors
    /// `rdma_bind_addr` failed: ENODEV says that no RDMA device has the address.
    pub fn bind(&self, address: SocketAddr) -> Result<(), CallError> {
        let storage = SockaddrStorage::from(address);
        Errno::clear();
        // SAFETY: the address outlives the call, which only reads it.
        let returned = unsafe { (self.manager().rdma_bind_addr)(self.0.raw, storage.as_ptr().cast_mut().cast()) };
        CallError::check("rdma_bind_addr", &address.to_string(), returned)
    }

    /// Looks for the device by which `to` is reached; ADDR_RESOLVED or ADDR_ERROR tells.
    ///
    /// # Errors
    /// `rdma_resolve_addr` failed.
    pub fn resolve_address(&self, from: SocketAddr, to: SocketAddr, timeout_ms: i32) -> Result<(), CallError> {
        let (source, target) = (SockaddrStorage::from(from), SockaddrStorage::from(to));
        Errno::clear();
        // SAFETY: the addresses outlive the call, which only reads them.
        let returned = unsafe {
            let (source, target) = (source.as_ptr().cast_mut().cast(), target.as_ptr().cast_mut().cast());
            (self.manager().rdma_resolve_addr)(self.0.raw, source, target, timeout_ms)
        };
        CallError::check("rdma_resolve_addr", &format!("from {from} to {to}"), returned)
    }

    /// Looks for the way; ROUTE_RESOLVED or ROUTE_ERROR tells.
    ///
    /// # Errors
    /// `rdma_resolve_route` failed.
    pub fn resolve_route(&self, timeout_ms: i32) -> Result<(), CallError> {
        Errno::clear();
        // SAFETY: the identifier lives.
        let returned = unsafe { (self.manager().rdma_resolve_route)(self.0.raw, timeout_ms) };
        CallError::check("rdma_resolve_route", "rdma_cm", returned)
    }

    /// Waits for requests; CONNECT_REQUEST brings each.
    ///
    /// # Errors
    /// `rdma_listen` failed.
    pub fn listen(&self, backlog: i32) -> Result<(), CallError> {
        Errno::clear();
        // SAFETY: the identifier lives.
        let returned = unsafe { (self.manager().rdma_listen)(self.0.raw, backlog) };
        CallError::check("rdma_listen", "rdma_cm", returned)
    }

    /// The port that it is bound to.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        // SAFETY: the identifier lives.
        u16::from_be(unsafe { (self.manager().rdma_get_src_port)(self.0.raw) })
    }

    /// Asks the other side for a connection.
    ///
    /// # Errors
    /// `rdma_connect` failed.
    pub fn connect(&self, private_data: &[u8], reliability: Reliability) -> Result<(), CallError> {
        let mut parameters = parameters(private_data, reliability);
        Errno::clear();
        // SAFETY: parameters and data outlive the call.
        let returned = unsafe { (self.manager().rdma_connect)(self.0.raw, &raw mut parameters) };
        CallError::check("rdma_connect", "rdma_cm", returned)
    }

    /// Takes a request.
    ///
    /// # Errors
    /// `rdma_accept` failed.
    pub fn accept(&self, reliability: Reliability) -> Result<(), CallError> {
        let mut parameters = parameters(&[], reliability);
        Errno::clear();
        // SAFETY: the parameters outlive the call.
        let returned = unsafe { (self.manager().rdma_accept)(self.0.raw, &raw mut parameters) };
        CallError::check("rdma_accept", "rdma_cm", returned)
    }

    /// Ends the connection. One that has ended already is as well.
    pub fn disconnect(&self) {
        // SAFETY: the identifier lives.
        unsafe { (self.manager().rdma_disconnect)(self.0.raw) };
    }

    /// The device that it is bound to.
    ///
    /// # Errors
    /// It is bound to none.
    pub fn context(&self, verbs: &Arc<Verbs>) -> Result<Context, CallError> {
        // SAFETY: the identifier lives; a context that it names is open and lives as long.
        unsafe {
            let raw = (*self.0.raw).verbs;
            if raw.is_null() {
                return Err(CallError {
                    call: "rdma_bind_addr".to_owned(),
                    object: "an address that belongs to no RDMA device".to_owned(),
                    errno: super::ErrorNumber(libc::ENODEV),
                });
            }
            let name = CStr::from_ptr((verbs.ibv_get_device_name)((*raw).device)).to_string_lossy().into_owned();
            Ok(Context(Arc::new(ContextInner { verbs: verbs.clone(), raw, name, manager: Some(self.clone()) })))
        }
    }

    /// Makes the connection's queue pair; rdma_cm moves it through its states.
    ///
    /// # Errors
    /// `rdma_create_qp` failed.
    pub fn create_qp(&self, pd: &ProtectionDomain, asked: &QueuePairInit<'_>, recv_cq: &CompletionQueue) -> Result<QueuePair, CallError> {
        let mut init = asked.raw(recv_cq);
        Errno::clear();
        // SAFETY: everything that `init` points to lives, and the queue pair keeps it alive.
        let returned = unsafe { (self.manager().rdma_create_qp)(self.0.raw, pd.0.raw, &raw mut init) };
        CallError::check("rdma_create_qp", pd.context().name(), returned)?;
        Ok(QueuePair {
            pd: pd.clone(),
            // SAFETY: the call has set it.
            raw: unsafe { (*self.0.raw).qp },
            caps: init.cap.into(),
            qp_type: asked.qp_type,
            manager: Some(self.clone()),
            _uses: (asked.cq.clone(), recv_cq.clone(), asked.srq.cloned()),
        })
    }

    /// Destroys the connection's queue pair. Only the queue pair itself does so, when it is dropped.
    pub(super) fn destroy_qp(&self) {
        // SAFETY: the queue pair is there, and nobody uses it any more.
        unsafe { (self.manager().rdma_destroy_qp)(self.0.raw) };
    }
}

fn parameters(private_data: &[u8], reliability: Reliability) -> rdma_conn_param {
    let mut parameters = MaybeUninit::<rdma_conn_param>::zeroed();
    // SAFETY: all-zero is a valid value of this structure of numbers and a pointer.
    let parameters = unsafe { parameters.assume_init_mut() };
    rdma_conn_param {
        private_data: if private_data.is_empty() { ptr::null() } else { private_data.as_ptr().cast::<c_void>() },
        private_data_len: u8::try_from(private_data.len()).unwrap_or(u8::MAX),
        responder_resources: reliability.reads,
        initiator_depth: reliability.reads,
        retry_count: reliability.retries.min(7),
        rnr_retry_count: reliability.receiver_retries.min(7),
        ..*parameters
    }
}

/// Whether a status of an event is an errno, which the kernel gives negated.
#[must_use]
pub fn event_errno(status: c_int) -> Option<super::ErrorNumber> {
    (status < 0).then(|| super::ErrorNumber(-status))
}
