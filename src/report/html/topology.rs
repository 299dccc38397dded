//! GPUs and NICs: the tree that they are on as a drawing, and how near they are to each other as a plane.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::super::table::topo::{best, pair, word};
use super::tables;
use crate::facts::Topo;
use crate::host::pcie::PciePath;
use crate::host::topo::{Affinity, Topology};
use crate::units::gigabits;

pub(super) fn draw(topo: &Topo) -> Markup {
    let topology = &topo.topology;
    html! {
        h3 { "GPUs and NICs" }
        @if topology.gpus.is_empty() && topology.nics.is_empty() { p { "This host has neither a GPU nor an RDMA device on PCI." } }
        @else {
            (gpus(topology))
            (tree(topology))
            @if !topology.pairs.is_empty() { (plane(topology)) }
        }
        @for note in &topology.notes { p.note { (note) } }
        (tables::problems(&topo.problems))
    }
}

fn gpus(topology: &Topology) -> Markup {
    html! {
        @if !topology.gpus.is_empty() {
            div.scroll tabindex="0" { table {
                thead { tr { th { "GPU" } th { "vendor:device" } th { "NUMA" } th { "PCIe now" } th { "PCIe at best" } th { "best NICs" } } }
                tbody { @for gpu in &topology.gpus {
                    tr {
                        th.mono scope="row" { (gpu.address) }
                        td.mono { (id(gpu.vendor_id)) ":" (id(gpu.device_id)) }
                        td.number { (gpu.numa_node.map_or("-".to_owned(), |node| node.to_string())) }
                        td.number { (gpu.path.bits_per_second.map_or("-".to_owned(), gigabits)) }
                        td.number { (gpu.path.capable_bits_per_second.map_or("-".to_owned(), gigabits)) }
                        td { @if gpu.nics.is_empty() { "none" } @else { (best(topology, &gpu.address, &gpu.nics)) } }
                    }
                } }
            } }
        }
    }
}

fn id(number: Option<u16>) -> String {
    number.map_or("?".to_owned(), |number| format!("{number:04x}"))
}

fn plane(topology: &Topology) -> Markup {
    html! {
        p.muted { "PIX one PCIe switch, PXB several, PHB the processor's host bridge, NODE two bridges of one NUMA node, SYS two NUMA nodes" }
        div.scroll tabindex="0" { table {
            thead { tr { th { "GPU \\ NIC" } @for nic in &topology.nics { th { (nic.name) } } } }
            tbody { @for gpu in &topology.gpus {
                tr {
                    th.mono scope="row" { (gpu.address) }
                    @for nic in &topology.nics {
                        @match pair(topology, &gpu.address, &nic.name) {
                            Some(pair) => {
                                td class={ "heat " (nearness(pair.affinity)) } {
                                    (word(pair.affinity)) @if !pair.redirecting.is_empty() { " (ACS at " (pair.redirecting.join(" ")) ")" }
                                }
                            }
                            None => td.heat { "-" },
                        }
                    }
                }
            } }
        } }
    }
}

fn nearness(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Pix | Affinity::Pxb => "pass",
        Affinity::Phb | Affinity::Node => "warn",
        Affinity::Sys => "fail",
        Affinity::Unknown => "none",
    }
}

/// A node of the drawing.
struct Node {
    label: String,
    class: &'static str,
    depth: usize,
    /// In rows, which leaves take one each of.
    row: f64,
    parent: Option<usize>,
}

/// Devices drawn at most; a host has some dozens, a saved document may claim anything.
const MOST_LEAVES: usize = 128;
/// Levels drawn at most; bridges below are left out of the drawing.
const DEEPEST: usize = 6;

const ROW: f64 = 34.0;
const COLUMN: f64 = 170.0;
const BOX: f64 = 140.0;
const LEAF: f64 = 330.0;

/// Each device with the way to it, from the NUMA node down.
fn leaves(topology: &Topology) -> Vec<(Vec<String>, String, &'static str)> {
    let way = |node: Option<u32>, path: &PciePath| {
        let first = node.map_or("NUMA node not given".to_owned(), |node| format!("NUMA node {node}"));
        std::iter::once(first).chain(path.bridges.iter().take(DEEPEST).cloned()).collect::<Vec<_>>()
    };
    let speed = |path: &PciePath| path.bits_per_second.map(|bits| format!(" {}", gigabits(bits))).unwrap_or_default();
    let gpus = topology.gpus.iter().map(|gpu| (way(gpu.numa_node, &gpu.path), format!("GPU {}{}", gpu.address, speed(&gpu.path)), "gpu"));
    let nics = topology
        .nics
        .iter()
        .map(|nic| (way(nic.numa_node, &nic.path), format!("NIC {} {}{}", nic.name, nic.address, speed(&nic.path)), "nic"));
    let mut leaves: Vec<_> = gpus.chain(nics).collect();
    leaves.sort();
    leaves.truncate(MOST_LEAVES);
    leaves
}

fn nodes(topology: &Topology) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (index, (way, label, class)) in leaves(topology).into_iter().enumerate() {
        let shared = open.iter().zip(&way).take_while(|(node, name)| nodes[**node].label == **name).count();
        open.truncate(shared);
        for name in way.into_iter().skip(shared) {
            nodes.push(Node { label: name, class: "box", depth: open.len(), row: 0.0, parent: open.last().copied() });
            open.push(nodes.len() - 1);
        }
        nodes.push(Node { label, class, depth: open.len(), row: index as f64, parent: open.last().copied() });
    }
    // A bridge stands at the middle of what is behind it.
    for index in (0..nodes.len()).rev() {
        let rows: Vec<f64> = nodes.iter().filter(|node| node.parent == Some(index)).map(|node| node.row).collect();
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            nodes[index].row = f64::midpoint(*first, *last);
        }
    }
    nodes
}

fn tree(topology: &Topology) -> Markup {
    let nodes = nodes(topology);
    let rows = nodes.iter().filter(|node| node.class != "box").count();
    let deepest = nodes.iter().map(|node| node.depth).max().unwrap_or(0);
    let (width, height) = (deepest as f64 * COLUMN + LEAF + 10.0, rows as f64 * ROW + 10.0);
    let at = |node: &Node| (node.depth as f64 * COLUMN + 5.0, node.row * ROW + 5.0);
    let wire = |node: &Node| {
        let (parent_x, parent_y) = at(&nodes[node.parent?]);
        let (x, y) = at(node);
        let (start, middle) = (parent_x + BOX, x - (COLUMN - BOX) / 2.0);
        let mut path = String::new();
        let _ = write!(path, "M{start} {} H{middle} V{} H{x}", parent_y + ROW / 2.0 - 4.0, y + ROW / 2.0 - 4.0);
        Some(path)
    };
    html! {
        svg viewBox={ "0 0 " (width) " " (height) } width=(width) role="img" aria-label="PCI Express tree from NUMA nodes to GPUs and NICs" {
            @for path in nodes.iter().filter_map(wire) { path.wire d=(path) {} }
            @for node in &nodes {
                @let (x, y) = at(node);
                g {
                    rect class=(node.class) x=(x) y=(y) width=(if node.class == "box" { BOX } else { LEAF }) height=(ROW - 8.0) rx="3" {}
                    text x=(x + 8.0) y=(y + 17.0) { (node.label) }
                }
            }
        }
    }
}
