//! Events: completion channels, and what happens to devices, ports and queues.
//!
//! A semaphore (eventfd) counts the events, so the file can be polled, and reading it blocks or not as the application has set it, like
//! the kernel's file.
#![allow(unsafe_code, reason = "entry points of a C interface")]

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rdma_sys::*;

use super::device::{Home, failed, null};
use super::provider::Locked;
use super::world::{AsyncEvent, Channel};

/// A completion channel as C sees it, and its number. The public structure comes first, so that its address is that of the whole.
#[repr(C)]
struct RawChannel {
    public: ibv_comp_channel,
    id: u32,
}

/// # Safety
/// `channel` is what `create_comp_channel` gave and nobody has freed.
pub unsafe fn channel_id(channel: *mut ibv_comp_channel) -> u32 {
    // SAFETY: the caller's terms.
    unsafe { (*channel.cast::<RawChannel>()).id }
}

/// Adds one to a semaphore. It cannot overflow: every count stands for an event in memory.
pub fn raise(semaphore: impl AsFd) {
    let _ = nix::unistd::write(semaphore, &1_u64.to_ne_bytes());
}

/// Takes one from a semaphore, waiting for it if the file blocks.
pub fn take(semaphore: RawFd) -> Result<(), Errno> {
    let mut count = [0; 8];
    loop {
        // SAFETY: reads eight bytes into eight bytes. The number is not borrowed: another thread may close it, which fails the read.
        let got = unsafe { libc::read(semaphore, count.as_mut_ptr().cast::<c_void>(), count.len()) };
        match Errno::result(got) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes one if there is one.
pub fn take_at_once(semaphore: impl AsFd) {
    let semaphore = semaphore.as_fd();
    let mut fds = [PollFd::new(semaphore, PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::ZERO) == Ok(1) {
        let _ = take(semaphore.as_raw_fd());
    }
}

pub unsafe extern "C" fn create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel {
    // SAFETY: an open device.
    let home = unsafe { Home::of(context) };
    let made = home.enter("ibv_create_comp_channel", &[]).and_then(|mut locked| {
        let event_fd = EventFd::from_value_and_flags(0, EfdFlags::EFD_SEMAPHORE | EfdFlags::EFD_CLOEXEC).map_err(|error| error as i32)?;
        let id = locked.new_id();
        let fd = event_fd.as_raw_fd();
        locked.channels.insert(id, Channel { context: home.context, event_fd: event_fd.into(), events: VecDeque::new(), uses: 0 });
        Ok(RawChannel { public: ibv_comp_channel { context, fd, refcnt: 0 }, id })
    });
    match made {
        Ok(channel) => Box::into_raw(Box::new(channel)).cast(),
        Err(errno) => null(errno),
    }
}

pub unsafe extern "C" fn destroy_comp_channel(channel: *mut ibv_comp_channel) -> c_int {
    // SAFETY: a channel that was made and nobody has freed.
    unsafe {
        let mut locked = Home::of((*channel).context).provider.lock();
        let id = channel_id(channel);
        if locked.channels.get(&id).is_some_and(|channel| channel.uses > 0) {
            return failed(libc::EBUSY);
        }
        locked.channels.remove(&id);
        drop(Box::from_raw(channel.cast::<RawChannel>()));
    }
    0
}

pub unsafe extern "C" fn get_cq_event(channel: *mut ibv_comp_channel, cq: *mut *mut ibv_cq, cq_context: *mut *mut c_void) -> c_int {
    // SAFETY: a channel that was made.
    let (home, id, fd) = unsafe { (Home::of((*channel).context), channel_id(channel), (*channel).fd) };
    loop {
        if let Err(error) = take(fd) {
            failed(error as i32);
            return -1;
        }
        let mut locked = home.provider.lock();
        // An event of a queue that was destroyed meanwhile is gone.
        let Some(of) = locked.channels.get_mut(&id).and_then(|channel| channel.events.pop_front()) else { continue };
        let Some(state) = locked.cqs.get_mut(&of) else { continue };
        state.unacknowledged += 1;
        // SAFETY: two pointers to fill.
        unsafe {
            cq.write(ptr::with_exposed_provenance_mut(state.raw));
            cq_context.write(ptr::with_exposed_provenance_mut(state.cq_context));
        }
        return 0;
    }
}

pub unsafe extern "C" fn ack_cq_events(cq: *mut ibv_cq, count: c_uint) {
    // SAFETY: a queue that was made.
    let (home, id) = unsafe { (Home::of((*cq).context), (*cq).handle) };
    if let Some(state) = home.provider.lock().cqs.get_mut(&id) {
        state.unacknowledged = state.unacknowledged.saturating_sub(count);
    }
    home.provider.acknowledged.notify_all();
}

pub unsafe extern "C" fn get_async_event(context: *mut ibv_context, event: *mut ibv_async_event) -> c_int {
    // SAFETY: an open device.
    let (home, fd) = unsafe { (Home::of(context), (*context).async_fd) };
    loop {
        if let Err(error) = take(fd) {
            failed(error as i32);
            return -1;
        }
        let next = home.provider.lock().contexts.get_mut(&home.context).and_then(|state| state.events.pop_front());
        let Some(next) = next else { continue };
        let element = match next.kind {
            ibv_event_type::IBV_EVENT_PORT_ERR | ibv_event_type::IBV_EVENT_PORT_ACTIVE => {
                ibv_async_event_element_t { port_num: next.element as c_int }
            }
            // The other members are pointers too, of which all have one form.
            _ => ibv_async_event_element_t { qp: ptr::with_exposed_provenance_mut(next.element) },
        };
        // SAFETY: a structure to fill.
        unsafe { event.write(ibv_async_event { element, event_type: next.kind }) };
        return 0;
    }
}

/// Objects can be destroyed before their events are acknowledged here, so there is nothing to do.
pub unsafe extern "C" fn ack_async_event(_event: *mut ibv_async_event) {}

impl Channel {
    /// Adds an event of a completion queue.
    pub fn push(&mut self, cq: u32) {
        self.events.push_back(cq);
        raise(self.event_fd.as_fd());
    }

    /// Takes events of a completion queue out that nobody has got.
    pub fn drop_events_of(&mut self, cq: u32) {
        let before = self.events.len();
        self.events.retain(|of| *of != cq);
        for _ in self.events.len()..before {
            take_at_once(self.event_fd.as_fd());
        }
    }
}

impl Locked {
    /// Tells a context of an event.
    pub fn push_event(&mut self, context: u32, kind: ibv_event_type, element: usize) {
        if let Some(state) = self.contexts.get_mut(&context) {
            state.events.push_back(AsyncEvent { kind, element });
            raise(state.event_fd.as_fd());
        }
    }

    /// Tells every context of a device.
    fn push_device_event(&mut self, device: usize, kind: ibv_event_type, element: usize) {
        let contexts: Vec<u32> = self.contexts.iter().filter(|(_, state)| state.device == device).map(|(id, _)| *id).collect();
        for context in contexts {
            self.push_event(context, kind, element);
        }
    }

    /// Takes events of an object out that nobody has got.
    pub fn drop_events(&mut self, context: u32, raw: usize) {
        let Some(state) = self.contexts.get_mut(&context) else { return };
        let is_port = |kind| matches!(kind, ibv_event_type::IBV_EVENT_PORT_ERR | ibv_event_type::IBV_EVENT_PORT_ACTIVE);
        let before = state.events.len();
        state.events.retain(|event| is_port(event.kind) || event.element != raw);
        for _ in state.events.len()..before {
            take_at_once(state.event_fd.as_fd());
        }
    }

    /// The device goes away.
    pub fn remove_device(&mut self, device: usize) {
        if std::mem::replace(&mut self.devices[device].is_removed, true) {
            return;
        }
        self.push_device_event(device, ibv_event_type::IBV_EVENT_DEVICE_FATAL, 0);
        let qpns: Vec<u32> = self.qps.iter().filter(|(_, qp)| qp.device == device).map(|(qpn, _)| *qpn).collect();
        for qpn in qpns {
            self.fail_qp(qpn);
        }
    }

    /// A port goes down.
    pub fn take_port_down(&mut self, device: usize, port: u8) {
        let Some(is_down) = self.devices[device].ports_down.get_mut(usize::from(port)) else { return };
        if !std::mem::replace(is_down, true) {
            self.push_device_event(device, ibv_event_type::IBV_EVENT_PORT_ERR, usize::from(port));
        }
    }

    /// Lets faults act that wait for a time.
    pub fn check_ports(&mut self, device: usize) {
        let at = &self.provider.devices[device];
        for port in 1..=u8::try_from(at.ports.len()).unwrap_or(u8::MAX) {
            if !self.port_is_down(device, port) && self.provider.faults.port_down_by_now(&at.name, port) {
                self.take_port_down(device, port);
            }
        }
    }
}
