//! 10: quality of service, where drivers show it as files.

use super::Source::{Counters, Net, Rdma};
use super::{Action, Check, Facts, Finding, page};

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-1001"), needs: &[Rdma, Net], depends_on: &[], run: settings_agree },
    Check { page: page("RD-1002"), needs: &[Rdma, Net], depends_on: &[], run: both_points },
    Check { page: page("RD-1003"), needs: &[Rdma, Counters], depends_on: &["RD-1002"], run: marks_are_answered },
];

/// Settings of the interfaces of RDMA devices: interface, name of the setting, value.
fn settings(facts: &Facts) -> Vec<(&str, &str, &str)> {
    let is_rdma = |netdev: &str| facts.rdma_devices().iter().any(|device| device.netdevs.iter().any(|own| own == netdev));
    facts
        .host
        .net
        .quality_of_service
        .iter()
        .filter_map(|setting| {
            let (netdev, name) = setting.path.strip_prefix("/sys/class/net/")?.split_once('/')?;
            is_rdma(netdev).then_some((netdev, name, setting.value.as_str()))
        })
        .collect()
}

fn settings_agree(facts: &Facts) -> Vec<Finding> {
    let settings = settings(facts);
    let mut netdevs: Vec<&str> = settings.iter().map(|(netdev, _, _)| *netdev).collect();
    netdevs.dedup();
    let Some(first) = netdevs.first() else {
        return vec![Finding::skip("host", "the drivers show no settings as files; `mlnx_qos` or `dcb` may tell them")];
    };
    let value = |netdev: &str, name: &str| {
        settings.iter().find(|(other, setting, _)| *other == netdev && *setting == name).map(|(_, _, value)| *value)
    };
    let mut findings = Vec::new();
    for (netdev, name, own) in &settings {
        // With the interface that comes first as the measure, each other one is named once a setting.
        match value(first, name) {
            Some(expected) if expected != *own => findings.push(
                Finding::warn(*netdev, format!("{name} is another than that of {first}"))
                    .saw_not(format!("/sys/class/net/{netdev}/{name}"), *own, expected)
                    .remedy(Action::Tune, "set all RDMA interfaces alike", &[&command!("mlnx_qos -i {}", netdev)]),
            ),
            _ => {}
        }
    }
    if findings.is_empty() {
        findings.push(if netdevs.len() > 1 {
            Finding::pass("host", "the RDMA interfaces have the same settings")
        } else {
            Finding::skip("host", format!("only {first} shows settings, so there is nothing to compare"))
        });
    }
    findings
}

fn both_points(facts: &Facts) -> Vec<Finding> {
    let settings = settings(facts);
    let mut findings = Vec::new();
    for (netdev, name, value) in &settings {
        let Some(priority) = name.strip_prefix("ecn/roce_np/enable/") else { continue };
        let other =
            settings.iter().find(|(interface, name, _)| interface == netdev && name.strip_prefix("ecn/roce_rp/enable/") == Some(priority));
        let Some((_, _, reaction)) = other else { continue };
        let subject = format!("{netdev}/{priority}");
        findings.push(if value == reaction {
            Finding::pass(subject, format!("both points of priority {priority} are {}", if *value == "1" { "on" } else { "off" }))
        } else {
            Finding::warn(subject, format!("only one point of congestion control is on for priority {priority}"))
                .saw(format!("/sys/class/net/{netdev}/ecn/roce_np/enable/{priority}"), *value)
                .saw_not(format!("/sys/class/net/{netdev}/ecn/roce_rp/enable/{priority}"), *reaction, *value)
                .remedy(
                    Action::Tune,
                    "turn both on",
                    &[
                        &command!("echo 1 > /sys/class/net/{}/ecn/roce_np/enable/{}", netdev, priority),
                        &command!("echo 1 > /sys/class/net/{}/ecn/roce_rp/enable/{}", netdev, priority),
                    ],
                )
        });
    }
    if findings.is_empty() {
        findings.push(Finding::skip("host", "the drivers do not show congestion control as files"));
    }
    findings
}

fn marks_are_answered(facts: &Facts) -> Vec<Finding> {
    let judge = |(device, port): (&crate::host::rdma::SysfsDevice, &crate::host::rdma::SysfsPort)| {
        let value = |name: &str| facts.host.counters.value(&device.name, port.port, name);
        let (marked, sent) = (value("np_ecn_marked_roce_packets")?, value("np_cnp_sent")?);
        let subject = super::devices::port_name(device, port);
        Some(if marked > 0 && sent == 0 {
            Finding::warn(subject, "it received marked packets and sent no notification")
                .saw("np_ecn_marked_roce_packets", marked.to_string())
                .saw_not("np_cnp_sent", "0", "more than 0")
                .remedy(Action::Tune, "turn on the notification point of its interface", &[])
        } else {
            Finding::pass(subject, format!("{marked} marked packets, {sent} notifications"))
        })
    };
    facts.ports().filter_map(judge).collect()
}
