//! Tests of the module reader on modelled hosts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::disk::tests::module as ko;
use super::*;
use crate::host::{Node, ReadFailure};

type Tree = BTreeMap<PathBuf, Node>;

const DIRECTORY: &str = "/lib/modules/6.1.0-13-amd64";
const KALLSYMS: &str = "0000000000000000 T _text\n0000000000000000 T schedule\n";

fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, text)| (PathBuf::from(path), Node::text(text))).collect()
}

/// A host with modules on disk, of which some are loaded.
fn distribution() -> Tree {
    let mut nodes = tree(&[
        ("/proc/sys/kernel/osrelease", "6.1.0-13-amd64\n"),
        ("/proc/kallsyms", &format!("{KALLSYMS}0 t rxe_create_qp\t[rdma_rxe]\n0 T ib_register_device\t[ib_core]\n")),
        ("/proc/modules", "ib_core 434176 2 rdma_rxe,ib_uverbs, Live 0x0\nib_uverbs 167936 1 - Live 0x0\n"),
        ("/sys/module/ib_core/initstate", "live\n"),
        ("/sys/module/ib_core/srcversion", "ABCDEF\n"),
        ("/sys/module/ib_core/parameters/netns_mode", "N\n"),
        ("/sys/module/erdma/initstate", "live\n"),
        ("/sys/module/erdma/version", "0.2.34\n"),
        ("/sys/module/erdma/parameters/compat_mode", "N\n"),
        ("/etc/modprobe.d/erdma.conf", "options erdma compat_mode=Y\n"),
        ("/etc/modprobe.d/block.conf", "blacklist erdma\ninstall rdma-ucm /bin/false\n"),
    ]);
    nodes.insert(format!("{DIRECTORY}/modules.builtin").into(), Node::text("kernel/drivers/infiniband/core/iw_cm.ko\n"));
    nodes.insert(format!("{DIRECTORY}/modules.builtin.modinfo").into(), Node::text("iw_cm.license=GPL\0iw_cm.version=0.9\0"));
    let mut index = String::new();
    for (path, info) in [
        ("kernel/drivers/infiniband/core/ib_core.ko", "srcversion=ABCDEF\0vermagic=6.1.0-13-amd64 SMP\0"),
        ("kernel/drivers/infiniband/core/rdma_ucm.ko", "srcversion=123\0vermagic=6.1.0-13-amd64 SMP\0"),
        ("updates/dkms/erdma.ko", "version=0.2.40\0vermagic=6.1.0-12-amd64 SMP\0"),
        ("kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko", "srcversion=99\0"),
    ] {
        nodes.insert(format!("{DIRECTORY}/{path}").into(), Node::File(ko(info.as_bytes())));
        index += &format!("{path}: kernel/lib/other.ko\n");
    }
    nodes.insert(format!("{DIRECTORY}/modules.dep").into(), Node::text(&index));
    nodes
}

fn with(nodes: Tree, asked: &[&str]) -> ModulesFacts {
    read_with(&Root::tree(nodes), &asked.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), Look::Whole)
}

fn module<'a>(facts: &'a ModulesFacts, name: &str) -> &'a Module {
    facts.modules.iter().find(|module| module.name == name).unwrap_or_else(|| panic!("{name} in {facts:?}"))
}

#[test]
fn each_state_is_told_with_its_source() {
    let facts = with(distribution(), &["erdma", "rxe", "siw", "mlx5-ib"]);
    assert_eq!(facts.problems, []);
    let state = |name| (module(&facts, name).state, module(&facts, name).source.clone());
    assert_eq!(state("ib_core"), (ModuleState::Loaded, Some("/sys/module/ib_core/initstate".to_owned())));
    assert_eq!(state("ib_uverbs"), (ModuleState::Loaded, Some("/proc/modules".to_owned())));
    let mut unlisted = distribution();
    unlisted.remove(std::path::Path::new("/proc/modules"));
    let unlisted = with(unlisted, &["rxe"]);
    let rxe = module(&unlisted, "rdma_rxe");
    assert_eq!((rxe.state, rxe.source.as_deref()), (ModuleState::Loaded, Some("/proc/kallsyms: [rdma_rxe]")));
    assert_eq!(state("iw_cm"), (ModuleState::BuiltIn, Some(format!("{DIRECTORY}/modules.builtin"))));
    assert_eq!(state("rdma_ucm"), (ModuleState::OnDisk, Some(format!("{DIRECTORY}/modules.dep"))));
    for absent in ["rdma_cm", "siw", "mlx5_ib", "nvidia", "gdrdrv"] {
        assert_eq!(state(absent), (ModuleState::Absent, None), "{absent}");
    }
    assert_eq!(module(&facts, "iw_cm").loaded_version.as_ref().unwrap().version.as_deref(), Some("0.9"));
    assert_eq!(facts.kernel_release.as_deref(), Some("6.1.0-13-amd64"));
    assert_eq!(facts.directory.as_deref(), Some(DIRECTORY));
    assert_eq!(facts.peer_memory_api, SymbolPresence::Absent);
}

#[test]
fn a_module_can_be_loaded_blocked_and_stale_at_once() {
    let facts = with(distribution(), &["erdma"]);
    let erdma = module(&facts, "erdma");
    assert_eq!((erdma.state, erdma.version_differs), (ModuleState::Loaded, Some(true)));
    assert_eq!(erdma.disk_path.as_deref(), Some("/lib/modules/6.1.0-13-amd64/updates/dkms/erdma.ko"));
    assert_eq!(erdma.disk_version.as_ref().unwrap().version.as_deref(), Some("0.2.40"));
    assert_eq!((erdma.blocked_by[0].kind, erdma.blocked_by[0].line), (BlockKind::Blacklist, 1));
    assert!(erdma.notes[0].contains("built for kernel 6.1.0-12-amd64"), "{:?}", erdma.notes);
    let compat_mode = &erdma.parameters[0];
    assert_eq!((compat_mode.name.as_str(), compat_mode.value.as_deref()), ("compat_mode", Some("N")));
    assert_eq!(compat_mode.configured[0].value.as_deref(), Some("Y"));
    let core = module(&facts, "ib_core");
    assert_eq!((core.version_differs, core.parameters[0].value.as_deref()), (Some(false), Some("N")));
    let block = &module(&facts, "rdma_ucm").blocked_by[0];
    assert_eq!((block.kind, block.file.as_str(), block.line), (BlockKind::Install, "/etc/modprobe.d/block.conf", 2));
}

#[test]
fn a_brief_look_reads_no_file_with_which_nothing_is_compared() {
    let mut nodes = distribution();
    // Loaded, and the kernel tells no version of it.
    nodes.insert("/sys/module/rdma_rxe/initstate".into(), Node::text("live\n"));
    let told = |look| {
        let facts = read_with(&Root::tree(nodes.clone()), &["rxe".to_owned(), "erdma".to_owned()], look);
        ["rdma_rxe", "erdma", "rdma_ucm"]
            .map(|name| (module(&facts, name).disk_version.is_some(), module(&facts, name).disk_path.is_some()))
    };
    assert_eq!(told(Look::Whole), [(true, true), (true, true), (true, true)]);
    assert_eq!(told(Look::Brief), [(false, true), (true, true), (true, true)]);
}

/// A GPU host as it was seen, with all of RDMA built in: no /lib/modules, nothing of RDMA in /proc/modules, ib_uverbs only in kallsyms.
fn gpu_host() -> Tree {
    let mut nodes = tree(&[
        ("/proc/sys/kernel/osrelease", "6.18.44\n"),
        (
            "/proc/kallsyms",
            "ffffffff81000000 T _text\nffffffff812483ae t ib_register_device.cold\nffffffff81f30f30 T ib_register_device\nffffffff833180f0 t ib_uverbs_open\n\
             ffffffff83318100 t mlx5_ib_create_qp\nffffffff83318200 t ucma_open\nffffffff83318300 T rdma_resolve_addr\nffffffff81f60ce0 T iw_cm_connect\nffffffffc04124e0 t nvidia_p2p_get_pages\t[nvidia]\n",
        ),
        ("/sys/module/ib_core/parameters/netns_mode", "Y\n"),
        ("/proc/sys/kernel/modules_disabled", "1\n"),
        ("/sys/module/mlx5_core/parameters/prof_sel", "2\n"),
        ("/sys/module/nvidia/initstate", "live\n"),
        ("/sys/module/nvidia/version", "580.159.04\n"),
        ("/sys/module/nvidia_uvm/initstate", "live\n"),
        ("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n"),
    ]);
    nodes.insert("/sys/module/mlx5_ib/drivers".into(), Node::Dir);
    nodes.insert("/sys/class/infiniband".into(), Node::Dir);
    nodes
}

#[test]
fn a_host_with_everything_built_in_is_understood() {
    for modules in
        [None, Some(""), Some("nvidia_uvm 1830912 - - Live 0xffffffffc080c000 (O)\nnvidia 14299136 - - Live 0xffffffffc0400000 (O)\n")]
    {
        let mut nodes = gpu_host();
        nodes.extend(modules.map(|text| ("/proc/modules".into(), Node::text(text))));
        let facts = with(nodes, &["mlx5"]);
        assert_eq!(facts.problems, []);
        for (name, source) in [
            ("ib_core", "/sys/module/ib_core"),
            ("ib_uverbs", "/proc/kallsyms: ib_uverbs_open"),
            ("iw_cm", "/proc/kallsyms: iw_cm_connect"),
            ("rdma_cm", "/proc/kallsyms: rdma_resolve_addr"),
            ("rdma_ucm", "/proc/kallsyms: ucma_open"),
            ("mlx5_core", "/sys/module/mlx5_core"),
            ("mlx5_ib", "/sys/module/mlx5_ib"),
        ] {
            assert_eq!(
                (module(&facts, name).state, module(&facts, name).source.as_deref()),
                (ModuleState::BuiltIn, Some(source)),
                "{name}"
            );
        }
        for name in ["nvidia", "nvidia_uvm"] {
            assert_eq!(module(&facts, name).state, ModuleState::Loaded, "{name}");
        }
        for name in ["nvidia_peermem", "nv_peer_mem", "gdrdrv"] {
            assert_eq!(module(&facts, name).state, ModuleState::NotLoaded, "{name}");
        }
        assert!(module(&facts, "nvidia_peermem").notes[0].contains("/lib/modules/6.18.44"));
        assert_eq!(facts.peer_memory_api, SymbolPresence::Absent);
        assert_eq!(facts.loading_disabled_by.as_deref(), Some("/proc/sys/kernel/modules_disabled"));
        assert_eq!(facts.nvidia.as_ref().unwrap().flavour, Some(NvidiaFlavour::Open));
        assert_eq!(module(&facts, "ib_core").parameters[0].value.as_deref(), Some("Y"));
    }
}

#[test]
fn drivers_follow_the_devices_that_are_here() {
    let mut nodes = gpu_host();
    let names = |nodes: &Tree| with(nodes.clone(), &[]).modules.into_iter().map(|module| module.name).collect::<Vec<_>>();
    assert!(!names(&nodes).contains(&"mlx5_core".to_owned()));
    nodes.extend(tree(&[
        ("/sys/bus/pci/devices/0000:03:00.0/vendor", "0x15b3"),
        ("/sys/bus/pci/devices/0000:03:00.0/device", "0x1021"),
        ("/sys/bus/pci/devices/0000:03:00.0/class", "0x020700"),
        ("/sys/class/infiniband/siw0/node_type", "4: RNIC"),
    ]));
    assert_eq!(names(&nodes)[known::ALWAYS.len()..], ["mlx5_core", "mlx5_ib", "siw"]);
}

#[test]
fn a_host_that_tells_nothing_is_unknown_and_not_absent() {
    let facts = with(Tree::new(), &["something"]);
    assert_eq!(module(&facts, "ib_core").state, ModuleState::Unknown);
    assert_eq!(module(&facts, "something").state, ModuleState::Unknown);
    assert_eq!(module(&facts, "nvidia").state, ModuleState::NotLoaded);
    assert!(matches!(&facts.peer_memory_api, SymbolPresence::Unreadable { why } if why == "/proc/kallsyms is absent"));
    assert_eq!((facts.kernel_release, facts.nvidia, facts.problems), (None, None, Vec::new()));
}

#[test]
fn a_kernel_without_modules_is_told() {
    let release = ("/proc/sys/kernel/osrelease", "6.1.0\n");
    let facts = with(tree(&[release]), &[]);
    assert!(facts.loading_disabled_by.unwrap().ends_with("built without loadable modules"));
    for here in ["/proc/modules", "/proc/sys/kernel/modules_disabled", "/sys/module/nvidia/initstate"] {
        assert_eq!(with(tree(&[release, (here, "")]), &[]).loading_disabled_by, None, "{here}");
    }
}

#[test]
fn peer_memory_is_seen_with_its_owner() {
    let symbols = format!("{KALLSYMS}ffffffffc0001000 T ib_register_peer_memory_client\t[ib_core]\n");
    let facts = with(tree(&[("/proc/kallsyms", &symbols)]), &[]);
    assert_eq!(facts.peer_memory_api, SymbolPresence::Present { module: Some("ib_core".to_owned()) });
    assert_eq!(module(&facts, "ib_core").state, ModuleState::Loaded);
    let facts = with(tree(&[("/proc/kallsyms", "")]), &[]);
    assert!(matches!(facts.peer_memory_api, SymbolPresence::Unreadable { .. }));
}

#[test]
fn one_unreadable_file_does_not_hide_the_rest() {
    let mut nodes = distribution();
    nodes.insert("/proc/kallsyms".into(), Node::Denied);
    nodes.insert("/sys/module/ib_core/parameters/netns_mode".into(), Node::Denied);
    nodes.insert(format!("{DIRECTORY}/updates/dkms/erdma.ko").into(), Node::Denied);
    nodes.insert("/sys/module/erdma/initstate".into(), Node::text("coming\n"));
    let facts = with(nodes, &["erdma"]);
    let paths: Vec<_> = facts.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["/sys/module/ib_core/parameters/netns_mode", "/proc/kallsyms"]);
    assert!(facts.problems.iter().all(|problem| problem.failure == ReadFailure::PermissionDenied));
    let erdma = module(&facts, "erdma");
    assert_eq!((erdma.state, &erdma.disk_version, erdma.version_differs), (ModuleState::Loaded, &None, None));
    assert!(erdma.notes[0].contains("permission denied") && erdma.notes[1].contains("`coming`"), "{:?}", erdma.notes);
    assert_eq!(module(&facts, "iw_cm").state, ModuleState::BuiltIn);
}

#[test]
fn a_mounted_host_without_proc_is_read_by_its_only_kernel() {
    let mut nodes = distribution();
    nodes.retain(|path, _| !path.starts_with("/proc"));
    let facts = with(nodes, &[]);
    assert_eq!(facts.kernel_release.as_deref(), Some("6.1.0-13-amd64"));
    assert!(module(&facts, "rdma_ucm").notes.iter().any(|note| note.contains("the only one in /lib/modules")));
    let release = with(tree(&[("/proc/version", "Linux version 5.4.0-1 (builder@host) #1 SMP\n")]), &[]).kernel_release;
    assert_eq!(release.as_deref(), Some("5.4.0-1"));
}

#[test]
fn facts_survive_json_and_this_host_is_read() {
    for facts in [with(distribution(), &["erdma"]), read(&Root::default())] {
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<ModulesFacts>(&json).unwrap(), facts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever stands in the files, they are read to the end.
    #[test]
    fn garbage_does_not_panic(garbage in proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..60)), 1..8), words in "[a-z_ =.\\\\\\n\\[\\]/:,-]{0,80}") {
        let mut nodes = distribution();
        nodes.extend(tree(&[("/proc/cmdline", &words), ("/etc/modprobe.d/words.conf", &words), ("/proc/driver/nvidia/version", &words)]));
        let paths: Vec<PathBuf> = nodes.keys().cloned().collect();
        for (index, bytes) in garbage {
            nodes.insert(index.get(&paths).clone(), Node::File(bytes));
        }
        let facts = with(nodes, &["erdma", "mlx5"]);
        prop_assert!(serde_json::to_string(&facts).is_ok());
    }
}
