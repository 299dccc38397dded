//! Tests of the PCI Express tree on a modelled server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::config::tests::space;
use super::*;
use crate::host::Node;

type Tree = BTreeMap<PathBuf, Node>;

/// Where a function of the modelled server is, what it is, and its link: now, at most.
struct Placed {
    path: &'static str,
    id: (&'static str, &'static str, &'static str),
    port_type: u16,
    link: (&'static str, u32, &'static str, u32),
    numa_node: &'static str,
}

const BROADCOM: (&str, &str, &str) = ("0x1000", "0xc030", "0x060400");
const GPU: (&str, &str, &str) = ("0x10de", "0x2330", "0x030200");
const NIC: (&str, &str, &str) = ("0x15b3", "0x1021", "0x020700");
const GEN5: &str = "32.0 GT/s PCIe";
const GEN4: &str = "16.0 GT/s PCIe";

const SERVER: &[Placed] = &[
    Placed {
        path: "pci0000:00/0000:00:01.0",
        id: ("0x8086", "0x352a", "0x060400"),
        port_type: 4,
        link: (GEN5, 16, GEN5, 16),
        numa_node: "0",
    },
    Placed { path: "pci0000:00/0000:00:01.0/0000:01:00.0", id: BROADCOM, port_type: 5, link: (GEN5, 16, GEN5, 16), numa_node: "0" },
    Placed {
        path: "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0",
        id: BROADCOM,
        port_type: 6,
        link: (GEN5, 16, GEN5, 16),
        numa_node: "0",
    },
    Placed {
        path: "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0",
        id: GPU,
        port_type: 0,
        link: (GEN5, 16, GEN5, 16),
        numa_node: "0",
    },
    Placed {
        path: "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0",
        id: BROADCOM,
        port_type: 6,
        link: (GEN5, 8, GEN5, 16),
        numa_node: "0",
    },
    Placed {
        path: "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0",
        id: NIC,
        port_type: 0,
        link: (GEN5, 8, GEN5, 16),
        numa_node: "0",
    },
    Placed {
        path: "pci0000:00/0000:00:02.0",
        id: ("0x8086", "0x352b", "0x060400"),
        port_type: 4,
        link: (GEN4, 8, GEN5, 8),
        numa_node: "0",
    },
    Placed { path: "pci0000:00/0000:00:02.0/0000:05:00.0", id: NIC, port_type: 0, link: (GEN4, 8, GEN4, 16), numa_node: "0" },
    Placed {
        path: "pci0000:80/0000:80:01.0",
        id: ("0x8086", "0x352a", "0x060400"),
        port_type: 4,
        link: (GEN5, 16, GEN5, 16),
        numa_node: "1",
    },
    Placed { path: "pci0000:80/0000:80:01.0/0000:81:00.0", id: GPU, port_type: 0, link: (GEN5, 16, GEN5, 16), numa_node: "1" },
];

/// A server with two sockets: behind the first root port a switch with a GPU and a NIC that got 8 of its 16 lanes, behind the second a
/// NIC, behind one of the other socket a GPU. `config_bytes` is how much of the configuration spaces the kernel shows.
pub(crate) fn server(config_bytes: usize) -> Tree {
    let mut nodes = Tree::new();
    for placed in SERVER {
        let dir = format!("/sys/devices/{}", placed.path);
        let address = placed.path.rsplit('/').next().unwrap();
        let (current, lanes, max, max_lanes) = placed.link;
        for (name, text) in [
            ("vendor", placed.id.0.to_owned()),
            ("device", placed.id.1.to_owned()),
            ("class", placed.id.2.to_owned()),
            ("numa_node", placed.numa_node.to_owned()),
            ("current_link_speed", current.to_owned()),
            ("current_link_width", lanes.to_string()),
            ("max_link_speed", max.to_owned()),
            ("max_link_width", max_lanes.to_string()),
            ("aer_dev_correctable", "RxErr 3\nTOTAL_ERR_COR 4".to_owned()),
        ] {
            nodes.insert(format!("{dir}/{name}").into(), Node::text(&format!("{text}\n")));
        }
        // The switch's port above the NIC redirects.
        let acs_control = if address == "0000:02:01.0" { 0x1d } else { 0 };
        let mut config = space(placed.port_type, 0x2930, acs_control);
        config.truncate(config_bytes);
        nodes.insert(format!("{dir}/config").into(), Node::File(config));
        if placed.id == GPU {
            let resource = "0x00000000f0000000 0x00000000f0ffffff 0x0000000000140204\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                            0x0000380000000000 0x0000381fffffffff 0x000000000014220c\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                            0x0000000000000000 0x0000000001ffffff 0x000000002014220c\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
            nodes.insert(format!("{dir}/resource").into(), Node::text(resource));
        }
        nodes.insert(
            format!("{dir}/iommu_group").into(),
            Node::Link(format!("../../../../kernel/iommu_groups/{}", placed.port_type).into()),
        );
        nodes.insert(format!("/sys/bus/pci/devices/{address}").into(), Node::Link(format!("../../../devices/{}", placed.path).into()));
    }
    nodes
}

#[test]
fn the_tree_is_read() {
    let facts = read(&Root::tree(server(4096)));
    assert_eq!(facts.problems, []);
    assert_eq!(facts.functions.as_ref().unwrap().len(), SERVER.len());
    let gpu = facts.function("0000:03:00.0").unwrap();
    assert_eq!((gpu.parent.as_deref(), gpu.root_bus.as_deref()), (Some("0000:02:00.0"), Some("0000:00")));
    assert_eq!((gpu.function.numa_node, gpu.iommu_group), (Some(0), Some(0)));
    assert!(gpu.is_gpu() && !gpu.is_bridge());
    let window = gpu.window().unwrap();
    assert_eq!((window.index, window.size_bytes, window.is_assigned), (2, 128 << 30, true));
    assert!(!gpu.bars[2].is_assigned);
    assert_eq!(gpu.errors.unwrap().correctable, Some(4));
    let port = facts.function("0000:02:01.0").unwrap();
    assert!(port.is_bridge() && port.config.as_ref().unwrap().acs.unwrap().redirects());
    let root_port = facts.function("0000:00:01.0").unwrap();
    assert_eq!((root_port.parent.as_deref(), root_port.root_bus.as_deref()), (None, Some("0000:00")));
}

#[test]
fn the_narrowest_link_of_a_path_is_named() {
    // Without root, the kinds of ports are not known and links are found by their order.
    for config_bytes in [4096, 64] {
        let facts = read(&Root::tree(server(config_bytes)));
        let path = facts.path("0000:04:00.0").unwrap();
        assert_eq!(path.bridges, ["0000:00:01.0", "0000:01:00.0", "0000:02:01.0"]);
        let links: Vec<_> = path.segments.iter().map(|segment| (segment.upper.as_str(), segment.lower.as_str())).collect();
        assert_eq!(links, [("0000:00:01.0", "0000:01:00.0"), ("0000:02:01.0", "0000:04:00.0")]);
        let narrowest = path.narrowest().unwrap();
        assert_eq!(narrowest.lower, "0000:04:00.0");
        assert!(narrowest.is_narrowed && !narrowest.is_slowed);
        assert_eq!(path.bits_per_second.unwrap() * 2, path.capable_bits_per_second.unwrap());
        // The NIC has 16 lanes, its slot 8: nothing is wrong, and 8 is the most.
        let slot = facts.path("0000:05:00.0").unwrap();
        let [segment] = &slot.segments[..] else { panic!("one link") };
        assert!(!segment.is_narrowed && !segment.is_slowed);
        assert_eq!(slot.bits_per_second, slot.capable_bits_per_second);
    }
    assert_eq!(read(&Root::tree(server(64))).path("0000:ff:00.0"), None);
}

#[test]
fn speeds_are_read_as_kernels_write_them() {
    for (text, expected) in [
        ("2.5 GT/s PCIe", Some(Some(2500))),
        ("8 GT/s", Some(Some(8000))),
        ("64.0 GT/s PCIe", Some(Some(64000))),
        ("Unknown", Some(None)),
        ("Unknown speed", Some(None)),
        ("33 MHz PCI", Some(None)),
        ("fast", None),
        ("4294967295 GT/s", None),
        ("2.55 GT/s", None),
    ] {
        assert_eq!(speed(text), expected, "{text}");
    }
    assert_eq!(bits_per_second(2500, 1), 2_000_000_000);
    assert_eq!(bits_per_second(16000, 16) / 1_000_000_000, 252);
}

#[test]
fn a_virtual_function_has_the_link_of_its_physical_one() {
    let mut nodes = server(64);
    let dir = "/sys/devices/pci0000:00/0000:00:02.0/0000:05:00.1";
    for (name, text) in [("vendor", "0x15b3"), ("current_link_speed", "Unknown"), ("current_link_width", "0"), ("max_link_width", "0")] {
        nodes.insert(format!("{dir}/{name}").into(), Node::text(text));
    }
    nodes.insert(format!("{dir}/physfn").into(), Node::Link("../0000:05:00.0".into()));
    nodes.insert("/sys/bus/pci/devices/0000:05:00.1".into(), Node::Link(format!("../../../..{dir}").into()));
    let facts = read(&Root::tree(nodes));
    assert_eq!(facts.problems, []);
    assert_eq!(facts.function("0000:05:00.1").unwrap().link, Link::default());
    assert_eq!(facts.path("0000:05:00.1").unwrap().bits_per_second, facts.path("0000:05:00.0").unwrap().bits_per_second);
}

/// As a virtual machine with one H200 shows it.
#[test]
fn a_function_without_bridges_speaks_for_itself() {
    let dir = "/sys/devices/pci0000:00/0000:00:06.0";
    let resource = "0x0000104002000000 0x0000104002ffffff 0x000000000014220c\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                    0x0000100000000000 0x0000103fffffffff 0x000000000014220c\n";
    let mut nodes: Tree = [("vendor", "0x10de"), ("device", "0x2335"), ("class", "0x030200"), ("numa_node", "-1"), ("resource", resource)]
        .into_iter()
        .chain([("current_link_speed", GEN5), ("max_link_speed", GEN5), ("current_link_width", "16"), ("max_link_width", "16")])
        .map(|(name, text)| (format!("{dir}/{name}").into(), Node::text(text)))
        .collect();
    nodes.insert("/sys/bus/pci/devices/0000:00:06.0".into(), Node::Link(format!("../../../..{dir}").into()));
    let facts = read(&Root::tree(nodes));
    assert_eq!(facts.problems, []);
    // nvidia-smi says 262144 MiB of BAR1.
    assert_eq!(facts.function("0000:00:06.0").unwrap().window().unwrap().size_bytes, 262_144 << 20);
    let path = facts.path("0000:00:06.0").unwrap();
    assert_eq!((path.bridges.len(), path.segments.len(), path.bottleneck), (0, 0, None));
    assert_eq!(path.bits_per_second.unwrap() / 1_000_000_000, 504);
    assert_eq!(path.bits_per_second, path.capable_bits_per_second);
}

#[test]
fn what_cannot_be_read_does_not_hide_the_rest() {
    let mut nodes = server(4096);
    let nic = "/sys/devices/pci0000:00/0000:00:02.0/0000:05:00.0";
    nodes.insert(format!("{nic}/config").into(), Node::Denied);
    nodes.insert(format!("{nic}/resource").into(), Node::text("zero"));
    nodes.insert(format!("{nic}/max_link_speed").into(), Node::text("very fast"));
    let facts = read(&Root::tree(nodes));
    assert_eq!(facts.problems.len(), 3, "{:?}", facts.problems);
    assert_eq!(facts.function("0000:05:00.0").unwrap().link.current_lanes, Some(8));
    assert_eq!(read(&Root::tree(Tree::new())), PcieFacts::default());
}

#[test]
fn a_host_bridge_below_a_function_starts_a_tree_of_its_own() {
    let real = Path::new("/sys/devices/pci0000:00/0000:00:0e.0/pci10000:00/10000:00:02.0/10000:01:00.0");
    assert_eq!(above(real), (Some("10000:00:02.0".to_owned()), Some("10000:00".to_owned())));
    assert_eq!(above(real.parent().unwrap()), (None, Some("10000:00".to_owned())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn garbage_is_a_problem_and_not_a_panic(garbage in proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..80)), 1..12)) {
        let mut nodes = server(256);
        let paths: Vec<PathBuf> = nodes.keys().cloned().collect();
        for (index, bytes) in garbage {
            nodes.insert(index.get(&paths).clone(), Node::File(bytes));
        }
        let facts = read(&Root::tree(nodes));
        for placed in SERVER {
            let _ = facts.path(placed.path.rsplit('/').next().unwrap());
        }
        prop_assert!(serde_json::to_string(&facts).is_ok());
    }
}

#[test]
fn details_are_read_of_what_data_goes_through() {
    let is_read = |vendor, device, class| {
        let (vendor_id, device_id, class) = (Some(vendor), Some(device), Some(class));
        let function = PciFunction {
            address: "0000:03:00.0".to_owned(),
            vendor_id,
            device_id,
            class,
            driver: None,
            numa_node: None,
            is_virtual_function: false,
        };
        is_of_interest(&function)
    };
    // A GPU, a NIC, a bridge, and EFA, which has no class of its own; a disk's controller is none of them.
    assert!(is_read(0x10de, 0x2330, 0x03_02_00) && is_read(0x15b3, 0x1021, 0x02_07_00) && is_read(0x1000, 0xc030, 0x06_04_00));
    assert!(is_read(0x1d0f, 0xefa1, 0xff_00_00) && !is_read(0x8086, 0x2922, 0x01_06_01));
}
