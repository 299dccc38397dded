//! Entry points of protection domains and address handles.
#![allow(unsafe_code, reason = "entry points of a C interface")]

use std::ffi::c_int;

use rdma_sys::*;
use rdmadoctor_types::LinkLayer;

use super::device::{Home, failed, null};
use super::world::{Ah, Pd};
use crate::catalog::ObjectKind;

pub unsafe extern "C" fn alloc_pd(context: *mut ibv_context) -> *mut ibv_pd {
    // SAFETY: an open device.
    let home = unsafe { Home::of(context) };
    let made = home.enter("ibv_alloc_pd", &[]).and_then(|mut locked| {
        locked.has_room(home.device, ObjectKind::ProtectionDomain)?;
        let id = locked.new_id();
        locked.pds.insert(id, Pd { device: home.device, context: home.context, uses: 0 });
        Ok(id)
    });
    match made {
        Ok(handle) => Box::into_raw(Box::new(ibv_pd { context, handle })),
        Err(errno) => null(errno),
    }
}

pub unsafe extern "C" fn dealloc_pd(pd: *mut ibv_pd) -> c_int {
    // SAFETY: a domain that `alloc_pd` gave and nobody has freed.
    unsafe {
        let freed = Home::of((*pd).context).enter_to_destroy("ibv_dealloc_pd").and_then(|mut locked| {
            let id = (*pd).handle;
            if locked.pds.get(&id).is_some_and(|pd| pd.uses > 0) {
                return Err(libc::EBUSY);
            }
            locked.pds.remove(&id);
            Ok(())
        });
        match freed {
            Ok(()) => drop(Box::from_raw(pd)),
            Err(errno) => return failed(errno),
        }
    }
    0
}

pub unsafe extern "C" fn create_ah(pd: *mut ibv_pd, attr: *mut ibv_ah_attr) -> *mut ibv_ah {
    // SAFETY: a domain and attributes.
    let (home, context, id, attr) = unsafe { (Home::of((*pd).context), (*pd).context, (*pd).handle, &*attr) };
    let made = home.enter("ibv_create_ah", &[]).and_then(|mut locked| {
        let port = home.at().port(attr.port_num).ok_or(libc::EINVAL)?;
        let is_global = attr.is_global != 0;
        // RoCE needs the global route (core/verbs.c, rdma_create_user_ah and rdma_check_ah_attr).
        if port.link_layer == LinkLayer::Ethernet && !is_global {
            return Err(libc::EINVAL);
        }
        let own = port.gids.get(usize::from(attr.grh.sgid_index)).filter(|entry| !entry.gid.is_empty());
        if is_global && own.is_none() {
            return Err(libc::EINVAL);
        }
        // SAFETY: any bytes are an address.
        let dgid = if is_global { unsafe { attr.grh.dgid.raw } } else { [0; 16] };
        if is_global && port.link_layer == LinkLayer::Ethernet {
            home.provider.resolve(crate::verbs::Gid(dgid))?;
        }
        let ah = Ah {
            pd: id,
            dgid,
            dlid: attr.dlid,
            sgid_index: attr.grh.sgid_index,
            hop_limit: attr.grh.hop_limit,
            traffic_class: attr.grh.traffic_class,
        };
        let handle = locked.new_id();
        locked.ahs.insert(handle, ah);
        locked.use_pd(id);
        Ok(handle)
    });
    match made {
        Ok(handle) => Box::into_raw(Box::new(ibv_ah { context, pd, handle })),
        Err(errno) => null(errno),
    }
}

pub unsafe extern "C" fn destroy_ah(ah: *mut ibv_ah) -> c_int {
    // SAFETY: a handle that `create_ah` gave and nobody has freed.
    unsafe {
        match Home::of((*ah).context).enter_to_destroy("ibv_destroy_ah") {
            Ok(mut locked) => {
                if let Some(gone) = locked.ahs.remove(&(*ah).handle) {
                    locked.release_pd(gone.pd);
                }
                drop(Box::from_raw(ah));
            }
            Err(errno) => return failed(errno),
        }
    }
    0
}

impl super::world::World {
    /// Counts one more object in a domain.
    pub fn use_pd(&mut self, id: u32) {
        if let Some(pd) = self.pds.get_mut(&id) {
            pd.uses += 1;
        }
    }

    /// Counts one fewer.
    pub fn release_pd(&mut self, id: u32) {
        if let Some(pd) = self.pds.get_mut(&id) {
            pd.uses = pd.uses.saturating_sub(1);
        }
    }
}
