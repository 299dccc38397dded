//! Entry points of devices: listing, opening, querying.
#![allow(unsafe_code, reason = "entry points of a C interface")]

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::mem::{self, offset_of};
use std::os::fd::AsRawFd;
use std::ptr;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use rdma_sys::*;
use rdmadoctor_types::LinkLayer;

use super::config::GidType;
use super::provider::{self, Locked, Provider, RawDevice};
use super::world::{ContextState, Timer};
use super::{poll, post};
use crate::verbs::MTU_BYTES;

/// An open device as C sees it, and what it belongs to. `ibv_context` stands inside of `verbs_context`, at its end.
#[repr(C)]
struct SimContext {
    around: verbs_context,
    home: Home,
}

/// Where an object belongs.
#[derive(Clone, Copy)]
pub struct Home {
    pub provider: &'static Provider,
    pub device: usize,
    pub context: u32,
}

impl Home {
    /// Of an open device.
    ///
    /// # Safety
    /// `context` is what `open_device` gave and `close_device` has not taken.
    pub unsafe fn of(context: *mut ibv_context) -> Self {
        let offset = offset_of!(SimContext, around) + offset_of!(verbs_context, context);
        // SAFETY: the caller's context stands at this offset in a `SimContext`.
        unsafe { (*context.byte_sub(offset).cast::<SimContext>()).home }
    }

    /// The way into a call.
    pub fn enter(self, call: &str, parameters: &[(&str, u64)]) -> Result<Locked, i32> {
        self.provider.enter(self.device, call, parameters)
    }

    /// The way into a call that frees something.
    pub fn enter_to_destroy(self, call: &str) -> Result<Locked, i32> {
        self.provider.enter_to_destroy(self.device, call, &[])
    }

    /// The device.
    pub fn at(self) -> &'static provider::Device {
        &self.provider.devices[self.device]
    }
}

/// How a call that returns a pointer fails. 0 leaves errno as it is, as the provider of bnxt_re does.
pub fn null<T>(errno: i32) -> *mut T {
    if errno != 0 {
        Errno::set_raw(errno);
    }
    ptr::null_mut()
}

/// How a call that returns a number fails: with the errno, or -1 where a fault asks for none.
pub fn failed(errno: i32) -> c_int {
    if errno == 0 {
        return -1;
    }
    Errno::set_raw(errno);
    errno
}

/// How the older calls that return -1 fail.
fn minus_one(errno: i32) -> c_int {
    failed(errno);
    -1
}

/// # Safety
/// `count` is null or can be written to.
pub unsafe fn get_device_list(slot: usize, count: *mut c_int) -> *mut *mut ibv_device {
    let Some(provider) = provider::of_slot(slot) else { return null(libc::ENOSYS) };
    if let Err(errno) = provider.faults.at_call("", "ibv_get_device_list", &[]) {
        return null(errno);
    }
    provider.print_warnings();
    let public = |device: &'static provider::Device| (&raw const device.raw).cast::<ibv_device>().cast_mut();
    let mut list: Vec<*mut ibv_device> = provider.devices.iter().map(public).collect();
    // SAFETY: the caller's terms.
    unsafe {
        if let Some(count) = count.as_mut() {
            *count = c_int::try_from(list.len()).unwrap_or(c_int::MAX);
        }
    }
    list.push(ptr::null_mut());
    Box::into_raw(list.into_boxed_slice()).cast()
}

pub unsafe extern "C" fn free_device_list(list: *mut *mut ibv_device) {
    if list.is_null() {
        return;
    }
    // SAFETY: a list of `get_device_list`, whose length the null pointer at its end tells.
    unsafe {
        let length = (0..).take_while(|index| !(*list.add(*index)).is_null()).count() + 1;
        drop(Box::from_raw(ptr::slice_from_raw_parts_mut(list, length)));
    }
}

pub unsafe extern "C" fn get_device_name(device: *mut ibv_device) -> *const c_char {
    // SAFETY: a device of a list, which lives for ever.
    unsafe { (&raw const (*device).name).cast() }
}

pub unsafe extern "C" fn open_device(device: *mut ibv_device) -> *mut ibv_context {
    // SAFETY: a device of a list, which lives for ever and is the beginning of a `RawDevice`.
    let (slot, index) = unsafe { ((*device.cast::<RawDevice>()).slot, (*device.cast::<RawDevice>()).index) };
    let Some(provider) = provider::of_slot(slot) else { return null(libc::ENODEV) };
    let mut locked = match provider.enter(index, "ibv_open_device", &[]) {
        Ok(locked) => locked,
        // The kernel's answer to opening the node of a device that is gone (core/uverbs_main.c, ib_uverbs_open).
        Err(libc::EIO) => return null(libc::ENXIO),
        Err(errno) => return null(errno),
    };
    let Ok(event_fd) = EventFd::from_value_and_flags(0, EfdFlags::EFD_SEMAPHORE | EfdFlags::EFD_CLOEXEC) else { return null(libc::EMFILE) };
    let id = locked.new_id();
    // SAFETY: all-zero is a valid value of these structures: no operations, and mutexes in their initial state.
    let mut around: verbs_context = unsafe { mem::zeroed() };
    around.sz = mem::size_of::<verbs_context>();
    around.query_port = Some(query_port);
    around.query_device_ex = Some(query_device_ex);
    let public = &mut around.context;
    public.device = device;
    public.cmd_fd = -1;
    public.async_fd = event_fd.as_raw_fd();
    public.num_comp_vectors = 1;
    // verbs.h, __VERBS_ABI_IS_EXTENDED: all ones.
    public.abi_compat = ptr::without_provenance_mut(usize::MAX);
    public.ops.poll_cq = Some(poll::poll_cq);
    public.ops.req_notify_cq = Some(poll::req_notify_cq);
    public.ops.post_send = Some(post::post_send);
    public.ops.post_recv = Some(post::post_recv);
    public.ops.post_srq_recv = Some(post::post_srq_recv);
    locked.contexts.insert(id, ContextState { device: index, event_fd: event_fd.into(), events: VecDeque::new() });
    let first = locked.contexts.len() == 1;
    if first {
        // So that an event comes even when no call is made.
        for at in provider.faults.times() {
            locked.set_timer(at, Timer::Faults);
        }
    }
    let whole = Box::into_raw(Box::new(SimContext { around, home: Home { provider, device: index, context: id } }));
    // SAFETY: just made.
    unsafe { &raw mut (*whole).around.context }
}

pub unsafe extern "C" fn close_device(context: *mut ibv_context) -> c_int {
    // SAFETY: an open device.
    let home = unsafe { Home::of(context) };
    home.provider.lock().close(home.context);
    let offset = offset_of!(SimContext, around) + offset_of!(verbs_context, context);
    // SAFETY: made by `open_device` and closed once.
    drop(unsafe { Box::from_raw(context.byte_sub(offset).cast::<SimContext>()) });
    0
}

impl Locked {
    /// Forgets what was made from a context, as the kernel does when the file is closed. The C structures stay: the application may
    /// still hold them.
    fn close(&mut self, context: u32) {
        let qpns: Vec<u32> = self.qps.iter().filter(|(_, qp)| qp.context == context).map(|(qpn, _)| *qpn).collect();
        for qpn in qpns {
            self.forget_qp(qpn);
        }
        self.srqs.retain(|_, srq| srq.context != context);
        self.cqs.retain(|_, cq| cq.context != context);
        self.channels.retain(|_, channel| channel.context != context);
        let world = &mut *self.world;
        let pds = &world.pds;
        let in_context = |pd: &u32| pds.get(pd).is_some_and(|pd| pd.context == context);
        world.mrs.retain(|_, mr| !in_context(&mr.pd));
        world.ahs.retain(|_, ah| !in_context(&ah.pd));
        world.pds.retain(|_, pd| pd.context != context);
        world.contexts.remove(&context);
    }
}

fn attributes(home: Home) -> ibv_device_attr_ex {
    let device = home.at();
    let mut attributes = device.model.attributes();
    attributes.ports = device.ports.len() as u32;
    let mut raw = attributes.to_raw();
    raw.orig_attr.node_guid = device.node_guid.to_be();
    raw.orig_attr.sys_image_guid = device.node_guid.to_be();
    raw
}

pub unsafe extern "C" fn query_device(context: *mut ibv_context, attr: *mut ibv_device_attr) -> c_int {
    // SAFETY: an open device, and a structure to fill.
    unsafe {
        let home = Home::of(context);
        match home.enter("ibv_query_device", &[]) {
            Ok(_) => attr.write(attributes(home).orig_attr),
            Err(errno) => return failed(errno),
        }
    }
    0
}

unsafe extern "C" fn query_device_ex(
    context: *mut ibv_context,
    _input: *const ibv_query_device_ex_input,
    attr: *mut ibv_device_attr_ex,
    size: usize,
) -> c_int {
    // SAFETY: an open device, and `size` bytes to fill, which an older caller has fewer of.
    unsafe {
        let home = Home::of(context);
        match home.enter("ibv_query_device", &[]) {
            Ok(_) => {
                let raw = attributes(home);
                ptr::copy_nonoverlapping((&raw const raw).cast::<u8>(), attr.cast::<u8>(), size.min(mem::size_of::<ibv_device_attr_ex>()));
            }
            Err(errno) => return failed(errno),
        }
    }
    0
}

fn port_attributes(locked: &Locked, home: Home, number: u8) -> Option<ibv_port_attr> {
    let device = home.at();
    let port = device.port(number)?;
    let mtu = |bytes: u32| MTU_BYTES.iter().rposition(|known| *known <= bytes && *known > 0).unwrap_or(1) as u32;
    let is_down = locked.port_is_down(home.device, number);
    // SAFETY: all-zero is a valid value of this structure of numbers.
    let mut raw: ibv_port_attr = unsafe { mem::zeroed() };
    raw.state = if is_down { ibv_port_state::IBV_PORT_DOWN } else { port.state.code() };
    raw.max_mtu = mtu(device.model.port.max_mtu_bytes.value);
    raw.active_mtu = mtu(port.active_mtu_bytes);
    raw.gid_tbl_len = device.model.port.gid_table_length.value.max(port.gids.len() as i32);
    raw.pkey_tbl_len = device.model.port.pkey_table_length.value;
    raw.max_msg_sz = device.model.port.max_message_bytes.value;
    raw.lid = port.lid;
    raw.sm_lid = u16::from(port.link_layer == LinkLayer::Infiniband);
    raw.link_layer = port.link_layer.code();
    // Four lanes of 25 Gb/s (IBTA, PortInfo LinkWidthActive 2 and LinkSpeedActive 32).
    raw.active_width = 2;
    raw.active_speed = 32;
    // IBTA PortInfo PortPhysicalState: 5 is LinkUp, 3 is Disabled.
    raw.phys_state = if raw.state == ibv_port_state::IBV_PORT_DOWN { 3 } else { 5 };
    Some(raw)
}

unsafe fn fill_port(context: *mut ibv_context, number: u8, to: *mut u8, size: usize) -> c_int {
    // SAFETY: an open device.
    let home = unsafe { Home::of(context) };
    match home.enter("ibv_query_port", &[("port", u64::from(number))]) {
        Ok(locked) => match port_attributes(&locked, home, number) {
            // SAFETY: `size` bytes to fill.
            Some(raw) => unsafe { ptr::copy_nonoverlapping((&raw const raw).cast::<u8>(), to, size.min(mem::size_of_val(&raw))) },
            None => return failed(libc::EINVAL),
        },
        Err(errno) => return failed(errno),
    }
    0
}

unsafe extern "C" fn query_port(context: *mut ibv_context, number: u8, attr: *mut ibv_port_attr, size: usize) -> c_int {
    // SAFETY: the caller's terms are the same.
    unsafe { fill_port(context, number, attr.cast(), size) }
}

/// The exported `ibv_query_port` knows the structure of older programs, which ends before `port_cap_flags2`.
pub unsafe extern "C" fn query_port_short(context: *mut ibv_context, number: u8, attr: *mut c_void) -> c_int {
    // SAFETY: the caller's terms are the same.
    unsafe { fill_port(context, number, attr.cast(), offset_of!(ibv_port_attr, port_cap_flags2)) }
}

pub unsafe extern "C" fn query_gid(context: *mut ibv_context, number: u8, index: c_int, gid: *mut ibv_gid) -> c_int {
    // SAFETY: an open device.
    let home = unsafe { Home::of(context) };
    if let Err(errno) = home.enter("ibv_query_gid", &[("port", u64::from(number))]) {
        return minus_one(errno);
    }
    let Some(port) = home.at().port(number) else { return minus_one(libc::EINVAL) };
    let length = (home.at().model.port.gid_table_length.value).max(port.gids.len() as i32);
    if !(0..length).contains(&index) {
        return minus_one(libc::EINVAL);
    }
    let raw = port.gids.get(index as usize).map_or([0; 16], |entry| entry.gid.0);
    // SAFETY: a structure to fill.
    unsafe { gid.write(ibv_gid { raw }) };
    0
}

pub unsafe extern "C" fn query_gid_ex(
    context: *mut ibv_context,
    number: u32,
    index: u32,
    entry: *mut ibv_gid_entry,
    _flags: u32,
    size: usize,
) -> c_int {
    // SAFETY: an open device.
    let home = unsafe { Home::of(context) };
    if let Err(errno) = home.enter("ibv_query_gid", &[("port", u64::from(number))]) {
        return failed(errno);
    }
    let Some(port) = u8::try_from(number).ok().and_then(|number| home.at().port(number)) else { return failed(libc::EINVAL) };
    // ibv_query_gid_ex(3): ENODATA for an entry that is empty or out of range.
    let Some(found) = port.gids.get(index as usize).filter(|found| !found.gid.is_empty()) else { return failed(libc::ENODATA) };
    let gid_type = match found.kind {
        GidType::Infiniband => IBV_GID_TYPE_IB,
        GidType::RoceV1 => IBV_GID_TYPE_ROCE_V1,
        GidType::RoceV2 => IBV_GID_TYPE_ROCE_V2,
    };
    let raw = ibv_gid_entry { gid: ibv_gid { raw: found.gid.0 }, gid_index: index, port_num: number, gid_type, ndev_ifindex: 0 };
    // SAFETY: `size` bytes to fill.
    unsafe { ptr::copy_nonoverlapping((&raw const raw).cast::<u8>(), entry.cast::<u8>(), size.min(mem::size_of_val(&raw))) };
    0
}

pub unsafe extern "C" fn query_pkey(context: *mut ibv_context, number: u8, index: c_int, pkey: *mut u16) -> c_int {
    // SAFETY: an open device.
    let home = unsafe { Home::of(context) };
    if let Err(errno) = home.enter("ibv_query_pkey", &[("port", u64::from(number))]) {
        return minus_one(errno);
    }
    let length = i32::from(home.at().model.port.pkey_table_length.value);
    let Some(port) = home.at().port(number).filter(|_| (0..length).contains(&index)) else { return minus_one(libc::EINVAL) };
    // SAFETY: a number to fill, in network order.
    unsafe { pkey.write(port.pkeys.get(index as usize).copied().unwrap_or(0).to_be()) };
    0
}
