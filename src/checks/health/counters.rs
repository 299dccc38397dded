//! What ports count, and how often links went down.

use super::bound;
use super::log::events;
use crate::checks::devices::port_name;
use crate::checks::{Action, Finding};
use crate::facts::Facts;
use crate::host::rdma::{SysfsDevice, SysfsPort};
use crate::units::counted;

/// Where the policy says nothing: a link may go down when it is plugged in and once more.
const LINK_DOWNS: u64 = 2;

pub(super) fn flaps(facts: &Facts) -> Vec<Finding> {
    let (source, _) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let most = facts.wanted.link_downs.unwrap_or(LINK_DOWNS);
    let mut findings = Vec::new();
    for device in facts.rdma_devices() {
        for netdev in &device.netdevs {
            let downs = facts.host.log.link_downs(netdev);
            let subject = if device.ports.len() == 1 { format!("{}/1", device.name) } else { device.name.clone() };
            findings.push(if downs > most {
                Finding::warn(subject, format!("the link of {netdev} went down {}", counted(downs, "time")))
                    .saw_not(
                        source,
                        format!("down {}", counted(downs, "time")),
                        bound(format!("at most {}", counted(most, "time")), "link_downs", facts.wanted.link_downs.is_some()),
                    )
                    .remedy(Action::Replace, "exchange cable or module; look at the switch port", &[&command!("ethtool -m {}", netdev)])
            } else {
                Finding::pass(subject, format!("the log tells that the link of {netdev} went down {}", counted(downs, "time")))
            });
        }
    }
    findings
}

/// Ports that count something where all their siblings count nothing.
fn alone(facts: &Facts, counters: &[&str], what: &str, remedy: &str) -> Vec<Finding> {
    let counted = |device: &SysfsDevice, port: &SysfsPort| -> Option<Vec<(String, u64)>> {
        let values: Vec<(String, u64)> = counters
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), facts.host.counters.value(&device.name, port.port, name)?)))
            .collect();
        (!values.is_empty()).then_some(values)
    };
    let kind = |device: &SysfsDevice| device.pci.as_ref().and_then(|pci| Some((pci.vendor_id?, pci.device_id?)));
    let ports: Vec<_> = facts.ports().filter_map(|(device, port)| Some((device, port, counted(device, port)?))).collect();
    let total = |values: &[(String, u64)]| values.iter().map(|(_, value)| *value).fold(0u64, u64::saturating_add);
    ports
        .iter()
        .map(|(device, port, values)| {
            let name = port_name(device, port);
            let siblings: Vec<_> = ports
                .iter()
                .filter(|(other, other_port, _)| {
                    kind(device).is_some() && kind(other) == kind(device) && (&other.name, other_port.port) != (&device.name, port.port)
                })
                .collect();
            match total(values) {
                0 => Finding::pass(name, format!("it counts no {what}")),
                sum if siblings.len() < 2 => {
                    Finding::skip(name, format!("it counts {sum} {what}, and there are no siblings to compare with"))
                }
                sum if siblings.iter().any(|(_, _, theirs)| total(theirs) > 0) => {
                    Finding::skip(name, format!("it counts {sum} {what}, as do others: only a second reading could tell whether they grow"))
                }
                sum => {
                    let finding = Finding::warn(name, format!("it counts {sum} {what}, its siblings none"));
                    let shown = values.iter().filter(|(_, value)| *value > 0);
                    shown
                        .fold(finding, |finding, (counter, value)| finding.saw_not(counter, value.to_string(), "0, as its siblings"))
                        .remedy(Action::Replace, remedy, &[])
                }
            }
        })
        .collect()
}

pub(super) fn link_errors(facts: &Facts) -> Vec<Finding> {
    let counters =
        ["symbol_error", "link_error_recovery", "port_rcv_errors", "local_link_integrity_errors", "excessive_buffer_overrun_errors"];
    alone(facts, &counters, "link errors", "clean or exchange cable and module")
}

pub(super) fn retransmissions(facts: &Facts) -> Vec<Finding> {
    let counters = ["local_ack_timeout_err", "out_of_sequence", "packet_seq_err"];
    alone(facts, &counters, "retransmissions", "compare cable, switch port and quality of service with those of the siblings")
}
