//! A device model with limits that a test gives it, and none else.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;

use rdmadoctor::catalog::rules::Capacity;
use rdmadoctor::catalog::{DeviceModel, Figure};
use rdmadoctor::verbs::QueuePairCaps;

/// A model without limits of its own.
pub fn unlimited(name: &str) -> DeviceModel {
    let mut model = DeviceModel::parse(Path::new("plain.yaml"), include_str!("plain.yaml")).unwrap();
    model.identity.device_prefix = format!("{name}_");
    for text in [&mut model.name, &mut model.title, &mut model.family, &mut model.driver] {
        name.clone_into(text);
    }
    model
}

/// Limits of a queue pair, each for itself, with reliable connections only.
pub fn plain(name: &str, limits: QueuePairCaps) -> DeviceModel {
    let mut model = unlimited(name);
    let capacity = |limit: u32| Capacity { limit: Some(Figure::new(limit, "given")), ..Capacity::default() };
    let rules = &mut model.queue_pairs;
    rules.max_send_wr = capacity(limits.max_send_wr);
    rules.max_recv_wr = capacity(limits.max_recv_wr);
    rules.max_send_sge = capacity(limits.max_send_sge);
    rules.max_recv_sge = capacity(limits.max_recv_sge);
    rules.max_inline_data = capacity(limits.max_inline_data);
    let smaller = |one: u32, other: u32| i32::try_from(one.min(other)).unwrap_or(i32::MAX);
    model.published.max_sge.value = smaller(limits.max_send_sge, limits.max_recv_sge);
    model.published.max_qp_wr.value = smaller(limits.max_send_wr, limits.max_recv_wr);
    model
}
