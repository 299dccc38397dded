//! Hosts side by side: what differs between them, and which findings each has.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::table::bench::buffer;
use super::findings::verdict_class;
use super::{HostPage, badge};
use crate::checks::Status;
use crate::units::{gigabits, size};

/// Links to each host's part.
pub(super) fn contents(hosts: &[HostPage]) -> Markup {
    html! {
        nav aria-label="Hosts" {
            ul { @for (index, host) in hosts.iter().enumerate() {
                li {
                    a href={ "#host-" (index) } { (host.name) }
                    @if let Some(probe) = &host.probe { " " (badge(verdict_class(&probe.verdict), probe.verdict.as_str())) }
                }
            } }
        }
    }
}

pub(super) fn draw(hosts: &[HostPage]) -> Markup {
    let facts: Vec<BTreeMap<String, String>> = hosts.iter().map(facts).collect();
    let mut names: Vec<&String> = facts.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    // What only one of them has is no difference in itself; lists of devices tell it.
    names.retain(|name| facts.iter().filter(|facts| facts.contains_key(*name)).count() > 1);
    let value = |facts: &BTreeMap<String, String>, name: &str| facts.get(name).cloned().unwrap_or_else(|| "-".to_owned());
    let differs = |name: &str| facts.iter().any(|other| value(other, name) != value(&facts[0], name));
    let (different, same): (Vec<&String>, Vec<&String>) = names.into_iter().partition(|name| differs(name));
    let table = |names: &[&String], class: &str| {
        html! {
            div.scroll tabindex="0" { table {
                thead { tr { th {} @for host in hosts { th { (host.name) } } } }
                tbody { @for name in names {
                    tr { th scope="row" { (name) } @for facts in &facts { td class=(class) { (value(facts, name)) } } }
                } }
            } }
        }
    };
    html! {
        section {
            h2 { "Side by side" }
            h3 { "What differs" }
            @if different.is_empty() { p { "Nothing that these reports tell." } } @else { (table(&different, "differs")) }
            @if !same.is_empty() { details { summary { "What is the same" } (table(&same, "")) } }
            (rates(hosts))
            (findings(hosts))
        }
    }
}

/// What is worth comparing, by name. What was not asked of a host is absent.
fn facts(host: &HostPage) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut put = |name: String, value: String| {
        facts.insert(name, value);
    };
    if let Some(probe) = &host.probe {
        put("verdict".to_owned(), probe.verdict.to_string());
    }
    if let Some(devices) = &host.devices {
        put("RDMA devices".to_owned(), devices.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(" "));
    }
    for device in host.devices.iter().flat_map(|devices| &devices.devices) {
        let of = |what: &str| format!("{}: {what}", device.name);
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        put(of("family"), or_none(&device.family));
        put(of("driver"), or_none(&device.driver));
        put(of("firmware"), or_none(&device.firmware));
        put(of("PCI"), or_none(&device.pci));
        put(of("NUMA node"), device.numa_node.map_or("not given".to_owned(), |node| node.to_string()));
        for port in &device.ports {
            let of = |what: &str| format!("{}/{}: {what}", device.name, port.port);
            put(of("state"), port.state.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string));
            put(of("rate"), port.rate_bits_per_second.map_or("unknown".to_owned(), gigabits));
            put(of("path MTU"), port.active_mtu_bytes.map_or("unknown".to_owned(), |mtu| format!("{mtu} B")));
        }
    }
    if let Some(topo) = &host.topo {
        put("GPUs".to_owned(), topo.topology.gpus.len().to_string());
        for gpu in &topo.topology.gpus {
            put(format!("GPU {}: nearest NIC", gpu.address), gpu.nics.first().cloned().unwrap_or_else(|| "none".to_owned()));
        }
    }
    for report in host.matrix.iter().flat_map(|matrix| &matrix.devices) {
        for bound in &report.bounds {
            put(format!("{}: {}", report.device, bound.parameter), bound.accepted.map_or("none".to_owned(), |value| value.to_string()));
        }
        for ask in report.asks.iter().filter(|ask| ask.engine.is_some()) {
            let (engine, version) = (ask.engine.as_deref().unwrap_or_default(), ask.version.as_deref().unwrap_or_default());
            put(format!("{}: {engine} {version} {}", report.device, ask.queue), ask.verdict.to_string());
        }
    }
    facts
}

/// Bandwidths of all hosts. They always differ, so that they are no part of what differs.
fn rates(hosts: &[HostPage]) -> Markup {
    let mut rows: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for (index, host) in hosts.iter().enumerate() {
        for (connection, row) in host.bws.iter().flat_map(|bw| bw.results.iter().filter_map(|row| Some((bw.connection.as_ref()?, row)))) {
            let (operation, bytes, pairs) = (row.operation, size(row.size_bytes), row.queue_pairs);
            let simulated = if connection.is_simulated { ", simulated" } else { "" };
            let (device, memory, buffer) = (&connection.local.device, &row.memory, buffer(row.buffer));
            let name = format!("{device}: {operation} {bytes}, {memory}, {buffer}, {pairs} queue pairs{simulated}");
            let rates = rows.entry(name).or_insert_with(|| vec![None; hosts.len()]);
            rates[index] = row.bytes_per_second.map(|rate| rate.median * 8.0 / 1e9);
        }
    }
    html! {
        @if !rows.is_empty() {
            h3 { "Bandwidth, Gbit/s" }
            div.scroll tabindex="0" { table {
                thead { tr { th { "measurement" } @for host in hosts { th { (host.name) } } } }
                tbody { @for (name, rates) in &rows {
                    tr { th scope="row" { (name) } @for rate in rates { td.number { (rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}"))) } } }
                } }
            } }
        }
    }
}

/// Findings that are bad on some host, and how each host has them.
fn findings(hosts: &[HostPage]) -> Markup {
    let mut rows: BTreeMap<(String, String), Vec<Option<Status>>> = BTreeMap::new();
    for (index, host) in hosts.iter().enumerate() {
        for finding in host.probe.iter().flat_map(|probe| &probe.findings) {
            let row = rows.entry((finding.id.clone(), finding.subject.clone())).or_insert_with(|| vec![None; hosts.len()]);
            row[index] = Some(finding.status);
        }
    }
    rows.retain(|_, statuses| statuses.iter().flatten().any(|status| status.is_bad()));
    html! {
        @if !rows.is_empty() {
            h3 { "Findings" }
            div.scroll tabindex="0" { table {
                thead { tr { th { "check" } th { "subject" } @for host in hosts { th { (host.name) } } } }
                tbody { @for ((id, subject), statuses) in &rows {
                    tr {
                        th scope="row" { (id) } td { (subject) }
                        @for status in statuses {
                            @match status { Some(status) => td class={ "heat " (status.name()) } { (status.name()) }, None => td.heat { "-" } }
                        }
                    }
                } }
            } }
        }
    }
}
