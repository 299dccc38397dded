//! What checks declare that they need is what they are judged from: no more and no less.

use super::*;
use crate::capture::parse_file;
use crate::facts::Source;
use crate::host::log::AerSeverity;
use crate::host::net::configured::ConfiguredAddress;
use crate::host::rdma_objects::OpenNode;

/// All but what is not gathered for any check.
const SOURCES: [Source; 16] = [
    Source::Rdma,
    Source::Counters,
    Source::Pcie,
    Source::Net,
    Source::Limits,
    Source::System,
    Source::VerbsFiles,
    Source::Log,
    Source::Modules,
    Source::Verbs,
    Source::QueuePairs,
    Source::Gpus,
    Source::HostMemory,
    Source::GpuMemory,
    Source::Objects,
    Source::Measured,
];

/// The facts without all that comes from other sources. What could not be read is known of every part.
fn only(facts: &Facts, sources: &[Source]) -> Facts {
    let has = |source| sources.contains(&source);
    let mut facts = facts.clone();
    macro_rules! forget {
        ($($source:ident: $part:expr;)*) => { $(
            if !has(Source::$source) {
                let read = std::mem::take(&mut $part);
                $part.problems = read.problems;
            }
        )* };
    }
    forget! {
        Rdma: facts.host.rdma;
        Counters: facts.host.counters;
        Pcie: facts.host.pcie;
        Net: facts.host.net;
        Limits: facts.host.limits;
        System: facts.host.system;
        VerbsFiles: facts.host.verbs_files;
        Log: facts.host.log;
        Modules: facts.modules;
    }
    let vpd = std::mem::take(&mut facts.host.vpd);
    facts.host.vpd.problems = vpd.problems;
    if ![Source::Rdma, Source::Pcie, Source::System].into_iter().all(has) {
        facts.host.topology = Default::default();
    }
    if ![Source::Rdma, Source::Verbs].into_iter().all(has) {
        facts.devices = crate::devices::collect(&Default::default(), None);
    }
    facts.verbs = facts.verbs.filter(|_| has(Source::Verbs));
    facts.queue_pairs = facts.queue_pairs.filter(|_| has(Source::QueuePairs));
    facts.gpus = facts.gpus.filter(|_| has(Source::Gpus));
    facts.objects = facts.objects.filter(|_| has(Source::Objects));
    facts.measured = facts.measured.filter(|_| has(Source::Measured));
    facts.memory = facts.memory.filter(|_| has(Source::HostMemory) || has(Source::GpuMemory));
    if let Some(memory) = &mut facts.memory {
        memory.host.retain(|_| has(Source::HostMemory));
        memory.gpu.retain(|_| has(Source::GpuMemory));
    }
    facts
}

fn listed(facts: &mut Facts) {
    let device = VerbsDevice {
        name: "mlx5_0".to_owned(),
        node_type: 1,
        transport_type: 0,
        error: None,
        loss: None,
        attributes: None,
        ports: Vec::new(),
    };
    asked_verbs(facts).devices.push(device);
}

fn address_is_configured(facts: &mut Facts) {
    let address = ConfiguredAddress {
        netdev: "eth0".to_owned(),
        address: "192.0.2.77".parse().unwrap(),
        prefix_length: 24,
        file: "/etc/systemd/network/eth0.network".to_owned(),
        line: 3,
    };
    facts.host.net.configured_addresses.push(address);
}

fn gpus_are_not_asked(facts: &mut Facts) {
    facts.gpus = None;
}

/// A check, and what changes a healthy host so that it looks at more.
type Other = (&'static str, fn(&mut Facts));

/// Where a check looks at more than it does on those of [`WOUNDS`].
#[rustfmt::skip]
const OTHERS: &[Other] = &[
    ("RD-0104", |f| { listed(f); f.host.verbs_files.driver_files = Some(Vec::new()); }),
    ("RD-0201", |f| f.modules.modules.clear()),
    ("RD-0201", |f| { state(f, "ib_core", ModuleState::Unknown); f.host.rdma.devices = None; f.host.net.interfaces = None; }),
    ("RD-0201", |f| { state(f, "ib_core", ModuleState::Unknown); f.host.rdma.devices = None; f.host.pcie.functions = None; }),
    ("RD-0202", |f| f.modules.modules.clear()),
    ("RD-0202", |f| { state(f, "ib_uverbs", ModuleState::OnDisk); listed(f); }),
    ("RD-0202", |f| { state(f, "ib_uverbs", ModuleState::OnDisk); f.host.rdma.uverbs_abi_version = None; f.host.rdma.devices = None; }),
    ("RD-0202", |f| {
        state(f, "ib_uverbs", ModuleState::Absent);
        f.host.rdma.uverbs_abi_version = None;
        f.host.rdma.devices.iter_mut().flatten().for_each(|device| device.uverbs = None);
    }),
    ("RD-0203", |f| { iwarp(f); f.host.rdma.connection_manager.expected = None; state(f, "rdma_ucm", ModuleState::Absent); }),
    ("RD-0204", |f| {
        *f = modelled("erdma-a10x8");
        f.host.rdma.devices = None;
        state(f, "erdma", ModuleState::Absent);
        f.host.system.kernel_release = Some("5.4.0".to_owned());
    }),
    ("RD-0209", |f| log(f, Event::UnknownSymbol { module: "mlx5_ib".to_owned(), symbol: "ib_umem_get_peer".to_owned(), errno: Some(-2) }, 1)),
    ("RD-0213", |f| { container(f); f.host.verbs_files.devices_shared_between_namespaces = Some(false); f.host.rdma.devices = None; f.host.verbs_files.nodes = None; }),
    ("RD-0301", |f| {
        f.host.rdma.devices = None;
        // Where there are RDMA functions no software device is named.
        f.host.pcie.functions = Some(Vec::new());
        let absent = Module { name: "rdma_rxe".to_owned(), state: ModuleState::Absent, ..module(f, "mlx5_ib").clone() };
        f.modules.modules.push(absent);
    }),
    ("RD-0303", |f| { device(f).uverbs = None; listed(f); }),
    ("RD-0306", |f| {
        container(f);
        asked_verbs(f);
        f.devices.devices[0].seen_by.verbs = Some(false);
        f.devices.devices[0].problem = Some(Problem { summary: "no provider".to_owned(), next_step: None });
    }),
    ("RD-0401", |f| { address_is_configured(f); device(f).ports[0].gids.clear(); device(f).netdevs = vec!["eth0".to_owned()]; }),
    ("RD-0403", |f| { address_is_configured(f); device(f).ports[0].gids.retain(|gid| gid.gid.starts_with("fe80")); }),
    ("RD-0404", |f| {
        address_is_configured(f);
        device(f).ports[0].gids.iter_mut().filter(|gid| !gid.gid.starts_with("fe80")).for_each(|gid| gid.gid = "2001:0db8:0000:0000:0000:0000:0000:0001".to_owned());
    }),
    ("RD-0406", |f| f.host.net.addresses = vec![Address {
        address: "192.0.2.1".parse().unwrap(), netdev: Some("eth0".to_owned()), prefix_length: Some(24), source: "x".to_owned(), is_duplicate: true, is_tentative: false }]),
    ("RD-0501", |f| { f.host.limits.own = unprivileged(1 << 30); f.host.system.memory.total_bytes = Some(1 << 40); }),
    ("RD-0509", |f| { f.host.limits.own = unprivileged(1 << 20); registered(f, 12); }),
    ("RD-0509", |f| {
        registered(f, 5);
        listed(f);
        let attributes = crate::catalog::DeviceModel::find("mlx5").unwrap().attributes();
        let listed = asked_verbs(f).devices.last_mut().unwrap();
        listed.attributes = Some(crate::verbs::DeviceAttributes { max_mr_size_bytes: 1 << 20, ..attributes });
    }),
    ("RD-0703", |f| { dma_buf_only(f); f.gpus.as_mut().unwrap().gpus.iter_mut().for_each(|gpu| gpu.cuda.as_mut().unwrap().dma_buf_supported = Some(false)); }),
    ("RD-0708", without_peer_memory),
    ("RD-0708", |f| { without_peer_memory(f); f.gpus.as_mut().unwrap().gpus.iter_mut().for_each(|gpu| gpu.cuda.as_mut().unwrap().dma_buf_supported = Some(false)); }),
    ("RD-0713", |f| { container(f); f.modules.nvidia.as_mut().unwrap().nodes.iter_mut().for_each(|node| node.found = None); }),
    ("RD-0713", |f| f.modules.nvidia = None),
    ("RD-0714", |f| { container(f); answer(f).cuda = None; }),
    ("RD-0714", |f| { gpus_are_not_asked(f); f.modules.nvidia = None; }),
    ("RD-0714", |f| { gpus_are_not_asked(f); f.host.pcie.functions = None; }),
    ("RD-0715", |f| { container(f); f.gpus.as_mut().unwrap().nvml.error = Some(GpuError::LibraryMissing { library: "libnvidia-ml.so.1".to_owned() }); }),
    ("RD-0720", |f| { gpu_memory(f); log(f, Event::PeerMemoryFailed, 1); }),
    ("RD-0805", |f| {
        f.host.system.iommu.mode = IommuMode::Translated;
        f.host.system.iommu.groups = vec![IommuGroup { group: 1, kind: Some("DMA".to_owned()) }];
        nic(f).iommu_group = Some(1);
    }),
    ("RD-0809", |f| { (nic(f).function.vendor_id, nic(f).function.device_id, nic(f).function.driver) = (None, None, None); nic(f).config.as_mut().unwrap().is_answering = false; }),
    ("RD-1104", |f| log(f, Event::AerError { severity: AerSeverity::Fatal, pci: Some("0000:1a:00.0".to_owned()) }, 1)),
    ("RD-1112", |f| log(f, Event::IommuFault { pci: Some("0000:1b:00.0".to_owned()) }, 1)),
    ("RD-1116", |f| { container(f); answer(f).error = refused("NVML_ERROR_NO_PERMISSION"); }),
    ("RD-1119", |f| { container(f); f.host.limits.container.in_first_process_namespace = Some(false); held(f, |holder| holder.pid = None); }),
    ("RD-1119", |f| {
        held(f, |holder| holder.pid = None);
        let open = OpenNode { node: "/dev/infiniband/uverbs9".to_owned(), pid: 7, name: None, state: None };
        f.objects.as_mut().unwrap().open_by.push(open);
    }),
];

/// Hosts on which each check has something to look at: models, every wound, what was captured, what was measured.
fn hosts() -> Vec<(String, Facts)> {
    let mut hosts: Vec<(String, Facts)> = HostModel::names().map(|name| (name.to_owned(), modelled(name))).collect();
    let wounds = WOUNDS.iter().map(|(id, _, _, wound)| (id, wound));
    for (id, wound) in wounds.chain(OTHERS.iter().map(|(id, wound)| (id, wound))) {
        let mut facts = healthy();
        wound(&mut facts);
        hosts.push((format!("{id}, number {}", hosts.len()), facts));
    }
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    for name in ["1-erdma-a10x8", "bare-quick", "h200"] {
        let bytes = std::fs::read(captures.join(format!("{name}.json.gz"))).unwrap();
        hosts.push((name.to_owned(), parse_file(&bytes).unwrap().facts));
    }
    hosts.push(("measured".to_owned(), crate::checks::measured::tests::all_well()));
    hosts
}

fn findings(facts: &Facts, check: &Check) -> Vec<Finding> {
    run(facts, [check])
}

#[test]
fn no_check_looks_at_what_it_does_not_declare() {
    let mut wrong = BTreeSet::new();
    for (host, facts) in hosts() {
        // Checks with the same needs share a copy of the facts.
        let mut left: Vec<&Check> = registry().collect();
        while let Some(needs) = left.first().map(|check| check.needs) {
            let (alike, others): (Vec<&Check>, Vec<&Check>) = left.into_iter().partition(|check| check.needs == needs);
            left = others;
            let declared = only(&facts, needs);
            for check in alike.into_iter().filter(|check| findings(&declared, check) != findings(&facts, check)) {
                let more = SOURCES.iter().filter(|source| !needs.contains(source));
                let culprits: Vec<&Source> = more
                    .filter(|more| {
                        let without: Vec<Source> = SOURCES.into_iter().filter(|source| source != *more).collect();
                        findings(&only(&facts, &without), check) != findings(&facts, check)
                    })
                    .collect();
                wrong.insert(format!("{} looks at {culprits:?} on {host}", check.page.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_check_declares_what_it_does_not_look_at() {
    let hosts = hosts();
    let mut wrong = Vec::new();
    for check in registry() {
        for need in check.needs {
            let without: Vec<Source> = SOURCES.into_iter().filter(|source| source != need).collect();
            // Its own wounds first: there it matters most likely.
            let (own, others): (Vec<_>, Vec<_>) = hosts.iter().partition(|(host, _)| host.starts_with(check.page.id));
            let matters = |(_, facts): &(String, Facts)| findings(&only(facts, &without), check) != findings(facts, check);
            if !own.into_iter().chain(others).any(matters) {
                wrong.push(format!("{} does without {need:?} on every host", check.page.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
