//! What makes a healthy host sick, one check after another.

use Status::{Fail, Warn};

use super::*;

/// A check, the subject on which it must find something, how grave that is, and what makes a healthy host sick so.
pub(super) type Wound = (&'static str, &'static str, Status, fn(&mut Facts));

#[rustfmt::skip]
pub(super) const WOUNDS: &[Wound] = &[
    ("RD-0101", "host", Fail, |f| f.host.verbs_files.libraries.clear()),
    ("RD-0102", "mlx5_0", Warn, |f| { iwarp(f); f.host.verbs_files.connection_libraries.clear(); }),
    // An engine that connects by rdma_cm alone cannot do without.
    ("RD-0102", "mlx5_0", Fail, |f| { iwarp(f); f.host.verbs_files.connection_libraries.clear(); engine(f, false); }),
    ("RD-0103", "mlx5_0", Fail, |f| f.host.verbs_files.providers.clear()),
    ("RD-0104", "mlx5_0", Warn, |f| f.host.verbs_files.driver_files = Some(Vec::new())),
    ("RD-0104", "mlx5_0", Fail, |f| { asked_verbs(f); f.host.verbs_files.driver_files = Some(Vec::new()); }),
    ("RD-0105", "mlx5_0", Warn, |f| {
        f.host.verbs_files.providers.iter_mut().for_each(|provider| provider.generation = 25);
        f.host.verbs_files.providers.push(Provider { path: "/usr/lib/librxe-rdmav34.so".to_owned(), family: "rxe".to_owned(), generation: 34 });
    }),
    ("RD-0105", "mlx5_0", Fail, |f| asked_verbs(f).printed.push(
        "libibverbs: Warning: couldn't load driver 'libmlx5-rdmav25.so': cannot open shared object file".to_owned())),
    ("RD-0106", "mlx5_0", Fail, |f| asked_verbs(f).printed.push(
        "libibverbs: Warning: Driver mlx5 does not support the kernel ABI of 6 (supports 1 to 1) for device /sys/class/infiniband_verbs/uverbs0".to_owned())),
    ("RD-0107", "host", Warn, |f| f.host.verbs_files.libraries.push(Library {
        path: "/opt/lib/libibverbs.so.1".to_owned(), file: "/opt/lib/libibverbs.so.1.5.22.4".to_owned(), version: Some("1.5.22.4".to_owned()), rdma_core: Some(22) })),
    ("RD-0108", "host", Fail, |f| f.verbs = Some(VerbsFacts { inventory: None, failure: Some("crashed with SIGSEGV".to_owned()) })),
    ("RD-0109", "host", Fail, |f| f.host.rdma.uverbs_abi_version = Some(7)),
    ("RD-0201", "host", Fail, |f| { f.host.rdma.devices = None; state(f, "ib_core", ModuleState::Absent); }),
    ("RD-0202", "host", Fail, |f| {
        state(f, "ib_uverbs", ModuleState::OnDisk);
        f.host.rdma.uverbs_abi_version = None;
        f.host.rdma.devices.iter_mut().flatten().for_each(|device| device.uverbs = None);
    }),
    ("RD-0203", "host", Fail, |f| { iwarp(f); f.host.rdma.connection_manager.expected = None; state(f, "rdma_ucm", ModuleState::OnDisk); }),
    ("RD-0204", "mlx5_ib", Fail, |f| { f.host.rdma.devices = Some(Vec::new()); state(f, "mlx5_ib", ModuleState::OnDisk); }),
    ("RD-0205", "mlx5_ib", Fail, |f| {
        state(f, "mlx5_ib", ModuleState::OnDisk);
        module(f, "mlx5_ib").blocked_by.push(Block { kind: BlockKind::Install, file: "/etc/modprobe.d/x.conf".to_owned(), line: 3, text: "install mlx5_ib /bin/false".to_owned() });
    }),
    ("RD-0205", "mlx5_ib", Warn, |f| module(f, "mlx5_ib").blocked_by.push(
        Block { kind: BlockKind::Install, file: "/etc/modprobe.d/x.conf".to_owned(), line: 3, text: "install mlx5_ib /bin/false".to_owned() })),
    ("RD-0205", "mlx5_ib", Fail, |f| {
        state(f, "mlx5_ib", ModuleState::OnDisk);
        module(f, "mlx5_ib").blocked_by.push(Block { kind: BlockKind::CommandLine, file: "/proc/cmdline".to_owned(), line: 1, text: "module_blacklist=mlx5_ib".to_owned() });
    }),
    ("RD-0206", "mlx5_ib", Warn, |f| module(f, "mlx5_ib").version_differs = Some(true)),
    ("RD-0207", "mlx5_ib", Warn, |f| { state(f, "mlx5_ib", ModuleState::OnDisk); module(f, "mlx5_ib").notes.push("x.ko was built for kernel 5.4, not 6.1".to_owned()); }),
    ("RD-0208", "nvidia_peermem", Warn, |f| f.modules.peer_memory_api = SymbolPresence::Absent),
    ("RD-0208", "nvidia_peermem", Fail, |f| {
        f.modules.peer_memory_api = SymbolPresence::Absent;
        f.modules.nvidia.as_mut().unwrap().flavour = Some(NvidiaFlavour::Proprietary);
    }),
    ("RD-0209", "mlx5_ib", Fail, |f| {
        state(f, "mlx5_ib", ModuleState::OnDisk);
        log(f, Event::UnknownSymbol { module: "mlx5_ib".to_owned(), symbol: "ib_umem_get_peer".to_owned(), errno: Some(-2) }, 1);
    }),
    ("RD-0210", "mlx5_0", Warn, |f| {
        device(f).family = Some(FamilyGuess { family: "erdma".to_owned(), basis: FamilyBasis::Driver });
        let mut erdma = module(f, "mlx5_ib").clone();
        erdma.name = "erdma".to_owned();
        erdma.parameters.push(Parameter { name: "compat_mode".to_owned(), meaning: String::new(), value: Some("N".to_owned()), configured: Vec::new() });
        f.modules.modules.push(erdma);
    }),
    ("RD-0210", "mlx5_0", Fail, |f| {
        device(f).family = Some(FamilyGuess { family: "erdma".to_owned(), basis: FamilyBasis::Driver });
        let erdma = Module { name: "erdma".to_owned(), ..module(f, "mlx5_ib").clone() };
        f.modules.modules.push(erdma);
        engine(f, true);
    }),
    ("RD-0211", "host", Fail, |f| { state(f, "mlx5_ib", ModuleState::OnDisk); f.modules.loading_disabled_by = Some("kernel.modules_disabled=1".to_owned()); }),
    ("RD-0212", "ib_core/netns_mode", Warn, |f| {
        let configured = ConfiguredValue { value: Some("0".to_owned()), file: "/etc/modprobe.d/x.conf".to_owned(), line: 1 };
        module(f, "ib_core").parameters.iter_mut().for_each(|parameter| parameter.configured.push(configured.clone()));
    }),
    ("RD-0213", "host", Warn, |f| f.host.verbs_files.devices_shared_between_namespaces = Some(false)),
    // In a container with nodes and no device, none was moved to its network namespace.
    ("RD-0213", "host", Fail, |f| { container(f); f.host.rdma.devices = None; f.host.verbs_files.devices_shared_between_namespaces = Some(false); }),
    ("RD-0214", "gdrdrv", Fail, |f| f.wanted.modules.push("gdrdrv".to_owned())),
    ("RD-0215", "mlx5_ib", Fail, |f| module(f, "mlx5_ib").notes.push("the kernel says `going`: it is still being loaded or removed, or hangs there".to_owned())),
    ("RD-0301", "host", Fail, |f| f.host.rdma.devices = Some(Vec::new())),
    ("RD-0302", "0000:1a:00.0", Warn, |f| { f.host.rdma.devices.as_mut().unwrap().remove(0); }),
    ("RD-0302", "0000:1a:00.0", Fail, |f| f.host.rdma.devices.as_mut().unwrap().clear()),
    ("RD-0303", "mlx5_0", Fail, |f| device(f).uverbs = None),
    ("RD-0304", "mlx5_0", Fail, |f| { let node = &mut device(f).uverbs.as_mut().unwrap().node; node.is_right_device = false; node.found = None; }),
    ("RD-0305", "mlx5_0", Fail, |f| { device(f).uverbs.as_mut().unwrap().node.found.as_mut().unwrap().mode = 0o600; f.host.limits.own.effective_uid = Some(1000); }),
    ("RD-0306", "mlx5_0", Fail, |f| {
        asked_verbs(f);
        f.devices.devices[0].seen_by.verbs = Some(false);
        f.devices.devices[0].problem = Some(Problem { summary: "no provider".to_owned(), next_step: None });
    }),
    ("RD-0307", "mlx5_0/1", Warn, |f| device(f).ports[0].state = Some(NamedCode { code: 1, name: "DOWN".to_owned() })),
    ("RD-0307", "mlx5_0/1", Fail, |f| f.host.rdma.devices.iter_mut().flatten()
        .for_each(|device| device.ports[0].state = Some(NamedCode { code: 1, name: "DOWN".to_owned() }))),
    ("RD-0308", "mlx5_0/1", Warn, |f| interface(f).is_up = Some(false)),
    ("RD-0309", "mlx5_0/1", Warn, |f| interface(f).has_carrier = Some(false)),
    ("RD-0310", "mlx5_0", Fail, |f| { iwarp(f); f.host.rdma.connection_manager.is_right_device = false; }),
    ("RD-0311", "mlx5_0", Warn, |f| interface(f).bond = Some(Bond { mode: Some("balance-rr 0".to_owned()), ..Bond::default() })),
    ("RD-0313", "mlx5_9", Fail, |f| f.wanted.devices.push("mlx5_9".to_owned())),
    ("RD-0313", "efa", Fail, |f| f.wanted.families.push("efa".to_owned())),
    ("RD-0313", "mlx5_0", Fail, |f| {
        f.wanted.devices.push("mlx5_0".to_owned());
        device(f).ports[0].state = Some(NamedCode { code: 1, name: "DOWN".to_owned() });
    }),
    ("RD-0314", "mlx5_0/1", Warn, |f| device(f).ports[0].rate_bits_per_second = Some(100_000_000_000)),
    ("RD-0315", "mlx5_0", Warn, |f| {
        f.host.rdma.devices.iter_mut().flatten().for_each(|device| device.board_id = Some("MT_0000000838".to_owned()));
        device(f).firmware = Some("28.1.1".to_owned());
    }),
    ("RD-0401", "mlx5_0/1", Fail, |f| device(f).ports[0].gids.clear()),
    ("RD-0402", "mlx5_0/1", Warn, |f| device(f).ports[0].gids.iter_mut().for_each(|gid| gid.gid_type = Some("IB/RoCE v1".to_owned()))),
    ("RD-0403", "mlx5_0/1", Warn, |f| device(f).ports[0].gids.retain(|gid| gid.gid.starts_with("fe80"))),
    ("RD-0404", "mlx5_0/1", Warn, |f| device(f).ports[0].gids.iter_mut().filter(|gid| !gid.gid.starts_with("fe80"))
        .for_each(|gid| gid.gid = "2001:0db8:0000:0000:0000:0000:0000:0001".to_owned())),
    ("RD-0405", "host", Warn, |f| device(f).ports[0].gids.iter_mut().for_each(|gid| gid.index += 2)),
    ("RD-0406", "mlx5_1/1", Fail, |f| {
        let gid = device(f).ports[0].gids.last().unwrap().clone();
        let other = &mut f.host.rdma.devices.as_mut().unwrap()[1].ports[0];
        other.gids.push(SysfsGid { index: 9, netdev: Some("eth1".to_owned()), ..gid });
    }),
    ("RD-0407", "mlx5_0/1", Warn, |f| {
        let ports = serde_json::from_value(serde_json::json!([{"port": 1, "state": "active", "max_mtu_bytes": 4096, "active_mtu_bytes": 1024, "max_msg_size_bytes": 1,
            "gid_table_length": 4, "pkey_table_length": 1, "lid": 0, "sm_lid": 0, "link_layer": "ethernet", "active_width_lanes": 4, "active_speed_code": 1}])).unwrap();
        asked_verbs(f).devices.push(VerbsDevice { name: "mlx5_0".to_owned(), node_type: 1, transport_type: 0, error: None, loss: None, attributes: None, ports });
    }),
    ("RD-0408", "host", Warn, |f| interface(f).mtu_bytes = Some(9000)),
    ("RD-0409", "mlx5_0/1", Warn, |f| { infiniband(f); device(f).ports[0].pkeys = vec![SysfsPkey { index: 0, pkey: 0x7fff }]; }),
    ("RD-0409", "mlx5_0/1", Fail, |f| { infiniband(f); device(f).ports[0].pkeys.clear(); }),
    ("RD-0410", "mlx5_0/1", Warn, |f| { infiniband(f); device(f).ports[0].state = Some(NamedCode { code: 2, name: "INIT".to_owned() }); }),
    ("RD-0411", "mlx5_0/1", Warn, |f| f.host.net.routes = vec![Route {
        destination: "0.0.0.0".parse().unwrap(), prefix_length: 0, gateway: None, netdev: "eth9".to_owned(), metric: 0, is_reject: false, table: Some(254) }]),
    ("RD-0412", "mlx5_0/1", Warn, |f| f.host.net.addresses = vec![Address {
        address: "192.0.2.1".parse().unwrap(), netdev: Some("eth0".to_owned()), prefix_length: Some(24), source: "x".to_owned(), is_duplicate: false, is_tentative: false }]),
    ("RD-0501", "host", Fail, |f| f.host.limits.own = unprivileged(65536)),
    ("RD-0502", "/proc/42", Fail, |f| f.host.limits.process = Some(unprivileged(65536))),
    ("RD-0503", "docker.service", Warn, |f| f.host.limits.services.units.push(UnitFacts { name: "docker.service".to_owned(), files: Vec::new(), limits: vec![UnitLimit {
        directive: "LimitMEMLOCK".to_owned(), soft: LimitValue::Value(8 << 20), hard: LimitValue::Value(8 << 20), file: "/etc/x".to_owned(), line: 2 }] })),
    ("RD-0504", "* -", Warn, |f| f.host.limits.services.logins.push(LoginLimit {
        domain: "*".to_owned(), kind: "-".to_owned(), limit: LimitValue::Value(65536), file: "/etc/security/limits.conf".to_owned(), line: 1 })),
    ("RD-0505", "host", Fail, |f| { container(f); f.host.limits.own = unprivileged(65536); f.host.limits.own.capabilities.as_mut().unwrap().bounding = IPC_LOCK; }),
    ("RD-0506", "mlx5_0", Fail, |f| {
        let limit = RdmaLimit { file: "rdma.max".to_owned(), device: "mlx5_0".to_owned(), handles: Some(LimitValue::Value(2)), objects: Some(LimitValue::Unlimited) };
        f.host.limits.own_cgroup.rdma_usage.push(limit.clone());
        f.host.limits.own_cgroup.rdma_limits.push(limit);
    }),
    ("RD-0507", "mlx5_0", Warn, |f| f.host.limits.own.allowed_memory_nodes = Some("1".to_owned())),
    ("RD-0508", "/proc/42", Fail, |f| f.host.limits.process = Some(ProcessFacts { pinned_bytes: Some(1 << 30), ..unprivileged(1 << 30) })),
    ("RD-0509", "mlx5_0", Fail, |f| registered(f, 12)),
    ("RD-0509", "mlx5_0", Fail, |f| { f.host.limits.own = unprivileged(8 << 20); registered(f, 12); }),
    ("RD-0509", "mlx5_0", Fail, |f| registered(f, 5)),
    ("RD-0605", "host", Warn, |f| log(f, Event::ErdmaMemoryRegionTooLarge { asked_bytes: 80 << 30, limit_bytes: 64 << 30 }, 1)),
    ("RD-0606", "bnxt_re0", Warn, |f| log(f, Event::BnxtQueuePairRefused { device: Some("bnxt_re0".to_owned()), limits: vec![QueueLimit { parameter: "max_send_sge".to_owned(), asked: 30, limit: 13 }] }, 1)),
    ("RD-0701", "0000:1b:00.0", Fail, |f| gpu(f).function.driver = None),
    ("RD-0702", "host", Warn, |f| state(f, "nvidia_uvm", ModuleState::OnDisk)),
    ("RD-0703", "host", Fail, proprietary),
    ("RD-0704", "host", Fail, proprietary),
    ("RD-0705", "host", Fail, |f| { dma_buf_only(f); f.host.system.kernel_release = Some("5.4.0".to_owned()); }),
    ("RD-0706", "CONFIG_DMA_SHARED_BUFFER", Fail, |f| {
        dma_buf_only(f);
        f.host.system.config = Some(KernelConfig { source: "/proc/config.gz".to_owned(), options: vec![KernelOption { name: "CONFIG_PCI_P2PDMA".to_owned(), value: "y".to_owned() }] });
    }),
    ("RD-0707", "mlx5_0", Fail, |f| { dma_buf_only(f); device(f).family = Some(FamilyGuess { family: "rxe".to_owned(), basis: FamilyBasis::SoftDevice }); }),
    ("RD-0708", "host", Fail, |f| { proprietary(f); f.modules.peer_memory_api = SymbolPresence::Present { module: None }; }),
    ("RD-0709", "0000:1b:00.0", Warn, |f| gpu(f).bars.iter_mut().for_each(|bar| bar.size_bytes = bar.size_bytes.min(256 << 20))),
    ("RD-0709", "0000:1b:00.0", Fail, |f| { f.gpus = None; gpu(f).bars.iter_mut().for_each(|bar| bar.is_assigned = false); }),
    ("RD-0710", "0000:1b:00.0", Fail, |f| { attributes(f).dma_buf_supported = Some(false); attributes(f).gpu_direct_rdma_supported = Some(false); }),
    ("RD-0710", "0000:1b:00.0", Warn, |f| attributes(f).gpu_direct_rdma_supported = Some(false)),
    ("RD-0711", "0000:1b:00.0", Warn, |f| answer(f).is_divided = Some(true)),
    ("RD-0712", "host", Warn, |f| { f.gpus = None; log(f, Event::NvidiaVersionMismatch, 1); }),
    ("RD-0712", "host", Fail, |f| f.gpus.as_mut().unwrap().nvml.error = refused("NVML_ERROR_LIB_RM_VERSION_MISMATCH")),
    ("RD-0713", "host", Warn, |f| f.modules.nvidia.as_mut().unwrap().nodes[0].found = None),
    ("RD-0713", "host", Fail, |f| {
        let node = &mut f.modules.nvidia.as_mut().unwrap().nodes[0];
        node.found.as_mut().unwrap().mode = 0o600;
        f.host.limits.own.effective_uid = Some(1000);
    }),
    ("RD-0714", "host", Fail, |f| f.gpus.as_mut().unwrap().cuda.error = refused("CUDA_ERROR_SYSTEM_NOT_READY")),
    ("RD-0714", "0000:1b:00.0", Warn, |f| answer(f).cuda = None),
    ("RD-0715", "host", Fail, |f| f.gpus.as_mut().unwrap().nvml.error = refused("NVML_ERROR_UNKNOWN")),
    // What only lacks the library says nothing of the GPUs.
    ("RD-0715", "host", Warn, |f| f.gpus.as_mut().unwrap().nvml.error = Some(GpuError::LibraryMissing { library: "libnvidia-ml.so.1".to_owned() })),
    ("RD-0716", "0000:1b:00.0", Fail, |f| { dma_buf_only(f); attributes(f).dma_buf_supported = Some(false); }),
    ("RD-0717", "0000:1b:00.0", Warn, |f| *attributes(f) = CudaAttributes { writes_ordering: Some(WritesOrdering::None), flush_by_host: Some(false), flush_by_stream: Some(false), ..*attributes(f) }),
    ("RD-0718", "0000:1b:00.0", Warn, |f| answer(f).bar1_used_bytes = Some(127 << 30)),
    ("RD-0719", "0000:1b:00.0", Warn, |f| gpu_memory(f).allocation_error = refused("CUDA_ERROR_OUT_OF_MEMORY")),
    ("RD-0719", "0000:1b:00.0", Fail, |f| { dma_buf_only(f); gpu_memory(f).export_error = refused("CUDA_ERROR_NOT_SUPPORTED"); }),
    ("RD-0719", "0000:1b:00.0", Fail, |f| gpu_memory(f).allocation_error = refused("CUDA_ERROR_ECC_UNCORRECTABLE")),
    ("RD-0720", "0000:1b:00.0/mlx5_0", Fail, |f| { gpu_memory(f); }),
    ("RD-0801", "mlx5_0", Warn, |f| f.host.topology.nics[0].path.segments[0].is_narrowed = true),
    ("RD-0802", "0000:1b:00.0", Warn, |f| f.host.topology.gpus[0].path.segments[0].is_narrowed = true),
    ("RD-0803", "mlx5_0", Warn, |f| f.host.topology.nics[0].path.bits_per_second = Some(1_000_000_000)),
    ("RD-0804", "0000:1b:00.0/mlx5_0", Warn, |f| f.host.topology.pairs[0].redirecting.push("0000:19:00.0".to_owned())),
    ("RD-0805", "host", Warn, |f| {
        f.host.system.iommu.mode = IommuMode::Translated;
        f.host.system.iommu.groups = vec![IommuGroup { group: 1, kind: Some("DMA".to_owned()) }];
        gpu(f).iommu_group = Some(1);
    }),
    ("RD-0806", "0000:1b:00.0", Warn, |f| f.host.topology.pairs.iter_mut().filter(|pair| pair.gpu == "0000:1b:00.0").for_each(|pair| pair.affinity = Affinity::Sys)),
    ("RD-0807", "mlx5_0", Warn, |f| nic(f).config.as_mut().unwrap().express.as_mut().unwrap().read_request_bytes = Some(128)),
    ("RD-0808", "0000:1b:00.0", Warn, |f| gpu(f).function.numa_node = None),
    ("RD-0809", "0000:1b:00.0", Fail, |f| gpu(f).config.as_mut().unwrap().is_answering = false),
    ("RD-0901", "host", Fail, |f| { container(f); f.host.verbs_files.nodes = None; }),
    ("RD-0902", "host", Fail, |f| { container(f); f.host.limits.own = unprivileged(8 << 20); }),
    ("RD-0903", "host", Fail, |f| { container(f); f.host.rdma.devices = Some(Vec::new()); }),
    ("RD-0904", "host", Warn, |f| { container(f); f.host.limits.container.dev_shm_bytes = Some(64 << 20); }),
    ("RD-0905", "mlx5_0", Fail, |f| { container(f); f.host.net.interfaces.as_mut().unwrap().retain(|interface| interface.name != "eth0"); }),
    ("RD-1001", "eth1", Warn, |f| { quality(f, "eth0/qos/trust", "dscp"); quality(f, "eth1/qos/trust", "pcp"); }),
    ("RD-1002", "eth0/3", Warn, |f| { quality(f, "eth0/ecn/roce_np/enable/3", "1"); quality(f, "eth0/ecn/roce_rp/enable/3", "0"); }),
    ("RD-1003", "mlx5_0/1", Warn, |f| { counted(f, "np_ecn_marked_roce_packets", &[7]); counted(f, "np_cnp_sent", &[]); }),
    ("RD-1101", "mlx5_0/1", Warn, |f| log(f, Event::LinkDown { driver: "mlx5_core".to_owned(), netdev: "eth0".to_owned() }, 5)),
    ("RD-1102", "mlx5_0/1", Warn, |f| counted(f, "symbol_error", &[12])),
    ("RD-1103", "mlx5_0/1", Warn, |f| counted(f, "out_of_sequence", &[12])),
    ("RD-1104", "0000:1a:00.0", Fail, |f| nic(f).errors = Some(AerCounts { fatal: Some(1), ..AerCounts::default() })),
    ("RD-1105", "0000:1b:00.0", Fail, |f| log(f, Event::NvidiaXid { xid: 79, pci: Some("0000:1b:00".to_owned()) }, 1)),
    ("RD-1105", "0000:9d:00.0", Warn, |f| log(f, Event::NvidiaXid { xid: 31, pci: Some("0000:9d:00".to_owned()) }, 1)),
    // An SXid is of a switch between GPUs, which mends most by itself.
    ("RD-1105", "host", Warn, |f| log(f, Event::NvidiaSxid { sxid: 79, pci: None }, 1)),
    ("RD-1106", "0000:1b:00.0", Fail, |f| log(f, Event::NvidiaDeviceLost { pci: Some("0000:1b:00.0".to_owned()) }, 1)),
    ("RD-1107", "host", Warn, |f| log(f, Event::HungTask { process: "nvidia-smi".to_owned() }, 2)),
    ("RD-1108", "host", Warn, |f| f.host.timings[0].elapsed_us = 5_000_000),
    ("RD-1109", "host", Warn, |f| log(f, Event::OutOfMemory { process: Some("python3".to_owned()), in_cgroup: true }, 1)),
    ("RD-1110", "0000:1a:00.0", Fail, |f| log(f, Event::Mlx5Health { pci: Some("0000:1a:00.0".to_owned()) }, 1)),
    ("RD-1111", "0000:1a:00.0", Warn, |f| log(f, Event::Mlx5CommandFailed { pci: Some("0000:1a:00.0".to_owned()), command: "CREATE_MKEY".to_owned(), status: "no resources(0xf)".to_owned() }, 3)),
    ("RD-1112", "0000:1a:00.0", Warn, |f| log(f, Event::IommuFault { pci: Some("0000:1a:00.0".to_owned()) }, 1)),
    ("RD-1113", "0000:1a:00.0", Warn, |f| log(f, Event::PortModule { pci: Some("0000:1a:00.0".to_owned()), status: "Cable unplugged".to_owned() }, 1)),
    ("RD-1114", "mlx5_0", Warn, |f| log(f, Event::RdmaDriverError { driver: "mlx5_core".to_owned(), device: Some("mlx5_0".to_owned()) }, 1)),
    ("RD-1116", "0000:1b:00.0", Fail, |f| answer(f).error = refused("NVML_ERROR_GPU_IS_LOST")),
    ("RD-1116", "0000:1b:00.0", Warn, |f| answer(f).answered_in_us = Some(3_000_000)),
    ("RD-1119", "mlx5_0", Fail, |f| held(f, |holder| holder.pid = None)),
    ("RD-1119", "mlx5_0", Fail, |f| { container(f); f.host.limits.container.in_first_process_namespace = Some(true); held(f, |holder| holder.pid = None); }),
    ("RD-1119", "mlx5_0", Fail, |f| held(f, |holder| holder.state = Some("Z (zombie)".to_owned()))),
    ("RD-1119", "mlx5_0", Warn, |f| held(f, |holder| holder.state = Some("D (disk sleep)".to_owned()))),
    ("RD-1119", "mlx5_0", Warn, |f| held(f, |holder| holder.state = Some("T (stopped)".to_owned()))),
    ("RD-1119", "mlx5_0", Warn, |f| held(f, |holder| holder.broken_queue_pairs = 4)),
    ("RD-1118", "0000:1b:00.0", Fail, |f| answer(f).recovery_action = Some("gpu_reset".to_owned())),
    ("RD-1118", "0000:1b:00.0", Warn, |f| answer(f).is_retirement_pending = Some(true)),
    ("RD-1118", "0000:1b:00.0", Fail, |f| answer(f).recovery_action = Some("node_reboot".to_owned())),
    ("RD-1118", "0000:1b:00.0", Fail, |f| answer(f).has_remapping_failed = Some(true)),
    ("RD-1118", "0000:1b:00.0", Warn, |f| answer(f).uncorrected_errors = Some(2)),
    ("RD-1117", "rdma", Fail, |f| {
        let problem = ReadError::new(Path::new("/sys/class/infiniband"), ReadFailure::NotRead { why: "no answer in 5000 ms".to_owned() });
        f.host.rdma.problems.push(problem);
    }),
    // What goes on and on may be large, and is no fault for that.
    ("RD-1117", "rdma", Warn, |f| {
        let why = format!("not at its end after 1500 ms, when {}", crate::host::part::TIME_IS_OVER);
        f.host.rdma.problems.push(ReadError::new(Path::new("/sys/class/infiniband"), ReadFailure::NotRead { why }));
    }),
];
