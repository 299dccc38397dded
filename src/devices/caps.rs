//! What devices publish about themselves, with remarks where that is not what a queue pair gets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;
use crate::host::families;
use crate::verbs::{DeviceAttributes, PortAttributes};

/// The document of `caps`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Caps {
    /// `rdmadoctor/caps/1`.
    pub schema: String,
    pub devices: Vec<DeviceCaps>,
    /// What stands in the way.
    pub problems: Vec<Problem>,
}

/// What one device publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceCaps {
    pub device: String,
    /// Its family, where it is known.
    pub family: Option<String>,
    /// The capabilities.
    pub attributes: DeviceAttributes,
    /// By number.
    pub ports: Vec<PortAttributes>,
    /// Where a published value misleads.
    pub remarks: Vec<Remark>,
}

/// What a published value does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remark {
    pub capability: String,
    /// What to know about it.
    pub text: String,
}

impl DeviceCaps {
    /// The device with the remarks that belong to it.
    #[must_use]
    pub fn new(device: &str, family: Option<&str>, attributes: DeviceAttributes, ports: Vec<PortAttributes>) -> Self {
        let remarks = remarks(family, &attributes, &ports);
        Self { device: device.to_owned(), family: family.map(str::to_owned), attributes, ports, remarks }
    }
}

fn remarks(family: Option<&str>, attributes: &DeviceAttributes, ports: &[PortAttributes]) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut add = |capability: &str, text: &str| remarks.push(Remark { capability: capability.to_owned(), text: text.to_owned() });
    // drivers/infiniband/core/uverbs_cmd.c, copy_query_dev_fields.
    add("max_sge", "the smaller of the send and the receive limit; the other may be larger. qp-matrix finds both");
    let family = family.and_then(families::find);
    if family.is_some_and(|family| family.packed_queues.is_some()) {
        add(
            "max_qp_wr",
            "not a plain limit on this family: the depth that a queue pair gets falls as entries and inline data grow. qp-matrix finds the frontier",
        );
    } else {
        add("max_qp_wr", "one figure for both queues, and on some devices a best case. qp-matrix finds both limits");
    }
    add("max_inline_data", "not published by any query. qp-matrix finds it");
    let of_family = family.map(|family| &*family.remarks).unwrap_or_default();
    for remark in of_family {
        add(&remark.capability, &remark.text);
    }
    if attributes.max_qp_rd_atom == 0 && !of_family.iter().any(|remark| remark.capability == "max_qp_rd_atom") {
        add("max_qp_rd_atom", "0: RDMA reads and atomics are not published");
    }
    if attributes.max_srq == 0 {
        add("max_srq", "no shared receive queues: engines that need one (UCX rc, NVSHMEM) leave such a device out");
    }
    if attributes.extended.is_none() {
        add(
            "extended",
            "the provider answers ibv_query_device only: paging, timestamps and the like are not known, which does not mean absent",
        );
    }
    for port in ports {
        if port.gid_table_length == 1 && port.is_ethernet() {
            add("gid_table_length", "a table of one on Ethernet is an iWARP port's: queue pairs are connected through rdma_cm");
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(family: Option<&str>, attributes: DeviceAttributes) -> Vec<String> {
        DeviceCaps::new("d", family, attributes, vec![]).remarks.into_iter().map(|remark| remark.capability).collect()
    }

    #[test]
    fn what_misleads_is_remarked() {
        let plain = DeviceAttributes { max_srq: 8, max_qp_rd_atom: 16, ..DeviceAttributes::default() };
        assert_eq!(named(None, plain.clone()), ["max_sge", "max_qp_wr", "max_inline_data", "extended"]);
        assert!(named(None, DeviceAttributes { max_srq: 0, ..plain.clone() }).contains(&"max_srq".to_owned()));
        let packed = DeviceCaps::new("d", Some("mlx5"), plain, vec![]).remarks;
        assert!(packed[1].text.contains("frontier"));
    }
}
