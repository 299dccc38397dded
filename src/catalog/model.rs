//! What else a model answers: its published attributes, its figures, and models made in code.

use rdmadoctor_types::QpState;

use super::device::*;
use super::rules::*;
use super::{Certainty, Errno, Figure};
use crate::host::families::{self, release};
use crate::verbs::{DeviceAttributes, ExtendedAttributes, OnDemandPaging};

rdmadoctor_types::words! {
    /// A kind of object that a device has only so many of, by its name in verbs.h.
    pub enum ObjectKind {
        ProtectionDomain = "pd",
        MemoryRegion = "mr",
        CompletionQueue = "cq",
        SharedReceiveQueue = "srq",
        QueuePair = "qp",
    }
}

impl DeviceModel {
    /// What `ibv_query_device` answers.
    #[must_use]
    pub fn attributes(&self) -> DeviceAttributes {
        let published = &self.published;
        let or_zero = |figure: &Option<Figure<i32>>| figure.as_ref().map_or(0, |figure| figure.value);
        let guid = "0200:00ff:fe00:0001".to_owned();
        let paging = self.software.on_demand_paging.value;
        // Send, receive, write, read and atomics (enum ibv_odp_transport_cap_bits), which ConnectX-5 and later have.
        let on_demand_paging =
            if paging { OnDemandPaging { supported: true, implicit: true, rc: 0x3f, uc: 0, ud: 1 } } else { OnDemandPaging::default() };
        DeviceAttributes {
            firmware: self.identity.firmware.value.clone(),
            node_guid: guid.clone(),
            sys_image_guid: guid,
            vendor_id: self.identity.vendor_id.value,
            vendor_part_id: self.identity.vendor_part_id.value,
            hw_ver: 0,
            max_mr_size_bytes: published.max_mr_size_bytes.value,
            page_size_cap: published.page_size_cap.value,
            max_qp: published.max_qp.value,
            max_qp_wr: published.max_qp_wr.value,
            flags: published.flags.as_ref().map_or_else(Vec::new, |flags| flags.value.clone()),
            max_sge: published.max_sge.value,
            max_sge_rd: published.max_sge_rd.value,
            max_cq: published.max_cq.value,
            max_cqe: published.max_cqe.value,
            max_mr: published.max_mr.value,
            max_pd: published.max_pd.value,
            max_qp_rd_atom: published.max_qp_rd_atom.value,
            max_res_rd_atom: or_zero(&published.max_res_rd_atom),
            max_qp_init_rd_atom: published.max_qp_init_rd_atom.value,
            atomic: published.atomic.as_ref().map_or(Atomic::None, |figure| figure.value).name().to_owned(),
            max_mw: or_zero(&published.max_mw),
            max_raw_ethy_qp: or_zero(&published.max_raw_ethy_qp),
            max_mcast_grp: or_zero(&published.max_mcast_grp),
            max_mcast_qp_attach: or_zero(&published.max_mcast_qp_attach),
            max_ah: or_zero(&published.max_ah),
            max_srq: or_zero(&published.max_srq),
            max_srq_wr: or_zero(&published.max_srq_wr),
            max_srq_sge: or_zero(&published.max_srq_sge),
            max_pkeys: published.max_pkeys.as_ref().map_or(0, |figure| figure.value),
            local_ca_ack_delay: published.local_ca_ack_delay.as_ref().map_or(0, |figure| figure.value),
            ports: published.ports.value,
            extended: Some(ExtendedAttributes { on_demand_paging, ..ExtendedAttributes::default() }),
        }
    }

    /// How many objects of a kind there can be, and what making one more answers.
    #[must_use]
    pub fn most(&self, kind: ObjectKind) -> (u64, Errno) {
        let published = &self.published;
        let (count, errno) = match kind {
            ObjectKind::QueuePair => (published.max_qp.value, self.exhausted.queue_pairs.value),
            ObjectKind::CompletionQueue => (published.max_cq.value, self.exhausted.completion_queues.value),
            ObjectKind::MemoryRegion => (published.max_mr.value, self.exhausted.memory_regions.value),
            ObjectKind::ProtectionDomain => (published.max_pd.value, self.exhausted.protection_domains.value),
            ObjectKind::SharedReceiveQueue => (
                published.max_srq.as_ref().map_or(0, |figure| figure.value),
                self.exhausted.shared_receive_queues.as_ref().map_or(Errno::ENOMEM, |figure| figure.value),
            ),
        };
        (u64::try_from(count).unwrap_or(0), errno)
    }

    /// Whether a kernel, such as `6.12`, can register dma-buf regions on it.
    #[must_use]
    pub fn takes_dma_buf(&self, kernel: &str) -> bool {
        match by_kernel(&self.software.dma_buf, kernel) {
            Some(figure) => figure.value,
            None => families::find(&self.family).and_then(|family| family.dma_buf(release(kernel))).is_some_and(|entry| entry.supported),
        }
    }

    /// What `ibv_query_qp` tells with a kernel of a queue pair in a state, and of its inline data.
    #[must_use]
    pub fn told(&self, kernel: &str, state: QpState, max_inline_data: u32) -> (QpState, u32) {
        let Some(query) = &self.connection.query_qp else { return (state, max_inline_data) };
        let tells = by_kernel(&query.tells_state, kernel).is_none_or(|figure| figure.value);
        let told = match state {
            _ if !tells => QpState::Reset,
            QpState::Reset if query.idle_is_init.value => QpState::Init,
            other => other,
        };
        (told, query.max_inline_data.as_ref().map_or(max_inline_data, |figure| figure.value))
    }

    /// Whether relaxed ordering has an effect with a kernel.
    #[must_use]
    pub fn relaxed_ordering(&self, kernel: &str) -> Option<&Figure<bool>> {
        by_kernel(&self.software.relaxed_ordering, kernel)
    }
}

/// The first kernel that has a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstKernel {
    /// Its release, such as `6.1`.
    pub release: &'static str,
    /// Where this is known from.
    pub source: &'static str,
}

impl FirstKernel {
    /// Whether a kernel of that release is older.
    #[must_use]
    pub fn is_after(&self, kernel: &str) -> bool {
        release(self.release) > release(kernel)
    }
}

impl DeviceModel {
    /// The first kernel with a driver for any device of a family, where that is no mere inference.
    #[must_use]
    pub fn first_kernel(family: &str) -> Option<FirstKernel> {
        let models = Self::names().into_iter().filter_map(Self::find).filter(|model| model.family == family);
        let figures = models.map(|model| &model.software.min_kernel).filter(|figure| figure.certainty == Certainty::Source);
        let first = figures.min_by_key(|figure| release(&figure.value))?;
        Some(FirstKernel { release: &first.value, source: &first.source })
    }
}

fn by_kernel<'a>(entries: &'a [ByKernel], kernel: &str) -> Option<&'a Figure<bool>> {
    let host = release(kernel);
    entries.iter().filter(|entry| release(&entry.kernel) <= host).max_by_key(|entry| release(&entry.kernel)).map(|entry| &entry.supported)
}

impl QueuePairs {
    /// What does not fit together, each with its path.
    pub(super) fn inconsistencies(&self) -> Vec<(String, String)> {
        let packed = self.packing.is_some();
        let mut inconsistencies = Vec::new();
        let mut say = |field: &str, why: String| inconsistencies.push((format!("queue_pairs.{field}"), why));
        if let Some(at) = self.order.iter().skip(1).position(|step| *step == Step::Core) {
            say(&format!("order[{}]", at + 1), "queue_pairs.order has core, but not in front".to_owned());
        }
        for step in Step::ALL.into_iter().filter(|step| *step != Step::Core) {
            let times = self.order.iter().filter(|given| **given == step).count();
            let wanted = usize::from(step != Step::Packing || packed);
            if times != wanted {
                say("order", format!("queue_pairs.order has {} {times} times, not {wanted}", step.name()));
            }
        }
        if self.packing.as_ref().is_some_and(|packing| packing.kinds() != 1) {
            say("packing", "queue_pairs.packing needs exactly one arithmetic".to_owned());
        }
        inconsistencies
    }
}
