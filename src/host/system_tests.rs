//! Tests of the system reader on modelled hosts.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;

use super::iommu::IommuMode;
use super::memory::HugePages;
use super::*;
use crate::host::Node;

type Tree = BTreeMap<PathBuf, Node>;

fn host() -> Tree {
    [
        ("/proc/sys/kernel/osrelease", "6.8.0-45-generic\n"),
        ("/proc/sys/kernel/tainted", "12289\n"),
        ("/proc/sys/kernel/numa_balancing", "1\n"),
        ("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=UUID=1 secret=x intel_iommu=on iommu=pt pci=realloc=off,noacs iommu=\"nopt x\" ib_core.netns_mode=0 -- iommu=off\n"),
        ("/boot/config-6.8.0-45-generic", "CONFIG_PCI_P2PDMA=y\n# CONFIG_DMABUF_MOVE_NOTIFY is not set\nCONFIG_INFINIBAND=m\nCONFIG_LOCALVERSION=\"secret\"\n"),
        ("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ("/sys/kernel/iommu_groups/10/type", "identity\n"),
        ("/sys/kernel/iommu_groups/2/type", "DMA-FQ\n"),
        ("/sys/class/iommu/dmar0/x", ""),
        ("/proc/meminfo", "MemTotal:       1056 kB\nMemAvailable:    56 kB\n"),
        ("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       528 kB\nNode 0 MemFree:  4 kB\n"),
        ("/sys/devices/system/node/node0/cpulist", "0-31,64-95\n"),
        ("/sys/devices/system/node/node0/distance", "10 21\n"),
        ("/sys/devices/system/node/node1/distance", "21 10\n"),
        ("/sys/devices/system/node/possible", "0-1\n"),
        ("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n"),
        ("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "500\n"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("/etc/os-release", "PRETTY_NAME=\"Ubuntu 24.04 LTS\"\nID=ubuntu\nID_LIKE='debian'\nVERSION_ID=\"24.04\"\n"),
        ("/sys/class/dmi/id/sys_vendor", "Alibaba Cloud\n"),
        ("/sys/class/dmi/id/product_name", "Alibaba Cloud ECS\n"),
        ("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu hypervisor\n"),
    ]
    .into_iter()
    .map(|(path, text)| (PathBuf::from(path), Node::text(text)))
    .collect()
}

#[test]
fn a_host_is_read() {
    let facts = read(&Root::tree(host()));
    assert_eq!(facts.problems, []);
    assert_eq!((facts.kernel_version(), facts.kernel_taint), (Some((6, 8)), Some(12289)));
    let names: Vec<_> = facts.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(names, ["intel_iommu", "iommu", "pci", "iommu", "ib_core.netns_mode"]);
    assert_eq!(facts.parameter("iommu").unwrap().value.as_deref(), Some("nopt x"));
    assert_eq!(facts.parameter("pci").unwrap().value.as_deref(), Some("realloc=off,noacs"));
    let config = facts.config.unwrap();
    assert_eq!(
        (config.value("CONFIG_PCI_P2PDMA"), config.value("CONFIG_DMABUF_MOVE_NOTIFY"), config.value("CONFIG_INFINIBAND")),
        ("y", "n", "m")
    );
    assert_eq!(config.options.len(), 3);
    assert_eq!(facts.lockdown.as_deref(), Some("integrity"));
    assert_eq!((facts.iommu.mode, facts.iommu.groups[0].group), (IommuMode::Mixed, 2));
    assert_eq!(facts.memory.total_bytes, Some(1056 << 10));
    let nodes = facts.memory.nodes.unwrap();
    assert_eq!((nodes.len(), nodes[0].free_bytes, &nodes[0].distances[..]), (2, Some(4096), &[10, 21][..]));
    assert_eq!(facts.memory.huge_pages, [HugePages { page_bytes: 2 << 20, total: 512, free: 500, reserved: None, surplus: None }]);
    assert_eq!(facts.memory.transparent_huge_pages.as_deref(), Some("madvise"));
    let os = facts.os.unwrap();
    assert_eq!((os.id.as_deref(), os.id_like.as_deref(), os.version_id.as_deref()), (Some("ubuntu"), Some("debian"), Some("24.04")));
    assert_eq!(facts.machine.virtual_machine().as_deref(), Some("Alibaba Cloud ECS"));
}

#[test]
fn a_packed_configuration_comes_first() {
    let mut nodes = host();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(b"CONFIG_PCI_P2PDMA=n\n").unwrap();
    let packed = packer.finish().unwrap();
    nodes.insert("/proc/config.gz".into(), Node::File(packed.clone()));
    let facts = read(&Root::tree(nodes.clone()));
    assert_eq!(
        (facts.config.as_ref().unwrap().source.as_str(), facts.config.as_ref().unwrap().value("CONFIG_PCI_P2PDMA")),
        ("/proc/config.gz", "n")
    );
    // What is broken does not hide the next one.
    nodes.insert("/proc/config.gz".into(), Node::File(packed[..12].to_vec()));
    let facts = read(&Root::tree(nodes));
    assert_eq!((facts.config.unwrap().source.as_str(), facts.problems.len()), ("/boot/config-6.8.0-45-generic", 1));
}

#[test]
fn nothing_is_not_off() {
    let facts = read(&Root::tree(Tree::new()));
    assert_eq!(
        (facts.iommu.mode, facts.memory.nodes, facts.config, facts.machine.virtual_machine()),
        (IommuMode::Unknown, None, None, None)
    );
    let root = Root::tree(BTreeMap::from([("/sys/kernel/iommu_groups".into(), Node::Dir)]));
    assert_eq!(read(&root).iommu.mode, IommuMode::Off);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn garbage_is_a_problem_and_not_a_panic(garbage in proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..60)), 1..8)) {
        let mut nodes = host();
        let paths: Vec<PathBuf> = nodes.keys().cloned().collect();
        for (index, bytes) in garbage {
            nodes.insert(index.get(&paths).clone(), Node::File(bytes));
        }
        prop_assert!(serde_json::to_string(&read(&Root::tree(nodes))).is_ok());
    }
}
