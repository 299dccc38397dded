//! The list of devices, and an open device.
#![allow(unsafe_code, reason = "calls through the verbs table and reads structures that it fills")]

use std::ffi::{CStr, c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::sync::Arc;

use nix::errno::Errno;
use rdma_sys::*;

use super::{CallError, DeviceAttributes, Gid, PortAttributes, Verbs};

/// Path MTUs in bytes by their verbs code, 1 to 5.
pub const MTU_BYTES: [u32; 6] = [0, 256, 512, 1024, 2048, 4096];

/// The devices that the library knows, as `ibv_get_device_list` gives them.
pub struct DeviceList {
    verbs: Arc<Verbs>,
    list: *mut *mut ibv_device,
    count: usize,
}

impl DeviceList {
    /// Asks the library for its devices. Providers are loaded here.
    ///
    /// # Errors
    /// `ibv_get_device_list` failed; ENOSYS says that the kernel has no RDMA support loaded.
    pub fn new(verbs: &Arc<Verbs>) -> Result<Self, CallError> {
        let mut count: c_int = 0;
        Errno::clear();
        // SAFETY: `count` outlives the call.
        let list = unsafe { (verbs.ibv_get_device_list)(&raw mut count) };
        if list.is_null() {
            return Err(CallError::last("ibv_get_device_list", "this host"));
        }
        Ok(Self { verbs: verbs.clone(), list, count: usize::try_from(count).unwrap_or(0) })
    }

    /// Each device.
    pub fn iter(&self) -> impl Iterator<Item = DeviceHandle<'_>> {
        // SAFETY: the library gave `count` valid pointers, which live until the list is freed.
        (0..self.count).map(|index| DeviceHandle { list: self, device: unsafe { *self.list.add(index) } })
    }
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: freed once; devices that were opened keep references of their own (ibv_get_device_list(3)).
        unsafe { (self.verbs.ibv_free_device_list)(self.list) }
    }
}

/// One device of a [`DeviceList`].
pub struct DeviceHandle<'a> {
    list: &'a DeviceList,
    device: *mut ibv_device,
}

impl DeviceHandle<'_> {
    /// The device's name, such as `mlx5_0`.
    #[must_use]
    pub fn name(&self) -> String {
        // SAFETY: the library returns a string inside of the device.
        unsafe { CStr::from_ptr((self.list.verbs.ibv_get_device_name)(self.device)) }.to_string_lossy().into_owned()
    }

    /// The node type and transport type codes of verbs.h.
    #[must_use]
    pub fn types(&self) -> (i32, i32) {
        // SAFETY: the device is valid while the list lives.
        unsafe { ((*self.device).node_type, (*self.device).transport_type) }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// `ibv_open_device` failed: the device node is missing (ENOENT), not permitted (EACCES, EPERM) or gone (EIO, ENXIO).
    pub fn open(&self) -> Result<Context, CallError> {
        let name = self.name();
        Errno::clear();
        // SAFETY: the device is valid while the list lives.
        let raw = unsafe { (self.list.verbs.ibv_open_device)(self.device) };
        if raw.is_null() {
            return Err(CallError::last("ibv_open_device", &name));
        }
        Ok(Context(Arc::new(ContextInner { verbs: self.list.verbs.clone(), raw, name, manager: None })))
    }
}

/// An open device. Clones share it; it is closed when the last one, and everything made from it, is dropped.
#[derive(Clone)]
pub struct Context(pub(super) Arc<ContextInner>);

pub(super) struct ContextInner {
    pub verbs: Arc<Verbs>,
    pub raw: *mut ibv_context,
    pub name: String,
    /// The connection manager's identifier that opened it, and closes it.
    pub manager: Option<super::manager::ConnectionId>,
}

// SAFETY: libibverbs and its providers lock what threads share; the manual pages of the calls used here name no exception.
unsafe impl Send for ContextInner {}
// SAFETY: as above.
unsafe impl Sync for ContextInner {}

impl Drop for ContextInner {
    fn drop(&mut self) {
        if self.manager.is_some() {
            return;
        }
        // SAFETY: closed once; all objects made from it hold this and are therefore gone.
        unsafe { (self.verbs.ibv_close_device)(self.raw) };
    }
}

/// The extended context around `raw`, if the library made one whose `size` covers everything from `offset` on.
///
/// verbs.h: an extended context marks itself by an all-ones `abi_compat`, and grows at its front, so an operation is there if the
/// distance from it to the end is within `sz`. (rdma-sys 0.3.0 compares the mark with a 32-bit value and so never finds one.)
unsafe fn extended(raw: *mut ibv_context, offset: usize) -> Option<*mut verbs_context> {
    // SAFETY: the caller gives an open context; where the mark is set, verbs.h lays a verbs_context around it.
    unsafe {
        if (*raw).abi_compat as usize != usize::MAX {
            return None;
        }
        let around = raw.cast::<u8>().sub(mem::offset_of!(verbs_context, context)).cast::<verbs_context>();
        ((*around).sz >= mem::size_of::<verbs_context>() - offset).then_some(around)
    }
}

impl Context {
    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Everything that `ibv_query_device_ex` gives; on an older library or provider what `ibv_query_device` gives.
    ///
    /// # Errors
    /// Either call failed.
    pub fn query_device(&self) -> Result<DeviceAttributes, CallError> {
        let inner = &*self.0;
        let mut attributes = MaybeUninit::<ibv_device_attr_ex>::zeroed();
        let mut is_extended = false;
        // SAFETY: the context is open, the structure is large enough for the size given, and all-zero is a valid value of it.
        let attributes = unsafe {
            if let Some(around) = extended(inner.raw, mem::offset_of!(verbs_context, query_device_ex))
                && let Some(query) = (*around).query_device_ex
            {
                Errno::clear();
                is_extended = query(inner.raw, std::ptr::null(), attributes.as_mut_ptr(), mem::size_of::<ibv_device_attr_ex>()) == 0;
            }
            if !is_extended {
                Errno::clear();
                let returned = (inner.verbs.ibv_query_device)(inner.raw, &raw mut (*attributes.as_mut_ptr()).orig_attr);
                CallError::check("ibv_query_device", &inner.name, returned)?;
            }
            attributes.assume_init()
        };
        Ok(DeviceAttributes::from_raw(&attributes, is_extended))
    }

    /// What `ibv_query_port` gives for a port, counted from 1.
    ///
    /// # Errors
    /// The call failed: EINVAL for a port that is not there.
    pub fn query_port(&self, port: u8) -> Result<PortAttributes, CallError> {
        let inner = &*self.0;
        let mut attributes = MaybeUninit::<ibv_port_attr>::zeroed();
        // SAFETY: as in `query_device`; the exported ibv_query_port fills the older, shorter structure at the same address.
        let attributes = unsafe {
            Errno::clear();
            let extended = extended(inner.raw, mem::offset_of!(verbs_context, query_port)).and_then(|around| (*around).query_port);
            let returned = match extended {
                Some(query) => query(inner.raw, port, attributes.as_mut_ptr(), mem::size_of::<ibv_port_attr>()),
                None => (inner.verbs.ibv_query_port)(inner.raw, port, attributes.as_mut_ptr().cast::<c_void>()),
            };
            CallError::check("ibv_query_port", &format!("{} port {port}", inner.name), returned)?;
            attributes.assume_init()
        };
        Ok(PortAttributes::from_raw(port, &attributes))
    }

    /// An entry of a port's P_Key table.
    ///
    /// # Errors
    /// `ibv_query_pkey` failed.
    pub fn query_pkey(&self, port: u8, index: u32) -> Result<u16, CallError> {
        let inner = &*self.0;
        let mut pkey = 0_u16;
        Errno::clear();
        // SAFETY: the context is open and `pkey` outlives the call.
        let returned = unsafe { (inner.verbs.ibv_query_pkey)(inner.raw, port, index as c_int, &raw mut pkey) };
        CallError::check("ibv_query_pkey", &format!("{} port {port} index {index}", inner.name), returned)?;
        Ok(u16::from_be(pkey))
    }

    /// An entry of a port's GID table.
    ///
    /// # Errors
    /// `ibv_query_gid` failed; the entry may be out of range or empty.
    pub fn query_gid(&self, port: u8, index: u32) -> Result<Gid, CallError> {
        let inner = &*self.0;
        let mut gid = ibv_gid { raw: [0; 16] };
        Errno::clear();
        // SAFETY: the context is open and `gid` outlives the call; all of its bytes are initialised either way.
        unsafe {
            let returned = (inner.verbs.ibv_query_gid)(inner.raw, port, index as c_int, &raw mut gid);
            CallError::check("ibv_query_gid", &format!("{} port {port} index {index}", inner.name), returned)?;
            Ok(Gid(gid.raw))
        }
    }
}
