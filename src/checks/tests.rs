//! Every check on a host that is well and on one that is not.

use std::collections::BTreeSet;
use std::path::Path;

use rdmadoctor_types::{LinkLayer, Word};

use super::*;
use crate::devices::Problem;
use crate::facts::{self, HostMemory, MemoryTried, RefusedMemory, VerbsFacts, Wanted};
use crate::gpu::{CudaAttributes, GpuError, GpuFacts, WritesOrdering};
use crate::host::family::{FamilyBasis, FamilyGuess};
use crate::host::limits::cgroup::RdmaLimit;
use crate::host::limits::process::ProcessFacts;
use crate::host::limits::service::{LoginLimit, UnitFacts, UnitLimit};
use crate::host::limits::{Capabilities, LimitValue, ResourceLimit};
use crate::host::log::{Event, LogEvent, QueueLimit};
use crate::host::modules::{Block, BlockKind, ConfiguredValue, Module, ModuleState, NvidiaFlavour, Parameter, SymbolPresence};
use crate::host::net::address::Address;
use crate::host::net::route::Route;
use crate::host::net::{Bond, NetInterface, Setting};
use crate::host::pcie::AerCounts;
use crate::host::rdma::{NamedCode, SysfsGid, SysfsPkey};
use crate::host::rdma_counters::{Counter, CounterGroup, CounterSet};
use crate::host::rdma_objects::{Holder, ObjectsFacts};
use crate::host::system::iommu::{IommuGroup, IommuMode};
use crate::host::system::kernel_config::{KernelConfig, KernelOption};
use crate::host::topo::Affinity;
use crate::host::verbs_files::{Library, Provider};
use crate::host::{ReadError, ReadFailure};
use crate::sim::HostModel;
use crate::verbs::{CallError, ErrorNumber};
use crate::worker::{GpuMemory, Inventory, Registration, VerbsDevice};

/// What files say of a modelled host.
fn modelled(name: &str) -> Facts {
    let model = HostModel::find(name).unwrap();
    let root = model.root();
    let host = facts::host::collect(&root, None);
    let modules = crate::host::modules::read(&root);
    let devices = crate::devices::collect(&host.rdma, None);
    Facts { gpus: model.gpus(), ..Facts::of_files(host, modules, devices, Wanted::default()) }
}

/// The healthy host, with a log that says nothing.
pub(super) fn healthy() -> Facts {
    let mut facts = modelled("h100x8-cx7");
    facts.host.log.source = Some("/var/log/kern.log".to_owned());
    facts
}

fn module<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Module {
    facts.modules.modules.iter_mut().find(|module| module.name == name).unwrap()
}

fn state(facts: &mut Facts, name: &str, state: ModuleState) {
    module(facts, name).state = state;
}

fn device(facts: &mut Facts) -> &mut crate::host::rdma::SysfsDevice {
    &mut facts.host.rdma.devices.as_mut().unwrap()[0]
}

fn interface(facts: &mut Facts) -> &mut NetInterface {
    facts.host.net.interfaces.as_mut().unwrap().iter_mut().find(|interface| interface.name == "eth0").unwrap()
}

fn gpu(facts: &mut Facts) -> &mut crate::host::pcie::PcieFunction {
    facts.host.pcie.functions.as_mut().unwrap().iter_mut().find(|function| function.is_gpu()).unwrap()
}

fn nic(facts: &mut Facts) -> &mut crate::host::pcie::PcieFunction {
    let address = device(facts).pci.as_ref().unwrap().address.clone();
    facts.host.pcie.functions.as_mut().unwrap().iter_mut().find(|function| function.address() == address).unwrap()
}

fn iwarp(facts: &mut Facts) {
    device(facts).node_type = Some(NamedCode { code: 4, name: "RNIC".to_owned() });
}

fn infiniband(facts: &mut Facts) {
    device(facts).ports[0].link_layer = Some(Word::Known(LinkLayer::Infiniband));
}

fn log(facts: &mut Facts, event: Event, count: u64) {
    facts.host.log.events.push(LogEvent { event, count, first_us: None, last_us: Some(1), line: "the line".to_owned() });
}

fn container(facts: &mut Facts) {
    facts.host.limits.container.is_container = true;
    facts.host.limits.container.runtime = Some("docker".to_owned());
}

const IPC_LOCK: u64 = 1 << 14;

fn unprivileged(soft: u64) -> ProcessFacts {
    ProcessFacts {
        source: "/proc/42".to_owned(),
        exists: true,
        effective_uid: Some(1000),
        limits: vec![ResourceLimit {
            name: "Max locked memory".to_owned(),
            soft: LimitValue::Value(soft),
            hard: LimitValue::Value(soft),
            unit: Some("bytes".to_owned()),
        }],
        capabilities: Some(Capabilities { effective: 0, permitted: 0, inheritable: 0, bounding: 0, ambient: None }),
        ..ProcessFacts::default()
    }
}

fn without_peer_memory(facts: &mut Facts) {
    state(facts, "nvidia_peermem", ModuleState::OnDisk);
}

/// Neither is peer memory loaded, nor would it be of use.
fn dma_buf_only(facts: &mut Facts) {
    without_peer_memory(facts);
    facts.modules.peer_memory_api = SymbolPresence::Absent;
}

fn proprietary(facts: &mut Facts) {
    dma_buf_only(facts);
    facts.modules.nvidia.as_mut().unwrap().flavour = Some(NvidiaFlavour::Proprietary);
    facts.gpus.as_mut().unwrap().gpus.iter_mut().for_each(|gpu| gpu.cuda.as_mut().unwrap().dma_buf_supported = Some(false));
}

fn answer(facts: &mut Facts) -> &mut GpuFacts {
    &mut facts.gpus.as_mut().unwrap().gpus[0]
}

fn attributes(facts: &mut Facts) -> &mut CudaAttributes {
    answer(facts).cuda.as_mut().unwrap()
}

fn held(facts: &mut Facts, wound: fn(&mut Holder)) {
    let mut holder = Holder {
        device: "mlx5_0".to_owned(),
        pid: Some(4242),
        name: Some("python3".to_owned()),
        state: Some("S (sleeping)".to_owned()),
        queue_pairs: 4,
        ..Holder::default()
    };
    wound(&mut holder);
    facts.objects = Some(ObjectsFacts { holders: vec![holder], ..ObjectsFacts::default() });
}

fn registered(facts: &mut Facts, errno: i32) {
    let error = CallError { call: "ibv_reg_mr".to_owned(), object: "mlx5_0".to_owned(), errno: ErrorNumber(errno) };
    let host = HostMemory {
        device: "mlx5_0".to_owned(),
        most_bytes: 1 << 30,
        largest_bytes: Some(1 << 20),
        refused: Some(RefusedMemory { bytes: 2 << 20, error }),
        ..HostMemory::default()
    };
    facts.memory = Some(MemoryTried { host: vec![host], gpu: Vec::new() });
}

fn gpu_memory(facts: &mut Facts) -> &mut GpuMemory {
    let error = |errno| CallError { call: "the call".to_owned(), object: "mlx5_0".to_owned(), errno: ErrorNumber(errno) };
    let refused = |errno| Some(Registration { elapsed_us: None, error: Some(error(errno)) });
    let alone = GpuMemory { gpu: "0000:1b:00.0".to_owned(), bytes: 2 << 20, ..GpuMemory::default() };
    let pair = GpuMemory { device: Some("mlx5_0".to_owned()), by_address: refused(14), by_dma_buf: refused(95), ..alone.clone() };
    let tried = facts.memory.get_or_insert(MemoryTried { host: Vec::new(), gpu: vec![alone, pair] });
    &mut tried.gpu[0]
}

fn refused(name: &str) -> Option<GpuError> {
    Some(GpuError::named("the call", "host", name))
}

fn counted(facts: &mut Facts, name: &str, values: &[u64]) {
    facts.host.counters.sets.iter_mut().for_each(|set| set.counters.retain(|counter| counter.name != name));
    let names: Vec<String> = facts.rdma_devices().iter().map(|device| device.name.clone()).collect();
    for (index, device) in names.into_iter().enumerate() {
        let value = values.get(index).copied().unwrap_or(0);
        let counters = vec![Counter { name: name.to_owned(), value }];
        facts.host.counters.sets.push(CounterSet { device, port: Some(1), group: CounterGroup::Standard, counters });
    }
}

fn quality(facts: &mut Facts, path: &str, value: &str) {
    facts.host.net.quality_of_service.push(Setting { path: format!("/sys/class/net/{path}"), value: value.to_owned() });
}

fn asked_verbs(facts: &mut Facts) -> &mut Inventory {
    facts.verbs.get_or_insert_default().inventory.get_or_insert_default()
}

/// A check, the subject on which it must find something, and what makes a healthy host sick so.
type Wound = (&'static str, &'static str, fn(&mut Facts));

#[rustfmt::skip]
const WOUNDS: &[Wound] = &[
    ("RD-0101", "host", |f| f.host.verbs_files.libraries.clear()),
    ("RD-0102", "mlx5_0", |f| { iwarp(f); f.host.verbs_files.connection_libraries.clear(); }),
    ("RD-0103", "mlx5_0", |f| f.host.verbs_files.providers.clear()),
    ("RD-0104", "mlx5_0", |f| f.host.verbs_files.driver_files = Some(Vec::new())),
    ("RD-0105", "mlx5_0", |f| {
        f.host.verbs_files.providers.iter_mut().for_each(|provider| provider.generation = 25);
        f.host.verbs_files.providers.push(Provider { path: "/usr/lib/librxe-rdmav34.so".to_owned(), family: "rxe".to_owned(), generation: 34 });
    }),
    ("RD-0106", "mlx5_0", |f| asked_verbs(f).printed.push(
        "libibverbs: Warning: Driver mlx5 does not support the kernel ABI of 6 (supports 1 to 1) for device /sys/class/infiniband_verbs/uverbs0".to_owned())),
    ("RD-0107", "host", |f| f.host.verbs_files.libraries.push(Library {
        path: "/opt/lib/libibverbs.so.1".to_owned(), file: "/opt/lib/libibverbs.so.1.5.22.4".to_owned(), version: Some("1.5.22.4".to_owned()), rdma_core: Some(22) })),
    ("RD-0108", "host", |f| f.verbs = Some(VerbsFacts { inventory: None, failure: Some("crashed with SIGSEGV".to_owned()) })),
    ("RD-0109", "host", |f| f.host.rdma.uverbs_abi_version = Some(7)),
    ("RD-0201", "host", |f| { f.host.rdma.devices = None; state(f, "ib_core", ModuleState::Absent); }),
    ("RD-0202", "host", |f| {
        state(f, "ib_uverbs", ModuleState::OnDisk);
        f.host.rdma.uverbs_abi_version = None;
        f.host.rdma.devices.iter_mut().flatten().for_each(|device| device.uverbs = None);
    }),
    ("RD-0203", "host", |f| { iwarp(f); f.host.rdma.connection_manager.expected = None; state(f, "rdma_ucm", ModuleState::OnDisk); }),
    ("RD-0204", "mlx5_ib", |f| { f.host.rdma.devices = Some(Vec::new()); state(f, "mlx5_ib", ModuleState::OnDisk); }),
    ("RD-0205", "mlx5_ib", |f| {
        state(f, "mlx5_ib", ModuleState::OnDisk);
        module(f, "mlx5_ib").blocked_by.push(Block { kind: BlockKind::Install, file: "/etc/modprobe.d/x.conf".to_owned(), line: 3, text: "install mlx5_ib /bin/false".to_owned() });
    }),
    ("RD-0206", "mlx5_ib", |f| module(f, "mlx5_ib").version_differs = Some(true)),
    ("RD-0207", "mlx5_ib", |f| { state(f, "mlx5_ib", ModuleState::OnDisk); module(f, "mlx5_ib").notes.push("x.ko was built for kernel 5.4, not 6.1".to_owned()); }),
    ("RD-0208", "nvidia_peermem", |f| f.modules.peer_memory_api = SymbolPresence::Absent),
    ("RD-0209", "mlx5_ib", |f| {
        state(f, "mlx5_ib", ModuleState::OnDisk);
        log(f, Event::UnknownSymbol { module: "mlx5_ib".to_owned(), symbol: "ib_umem_get_peer".to_owned(), errno: Some(-2) }, 1);
    }),
    ("RD-0210", "mlx5_0", |f| {
        device(f).family = Some(FamilyGuess { family: "erdma".to_owned(), basis: FamilyBasis::Driver });
        let mut erdma = module(f, "mlx5_ib").clone();
        erdma.name = "erdma".to_owned();
        erdma.parameters.push(Parameter { name: "compat_mode".to_owned(), meaning: String::new(), value: Some("N".to_owned()), configured: Vec::new() });
        f.modules.modules.push(erdma);
    }),
    ("RD-0211", "host", |f| { state(f, "mlx5_ib", ModuleState::OnDisk); f.modules.loading_disabled_by = Some("kernel.modules_disabled=1".to_owned()); }),
    ("RD-0212", "ib_core/netns_mode", |f| {
        let configured = ConfiguredValue { value: Some("0".to_owned()), file: "/etc/modprobe.d/x.conf".to_owned(), line: 1 };
        module(f, "ib_core").parameters.iter_mut().for_each(|parameter| parameter.configured.push(configured.clone()));
    }),
    ("RD-0213", "host", |f| f.host.verbs_files.devices_shared_between_namespaces = Some(false)),
    ("RD-0214", "gdrdrv", |f| f.wanted.modules.push("gdrdrv".to_owned())),
    ("RD-0215", "mlx5_ib", |f| module(f, "mlx5_ib").notes.push("the kernel says `going`: it is still being loaded or removed, or hangs there".to_owned())),
    ("RD-0301", "host", |f| f.host.rdma.devices = Some(Vec::new())),
    ("RD-0302", "0000:1a:00.0", |f| { f.host.rdma.devices.as_mut().unwrap().remove(0); }),
    ("RD-0303", "mlx5_0", |f| device(f).uverbs = None),
    ("RD-0304", "mlx5_0", |f| { let node = &mut device(f).uverbs.as_mut().unwrap().node; node.is_right_device = false; node.found = None; }),
    ("RD-0305", "mlx5_0", |f| { device(f).uverbs.as_mut().unwrap().node.found.as_mut().unwrap().mode = 0o600; f.host.limits.own.effective_uid = Some(1000); }),
    ("RD-0306", "mlx5_0", |f| {
        asked_verbs(f);
        f.devices.devices[0].seen_by.verbs = Some(false);
        f.devices.devices[0].problem = Some(Problem { summary: "no provider".to_owned(), next_step: None });
    }),
    ("RD-0307", "mlx5_0/1", |f| device(f).ports[0].state = Some(NamedCode { code: 1, name: "DOWN".to_owned() })),
    ("RD-0308", "mlx5_0/1", |f| interface(f).is_up = Some(false)),
    ("RD-0309", "mlx5_0/1", |f| interface(f).has_carrier = Some(false)),
    ("RD-0310", "mlx5_0", |f| { iwarp(f); f.host.rdma.connection_manager.is_right_device = false; }),
    ("RD-0311", "mlx5_0", |f| interface(f).bond = Some(Bond { mode: Some("balance-rr 0".to_owned()), ..Bond::default() })),
    ("RD-0313", "mlx5_9", |f| f.wanted.devices.push("mlx5_9".to_owned())),
    ("RD-0314", "mlx5_0/1", |f| device(f).ports[0].rate_bits_per_second = Some(100_000_000_000)),
    ("RD-0315", "mlx5_0", |f| {
        f.host.rdma.devices.iter_mut().flatten().for_each(|device| device.board_id = Some("MT_0000000838".to_owned()));
        device(f).firmware = Some("28.1.1".to_owned());
    }),
    ("RD-0401", "mlx5_0/1", |f| device(f).ports[0].gids.clear()),
    ("RD-0402", "mlx5_0/1", |f| device(f).ports[0].gids.iter_mut().for_each(|gid| gid.gid_type = Some("IB/RoCE v1".to_owned()))),
    ("RD-0403", "mlx5_0/1", |f| device(f).ports[0].gids.retain(|gid| gid.gid.starts_with("fe80"))),
    ("RD-0404", "mlx5_0/1", |f| device(f).ports[0].gids.iter_mut().filter(|gid| !gid.gid.starts_with("fe80"))
        .for_each(|gid| gid.gid = "2001:0db8:0000:0000:0000:0000:0000:0001".to_owned())),
    ("RD-0405", "host", |f| device(f).ports[0].gids.iter_mut().for_each(|gid| gid.index += 2)),
    ("RD-0406", "mlx5_1/1", |f| {
        let gid = device(f).ports[0].gids.last().unwrap().clone();
        let other = &mut f.host.rdma.devices.as_mut().unwrap()[1].ports[0];
        other.gids.push(SysfsGid { index: 9, netdev: Some("eth1".to_owned()), ..gid });
    }),
    ("RD-0407", "mlx5_0/1", |f| {
        let ports = serde_json::from_value(serde_json::json!([{"port": 1, "state": "active", "max_mtu_bytes": 4096, "active_mtu_bytes": 1024, "max_msg_size_bytes": 1,
            "gid_table_length": 4, "pkey_table_length": 1, "lid": 0, "sm_lid": 0, "link_layer": "ethernet", "active_width_lanes": 4, "active_speed_code": 1}])).unwrap();
        asked_verbs(f).devices.push(VerbsDevice { name: "mlx5_0".to_owned(), node_type: 1, transport_type: 0, error: None, loss: None, attributes: None, ports });
    }),
    ("RD-0408", "host", |f| interface(f).mtu_bytes = Some(9000)),
    ("RD-0409", "mlx5_0/1", |f| { infiniband(f); device(f).ports[0].pkeys = vec![SysfsPkey { index: 0, pkey: 0x7fff }]; }),
    ("RD-0410", "mlx5_0/1", |f| { infiniband(f); device(f).ports[0].state = Some(NamedCode { code: 2, name: "INIT".to_owned() }); }),
    ("RD-0411", "mlx5_0/1", |f| f.host.net.routes = vec![Route {
        destination: "0.0.0.0".parse().unwrap(), prefix_length: 0, gateway: None, netdev: "eth9".to_owned(), metric: 0, is_reject: false, table: Some(254) }]),
    ("RD-0412", "mlx5_0/1", |f| f.host.net.addresses = vec![Address {
        address: "192.0.2.1".parse().unwrap(), netdev: Some("eth0".to_owned()), prefix_length: Some(24), source: "x".to_owned(), is_duplicate: false, is_tentative: false }]),
    ("RD-0501", "host", |f| f.host.limits.own = unprivileged(65536)),
    ("RD-0502", "/proc/42", |f| f.host.limits.process = Some(unprivileged(65536))),
    ("RD-0503", "docker.service", |f| f.host.limits.services.units.push(UnitFacts { name: "docker.service".to_owned(), files: Vec::new(), limits: vec![UnitLimit {
        directive: "LimitMEMLOCK".to_owned(), soft: LimitValue::Value(8 << 20), hard: LimitValue::Value(8 << 20), file: "/etc/x".to_owned(), line: 2 }] })),
    ("RD-0504", "* -", |f| f.host.limits.services.logins.push(LoginLimit {
        domain: "*".to_owned(), kind: "-".to_owned(), limit: LimitValue::Value(65536), file: "/etc/security/limits.conf".to_owned(), line: 1 })),
    ("RD-0505", "host", |f| { container(f); f.host.limits.own = unprivileged(65536); f.host.limits.own.capabilities.as_mut().unwrap().bounding = IPC_LOCK; }),
    ("RD-0506", "mlx5_0", |f| {
        let limit = RdmaLimit { file: "rdma.max".to_owned(), device: "mlx5_0".to_owned(), handles: Some(LimitValue::Value(2)), objects: Some(LimitValue::Unlimited) };
        f.host.limits.own_cgroup.rdma_usage.push(limit.clone());
        f.host.limits.own_cgroup.rdma_limits.push(limit);
    }),
    ("RD-0507", "mlx5_0", |f| f.host.limits.own.allowed_memory_nodes = Some("1".to_owned())),
    ("RD-0508", "/proc/42", |f| f.host.limits.process = Some(ProcessFacts { pinned_bytes: Some(1 << 30), ..unprivileged(1 << 30) })),
    ("RD-0509", "mlx5_0", |f| registered(f, 12)),
    ("RD-0509", "mlx5_0", |f| { f.host.limits.own = unprivileged(8 << 20); registered(f, 12); }),
    ("RD-0509", "mlx5_0", |f| registered(f, 5)),
    ("RD-0605", "host", |f| log(f, Event::ErdmaMemoryRegionTooLarge { asked_bytes: 80 << 30, limit_bytes: 64 << 30 }, 1)),
    ("RD-0606", "bnxt_re0", |f| log(f, Event::BnxtQueuePairRefused { device: Some("bnxt_re0".to_owned()), limits: vec![QueueLimit { parameter: "max_send_sge".to_owned(), asked: 30, limit: 13 }] }, 1)),
    ("RD-0701", "0000:1b:00.0", |f| gpu(f).function.driver = None),
    ("RD-0702", "host", |f| state(f, "nvidia_uvm", ModuleState::OnDisk)),
    ("RD-0703", "host", proprietary),
    ("RD-0704", "host", proprietary),
    ("RD-0705", "host", |f| { dma_buf_only(f); f.host.system.kernel_release = Some("5.4.0".to_owned()); }),
    ("RD-0706", "CONFIG_DMA_SHARED_BUFFER", |f| {
        dma_buf_only(f);
        f.host.system.config = Some(KernelConfig { source: "/proc/config.gz".to_owned(), options: vec![KernelOption { name: "CONFIG_PCI_P2PDMA".to_owned(), value: "y".to_owned() }] });
    }),
    ("RD-0707", "mlx5_0", |f| { dma_buf_only(f); device(f).family = Some(FamilyGuess { family: "rxe".to_owned(), basis: FamilyBasis::SoftDevice }); }),
    ("RD-0708", "host", |f| { proprietary(f); f.modules.peer_memory_api = SymbolPresence::Present { module: None }; }),
    ("RD-0709", "0000:1b:00.0", |f| gpu(f).bars.iter_mut().for_each(|bar| bar.size_bytes = bar.size_bytes.min(256 << 20))),
    ("RD-0709", "0000:1b:00.0", |f| { f.gpus = None; gpu(f).bars.iter_mut().for_each(|bar| bar.is_assigned = false); }),
    ("RD-0710", "0000:1b:00.0", |f| { attributes(f).dma_buf_supported = Some(false); attributes(f).gpu_direct_rdma_supported = Some(false); }),
    ("RD-0711", "0000:1b:00.0", |f| answer(f).is_divided = Some(true)),
    ("RD-0712", "host", |f| { f.gpus = None; log(f, Event::NvidiaVersionMismatch, 1); }),
    ("RD-0712", "host", |f| f.gpus.as_mut().unwrap().nvml.error = refused("NVML_ERROR_LIB_RM_VERSION_MISMATCH")),
    ("RD-0713", "host", |f| f.modules.nvidia.as_mut().unwrap().nodes[0].found = None),
    ("RD-0714", "host", |f| f.gpus.as_mut().unwrap().cuda.error = refused("CUDA_ERROR_SYSTEM_NOT_READY")),
    ("RD-0714", "0000:1b:00.0", |f| answer(f).cuda = None),
    ("RD-0715", "host", |f| f.gpus.as_mut().unwrap().nvml.error = refused("NVML_ERROR_UNKNOWN")),
    ("RD-0716", "0000:1b:00.0", |f| { dma_buf_only(f); attributes(f).dma_buf_supported = Some(false); }),
    ("RD-0717", "0000:1b:00.0", |f| *attributes(f) = CudaAttributes { writes_ordering: Some(WritesOrdering::None), flush_by_host: Some(false), flush_by_stream: Some(false), ..*attributes(f) }),
    ("RD-0718", "0000:1b:00.0", |f| answer(f).bar1_used_bytes = Some(127 << 30)),
    ("RD-0719", "0000:1b:00.0", |f| gpu_memory(f).allocation_error = refused("CUDA_ERROR_OUT_OF_MEMORY")),
    ("RD-0719", "0000:1b:00.0", |f| { dma_buf_only(f); gpu_memory(f).export_error = refused("CUDA_ERROR_NOT_SUPPORTED"); }),
    ("RD-0720", "0000:1b:00.0/mlx5_0", |f| { gpu_memory(f); }),
    ("RD-0801", "mlx5_0", |f| f.host.topology.nics[0].path.segments[0].is_narrowed = true),
    ("RD-0802", "0000:1b:00.0", |f| f.host.topology.gpus[0].path.segments[0].is_narrowed = true),
    ("RD-0803", "mlx5_0", |f| f.host.topology.nics[0].path.bits_per_second = Some(1_000_000_000)),
    ("RD-0804", "0000:1b:00.0/mlx5_0", |f| f.host.topology.pairs[0].redirecting.push("0000:19:00.0".to_owned())),
    ("RD-0805", "host", |f| {
        f.host.system.iommu.mode = IommuMode::Translated;
        f.host.system.iommu.groups = vec![IommuGroup { group: 1, kind: Some("DMA".to_owned()) }];
        gpu(f).iommu_group = Some(1);
    }),
    ("RD-0806", "0000:1b:00.0", |f| f.host.topology.pairs.iter_mut().filter(|pair| pair.gpu == "0000:1b:00.0").for_each(|pair| pair.affinity = Affinity::Sys)),
    ("RD-0807", "mlx5_0", |f| nic(f).config.as_mut().unwrap().express.as_mut().unwrap().read_request_bytes = Some(128)),
    ("RD-0808", "0000:1b:00.0", |f| gpu(f).function.numa_node = None),
    ("RD-0809", "0000:1b:00.0", |f| gpu(f).config.as_mut().unwrap().is_answering = false),
    ("RD-0901", "host", |f| { container(f); f.host.verbs_files.nodes = None; }),
    ("RD-0902", "host", |f| { container(f); f.host.limits.own = unprivileged(8 << 20); }),
    ("RD-0903", "host", |f| { container(f); f.host.rdma.devices = Some(Vec::new()); }),
    ("RD-0904", "host", |f| { container(f); f.host.limits.container.dev_shm_bytes = Some(64 << 20); }),
    ("RD-0905", "mlx5_0", |f| { container(f); f.host.net.interfaces.as_mut().unwrap().retain(|interface| interface.name != "eth0"); }),
    ("RD-1001", "eth1", |f| { quality(f, "eth0/qos/trust", "dscp"); quality(f, "eth1/qos/trust", "pcp"); }),
    ("RD-1002", "eth0/3", |f| { quality(f, "eth0/ecn/roce_np/enable/3", "1"); quality(f, "eth0/ecn/roce_rp/enable/3", "0"); }),
    ("RD-1003", "mlx5_0/1", |f| { counted(f, "np_ecn_marked_roce_packets", &[7]); counted(f, "np_cnp_sent", &[]); }),
    ("RD-1101", "mlx5_0/1", |f| log(f, Event::LinkDown { driver: "mlx5_core".to_owned(), netdev: "eth0".to_owned() }, 5)),
    ("RD-1102", "mlx5_0/1", |f| counted(f, "symbol_error", &[12])),
    ("RD-1103", "mlx5_0/1", |f| counted(f, "out_of_sequence", &[12])),
    ("RD-1104", "0000:1a:00.0", |f| nic(f).errors = Some(AerCounts { fatal: Some(1), ..AerCounts::default() })),
    ("RD-1105", "0000:1b:00.0", |f| log(f, Event::NvidiaXid { xid: 79, pci: Some("0000:1b:00".to_owned()) }, 1)),
    ("RD-1106", "0000:1b:00.0", |f| log(f, Event::NvidiaDeviceLost { pci: Some("0000:1b:00.0".to_owned()) }, 1)),
    ("RD-1107", "host", |f| log(f, Event::HungTask { process: "nvidia-smi".to_owned() }, 2)),
    ("RD-1108", "host", |f| f.host.timings[0].elapsed_us = 5_000_000),
    ("RD-1109", "host", |f| log(f, Event::OutOfMemory { process: Some("python3".to_owned()), in_cgroup: true }, 1)),
    ("RD-1110", "0000:1a:00.0", |f| log(f, Event::Mlx5Health { pci: Some("0000:1a:00.0".to_owned()) }, 1)),
    ("RD-1111", "0000:1a:00.0", |f| log(f, Event::Mlx5CommandFailed { pci: Some("0000:1a:00.0".to_owned()), command: "CREATE_MKEY".to_owned(), status: "no resources(0xf)".to_owned() }, 3)),
    ("RD-1112", "0000:1a:00.0", |f| log(f, Event::IommuFault { pci: Some("0000:1a:00.0".to_owned()) }, 1)),
    ("RD-1113", "0000:1a:00.0", |f| log(f, Event::PortModule { pci: Some("0000:1a:00.0".to_owned()), status: "Cable unplugged".to_owned() }, 1)),
    ("RD-1114", "mlx5_0", |f| log(f, Event::RdmaDriverError { driver: "mlx5_core".to_owned(), device: Some("mlx5_0".to_owned()) }, 1)),
    ("RD-1116", "0000:1b:00.0", |f| answer(f).error = refused("NVML_ERROR_GPU_IS_LOST")),
    ("RD-1116", "0000:1b:00.0", |f| answer(f).answered_in_us = Some(3_000_000)),
    ("RD-1119", "mlx5_0", |f| held(f, |holder| holder.pid = None)),
    ("RD-1119", "mlx5_0", |f| { container(f); f.host.limits.container.in_first_process_namespace = Some(true); held(f, |holder| holder.pid = None); }),
    ("RD-1119", "mlx5_0", |f| held(f, |holder| holder.state = Some("Z (zombie)".to_owned()))),
    ("RD-1119", "mlx5_0", |f| held(f, |holder| holder.state = Some("D (disk sleep)".to_owned()))),
    ("RD-1119", "mlx5_0", |f| held(f, |holder| holder.state = Some("T (stopped)".to_owned()))),
    ("RD-1119", "mlx5_0", |f| held(f, |holder| holder.broken_queue_pairs = 4)),
    ("RD-1118", "0000:1b:00.0", |f| answer(f).recovery_action = Some("gpu_reset".to_owned())),
    ("RD-1118", "0000:1b:00.0", |f| answer(f).has_remapping_failed = Some(true)),
    ("RD-1118", "0000:1b:00.0", |f| answer(f).uncorrected_errors = Some(2)),
    ("RD-1117", "rdma", |f| {
        let problem = ReadError::new(Path::new("/sys/class/infiniband"), ReadFailure::NotRead { why: "no answer in 5000 ms".to_owned() });
        f.host.rdma.problems.push(problem);
    }),
];

/// Checks that only inform, and those of attempts, which tests/sick_hosts.rs has.
const WITHOUT_WOUND: &[&str] = &["RD-0312", "RD-1115", "RD-0601", "RD-0602", "RD-0603", "RD-0604"];

#[test]
fn the_registry_is_sound() {
    let ids: Vec<&str> = registry().map(|check| check.page.id).collect();
    assert!(ids.len() >= 60, "{}", ids.len());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(ids.is_sorted());
    for check in registry() {
        let digits = check.page.id.strip_prefix("RD-").unwrap();
        assert_eq!((digits.len(), digits[..2].parse()), (4, Ok(check.page.category.number())), "{}", check.page.id);
        for text in [check.page.title, check.page.why, check.page.confirm, check.page.remedy] {
            assert!(text.len() > 5 && !text.contains("  ") && !text.ends_with(' '), "{}: {text}", check.page.id);
        }
        assert!(!check.page.sources.is_empty() && check.page.sources.iter().all(|source| !source.is_empty()), "{}", check.page.id);
        assert!(check.depends_on.iter().all(|id| ids.contains(id)), "{}", check.page.id);
        // A check that opens no device cannot wait for one that does.
        assert!(check.depends_on.iter().all(|id| find(id).unwrap().page.level <= check.page.level), "{}", check.page.id);
    }
    // Taking away what depends on nothing that is left must take away everything.
    let mut left: Vec<&Check> = registry().collect();
    while !left.is_empty() {
        let (waiting, free): (Vec<&Check>, Vec<&Check>) =
            left.iter().partition(|check| check.depends_on.iter().any(|id| left.iter().any(|other| other.page.id == *id)));
        assert!(!free.is_empty(), "a circle among {:?}", waiting.iter().map(|check| check.page.id).collect::<Vec<_>>());
        left = waiting;
    }
}

#[test]
fn a_healthy_host_has_no_warning() {
    for name in ["h100x8-cx7", "aws-efa", "e810"] {
        let bad: Vec<Finding> = run(&modelled(name), registry()).into_iter().filter(|finding| finding.status.is_bad()).collect();
        assert_eq!(bad, [], "{name}");
    }
    let bad: Vec<Finding> = run(&healthy(), registry()).into_iter().filter(|finding| finding.status.is_bad()).collect();
    assert_eq!(bad, []);
}

#[test]
fn nothing_at_all_is_judged_too() {
    let mut facts = healthy();
    let root = crate::host::Root::tree(std::collections::BTreeMap::new());
    facts.host = facts::host::collect(&root, None);
    facts.modules = crate::host::modules::read(&root);
    facts.devices = crate::devices::collect(&facts.host.rdma, None);
    let findings = run(&facts, registry());
    assert!(findings.iter().all(|finding| finding.status != Status::Error));
    let bad: Vec<&str> = findings.iter().filter(|finding| finding.status.is_bad()).map(|finding| finding.id.as_str()).collect();
    assert_eq!(bad, ["RD-0101", "RD-0301"]);
}

#[test]
fn every_wound_is_found() {
    for (id, subject, wound) in WOUNDS {
        let mut facts = healthy();
        wound(&mut facts);
        let findings = run(&facts, registry());
        assert!(findings.iter().all(|finding| finding.status != Status::Error), "{id}");
        let own: Vec<&Finding> = findings.iter().filter(|finding| finding.id == *id).collect();
        let found = own.iter().find(|finding| finding.subject == *subject && finding.status.is_bad());
        let found = found.unwrap_or_else(|| panic!("{id} is not found on {subject}: {own:#?}"));
        assert!(!found.evidence.is_empty(), "{id} has no evidence");
        // Whatever else is found has a root of its own or this one.
        let keys: Vec<String> = findings.iter().filter(|finding| finding.status.is_bad()).map(Finding::key).collect();
        for finding in findings.iter().filter(|finding| finding.status.is_bad()) {
            assert!(finding.because.as_ref().is_none_or(|because| keys.contains(because)), "{id}");
        }
    }
    let covered: BTreeSet<&str> = WOUNDS.iter().map(|(id, _, _)| *id).chain(WITHOUT_WOUND.iter().copied()).collect();
    // Measurements have tests of their own: measured_tests.rs.
    let judged = registry().filter(|check| check.page.category != Category::Measured);
    assert_eq!(covered, judged.map(|check| check.page.id).collect());
}

#[test]
fn a_consequence_is_under_its_root() {
    let mut facts = healthy();
    facts.host.rdma.devices = Some(Vec::new());
    state(&mut facts, "mlx5_ib", ModuleState::Absent);
    let findings = run(&facts, registry());
    let because =
        |id: &str| findings.iter().find(|finding| finding.id == id && finding.status.is_bad()).and_then(|finding| finding.because.clone());
    assert_eq!(because("RD-0204"), None);
    assert_eq!(because("RD-0301").as_deref(), Some("RD-0204/mlx5_ib"));
    assert_eq!(because("RD-0302").as_deref(), Some("RD-0204/mlx5_ib"));
    // A port that is down is no cause for another device's trouble.
    let mut facts = healthy();
    device(&mut facts).ports[0].state = Some(NamedCode { code: 1, name: "DOWN".to_owned() });
    facts.host.rdma.devices.as_mut().unwrap()[1].ports[0].gids.clear();
    let findings = run(&facts, registry());
    assert!(findings.iter().any(|finding| finding.id == "RD-0401" && finding.subject == "mlx5_1/1" && finding.because.is_none()));
}

fn judged(facts: &Facts, policy: &str, today: &str) -> Probe {
    let policy = Policy::parse(std::path::Path::new("policy.yaml"), policy).unwrap();
    let checks: Vec<&Check> = registry().collect();
    judge(facts, Level::Standard, &checks, &policy, today.parse().unwrap())
}

#[test]
fn a_policy_suppresses_for_a_while() {
    let mut facts = healthy();
    facts.host.rdma.devices = Some(Vec::new());
    state(&mut facts, "mlx5_ib", ModuleState::Absent);
    let policy = "schema: rdmadoctor/policy/1\nsuppress:\n  - {check: RD-0204, reason: being exchanged, until: 2026-12-31}\n";
    let before = judged(&facts, policy, "2026-12-31");
    assert_eq!((before.verdict.as_str(), before.counts.fail, before.counts.consequences), ("pass", 0, 0));
    assert_eq!(before.suppressions[0].state, SuppressionState::Applied);
    let after = judged(&facts, policy, "2027-01-01");
    assert_eq!((after.verdict.as_str(), after.suppressions[0].state), ("fail", SuppressionState::Expired));
    let unused = judged(&healthy(), policy, "2026-12-31");
    assert_eq!(unused.suppressions[0].state, SuppressionState::Unused);
}

#[test]
fn a_policy_decides_how_grave_something_is() {
    let mut facts = healthy();
    interface(&mut facts).mtu_bytes = Some(9000);
    let plain = judged(&facts, "schema: rdmadoctor/policy/1\n", "2026-01-01");
    assert_eq!((plain.verdict.as_str(), plain.counts.warn), ("warn", 1));
    let grave = judged(&facts, "schema: rdmadoctor/policy/1\nseverity: [{check: RD-0408, status: fail}]\n", "2026-01-01");
    assert_eq!((grave.verdict.as_str(), grave.counts.fail), ("fail", 1));
}

#[test]
fn a_damaged_policy_is_refused() {
    let refused = |text: &str| Policy::parse(std::path::Path::new("p.yaml"), text).unwrap_err().to_string();
    let head = "schema: rdmadoctor/policy/1\n";
    assert!(refused("schema: other\n").contains("rdmadoctor/policy/1"));
    assert!(refused(&format!("{head}sever: []\n")).contains("sever"));
    assert!(refused(&format!("{head}suppress: [{{check: RD-0501, reason: '', until: 2026-01-01}}]\n")).contains("reason"));
    assert!(refused(&format!("{head}suppress: [{{check: RD-0501, reason: x, until: soon}}]\n")).contains("soon"));
    assert!(refused(&format!("{head}severity: [{{check: RD-0599, status: fail}}]\n")).contains("RD-05"));
    assert!(refused(&format!("{head}require: {{families: [mlx9]}}\n")).contains("mlx5"));
}

#[test]
fn ids_are_found_and_near_ones_told() {
    for id in ["RD-0501", "rd-0501", "0501"] {
        assert_eq!(find(id).unwrap().page.id, "RD-0501");
    }
    assert!(find("RD-0599").unwrap_err().to_string().contains("RD-0501"));
    assert!(find("nonsense").unwrap_err().to_string().contains("explain"));
}

/// A part that could not be read to its end is one finding, and no check judges what is not there.
#[test]
fn no_check_is_fooled_by_a_part_that_was_not_read() {
    use crate::host::part::{OfPart, Part, PartFacts, ReadOptions};
    let parts = [
        Part::Rdma,
        Part::Counters,
        Part::Pcie,
        Part::Net,
        Part::Limits,
        Part::System,
        Part::VerbsFiles,
        Part::Log,
        Part::Vpd,
        Part::Modules,
    ];
    for stuck in parts {
        let root = HostModel::find("h100x8-cx7").unwrap().root();
        let read = |part: Part| -> PartFacts {
            if part == stuck { part.unread(None, "no answer in 5000 ms".to_owned()) } else { part.read(&root, &ReadOptions::default()) }
        };
        let host = facts::host::collect_by(&mut |part| Ok::<_, std::convert::Infallible>(read(part))).unwrap();
        let modules = crate::host::modules::ModulesFacts::of(read(Part::Modules)).unwrap();
        let devices = crate::devices::collect(&host.rdma, None);
        let facts = Facts { host, modules, devices, ..healthy() };
        let bad: Vec<String> = run(&facts, registry()).iter().filter(|finding| finding.status.is_bad()).map(Finding::key).collect();
        assert_eq!(bad, [format!("RD-1117/{}", stuck.name())], "{}", stuck.name());
    }
}

mod needs_tests;
