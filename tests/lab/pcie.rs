//! PCI Express trees that QEMU models: what `topo` and the checks of category 08 make of real sysfs and configuration spaces.
//!
//! GPUs are ATI's as QEMU has it, with a display controller's class; NICs are virtio's, each with a Soft-RoCE device on it.

use serde_json::Value;

use super::Test;
use super::guest::Guest;
use super::probe::{bad, mended, probe};

/// One GPU below a switch with nicN for each distance, one on a host bridge of its own, one that shares a root port with its NIC.
pub const TREE: &str = "-object memory-backend-ram,id=m0,size=512M -object memory-backend-ram,id=m1,size=512M \
    -smp 2 -numa node,nodeid=0,memdev=m0,cpus=0 -numa node,nodeid=1,memdev=m1,cpus=1 \
    -device pcie-root-port,id=root,bus=pcie.0,chassis=1,slot=1,x-speed=16,x-width=16 \
    -device x3130-upstream,id=upper,bus=root -device xio3130-downstream,id=d1,bus=upper,chassis=2,slot=1 \
    -device xio3130-downstream,id=d2,bus=upper,chassis=2,slot=2 -device xio3130-downstream,id=d3,bus=upper,chassis=2,slot=3 \
    -device x3130-upstream,id=lower,bus=d3 -device xio3130-downstream,id=d4,bus=lower,chassis=3,slot=1 \
    -device ati-vga,bus=d1,romfile= -device virtio-net-pci,bus=d2,mac=52:54:00:00:00:01,romfile= \
    -device virtio-net-pci,bus=d4,mac=52:54:00:00:00:02,romfile= \
    -device pcie-root-port,id=side,bus=pcie.0,chassis=4,slot=1 -device virtio-net-pci,bus=side,mac=52:54:00:00:00:03,romfile= \
    -device pxb-pcie,id=near,bus=pcie.0,bus_nr=64,numa_node=0 -device pcie-root-port,id=n1,bus=near,chassis=5,slot=1 \
    -device ati-vga,bus=n1,romfile= \
    -device pxb-pcie,id=beside,bus=pcie.0,bus_nr=96,numa_node=0 -device pcie-root-port,id=n2,bus=beside,chassis=6,slot=1 \
    -device virtio-net-pci,bus=n2,mac=52:54:00:00:00:04,romfile= \
    -device pxb-pcie,id=far,bus=pcie.0,bus_nr=128,numa_node=1 -device pcie-root-port,id=f1,bus=far,chassis=7,slot=1 \
    -device virtio-net-pci,bus=f1,mac=52:54:00:00:00:05,romfile= \
    -device pcie-root-port,id=shared,bus=far,chassis=8,slot=2 -device ati-vga,bus=shared,addr=0.0,multifunction=on,romfile= \
    -device virtio-net-pci,bus=shared,addr=0.1,mac=52:54:00:00:00:06,romfile=";

/// A GPU and a NIC behind an IOMMU.
pub const IOMMU: &str = "-device intel-iommu,intremap=off -device pcie-root-port,id=one,bus=pcie.0,chassis=1,slot=1 \
    -device pcie-root-port,id=two,bus=pcie.0,chassis=2,slot=2 -device ati-vga,bus=one,romfile= \
    -device virtio-net-pci,bus=two,mac=52:54:00:00:00:01,romfile=";

pub const TREES: &[Test] = &[("topo_tells_all_distances", distances), ("access_control_that_redirects_is_found_and_mended", redirects)];

pub const TRANSLATED: &[Test] = &[("an_iommu_that_translates_is_found", |guest| iommu(guest, "translated", &["warn RD-0805 host"]))];
pub const PASSED: &[Test] = &[("an_iommu_that_passes_through_is_well", |guest| iommu(guest, "passthrough", &[]))];

/// A Soft-RoCE device nicN on each of the NICs, by the last digit of its hardware address.
fn make_devices(guest: &mut Guest) {
    let ran = guest.sh("modprobe -a virtio_net ib_uverbs crc32_generic rdma_rxe || exit\n\
         for net in /sys/class/net/eth*; do\n\
           n=$(cut -c 17 $net/address); ip link set ${net##*/} up\n\
           [ -e /sys/class/infiniband/nic$n ] || rdma link add nic$n type rxe netdev ${net##*/} || exit\n\
         done; sleep 1");
    assert_eq!(ran.code, 0, "{ran:?}");
}

fn topology(guest: &mut Guest) -> Value {
    make_devices(guest);
    let (mut document, code) = guest.json("topo");
    assert_eq!(code, 0);
    document["topology"].take()
}

/// GPUs by the name of what is nearest to them: `switch`, `bridge`, `shared`.
fn gpu<'a>(topology: &'a Value, nearest: &str) -> &'a Value {
    let gpus = topology["gpus"].as_array().unwrap();
    gpus.iter().find(|gpu| gpu["nics"][0] == nearest).unwrap_or_else(|| panic!("none nearest to {nearest}: {topology:#}"))
}

fn pair<'a>(topology: &'a Value, gpu: &Value, nic: &str) -> &'a Value {
    let pairs = topology["pairs"].as_array().unwrap();
    pairs.iter().find(|pair| pair["gpu"] == gpu["address"] && pair["nic"] == nic).unwrap()
}

fn distances(guest: &mut Guest) {
    let topology = topology(guest);
    assert_eq!((topology["gpus"].as_array().unwrap().len(), topology["nics"].as_array().unwrap().len()), (3, 6), "{topology:#}");
    let (below_switch, at_bridge, shared) = (gpu(&topology, "nic1"), gpu(&topology, "nic4"), gpu(&topology, "nic6"));
    let affinity = |gpu, nic| pair(&topology, gpu, nic)["affinity"].as_str().unwrap();
    assert_eq!(["nic1", "nic2", "nic3"].map(|nic| affinity(below_switch, nic)), ["pix", "pxb", "phb"], "{topology:#}");
    assert_eq!(["nic4", "nic5"].map(|nic| affinity(at_bridge, nic)), ["node", "sys"], "{topology:#}");
    assert_eq!(affinity(shared, "nic6"), "pix");
    // QEMU's first host bridge names no node.
    assert_eq!(["nic4", "nic5"].map(|nic| affinity(below_switch, nic)), ["unknown", "unknown"]);
    assert_eq!(
        (at_bridge["numa_node"].as_u64(), shared["numa_node"].as_u64(), &below_switch["numa_node"]),
        (Some(0), Some(1), &Value::Null)
    );
    // Three bridges above: root port, both ports of the switch. The link inside the switch is none.
    assert_eq!(below_switch["path"]["bridges"].as_array().unwrap().len(), 3);
    let nic2 = topology["nics"].as_array().unwrap().iter().find(|nic| nic["name"] == "nic2").unwrap();
    assert_eq!((nic2["path"]["bridges"].as_array().unwrap().len(), nic2["path"]["segments"].as_array().unwrap().len()), (5, 3), "{nic2:#}");
    // The root port could do more than the switch below it: no fault, as both ends count.
    assert!(
        nic2["path"]["segments"].as_array().unwrap().iter().all(|segment| segment["is_narrowed"] == false && segment["is_slowed"] == false)
    );
    assert_eq!(pair(&topology, below_switch, "nic1")["redirection_known"], true);
    // What lspci reads is the judge of each link.
    let segment = &nic2["path"]["segments"][0];
    let listed = guest.sh(&format!("lspci -vv -s {}", segment["upper"].as_str().unwrap())).out;
    assert!(listed.contains("LnkCap:") && listed.contains("Speed 16GT/s, Width x16"), "{listed}");
    assert_eq!(bad(&probe(guest, "", "--level quick --only 0801 --only 0802 --only 0806")), ["warn RD-0806 x"; 0]);
}

fn redirects(guest: &mut Guest) {
    let before = topology(guest);
    let shared = gpu(&before, "nic6");
    let pair_before = pair(&before, shared, "nic6");
    let (port, address) = (pair_before["meeting_bridge"].as_str().unwrap(), shared["address"].as_str().unwrap());
    assert_eq!(pair_before["redirecting"], serde_json::json!([]));
    // Request and completion redirect.
    let wound = format!("setpci -s {port} ECAP_ACS+0x6.w=000c:000c");
    guest.sh(&wound);
    let after = topology(guest);
    assert_eq!(pair(&after, gpu(&after, "nic6"), "nic6")["redirecting"], serde_json::json!([port]), "{after:#}");
    mended(guest, &wound, "", "--level quick --only 0804", &[&format!("warn RD-0804 {address}/nic6")]);
}

fn iommu(guest: &mut Guest, mode: &str, expected: &[&str]) {
    make_devices(guest);
    let document = probe(guest, "", "--level quick --only 0805");
    assert_eq!(bad(&document), expected, "{mode}: {document:#}");
    let ran = guest.sh("cat /sys/kernel/iommu_groups/*/type | sort -u");
    assert_eq!(ran.out.contains("identity"), mode == "passthrough", "{ran:?}");
}
