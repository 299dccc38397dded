//! `caps` for people.

use std::fmt::Write as _;

use super::{Style, Table};
use crate::devices::{Caps, DeviceCaps};
use crate::units::size;
use crate::verbs::DeviceAttributes;

impl Table for Caps {
    fn shown_figures(&self) -> &'static [&'static str] {
        &["published.", "identity.", "port."]
    }

    fn table(&self, style: &Style) -> String {
        let mut devices: Vec<String> = Vec::new();
        // Hosts have many devices of a kind; what is the same of all is told once.
        for (index, device) in self.devices.iter().enumerate() {
            devices.push(match self.devices[..index].iter().find(|other| is_alike(other, device)) {
                Some(other) => draw_alike(device, other, *style),
                None => draw(device, *style),
            });
        }
        devices.join("\n") + &super::devices::problems(&self.problems, *style)
    }
}

/// Whether two devices differ in nothing but the names that each device has for itself.
fn is_alike(left: &DeviceCaps, right: &DeviceCaps) -> bool {
    let nameless = |device: &DeviceCaps| {
        let mut caps = device.clone();
        caps.device.clear();
        caps.attributes.node_guid.clear();
        caps.attributes.sys_image_guid.clear();
        caps
    };
    nameless(left) == nameless(right)
}

fn draw_alike(device: &DeviceCaps, other: &DeviceCaps, style: Style) -> String {
    let DeviceAttributes { node_guid, sys_image_guid, .. } = &device.attributes;
    let names = if node_guid == sys_image_guid {
        format!("node_guid and sys_image_guid {node_guid}")
    } else {
        format!("node_guid {node_guid} and sys_image_guid {sys_image_guid}")
    };
    format!("{}  as {}, but for {names}\n", style.bold(&device.device), other.device)
}

fn draw(device: &DeviceCaps, style: Style) -> String {
    let caps = &device.attributes;
    let family = device.family.as_ref().map(|family| format!(" ({family})")).unwrap_or_default();
    let mut out = format!("{}{family}\n", style.bold(&device.device));
    let number = |value: i32| value.to_string();
    let mut rows: Vec<(&str, String, &str)> = vec![
        ("firmware", if caps.firmware.is_empty() { "-".to_owned() } else { caps.firmware.clone() }, ""),
        ("vendor and part", format!("{:#06x} {:#06x}", caps.vendor_id, caps.vendor_part_id), ""),
        ("node_guid", caps.node_guid.clone(), ""),
        ("sys_image_guid", caps.sys_image_guid.clone(), ""),
        ("hw_ver", format!("{:#x}", caps.hw_ver), ""),
        ("max_qp", number(caps.max_qp), "queue pairs"),
        ("max_qp_wr", number(caps.max_qp_wr), "work requests on any one queue"),
        ("max_sge", number(caps.max_sge), "scatter-gather entries in a work request"),
        ("max_sge_rd", number(caps.max_sge_rd), "scatter-gather entries in an RDMA read"),
        ("max_cq", number(caps.max_cq), "completion queues"),
        ("max_cqe", number(caps.max_cqe), "entries in a completion queue"),
        ("max_mr", number(caps.max_mr), "memory regions"),
        ("max_mr_size", size(caps.max_mr_size_bytes), "largest memory region"),
        ("page_size_cap", format!("{:#x}", caps.page_size_cap), "page sizes of a memory region, as a mask"),
        ("max_pd", number(caps.max_pd), "protection domains"),
        ("max_ah", number(caps.max_ah), "address handles"),
        ("max_qp_rd_atom", number(caps.max_qp_rd_atom), "reads and atomics of a queue pair as responder"),
        ("max_qp_init_rd_atom", number(caps.max_qp_init_rd_atom), "reads and atomics of a queue pair as initiator"),
        ("max_res_rd_atom", number(caps.max_res_rd_atom), "reads and atomics of the whole device as responder"),
        ("atomic", caps.atomic.clone(), "atomic operations"),
        ("max_srq", number(caps.max_srq), "shared receive queues"),
        ("max_srq_wr", number(caps.max_srq_wr), "work requests in one"),
        ("max_srq_sge", number(caps.max_srq_sge), "scatter-gather entries in a request of one"),
        ("max_mw", number(caps.max_mw), "memory windows"),
        ("max_mcast_grp", number(caps.max_mcast_grp), "multicast groups"),
        ("max_mcast_qp_attach", number(caps.max_mcast_qp_attach), "queue pairs in a group"),
        ("max_raw_ethy_qp", number(caps.max_raw_ethy_qp), "raw Ethernet queue pairs"),
        ("max_pkeys", caps.max_pkeys.to_string(), "partitions in a port's table"),
        ("local_ca_ack_delay", caps.local_ca_ack_delay.to_string(), "exponent of 4.096 us"),
    ];
    if let Some(extended) = &caps.extended {
        let paging = &extended.on_demand_paging;
        let word = match (paging.supported, paging.implicit) {
            (false, _) => "no",
            (true, false) => "yes",
            (true, true) => "yes, implicit too",
        };
        rows.push(("on_demand_paging", word.to_owned(), "memory regions whose pages need not be locked"));
        if paging.supported {
            let masks = [("rc_odp_caps", paging.rc), ("uc_odp_caps", paging.uc), ("ud_odp_caps", paging.ud)];
            rows.extend(masks.map(|(name, mask)| (name, format!("{mask:#x}"), "operations that may touch them, as a mask")));
        }
        rows.extend([
            ("completion_timestamp_mask", format!("{:#x}", extended.completion_timestamp_mask), "bits of a completion timestamp"),
            ("hca_core_clock", format!("{} kHz", extended.hca_core_clock_khz), "clock of the timestamps"),
            ("max_tso", size(extended.max_tso_bytes.into()), "largest segmentation offload"),
            ("max_wq_type_rq", extended.max_wq_type_rq.to_string(), "receive work queues"),
            ("max_dm_size", size(extended.max_dm_size_bytes), "device memory"),
            ("max_cq_moderation_count", extended.max_cq_moderation_count.to_string(), "completions gathered before an event"),
            ("max_cq_moderation_period", format!("{} us", extended.max_cq_moderation_period_us), "time that they are gathered"),
            ("max_tag_matching_tags", extended.max_tag_matching_tags.to_string(), "hardware tag matching"),
            (
                "rate_limit",
                format!("{} to {} kbit/s", extended.rate_limit_kbit_per_second[0], extended.rate_limit_kbit_per_second[1]),
                "queue-pair rate limits",
            ),
        ]);
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value, what)| vec![name.to_owned(), value, what.to_owned()]).collect();
    out += &style.columns_plain(&rows, 2);
    out += &style.entry("flags", &if caps.flags.is_empty() { "none".to_owned() } else { caps.flags.join(" ") });
    for port in &device.ports {
        let lid = if port.lid == 0 { String::new() } else { format!(", LID {}", port.lid) };
        let text = format!(
            "{}, {}, path MTU {} of {} B, messages up to {}, {} GIDs, {} P_Keys{lid}",
            port.state,
            port.link_layer.as_str().to_ascii_lowercase(),
            port.active_mtu_bytes,
            port.max_mtu_bytes,
            size(port.max_msg_size_bytes.into()),
            port.gid_table_length,
            port.pkey_table_length,
        );
        out += &style.entry(&format!("port {}", port.port), &text);
    }
    for remark in &device.remarks {
        let _ = write!(out, "{}", style.entry("remark", &format!("{}: {}", remark.capability, remark.text)));
    }
    out
}
