use std::path::Path;

use proptest::prelude::*;

use super::super::host_tree;
use super::*;
use crate::catalog::{DeviceModel, HOSTS};
use crate::devices;
use crate::facts;
use crate::host;
use crate::host::modules::{ModuleState, SymbolPresence};
use crate::host::topo::Affinity;
use crate::worker::Inventory;

fn each() -> Vec<HostModel> {
    HostModel::names().map(|name| HostModel::find(name).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

fn named(name: &str) -> HostModel {
    HostModel::find(name).unwrap()
}

/// A host that extends another by these lines.
fn with(base: &str, lines: &str) -> Result<HostModel, String> {
    let text = format!("schema: rdmadoctor/host/1\nname: sick\ntitle: sick\nextends: {base}\n{lines}\n");
    HostModel::parse(Path::new("sick.yaml"), &text).map_err(|error| error.to_string())
}

fn changed(base: &str, lines: &str) -> HostModel {
    with(base, lines).unwrap_or_else(|error| panic!("{error}"))
}

fn state(model: &HostModel, module: &str) -> ModuleState {
    let modules = host::modules::read_with(&model.root(), &[module.to_owned()], host::part::Look::Whole).modules;
    modules.iter().find(|found| found.name == module).unwrap().state
}

#[test]
fn readers_see_what_the_model_says() {
    assert_eq!(HostModel::embedded().len(), HOSTS.len());
    for model in each() {
        let root = model.root();
        let facts = facts::host::collect(&root, None);
        assert_eq!(facts.problems().collect::<Vec<_>>(), [], "{}", model.name);
        let devices = facts.rdma.devices.as_deref().unwrap_or_default();
        assert_eq!(devices.len(), model.nics.len(), "{}", model.name);
        for (device, nic) in devices.iter().zip(&model.nics) {
            let family = DeviceModel::find(&nic.model).unwrap().family.clone();
            assert_eq!((device.name.as_str(), device.family.as_ref().map(|guess| &guess.family)), (nic.name.as_str(), Some(&family)));
            let pci = device.pci.as_ref().unwrap();
            assert_eq!((&pci.address, pci.numa_node), (&nic.pci, nic.numa_node));
            assert_eq!(device.netdevs, nic.netdev.iter().cloned().collect::<Vec<_>>());
            assert_eq!(device.ports[0].gids.len(), host_tree::gids(nic).len());
            assert!(device.firmware.is_some());
        }
        let modules = host::modules::read(&root);
        assert_eq!((modules.problems.as_slice(), modules.kernel_release.as_deref()), (&[][..], Some(model.kernel.as_str())));
        for module in &model.modules.loaded {
            let found = modules.modules.iter().find(|found| found.name == module.name).unwrap();
            assert_eq!((found.state, &found.notes), (ModuleState::Loaded, &Vec::new()), "{} {}", model.name, module.name);
            let version = found.loaded_version.as_ref().and_then(|version| version.version.clone());
            assert_eq!(version, module.version);
            let on_disk = model.container.is_none().then_some(false);
            assert_eq!(found.version_differs, on_disk, "{} {}", model.name, module.name);
        }
        let driver = modules.nvidia.as_ref().map(|driver| driver.version.as_deref());
        assert_eq!(driver, model.nvidia.as_ref().map(|nvidia| Some(nvidia.version.as_str())));
        assert_eq!(facts.topology.gpus.len(), model.gpus.len());
        assert_eq!(facts.topology.nics.len(), model.nics.len());
        assert!(!facts.topology.is_hidden);
        for gpu in &model.gpus {
            let window = facts.pcie.function(&gpu.pci).and_then(|function| function.window()).unwrap();
            assert_eq!(window.size_bytes, gpu.bar1_gib << 30);
        }
        assert_eq!(facts.limits.container.is_container, model.container.is_some(), "{}", model.name);
        assert_eq!(facts.limits.own.has_ipc_lock(), Some(model.limits.ipc_lock));
        assert_eq!(facts.limits.own.memlock().unwrap().soft.value(), model.limits.memlock_bytes);
        for nic in model.nics.iter().filter(|nic| nic.netdev.is_some()) {
            let netdev = nic.netdev.as_deref().unwrap();
            let interface = facts.net.interface(netdev).unwrap();
            assert_eq!((interface.mtu_bytes, interface.has_carrier), (Some(nic.mtu), Some(true)));
            for wanted in &nic.addresses {
                let (address, length) = with_prefix_length(wanted).unwrap();
                let found = facts.net.addresses.iter().find(|found| found.address == address).unwrap();
                assert_eq!((found.netdev.as_deref(), found.prefix_length), (Some(netdev), Some(length)));
            }
        }
    }
}

#[test]
fn files_and_verbs_agree_on_healthy_hosts() {
    for model in each().into_iter().filter(|model| model.name != "container-gaps") {
        let simulation = model.simulation();
        let names: Vec<&str> = simulation.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, model.nics.iter().map(|nic| nic.name.as_str()).collect::<Vec<_>>());
        let files = facts::host::collect(&model.root(), None);
        assert!(files.rdma.devices.iter().flatten().all(|device| device.uverbs.as_ref().unwrap().node.is_right_device));
        let devices = devices::collect(&files.rdma, None);
        assert!(devices.devices.iter().all(|device| device.problem.is_none()), "{}", model.name);
        // The devices' table says of a host without any that there are none.
        assert_eq!(devices.problems.is_empty(), !model.nics.is_empty(), "{}", model.name);
        for (device, simulated) in files.rdma.devices.iter().flatten().zip(&simulation.devices) {
            let told: Vec<String> = device.ports[0].gids.iter().map(|entry| entry.gid.clone()).collect();
            let simulated = simulated.ports[0].gids.iter().flatten().map(|entry| entry.gid.to_string());
            assert_eq!(told, simulated.collect::<Vec<_>>());
        }
    }
    assert_eq!(named("h100x8-cx7").simulation().devices[0].ports[0].active_mtu_bytes, Some(4096));
    assert_eq!(named("erdma-a10x8").simulation().devices[0].ports[0].active_mtu_bytes, Some(1024));
}

#[test]
fn each_gpu_of_the_healthy_host_has_its_own_nic() {
    let facts = facts::host::collect(&named("h100x8-cx7").root(), None);
    let best: Vec<_> = facts.topology.gpus.iter().map(|gpu| gpu.nics[0].clone()).collect();
    let expected: Vec<_> = (0..8).map(|index| format!("mlx5_{index}")).collect();
    assert_eq!(best, expected);
    let pair = facts.topology.pair("0000:1b:00.0", "mlx5_0").unwrap();
    assert_eq!((pair.affinity, pair.redirecting.as_slice(), pair.redirection_known), (Affinity::Pix, &[][..], true));
    assert_eq!(facts.topology.pair("0000:1b:00.0", "mlx5_4").unwrap().affinity, Affinity::Sys);
    // A link down to the switch and one to the device; inside of the switch there is none.
    let path = facts.pcie.path("0000:1a:00.0").unwrap();
    assert_eq!((path.bridges.len(), path.segments.len()), (3, 2));
    assert!(path.segments.iter().all(|segment| !segment.is_narrowed && !segment.is_slowed));
    let config = facts.pcie.function("0000:1a:00.0").unwrap().config.clone().unwrap();
    assert_eq!((config.coverage, config.express.unwrap().read_request_bytes), (host::pcie::Coverage::Extended, Some(512)));
    assert_eq!(facts.system.iommu.mode, host::system::iommu::IommuMode::Passthrough);
    assert_eq!(facts.system.memory.nodes.as_ref().unwrap()[1].cpus.as_deref(), Some("56-111"));
}

#[test]
fn the_incident_is_as_it_was() {
    let model = named("erdma-a10x8");
    let modules = host::modules::read(&model.root());
    let erdma = modules.modules.iter().find(|module| module.name == "erdma").unwrap();
    assert_eq!(erdma.parameters[0].value.as_deref(), Some("N"));
    assert!(matches!(modules.peer_memory_api, SymbolPresence::Present { module: Some(_) }));
    let rdma = host::rdma::read(&model.root());
    let device = &rdma.devices.unwrap()[0];
    assert_eq!((device.node_type.as_ref().unwrap().code, device.ports[0].gids[0].netdev.as_deref()), (4, None));
    assert!(!model.gives_dma_buf(&model.gpus[0]) && named("h100x8-cx7").gives_dma_buf(&named("h100x8-cx7").gpus[0]));
}

#[test]
fn a_container_lacks_what_it_was_not_given() {
    let model = named("container-gaps");
    let simulation = model.simulation();
    assert_eq!((simulation.devices.len(), simulation.memlock_bytes), (7, Some(8_388_608)));
    let facts = facts::host::collect(&model.root(), None);
    assert_eq!(facts.limits.container.runtime.as_deref(), Some("docker"));
    assert_eq!(facts.limits.container.dev_shm_bytes, Some(64 << 20));
    assert_eq!((facts.rdma.connection_manager.found, host::modules::read(&model.root()).directory), (None, None));
    let devices = devices::collect(&facts.rdma, Some(&Ok(Inventory::default())));
    let problem = devices.devices.iter().find(|device| device.name == "mlx5_3").unwrap().problem.as_ref().unwrap();
    assert!(problem.summary.contains("/dev/infiniband/uverbs3"), "{problem:?}");
}

#[test]
fn one_line_makes_a_wound() {
    let listed = |model: &HostModel| model.simulation().devices.len();
    let base = "h100x8-cx7";
    // What is missing is missing for files and for verbs.
    let without_core = changed(base, "modules: {on_disk: [mlx5_ib]}");
    assert_eq!((state(&without_core, "mlx5_ib"), listed(&without_core)), (ModuleState::OnDisk, 0));
    assert_eq!(host::rdma::read(&without_core.root()).devices, Some(Vec::new()));
    let absent = changed(base, "without: [ib_core, mlx5_7]");
    assert_eq!((state(&absent, "ib_core"), absent.nics.len()), (ModuleState::Absent, 7));
    assert_eq!(host::rdma::read(&absent.root()).devices, None);
    let no_driver = host::net::read(&changed(base, "without: [mlx5_core]").root());
    assert!(no_driver.interface("eth0").is_none() && no_driver.interface("eno1").is_some());
    let no_uverbs = changed(base, "without: [ib_uverbs]");
    assert_eq!((listed(&no_uverbs), host::rdma::read(&no_uverbs.root()).uverbs_abi_version), (0, None));
    assert_eq!(listed(&changed(base, "remove: [/sys/class/infiniband/mlx5_2]")), 7);
    assert_eq!(listed(&changed(base, "verbs: {providers: []}")), 0);
    assert_eq!(listed(&changed(base, "verbs: {provider_generation: 33}")), 0);
    assert_eq!(listed(&changed(base, "nics: [{name: mlx5_0, abi: 99}]")), 7);
    let built_in = changed(base, "modules: {built_in: [ib_core, ib_uverbs]}");
    assert_eq!(
        (state(&built_in, "ib_core"), state(&built_in, "ib_uverbs"), listed(&built_in)),
        (ModuleState::BuiltIn, ModuleState::BuiltIn, 8)
    );
    // A limit counts without the capability.
    assert_eq!(changed(base, "limits: {memlock_bytes: 65536}").simulation().memlock_bytes, None);
    assert_eq!(changed(base, "limits: {memlock_bytes: 65536, own_user_namespace: true}").simulation().memlock_bytes, Some(65536));
    let refused = changed(base, "limits: {uid: 1000}\nnics: [{name: mlx5_1, node_mode: 0o600}]").simulation();
    assert_eq!((refused.devices.len(), refused.faults[0].device.as_deref()), (8, Some("mlx5_1")));
}

#[test]
fn one_line_changes_what_facts_say() {
    let facts = |lines: &str| facts::host::collect(&changed("h100x8-cx7", lines).root(), None);
    let acs = facts("bridges: [{pci: \"0000:19:00.0\", redirects: true}]");
    assert_eq!(acs.topology.pair("0000:1b:00.0", "mlx5_0").unwrap().redirecting, ["0000:19:00.0"]);
    let slow = facts("nics: [{name: mlx5_0, link: {lanes_now: 8, generation_now: 4}}]");
    let path = slow.pcie.path("0000:1a:00.0").unwrap();
    assert!(path.narrowest().is_some_and(|segment| segment.is_narrowed && segment.is_slowed && segment.lower == "0000:1a:00.0"));
    let down = facts("nics: [{name: \"*\", mtu: 1500}, {name: mlx5_2, state: down, admin_down: true}]");
    let interface = down.net.interface("eth2").unwrap();
    assert_eq!((interface.mtu_bytes, interface.is_up, interface.has_carrier), (Some(1500), Some(false), None));
    assert_eq!(down.rdma.devices.as_ref().unwrap()[2].ports[0].state.as_ref().unwrap().name, "DOWN");
    let counted = facts("nics: [{name: mlx5_3, counters: {link_downed: 7, out_of_sequence: 9}}]");
    assert_eq!(
        (counted.counters.value("mlx5_3", 1, "link_downed"), counted.counters.value("mlx5_3", 1, "out_of_sequence")),
        (Some(7), Some(9))
    );
    let logged = facts("kernel_log: [\"[   12.000001] NVRM: Xid (PCI:0000:1b:00): 79, pid=1, GPU has fallen off the bus.\"]");
    assert_eq!((logged.log.events.len(), logged.log.events[0].first_us), (1, Some(12_000_001)));
    // A path may lead over links, and a file may be refused.
    let hatch = facts(
        "files: {/sys/class/net/eth1/mtu: \"9000\", \"/sys/bus/pci/devices/0000:1b:00.0/numa_node\": \"-1\"}\ndeny: [/proc/self/status]",
    );
    assert_eq!(hatch.net.interface("eth1").unwrap().mtu_bytes, Some(9000));
    assert_eq!(hatch.pcie.function("0000:1b:00.0").unwrap().function.numa_node, None);
    assert_eq!(hatch.problems().map(|(part, _)| part).collect::<Vec<_>>(), ["limits"]);
    let kernel = facts("iommu: translated\nkernel_config: {CONFIG_PCI_P2PDMA: n}\nmodprobe: {x.conf: \"blacklist mlx5_ib\"}");
    assert_eq!(kernel.system.iommu.mode, host::system::iommu::IommuMode::Translated);
    assert_eq!(kernel.system.config.as_ref().unwrap().value("CONFIG_PCI_P2PDMA"), "n");
    let infiniband = facts("nics: [{name: \"*\", link_layer: infiniband, lid: 5, pkeys: [0x7fff]}]");
    let port = &infiniband.rdma.devices.as_ref().unwrap()[0].ports[0];
    assert_eq!((port.link_layer.clone(), port.lid, port.pkeys[0].pkey, port.gids.len()), (Some("InfiniBand".into()), Some(5), 0x7fff, 1));
}

#[test]
fn modules_on_disk_can_be_others() {
    let model = changed(
        "erdma-a10x8",
        "modules: {loaded: [{name: erdma, disk_version: 1.5.0, built_for: 5.10.0, parameters: {compat_mode: \"Y\"}}]}\nnvidia: {parameters: {RegistryDwords: \"a=1;\"}}",
    );
    let modules = host::modules::read(&model.root());
    let erdma = modules.modules.iter().find(|module| module.name == "erdma").unwrap();
    assert_eq!((erdma.version_differs, erdma.parameters[0].value.as_deref()), (Some(true), Some("Y")));
    assert!(erdma.notes[0].contains("built for kernel 5.10.0"));
    assert_eq!(modules.nvidia.unwrap().parameters[0].value, "a=1;");
}

#[test]
fn hosts_extend_files_beside_them() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("schema: rdmadoctor/host/1\nname: {name}\ntitle: {name}\n{lines}\n")).unwrap();
        path
    };
    write("one.yaml", "extends: bare\nsources: [one]\nkernel_log: [one]");
    let two = HostModel::load(&write("two.yaml", "extends: one.yaml\nkernel_log: [two]")).unwrap();
    assert_eq!((two.name.as_str(), two.kernel_log.as_slice(), two.extends), ("two.yaml", &["one".to_owned(), "two".to_owned()][..], None));
    assert_eq!(two.sources, ["invented", "one"]);
    let circle = HostModel::load(&write("circle.yaml", "extends: circle.yaml")).unwrap_err().to_string();
    assert!(circle.contains("circle"), "{circle}");
    assert!(HostModel::load(Path::new("/nowhere.yaml")).unwrap_err().to_string().contains("/nowhere.yaml"));
    let damaged = write("damaged.yaml", "colour: red");
    let error = HostModel::load(&write("over.yaml", "extends: damaged.yaml")).unwrap_err().to_string();
    assert!(error.contains(&format!("{}:4:1: unknown key `colour`", damaged.display())), "{error}");
}

#[test]
fn damage_is_placed() {
    let (path, text) = HOSTS.iter().find(|(path, _)| path.ends_with("bare.yaml")).unwrap();
    let nic = |fields: &str| format!("nics: [{{name: a, {fields}}}]\nmodules:");
    for (from, to, expected) in [
        ("kernel:", "kernal:".to_owned(), "bare.yaml:5:1: unknown key `kernal`; did you mean `kernel`?"),
        ("host/1", "host/7".to_owned(), "bare.yaml:1:9: schema is `rdmadoctor/host/7`, expected `rdmadoctor/host/1`"),
        ("sources: [\"invented\"]", "sources: []".to_owned(), "bare.yaml:4:1: it names no source"),
        ("modules:", nic("model: b, pci: \"0000:01:00.0\""), "unknown device model `b`"),
        ("modules:", nic("model: siw, pci: \"01:00.0\""), "8:36: `01:00.0` is no PCI address such as 0000:3b:00.0"),
        ("modules:", nic("model: siw, pci: \"0000:01:00.0\", parent: \"0000:00:01.0\""), "no bridge listed before"),
        ("modules:", nic("model: siw, pci: \"0000:01:00.0\", addresses: [10.0.0.1/33]"), "no address with a prefix length"),
        ("modules:", nic("model: siw, pci: \"0000:01:00.0\", mac: \"0:1\""), "no hardware address"),
        ("modules:", nic("model: siw, pci: \"0000:01:00.0\", numa_node: 4000000000"), "NUMA node"),
        ("modules:", "gpus: [{pci: \"0000:01:00.0\", id: \"10de:1\"}]\nmodules:".to_owned(), "no vendor and device"),
        ("modules:", "gpus: [{pci: \"0000:01:00.0\", id: \"10de:2236\", bar1_gib: 3}]\nmodules:".to_owned(), "a power of two"),
        ("modules:", "remove: [../x]\nmodules:".to_owned(), "no path from the root"),
        ("modules:", "without: [nothing]\nmodules:".to_owned(), "no such device or module"),
        ("modules:", "extends: nothing\nmodules:".to_owned(), "none of aws-efa"),
        ("modules:", "limits: null\nmodules:".to_owned(), "bare.yaml:8:9: limits: invalid type: unit value"),
    ] {
        let error = HostModel::parse(Path::new(path), &text.replacen(from, &to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("bare.yaml"), "{error}");
    }
    assert!(HostModel::find("nowhere").unwrap_err().to_string().contains("erdma-a10x8"));
    assert!(with("bare", "nics: [{name: mlx5_9, mtu: 9}]").unwrap_err().contains("mlx5_9"));
    assert!(
        with("h100x8-cx7", "nics: [{name: mlx5_9, mtu: nine}]")
            .unwrap_err()
            .contains("sick.yaml:5:28: nics[0].mtu: `nine` is not a whole number")
    );
}

#[test]
fn the_files_of_the_bare_host_are_these() {
    let nodes = host_tree::build(&named("bare"));
    let lines: Vec<String> = nodes
        .iter()
        .map(|(path, node)| match node {
            host::Node::Link(target) => format!("{} -> {}", path.display(), target.display()),
            host::Node::Dir => format!("{}/", path.display()),
            _ => path.display().to_string(),
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = HostModel::parse(Path::new("any"), &text);
    }

    /// A host that is damaged somewhere is refused or read, and what is read has a tree and a simulation.
    #[test]
    fn damaged_hosts_do_not_panic(which in any::<prop::sample::Index>(), changes in proptest::collection::vec((any::<prop::sample::Index>(), "[0-9a-z*:/., \\[\\]{}\"-]"), 1..4)) {
        let mut text: Vec<char> = HOSTS[which.index(HOSTS.len())].1.chars().collect();
        for (at, with) in changes {
            let at = at.index(text.len());
            text[at] = with.chars().next().unwrap_or(' ');
        }
        if let Ok(host) = HostModel::parse(Path::new("any"), &text.into_iter().collect::<String>()) {
            let _ = host.simulation();
            let _ = facts::host::collect(&host.root(), None);
        }
    }
}
