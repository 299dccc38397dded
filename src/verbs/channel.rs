//! Completion channels, arming, and events of a device.
#![allow(unsafe_code, reason = "calls through the verbs table and owns what it returns")]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rdma_sys::*;

use super::{CallError, CompletionQueue, Context};

/// A file that becomes readable when an armed completion queue gets a completion. Reading it does not block.
#[derive(Clone)]
pub struct CompletionChannel(pub(super) Arc<Inner>);

pub(super) struct Inner {
    context: Context,
    pub raw: *mut ibv_comp_channel,
}

// SAFETY: as for the context that it belongs to.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: destroyed once; queues that use it hold this and are gone.
        unsafe { (self.context.0.verbs.ibv_destroy_comp_channel)(self.raw) };
    }
}

impl Context {
    /// Makes a completion channel.
    ///
    /// # Errors
    /// `ibv_create_comp_channel` failed, or its file cannot be made non-blocking.
    pub fn create_channel(&self) -> Result<CompletionChannel, CallError> {
        Errno::clear();
        // SAFETY: the context is open.
        let raw = unsafe { (self.0.verbs.ibv_create_comp_channel)(self.0.raw) };
        if raw.is_null() {
            return Err(CallError::last("ibv_create_comp_channel", self.name()));
        }
        let channel = CompletionChannel(Arc::new(Inner { context: self.clone(), raw }));
        no_wait(channel.as_fd(), self.name())?;
        Ok(channel)
    }

    /// What has happened to the device since the last time, by the names of verbs.h, each with the port where it has one.
    #[must_use]
    pub fn take_events(&self) -> Vec<String> {
        let mut events = Vec::new();
        // SAFETY: the context is open, and its file with it.
        let file = unsafe { BorrowedFd::borrow_raw((*self.0.raw).async_fd) };
        if no_wait(file, self.name()).is_err() {
            return events;
        }
        // A device that never stops would keep this going.
        while events.len() < 16 {
            let mut event = MaybeUninit::<ibv_async_event>::zeroed();
            // SAFETY: filled by the call where it succeeds, and acknowledged once.
            unsafe {
                if (self.0.verbs.ibv_get_async_event)(self.0.raw, event.as_mut_ptr()) != 0 {
                    break;
                }
                let event = event.as_mut_ptr();
                // Read as the number that it is in C: a newer library may have kinds that the Rust type lacks.
                let kind = (&raw const (*event).event_type).cast::<c_int>().read();
                let is_of_port =
                    kind == ibv_event_type::IBV_EVENT_PORT_ERR as c_int || kind == ibv_event_type::IBV_EVENT_PORT_ACTIVE as c_int;
                let port = if is_of_port { format!(" (port {})", (*event).element.port_num) } else { String::new() };
                events.push(event_name(kind) + &port);
                (self.0.verbs.ibv_ack_async_event)(event);
            }
        }
        events
    }
}

pub(super) fn no_wait(file: BorrowedFd<'_>, object: &str) -> Result<(), CallError> {
    let failed = |errno: Errno| CallError { call: "fcntl".to_owned(), object: object.to_owned(), errno: super::ErrorNumber(errno as i32) };
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(failed)?;
    fcntl(file, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)).map_err(failed)?;
    Ok(())
}

/// `enum ibv_event_type` of verbs.h.
fn event_name(kind: c_int) -> String {
    const NAMES: [&str; 20] = [
        "CQ_ERR",
        "QP_FATAL",
        "QP_REQ_ERR",
        "QP_ACCESS_ERR",
        "COMM_EST",
        "SQ_DRAINED",
        "PATH_MIG",
        "PATH_MIG_ERR",
        "DEVICE_FATAL",
        "PORT_ACTIVE",
        "PORT_ERR",
        "LID_CHANGE",
        "PKEY_CHANGE",
        "SM_CHANGE",
        "SRQ_ERR",
        "SRQ_LIMIT_REACHED",
        "QP_LAST_WQE_REACHED",
        "CLIENT_REREGISTER",
        "GID_CHANGE",
        "WQ_FATAL",
    ];
    let name = usize::try_from(kind).ok().and_then(|kind| NAMES.get(kind));
    name.map_or_else(|| format!("asynchronous event {kind}"), |name| format!("IBV_EVENT_{name}"))
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel lives, and its file with it.
        unsafe { BorrowedFd::borrow_raw((*self.0.raw).fd) }
    }
}

impl CompletionChannel {
    /// Takes and acknowledges the events that are there.
    pub fn drain(&self) {
        while self.take() {}
    }

    /// Takes and acknowledges one event, if one is there.
    pub fn take(&self) -> bool {
        let (mut cq, mut of) = (ptr::null_mut(), ptr::null_mut());
        let verbs = &self.0.context.0.verbs;
        // SAFETY: the channel lives; a queue whose event is given lives, since queues hold the channel and acknowledge before they go.
        unsafe {
            let is_there = (verbs.ibv_get_cq_event)(self.0.raw, &raw mut cq, &raw mut of) == 0;
            if is_there {
                (verbs.ibv_ack_cq_events)(cq, 1);
            }
            is_there
        }
    }
}

impl CompletionQueue {
    /// Asks for an event at the next completion.
    ///
    /// # Errors
    /// `ibv_req_notify_cq` failed.
    pub fn arm(&self) -> Result<(), CallError> {
        Errno::clear();
        // SAFETY: the queue lives; every provider has this operation.
        let returned = unsafe { ibv_req_notify_cq(self.0.raw, 0) };
        CallError::check("ibv_req_notify_cq", &self.0.context.0.name, returned)
    }
}
