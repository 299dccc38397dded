//! The PCI tree: bridges, GPUs, and the functions of NICs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rdmadoctor_types::LinkLayer;

use super::Tree;
use crate::catalog::DeviceModel;
use crate::host::{Node, families};
use crate::sim::host::{Gpu, HostModel, Iommu, Link};

/// Where functions are in sysfs, by address.
pub(super) type Places = BTreeMap<String, PathBuf>;

/// What a function is in the tree, by its number in the PCI Express capability.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Endpoint = 0,
    RootPort = 4,
    UpstreamPort = 5,
    DownstreamPort = 6,
}

struct Function<'a> {
    address: &'a str,
    parent: Option<&'a str>,
    id: &'a str,
    class: u32,
    numa_node: Option<u32>,
    link: Option<Link>,
    kind: Kind,
    redirects: bool,
    read_request_bytes: u32,
}

pub(super) fn build(tree: &mut Tree, host: &HostModel) -> Places {
    tree.dir("/sys/bus/pci/devices");
    let mut places = Places::new();
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    for bridge in &host.bridges {
        // A switch is a port up and, behind it, ports down.
        let kind = match bridge.parent.as_deref().and_then(|parent| kinds.get(parent)) {
            None => Kind::RootPort,
            Some(Kind::UpstreamPort) => Kind::DownstreamPort,
            Some(_) => Kind::UpstreamPort,
        };
        kinds.insert(&bridge.pci, kind);
        let function = Function {
            address: &bridge.pci,
            parent: bridge.parent.as_deref(),
            // Intel's root port, Broadcom's switch.
            id: if kind == Kind::RootPort { "8086:347a" } else { "1000:c030" },
            class: 0x06_04_00,
            numa_node: bridge.numa_node,
            link: bridge.link,
            kind,
            redirects: bridge.redirects,
            read_request_bytes: 128,
        };
        let place = add(tree, &mut places, &function);
        driver(tree, &place, "pcieport");
    }
    let endpoint = Function {
        address: "",
        parent: None,
        id: "",
        class: 0,
        numa_node: None,
        link: None,
        kind: Kind::Endpoint,
        redirects: false,
        read_request_bytes: 512,
    };
    for (index, gpu) in host.gpus.iter().enumerate() {
        let parent = gpu.parent.as_deref();
        let function =
            Function { address: &gpu.pci, parent, id: &gpu.id, class: 0x03_02_00, numa_node: gpu.numa_node, link: gpu.link, ..endpoint };
        let place = add(tree, &mut places, &function);
        graphics(tree, &place, index, gpu, host);
    }
    for nic in &host.nics {
        let Some(model) = DeviceModel::find(&nic.model) else { continue };
        // A star stands for any part; 1021 is ConnectX-7's number.
        let of_model = model.identity.pci.first().map_or("0000:0000".to_owned(), |id| id.replace('*', "1021"));
        let id = nic.id.as_ref().unwrap_or(&of_model);
        let is_infiniband = nic.link_layer == Some(LinkLayer::Infiniband);
        let class = if is_infiniband { 0x02_07_00 } else { 0x02_00_00 };
        let (parent, numa_node, link) = (nic.parent.as_deref(), nic.numa_node, nic.link);
        let read_request_bytes = nic.read_request_bytes.unwrap_or(512);
        let function = Function { address: &nic.pci, parent, id, class, numa_node, link, read_request_bytes, ..endpoint };
        let place = add(tree, &mut places, &function);
        tree.text(place.join("resource"), &format!("0x0000384000000000 0x0000384001ffffff 0x000000000014220c{}", EMPTY_RANGES.repeat(5)));
        // The first of a family's modules is the one that takes the function.
        if families::modules_of(&model.family).first().is_some_and(|base| host.has_module(base)) {
            driver(tree, &place, &model.driver);
        }
    }
    // Functions that only carry an interface of the kernel's own drivers.
    let nics = host.nics.iter().filter_map(|nic| Some((nic.netdev_pci.as_deref()?, "virtio-pci")));
    let others = host.interfaces.iter().filter_map(|interface| Some((interface.pci.as_deref()?, interface.driver.as_deref()?)));
    for (address, name) in nics.chain(others) {
        let id = if name == "virtio-pci" { "1af4:1041" } else { "0000:0000" };
        let function = Function { address, id, class: 0x02_00_00, ..endpoint };
        let place = add(tree, &mut places, &function);
        driver(tree, &place, name);
    }
    groups(tree, host, &places);
    places
}

const EMPTY_RANGES: &str = "\n0x0000000000000000 0x0000000000000000 0x0000000000000000";

fn add(tree: &mut Tree, places: &mut Places, function: &Function<'_>) -> PathBuf {
    let above = function.parent.and_then(|parent| places.get(parent)).cloned();
    let bus = function.address.get(..7).unwrap_or_default();
    let place = above.unwrap_or_else(|| PathBuf::from(format!("/sys/devices/pci{bus}"))).join(function.address);
    let (vendor, part) = function.id.split_once(':').unwrap_or((function.id, "0000"));
    tree.text(place.join("vendor"), &format!("0x{vendor}"));
    tree.text(place.join("device"), &format!("0x{part}"));
    tree.text(place.join("class"), &format!("0x{:06x}", function.class));
    tree.text(place.join("numa_node"), &function.numa_node.map_or("-1".to_owned(), |node| node.to_string()));
    if let Some(link) = function.link {
        tree.text(place.join("max_link_speed"), speed(link.generation));
        tree.text(place.join("max_link_width"), &link.lanes.to_string());
        tree.text(place.join("current_link_speed"), speed(link.generation_now.unwrap_or(link.generation)));
        tree.text(place.join("current_link_width"), &link.lanes_now.unwrap_or(link.lanes).to_string());
    }
    for (name, total) in [("correctable", "COR"), ("nonfatal", "NONFATAL"), ("fatal", "FATAL")] {
        tree.text(place.join(format!("aer_dev_{name}")), &format!("TOTAL_ERR_{total} 0"));
    }
    tree.file(place.join("config"), Node::File(config_space(function)));
    tree.link(format!("/sys/bus/pci/devices/{}", function.address), &place);
    places.insert(function.address.to_owned(), place.clone());
    place
}

fn driver(tree: &mut Tree, place: &Path, name: &str) {
    let driver = format!("/sys/bus/pci/drivers/{name}");
    tree.link(place.join("driver"), &driver);
    tree.dir(driver);
}

fn speed(generation: u8) -> &'static str {
    match generation {
        1 => "2.5 GT/s PCIe",
        2 => "5.0 GT/s PCIe",
        3 => "8.0 GT/s PCIe",
        4 => "16.0 GT/s PCIe",
        5 => "32.0 GT/s PCIe",
        _ => "64.0 GT/s PCIe",
    }
}

/// A configuration space: header, the PCI Express capability at 0x40 and, in the extended part, error reporting and for bridges access
/// control services. Offsets and bits: include/uapi/linux/pci_regs.h.
fn config_space(function: &Function<'_>) -> Vec<u8> {
    let mut space = vec![0; 4096];
    let mut put = |at: usize, value: u32| space[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let number = |text: Option<&str>| text.and_then(|text| u32::from_str_radix(text, 16).ok()).unwrap_or(0);
    let mut id = function.id.split(':');
    let (vendor, device) = (number(id.next()), number(id.next()));
    put(0x00, vendor | device << 16);
    // Command: memory and bus mastering. Status: there is a list of capabilities, which begins at 0x40.
    put(0x04, 0x0010_0006);
    put(0x08, function.class << 8);
    let is_bridge = function.kind != Kind::Endpoint;
    put(0x0c, u32::from(is_bridge) << 16);
    put(0x34, 0x40);
    put(0x40, 0x0002_0010 | (function.kind as u32) << 20);
    // Payloads of 512 bytes are supported.
    put(0x44, 0x8002);
    // Device control: relaxed ordering, payload 256 bytes, extended tags, no snoop.
    put(0x48, 0x0930 | (function.read_request_bytes.trailing_zeros().saturating_sub(7)) << 12);
    if let Some(link) = function.link {
        put(0x4c, u32::from(link.generation) | u32::from(link.lanes) << 4);
        let (generation, lanes) = (link.generation_now.unwrap_or(link.generation), link.lanes_now.unwrap_or(link.lanes));
        put(0x50, (u32::from(generation) | u32::from(lanes) << 4) << 16);
    }
    // Advanced error reporting, version 2; access control services, version 1, follow at 0x148 on a bridge.
    put(0x100, 0x0002_0001 | if is_bridge { 0x148 << 20 } else { 0 });
    if is_bridge {
        put(0x148, 0x0001_000d);
        // What it can do, then what of it is on: bits 2 and 3 redirect requests and completions.
        put(0x14c, 0x005f | if function.redirects { 0x001d << 16 } else { 0 });
    }
    space
}

fn graphics(tree: &mut Tree, place: &Path, index: usize, gpu: &Gpu, host: &HostModel) {
    // BAR0 has registers; BAR1, of 64 bits, is the window.
    let end = 0x3800_0000_0000_u64 + (gpu.bar1_gib << 30) - 1;
    let resource = format!(
        "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n0x0000380000000000 {end:#018x} 0x000000000014220c{}",
        EMPTY_RANGES.repeat(4)
    );
    tree.text(place.join("resource"), &resource);
    let Some(nvidia) = host.nvidia.as_ref().filter(|_| host.has_module("nvidia")) else { return };
    driver(tree, place, "nvidia");
    let flavour = if nvidia.open { "NVIDIA UNIX Open Kernel Module for x86_64" } else { "NVIDIA UNIX x86_64 Kernel Module" };
    tree.text("/proc/driver/nvidia/version", &format!("NVRM version: {flavour}  {}  Release Build", nvidia.version));
    let parameters: Vec<String> = nvidia
        .parameters
        .iter()
        .map(|(name, value)| if value.parse::<u64>().is_ok() { format!("{name}: {value}") } else { format!("{name}: \"{value}\"") })
        .collect();
    tree.text("/proc/driver/nvidia/params", &parameters.join("\n"));
    tree.text(
        format!("/proc/driver/nvidia/gpus/{}/information", gpu.pci),
        &format!("Model: \t\t {}\nBus Location: \t {}\nDevice Minor: \t {index}", gpu.product, gpu.pci),
    );
    tree.device_node(format!("/dev/nvidia{index}"), 195, index as u64, 0o666);
    tree.device_node("/dev/nvidiactl", 195, 255, 0o666);
    if host.has_module("nvidia_uvm") {
        // Its major number is given out when it is loaded.
        tree.device_node("/dev/nvidia-uvm", 511, 0, 0o666);
        tree.device_node("/dev/nvidia-uvm-tools", 511, 1, 0o666);
    }
}

/// A group for each function, as behind bridges that isolate.
fn groups(tree: &mut Tree, host: &HostModel, places: &Places) {
    let kind = match host.iommu {
        Iommu::Off => return,
        Iommu::Passthrough => "identity",
        Iommu::Translated => "DMA-FQ",
    };
    tree.dir("/sys/class/iommu/dmar0");
    for (number, place) in places.values().enumerate() {
        let group = format!("/sys/kernel/iommu_groups/{number}");
        tree.text(format!("{group}/type"), kind);
        tree.link(place.join("iommu_group"), &group);
    }
}
