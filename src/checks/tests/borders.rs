//! Both sides of each bound that checks compare with: the last value that is well, and the first that is not.

use Status::{Fail, Warn};

use super::*;
use crate::verbs::DeviceAttributes;

/// A check, a subject of it, what sets a value on a healthy host, and two values next to each other with what is found at each.
type Border = (&'static str, &'static str, fn(&mut Facts, u64), Side, Side);

/// A value, and how grave a finding it gives, if any.
type Side = (u64, Option<Status>);

/// What a policy requires, where one does.
const REQUIRED: u64 = 1 << 30;

fn small(value: u64) -> u32 {
    value.try_into().unwrap()
}

/// The node of the first device has these rights, and is of user 0 and group 0.
fn node(facts: &mut Facts, mode: u64, uid: u32, groups: &[u32]) {
    let found = device(facts).uverbs.as_mut().unwrap().node.found.as_mut().unwrap();
    (found.mode, found.uid, found.gid) = (small(mode), 0, 0);
    facts.host.limits.own.effective_uid = Some(uid);
    facts.host.limits.own.groups = Some(groups.to_vec());
}

/// The first device's path MTU and its interface's MTU.
fn mtu(facts: &mut Facts, path: u64, own: u64) {
    let ports = serde_json::from_value(serde_json::json!([{"port": 1, "state": "active", "max_mtu_bytes": 4096, "active_mtu_bytes": path,
        "max_msg_size_bytes": 1, "gid_table_length": 4, "pkey_table_length": 1, "lid": 0, "sm_lid": 0, "link_layer": "ethernet",
        "active_width_lanes": 4, "active_speed_code": 1}]))
    .unwrap();
    let name = "mlx5_0".to_owned();
    asked_verbs(facts).devices.push(VerbsDevice {
        name,
        node_type: 1,
        transport_type: 0,
        error: None,
        loss: None,
        attributes: None,
        ports,
    });
    interface(facts).mtu_bytes = Some(small(own));
}

/// The GID of the first device is one of the second too, by this interface.
fn shared_gid(facts: &mut Facts, netdev: u64) {
    let gid = device(facts).ports[0].gids.last().unwrap().clone();
    let gid = SysfsGid { index: 9, netdev: Some(format!("eth{netdev}")), ..gid };
    facts.host.rdma.devices.as_mut().unwrap()[1].ports[0].gids.push(gid);
}

fn unit(facts: &mut Facts, bytes: u64) {
    let limit = LimitValue::Value(bytes);
    let limit = UnitLimit { directive: "LimitMEMLOCK".to_owned(), soft: limit, hard: limit, file: "/etc/x".to_owned(), line: 2 };
    facts.host.limits.services.units.push(UnitFacts { name: "docker.service".to_owned(), files: Vec::new(), limits: vec![limit] });
}

fn login(facts: &mut Facts, bytes: u64) {
    let (domain, kind, file) = ("*".to_owned(), "hard".to_owned(), "/etc/security/limits.conf".to_owned());
    facts.host.limits.services.logins.push(LoginLimit { domain, kind, limit: LimitValue::Value(bytes), file, line: 1 });
}

fn contexts(facts: &mut Facts, used: u64) {
    let count = |handles| RdmaLimit {
        file: "rdma.max".to_owned(),
        device: "mlx5_0".to_owned(),
        handles: Some(LimitValue::Value(handles)),
        objects: Some(LimitValue::Unlimited),
    };
    facts.host.limits.own_cgroup.rdma_usage.push(count(used));
    facts.host.limits.own_cgroup.rdma_limits.push(count(2));
}

fn link_downs(facts: &mut Facts, count: u64) {
    log(facts, Event::LinkDown { driver: "mlx5_core".to_owned(), netdev: "eth0".to_owned() }, count);
}

fn slow(facts: &mut Facts, elapsed_us: u64) {
    facts.host.timings.iter_mut().for_each(|timing| timing.elapsed_us = 0);
    facts.host.timings[0].elapsed_us = elapsed_us;
}

/// All NICs ask for 512 bytes at once, the first for as many as given.
fn read_request(facts: &mut Facts, bytes: u64) {
    let all = facts.host.pcie.functions.iter_mut().flatten().filter_map(|function| function.config.as_mut()?.express.as_mut());
    all.for_each(|express| express.read_request_bytes = Some(512));
    nic(facts).config.as_mut().unwrap().express.as_mut().unwrap().read_request_bytes = Some(small(bytes));
}

#[rustfmt::skip]
const BORDERS: &[Border] = &[
    ("RD-0109", "host", |f, abi| f.host.rdma.uverbs_abi_version = Some(small(abi)), (3, None), (2, Some(Fail))),
    ("RD-0109", "host", |f, abi| f.host.rdma.uverbs_abi_version = Some(small(abi)), (6, None), (7, Some(Fail))),
    // To open a node for queue pairs it has to be read and written.
    ("RD-0305", "mlx5_0", |f, mode| node(f, mode, 1000, &[1000]), (0o606, None), (0o604, Some(Fail))),
    ("RD-0305", "mlx5_0", |f, mode| node(f, mode, 1000, &[1000]), (0o666, None), (0o664, Some(Fail))),
    ("RD-0305", "mlx5_0", |f, mode| node(f, mode, 1000, &[1000]), (0o666, None), (0o662, Some(Fail))),
    ("RD-0305", "mlx5_0", |f, mode| node(f, mode, 1000, &[0]), (0o660, None), (0o640, Some(Fail))),
    ("RD-0305", "mlx5_0", |f, mode| { node(f, mode, 1000, &[1000]); device(f).uverbs.as_mut().unwrap().node.found.as_mut().unwrap().uid = 1000; },
        (0o600, None), (0o400, Some(Fail))),
    ("RD-0314", "mlx5_0/1", |f, rate| device(f).ports[0].rate_bits_per_second = Some(rate), (400_000_000_000, None), (399_999_999_999, Some(Warn))),
    ("RD-0314", "mlx5_0/1", |f, least| f.wanted.port_bits_per_second = Some(least), (400_000_000_000, None), (400_000_000_001, Some(Fail))),
    ("RD-0406", "mlx5_1/1", shared_gid, (0, None), (1, Some(Fail))),
    ("RD-0407", "mlx5_0/1", |f, path| mtu(f, path, 4200), (4096, None), (2048, Some(Warn))),
    ("RD-0407", "mlx5_0/1", |f, own| mtu(f, 2048, own), (4191, None), (4192, Some(Warn))),
    // The highest bit of a P_Key is full membership.
    ("RD-0409", "mlx5_0/1", |f, key| { infiniband(f); device(f).ports[0].pkeys = vec![SysfsPkey { index: 0, pkey: key.try_into().unwrap() }]; },
        (0x8000, None), (0x7fff, Some(Warn))),
    // Physical state 5 is LinkUp.
    ("RD-0410", "mlx5_0/1", |f, code| {
        infiniband(f);
        device(f).ports[0].state = Some(NamedCode { code: 2, name: "INIT".to_owned() });
        device(f).ports[0].phys_state = Some(NamedCode { code: small(code), name: "a state".to_owned() });
    }, (4, None), (5, Some(Warn))),
    ("RD-0501", "host", |f, soft| { f.host.limits.own = unprivileged(soft); f.host.system.memory.total_bytes = Some(1 << 40); },
        (1 << 40, None), ((1 << 40) - 1, Some(Warn))),
    ("RD-0501", "host", |f, soft| { f.host.limits.own = unprivileged(soft); f.host.system.memory.total_bytes = Some(1 << 40); },
        ((8 << 20) + 1, Some(Warn)), (8 << 20, Some(Fail))),
    ("RD-0501", "host", |f, soft| { f.host.limits.own = unprivileged(soft); f.wanted.memlock_bytes = Some(REQUIRED); },
        (REQUIRED, None), (REQUIRED - 1, Some(Fail))),
    ("RD-0502", "/proc/42", |f, soft| { f.host.limits.process = Some(unprivileged(soft)); f.wanted.memlock_bytes = Some(REQUIRED); },
        (REQUIRED, None), (REQUIRED - 1, Some(Fail))),
    ("RD-0503", "docker.service", |f, bytes| { unit(f, bytes); f.wanted.memlock_bytes = Some(REQUIRED); }, (REQUIRED, None), (REQUIRED - 1, Some(Warn))),
    ("RD-0504", "* hard", |f, bytes| { login(f, bytes); f.wanted.memlock_bytes = Some(REQUIRED); }, (REQUIRED, None), (REQUIRED - 1, Some(Warn))),
    ("RD-0506", "mlx5_0", contexts, (1, None), (2, Some(Fail))),
    ("RD-0507", "mlx5_7", |f, last| f.host.limits.own.allowed_memory_nodes = Some(format!("0-{last}")), (1, None), (0, Some(Warn))),
    ("RD-0508", "/proc/42", |f, pinned| f.host.limits.process = Some(ProcessFacts { pinned_bytes: Some(pinned), ..unprivileged(1000) }),
        (899, None), (900, Some(Fail))),
    ("RD-0705", "host", |f, minor| { dma_buf_only(f); f.host.system.kernel_release = Some(format!("5.{minor}.0")); }, (12, None), (11, Some(Fail))),
    ("RD-0709", "0000:1b:00.0", |f, size| {
        answer(f).memory_bytes = Some(80 << 30);
        gpu(f).bars.iter_mut().filter(|bar| bar.is_prefetchable).for_each(|bar| bar.size_bytes = size);
    }, (80 << 30, None), ((80 << 30) - 1, Some(Warn))),
    ("RD-0718", "0000:1b:00.0", |f, used| { answer(f).bar1_bytes = Some(1000); answer(f).bar1_used_bytes = Some(used); }, (899, None), (900, Some(Warn))),
    ("RD-0803", "mlx5_0", |f, carried| f.host.topology.nics[0].path.bits_per_second = Some(carried),
        (400_000_000_000, None), (399_999_999_999, Some(Warn))),
    ("RD-0807", "mlx5_0", read_request, (512, None), (256, Some(Warn))),
    ("RD-0808", "0000:1b:00.0", |f, nodes| {
        f.host.system.memory.nodes.as_mut().unwrap().truncate(nodes.try_into().unwrap());
        gpu(f).function.numa_node = None;
    }, (1, None), (2, Some(Warn))),
    ("RD-0902", "host", |f, soft| { container(f); f.host.limits.own = unprivileged(soft); f.wanted.memlock_bytes = Some(REQUIRED); },
        (REQUIRED, None), (REQUIRED - 1, Some(Fail))),
    ("RD-0904", "host", |f, bytes| { container(f); f.host.limits.container.dev_shm_bytes = Some(bytes); }, ((64 << 20) + 1, None), (64 << 20, Some(Warn))),
    ("RD-1003", "mlx5_0/1", |f, sent| { counted(f, "np_ecn_marked_roce_packets", &[7]); counted(f, "np_cnp_sent", &[sent]); }, (1, None), (0, Some(Warn))),
    ("RD-1003", "mlx5_0/1", |f, marked| { counted(f, "np_ecn_marked_roce_packets", &[marked]); counted(f, "np_cnp_sent", &[]); }, (0, None), (1, Some(Warn))),
    ("RD-1101", "mlx5_0/1", link_downs, (2, None), (3, Some(Warn))),
    ("RD-1101", "mlx5_0/1", |f, count| { link_downs(f, count); f.wanted.link_downs = Some(5); }, (5, None), (6, Some(Warn))),
    ("RD-1102", "mlx5_0/1", |f, errors| counted(f, "symbol_error", &[errors]), (0, None), (1, Some(Warn))),
    // One sibling is none to compare with: either of the two may be the odd one.
    ("RD-1102", "mlx5_0/1", |f, devices| {
        f.host.rdma.devices.as_mut().unwrap().truncate(devices.try_into().unwrap());
        counted(f, "symbol_error", &[12]);
    }, (2, None), (3, Some(Warn))),
    ("RD-1103", "mlx5_0/1", |f, errors| counted(f, "out_of_sequence", &[errors]), (0, None), (1, Some(Warn))),
    ("RD-1104", "0000:1a:00.0", |f, count| nic(f).errors = Some(AerCounts { nonfatal: Some(count), correctable: Some(9), fatal: Some(0) }),
        (0, None), (1, Some(Warn))),
    ("RD-1104", "0000:1a:00.0", |f, count| nic(f).errors = Some(AerCounts { fatal: Some(count), nonfatal: Some(1), ..AerCounts::default() }),
        (0, Some(Warn)), (1, Some(Fail))),
    ("RD-1108", "host", slow, (1_000_999, None), (1_001_000, Some(Warn))),
    ("RD-1108", "host", |f, elapsed| { slow(f, elapsed); f.wanted.slow_read_ms = Some(10); }, (10_999, None), (11_000, Some(Warn))),
    ("RD-1116", "0000:1b:00.0", |f, elapsed| answer(f).answered_in_us = Some(elapsed), (1_000_000, None), (1_000_001, Some(Warn))),
    ("RD-1116", "0000:1b:00.0", |f, elapsed| { answer(f).answered_in_us = Some(elapsed); f.wanted.slow_read_ms = Some(10); },
        (10_000, None), (10_001, Some(Warn))),
    ("RD-1118", "0000:1b:00.0", |f, errors| answer(f).uncorrected_errors = Some(errors), (0, None), (1, Some(Warn))),
    ("RD-1119", "mlx5_0", |f, broken| { held(f, |_| {}); f.objects.as_mut().unwrap().holders[0].broken_queue_pairs = broken; },
        (3, None), (4, Some(Warn))),
];

/// How grave what a check finds on a subject is, if it finds something.
fn found(facts: &Facts, id: &str, subject: &str) -> Option<Status> {
    let findings = run(facts, [find(id).unwrap()]);
    findings.into_iter().find(|finding| finding.subject == subject && finding.status.is_bad()).map(|finding| finding.status)
}

#[test]
fn bounds_are_where_they_should_be() {
    let mut wrong = Vec::new();
    for (id, subject, set, well, ill) in BORDERS {
        for (value, expected) in [well, ill] {
            let mut facts = healthy();
            set(&mut facts, *value);
            let got = found(&facts, id, subject);
            if got != *expected {
                wrong.push(format!("{id} {subject} at {value}: {expected:?} expected, {got:?} found"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A check, a subject, what sets a value, and two values next to each other with how the remedy begins at each.
type Turn = (&'static str, &'static str, fn(&mut Facts, u64), (u64, &'static str), (u64, &'static str));

#[rustfmt::skip]
const TURNS: &[Turn] = &[
    // The kernel counts what libibverbs and the driver lock besides, so a refusal from half of the limit on is by the limit.
    ("RD-0509", "mlx5_0", |f, bytes| {
        f.host.limits.own = unprivileged(8 << 20);
        registered(f, 12);
        f.memory.as_mut().unwrap().host[0].refused.as_mut().unwrap().bytes = bytes;
    }, (4 << 20, "free memory"), ((4 << 20) + 1, "lift the limit")),
    // The device says itself how large a region may be.
    ("RD-0509", "mlx5_0", |f, bytes| {
        mtu(f, 4096, 4200);
        let attributes = DeviceAttributes { max_mr_size_bytes: 2 << 20, ..DeviceAttributes::default() };
        asked_verbs(f).devices[0].attributes = Some(attributes);
        registered(f, 5);
        f.memory.as_mut().unwrap().host[0].refused.as_mut().unwrap().bytes = bytes;
    }, (2 << 20, "the driver's own words"), ((2 << 20) + 1, "make the engine register smaller")),
    // erdma is in the kernel since 6.1: no package of an older one has it.
    ("RD-0204", "erdma", |f, minor| {
        *f = modelled("erdma-a10x8");
        f.host.rdma.devices = None;
        state(f, "erdma", ModuleState::Absent);
        f.host.system.kernel_release = Some(if minor == 1 { "6.1.0" } else { "6.0.9" }.to_owned());
    }, (1, "install the package"), (0, "install the vendor's driver")),
    // Its provider is in rdma-core since release 43.
    ("RD-0103", "erdma_0", |f, release| {
        *f = modelled("erdma-a10x8");
        f.host.verbs_files.providers.clear();
        f.host.verbs_files.libraries[0].rdma_core = Some(small(release));
    }, (43, "install the provider"), (42, "this release has none")),
    // A limit that may be raised without privileges is raised in the shell, where there is no bound to it.
    ("RD-0501", "host", |f, hard| {
        f.host.limits.own = unprivileged(65536);
        f.host.limits.own.limits[0].hard = if hard == 0 { LimitValue::Unlimited } else { LimitValue::Value(hard) };
    }, (0, "raise it in the shell"), (131_072, "lift it for logins")),
];

#[test]
fn remedies_turn_where_they_should() {
    let mut wrong = Vec::new();
    for (id, subject, set, one, other) in TURNS {
        for (value, expected) in [one, other] {
            let mut facts = healthy();
            set(&mut facts, *value);
            let findings = run(&facts, [find(id).unwrap()]);
            let own = findings.iter().find(|finding| finding.subject == *subject && finding.status.is_bad());
            let got = own.map_or("nothing", |finding| finding.remedy.summary.as_str());
            if !got.starts_with(expected) {
                wrong.push(format!("{id} {subject} at {value}: `{expected}` expected, `{got}` found"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// NVIDIA's table of Xids: after the first ones a GPU is of no use until it is reset, the others end a program at most.
#[test]
fn xids_that_need_a_reset_are_grave() {
    let status = |xid| {
        let mut facts = healthy();
        log(&mut facts, Event::NvidiaXid { xid, pci: Some("0000:1b:00".to_owned()) }, 1);
        found(&facts, "RD-1105", "0000:1b:00.0")
    };
    assert_eq!([48, 62, 64, 74, 79, 95, 119, 120, 140].map(status), [Some(Fail); 9]);
    assert_eq!([13, 31, 43, 45, 63, 68, 92, 94, 137].map(status), [Some(Warn); 9]);
    let command = |event| {
        let mut facts = healthy();
        log(&mut facts, event, 1);
        let found = run(&facts, [find("RD-1105").unwrap()]).into_iter().find(|finding| finding.status.is_bad()).unwrap();
        found.remedy.commands.concat()
    };
    let pci = || Some("0000:1b:00".to_owned());
    assert_eq!(command(Event::NvidiaXid { xid: 95, pci: pci() }), "nvidia-smi --gpu-reset -i 0000:1b:00.0");
    assert_eq!(command(Event::NvidiaXid { xid: 95, pci: None }), "nvidia-smi --gpu-reset");
    assert_eq!(command(Event::NvidiaSxid { sxid: 11001, pci: pci() }), "nvidia-smi --gpu-reset");
    assert_eq!([13, 31, 43, 45].map(|xid| command(Event::NvidiaXid { xid, pci: pci() })), ["dmesg -T | grep Xid"; 4]);
    assert_eq!(command(Event::NvidiaXid { xid: 63, pci: pci() }), "nvidia-smi --gpu-reset -i 0000:1b:00.0");
    assert_eq!(command(Event::NvidiaXid { xid: 79, pci: pci() }), "nvidia-bug-report.sh");
}

/// A unit's or file's name of the host's is one word of a command, whatever it holds.
#[test]
fn names_of_the_host_are_words_of_a_command() {
    let unit = "a$(id)\\x2d;b.service";
    let mut facts = healthy();
    facts.host.limits.services.units.push(UnitFacts {
        name: unit.to_owned(),
        files: Vec::new(),
        limits: vec![UnitLimit {
            directive: "LimitMEMLOCK".to_owned(),
            soft: LimitValue::Value(8 << 20),
            hard: LimitValue::Value(8 << 20),
            file: "/etc/x".to_owned(),
            line: 2,
        }],
    });
    state(&mut facts, "mlx5_ib", ModuleState::OnDisk);
    let file = "/etc/modprobe.d/x `id`.conf";
    let block = Block { kind: BlockKind::Install, file: file.to_owned(), line: 3, text: "install mlx5_ib /bin/false".to_owned() };
    module(&mut facts, "mlx5_ib").blocked_by.push(block);
    let findings = run(&facts, registry());
    let words = |id: &str| {
        let found = findings.iter().find(|finding| finding.id == id && finding.status.is_bad()).unwrap();
        found.remedy.commands.iter().flat_map(|command| shlex::split(command).unwrap()).collect::<Vec<_>>()
    };
    assert!(words("RD-0503").contains(&unit.to_owned()), "{:?}", words("RD-0503"));
    assert!(words("RD-0205").contains(&file.to_owned()), "{:?}", words("RD-0205"));
}

/// Where no module of the driver is known to be loaded, none is taken out.
#[test]
fn nothing_is_unloaded_that_is_not_known_to_be_loaded() {
    let mut facts = healthy();
    facts.modules.modules.retain(|module| !module.name.starts_with("nvidia"));
    facts.gpus.as_mut().unwrap().nvml.error = refused("NVML_ERROR_LIB_RM_VERSION_MISMATCH");
    let findings = run(&facts, registry());
    let found = findings.iter().find(|finding| finding.id == "RD-0712" && finding.status.is_bad()).unwrap();
    assert_eq!(found.remedy.commands, [""; 0]);
}
