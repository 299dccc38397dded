//! The functions, gathered into the table that a library would fill.
#![allow(unsafe_code, reason = "an entry point of a C interface")]

use std::ffi::c_int;

use rdma_sys::*;

use super::{control, device, events, manager, memory, modify, queues};
use crate::verbs::{ConnectionManager, Verbs};

/// How many simulations a process can have. All other calls find theirs by an object; `ibv_get_device_list` and
/// `rdma_create_event_channel` have none, so each installation has functions of its own.
pub const SLOTS: usize = 256;

unsafe extern "C" fn get_device_list<const SLOT: usize>(count: *mut c_int) -> *mut *mut ibv_device {
    // SAFETY: the caller's pointer is passed on, under the same terms.
    unsafe { device::get_device_list(SLOT, count) }
}

unsafe extern "C" fn create_event_channel<const SLOT: usize>() -> *mut rdma_event_channel {
    manager::create_event_channel(SLOT)
}

type GetDeviceList = unsafe extern "C" fn(*mut c_int) -> *mut *mut ibv_device;

type CreateEventChannel = unsafe extern "C" fn() -> *mut rdma_event_channel;

macro_rules! row {
    ($function:ident as $type:ty; $base:expr; $($offset:literal)*) => { [$($function::<{ $base * 16 + $offset }> as $type),*] };
}

macro_rules! rows {
    ($function:ident as $type:ty; $($base:literal)*) => {
        [$(row!($function as $type; $base; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)),*]
    };
}

static GET_DEVICE_LIST: [[GetDeviceList; 16]; SLOTS / 16] = rows!(get_device_list as GetDeviceList; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

static CREATE_EVENT_CHANNEL: [[CreateEventChannel; 16]; SLOTS / 16] =
    rows!(create_event_channel as CreateEventChannel; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// The entry points of librdmacm for an installation.
pub fn connection_manager(slot: usize) -> ConnectionManager {
    ConnectionManager {
        rdma_create_event_channel: CREATE_EVENT_CHANNEL[slot / 16][slot % 16],
        rdma_destroy_event_channel: manager::destroy_event_channel,
        rdma_create_id: manager::create_id,
        rdma_destroy_id: manager::destroy_id,
        rdma_set_option: manager::set_option,
        rdma_bind_addr: manager::bind_addr,
        rdma_resolve_addr: manager::resolve_addr,
        rdma_resolve_route: manager::resolve_route,
        rdma_create_qp: manager::create_qp,
        rdma_destroy_qp: manager::destroy_qp,
        rdma_listen: manager::listen,
        rdma_connect: manager::connect,
        rdma_accept: manager::accept,
        rdma_reject: manager::reject,
        rdma_disconnect: manager::disconnect,
        rdma_get_src_port: manager::get_src_port,
        rdma_get_cm_event: manager::get_cm_event,
        rdma_ack_cm_event: manager::ack_cm_event,
        library: None,
    }
}

/// The entry points of an installation.
pub fn verbs(slot: usize) -> Verbs {
    Verbs {
        ibv_get_device_list: GET_DEVICE_LIST[slot / 16][slot % 16],
        ibv_free_device_list: device::free_device_list,
        ibv_get_device_name: device::get_device_name,
        ibv_open_device: device::open_device,
        ibv_close_device: device::close_device,
        ibv_query_device: device::query_device,
        ibv_query_port: device::query_port_short,
        ibv_query_gid: device::query_gid,
        ibv_query_pkey: device::query_pkey,
        ibv_alloc_pd: control::alloc_pd,
        ibv_dealloc_pd: control::dealloc_pd,
        ibv_reg_mr: memory::reg_mr,
        ibv_dereg_mr: memory::dereg_mr,
        ibv_create_cq: queues::create_cq,
        ibv_destroy_cq: queues::destroy_cq,
        ibv_create_srq: queues::create_srq,
        ibv_destroy_srq: queues::destroy_srq,
        ibv_create_qp: queues::create_qp,
        ibv_modify_qp: modify::modify_qp,
        ibv_destroy_qp: queues::destroy_qp,
        ibv_query_qp: modify::query_qp,
        ibv_modify_srq: queues::modify_srq,
        ibv_query_srq: queues::query_srq,
        ibv_resize_cq: queues::resize_cq,
        ibv_create_comp_channel: events::create_comp_channel,
        ibv_destroy_comp_channel: events::destroy_comp_channel,
        ibv_get_cq_event: events::get_cq_event,
        ibv_ack_cq_events: events::ack_cq_events,
        ibv_get_async_event: events::get_async_event,
        ibv_ack_async_event: events::ack_async_event,
        ibv_create_ah: control::create_ah,
        ibv_destroy_ah: control::destroy_ah,
        ibv_reg_dmabuf_mr: Some(memory::reg_dmabuf_mr),
        _ibv_query_gid_ex: Some(device::query_gid_ex),
        efadv_create_driver_qp: Some(queues::efadv_create_driver_qp),
        mlx5dv_reg_dmabuf_mr: Some(memory::mlx5dv_reg_dmabuf_mr),
        library: None,
    }
}
