//! A profile that is true of its host, and one thing of the host that is otherwise at a time.

use rdmadoctor_types::{LinkLayer, PortState, Word};

use super::*;
use crate::request::QpType;
use crate::sim::HostModel;
use crate::verbs::{CallError, DeviceAttributes, ErrorNumber, PortAttributes, QueuePairCaps};
use crate::worker::{Inventory, VerbsDevice};

/// What is seen of a host, and what is tried there.
struct World {
    model: HostModel,
    attributes: DeviceAttributes,
    mtu_bytes: u32,
    attempts: HashMap<(String, QpRequest), Outcome>,
    connections: HashMap<(String, u32), String>,
}

/// Two NICs and a GPU that is nearer to the first one.
fn model() -> HostModel {
    let mut model = HostModel::find("h100x8-cx7").unwrap();
    model.nics.truncate(2);
    model.gpus.truncate(1);
    for (nic, guid, mac) in [(0, 0x11, "02:00:00:00:00:01"), (1, 0x22, "02:00:00:00:00:02")] {
        (model.nics[nic].guid, model.nics[nic].mac) = (Some(guid), Some(mac.to_owned()));
    }
    model.limits.memlock_bytes = Some(1 << 30);
    model.limits.ipc_lock = false;
    model
}

fn asked(change: impl FnOnce(&mut QpRequest)) -> QpRequest {
    let mut request = QpRequest::base(QpType::RC);
    change(&mut request);
    request
}

/// The attempts of the profile by their evidence: the deepest queue, one deeper, the recommended request, and an engine's.
fn requests() -> [(&'static str, QpRequest); 4] {
    [
        ("deepest", asked(|request| request.max_send_wr = 8192)),
        ("deeper", asked(|request| request.max_send_wr = 8193)),
        ("recommended", asked(|request| request.max_recv_sge = 4)),
        ("engine", asked(|request| request.max_send_sge = 3)),
    ]
}

fn granted() -> Outcome {
    Outcome::Granted { caps: QueuePairCaps::default(), cq_depth: 64 }
}

fn refused() -> Outcome {
    Outcome::Refused {
        error: CallError { call: "ibv_create_qp".to_owned(), object: "mlx5_0".to_owned(), errno: ErrorNumber(libc::EINVAL) },
    }
}

impl World {
    fn new() -> Self {
        let device = || "mlx5_0".to_owned();
        let outcome = |name: &str| if name == "deeper" { refused() } else { granted() };
        Self {
            model: model(),
            attributes: DeviceAttributes {
                max_qp_rd_atom: 16,
                max_qp_init_rd_atom: 32,
                max_mr_size_bytes: 1 << 40,
                ..DeviceAttributes::default()
            },
            mtu_bytes: 4096,
            attempts: requests().into_iter().map(|(name, request)| ((device(), request), outcome(name))).collect(),
            connections: HashMap::from([((device(), 1), "RTS".to_owned())]),
        }
    }

    fn seen(&self) -> HostSnapshot {
        let port = || PortAttributes {
            port: 1,
            state: Word::Known(PortState::Active),
            max_mtu_bytes: 4096,
            active_mtu_bytes: self.mtu_bytes,
            max_msg_size_bytes: 1 << 30,
            gid_table_length: 16,
            pkey_table_length: 1,
            lid: 0,
            sm_lid: 0,
            link_layer: Word::Known(LinkLayer::Ethernet),
            active_width_lanes: 4,
            active_speed_code: 0,
        };
        let device = |name: &String| VerbsDevice {
            name: name.clone(),
            node_type: 1,
            transport_type: 0,
            error: None,
            loss: None,
            attributes: Some(self.attributes.clone()),
            ports: vec![port()],
        };
        let devices = self.model.nics.iter().map(|nic| device(&nic.name)).collect();
        HostSnapshot::look("here".to_owned(), &self.model.root(), &Ok(Inventory { devices, ..Inventory::default() }))
    }

    fn check(&self, profile: &Profile) -> ProfileCheck {
        check("p.yaml", profile, &Now { seen: &self.seen(), attempts: &self.attempts, connections: &self.connections })
    }

    fn nic(&mut self) -> &mut crate::sim::host::Nic {
        &mut self.model.nics[0]
    }

    fn file(&mut self, path: &str, text: &str) {
        self.model.files.insert(path.into(), format!("{text}\n"));
    }

    fn module(&mut self, name: &str) -> &mut crate::sim::host::Module {
        self.model.modules.loaded.iter_mut().find(|module| module.name == name).unwrap()
    }

    /// What comes of an attempt now.
    fn outcome(&mut self, name: &str, outcome: Outcome) {
        let (_, request) = requests().into_iter().find(|(known, _)| *known == name).unwrap();
        self.attempts.insert(("mlx5_0".to_owned(), request), outcome);
    }
}

/// The profile of that host. The second port has nothing that could change.
fn profile(world: &World) -> Profile {
    let text = "
schema: rdmadoctor/profile/1
created: 2026-01-31T12:00:00Z
tool_version: 0.1.0
validated: false
host: {name: here}
devices:
- name: mlx5_0
  port: 1
  transport: RoCE
  state: active
  pci: 0000:1a:00.0
  gid: {value: '0000:0000:0000:0000:0000:ffff:0a01:000b', type: RoCE v2, evidence: file}
  mtu_bytes: {value: 4096, evidence: file}
  qp:
    limits: [{parameter: max_send_wr, accepted: 8192, refused: 8193, evidence: deepest, refused_evidence: deeper}]
    joint: [{parameter: max_send_wr, over: max_send_sge, points: [], evidence: joint}]
  max_rd_atomic: {value: 16, evidence: file}
  connection: {reached: RTS, evidence: file}
  memory: {max_region_bytes: 1099511627776, memlock_bytes: 1073741824, evidence: file}
  measurements: [{op: write, memory: host, size_bytes: 65536, queue_pairs: 1, verified: true, evidence: file}]
- {name: mlx5_1, port: 1, transport: RoCE, qp: {}}
gpus:
- index: 0
  pci: 0000:1b:00.0
  path: {kind: dmabuf, nic: mlx5_0, evidence: file}
  nics: [{name: mlx5_0, affinity: pix}, {name: mlx5_1, affinity: node}]
  evidence: file
engines:
- {name: nccl, version: '2.30', verdict: works, devices: [{name: mlx5_0, verdict: works, evidence: [engine]}]}
evidence:
- {id: file, kind: file, at: 2026-01-31T12:00:00Z, summary: seen}
- {id: joint, kind: attempt, at: 2026-01-31T12:00:00Z, summary: found, device: mlx5_0}
";
    let mut profile: Profile = serde_yaml::from_str(text).unwrap();
    profile.host.fingerprint = world.seen().fingerprint;
    for (name, request) in requests() {
        profile.evidence.push(Evidence {
            id: name.to_owned(),
            kind: EvidenceKind::Attempt,
            at: profile.created.clone(),
            summary: String::new(),
            device: Some("mlx5_0".to_owned()),
            request: Some((&request).into()),
            outcome: Some(Word::Known(world.attempts[&("mlx5_0".to_owned(), request)].kind())),
        });
    }
    profile.devices[0].qp.recommended = Some(super::super::Proven { value: (&requests()[2].1).into(), evidence: "recommended".to_owned() });
    profile
}

const LIMIT: &str = "devices/mlx5_0/1/qp/max_send_wr";
const JOINT: &str = "devices/mlx5_0/1/qp/joint/max_send_wr/max_send_sge";
const RECOMMENDED: &str = "devices/mlx5_0/1/qp/recommended";
const MEASURED: &str = "devices/mlx5_0/1/measurements";
const PATH: &str = "gpus/0000:1b:00.0/path";
const ENGINE: &str = "engines/nccl/2.30";

/// What rests on the device's fingerprint, with attempts made again; and without.
const OF_DEVICE: &[&str] = &[JOINT, MEASURED, PATH];
const OF_DEVICE_UNTRIED: &[&str] = &[LIMIT, JOINT, RECOMMENDED, MEASURED, PATH, ENGINE];

type Change = fn(&mut World);

/// What changes, how, what is stale then, and which parts of the fingerprint are told.
type Row = (&'static str, Change, &'static [&'static str], &'static [&'static str]);

const SYSFS: &str = "/sys/class/infiniband/mlx5_0";

/// Changes of what the fingerprint has.
const OF_FINGERPRINT: &[Row] = &[
    ("kernel", |world| world.file("/proc/sys/kernel/osrelease", "6.2.0"), OF_DEVICE, &["kernel.release"]),
    ("IOMMU", |world| world.model.iommu = crate::sim::host::Iommu::Off, OF_DEVICE, &["iommu.mode"]),
    ("driver", |world| world.file("/sys/module/mlx5_ib/srcversion", "OTHER"), OF_DEVICE, &["module.mlx5_ib.version"]),
    (
        "parameter of the core",
        |world| drop(world.module("ib_core").parameters.insert("netns_mode".to_owned(), "N".to_owned())),
        OF_DEVICE,
        &["module.ib_core.parameter.netns_mode"],
    ),
    (
        "libraries",
        |world| world.model.verbs.rdma_core = 45,
        OF_DEVICE,
        &["library./usr/lib/x86_64-linux-gnu/libibverbs.so.1", "library./usr/lib/x86_64-linux-gnu/librdmacm.so.1"],
    ),
    ("firmware", |world| world.nic().firmware = Some("28.40.1000".to_owned()), OF_DEVICE, &["device.mlx5_0.firmware"]),
    ("board", |world| world.file(&format!("{SYSFS}/board_id"), "MT_1"), OF_DEVICE, &["device.mlx5_0.board"]),
    ("GUID", |world| world.nic().guid = Some(0x33), OF_DEVICE, &["device.mlx5_0.node_guid"]),
    // The other NIC's bear on the way of GPU memory alone.
    ("firmware of the other", |world| world.model.nics[1].firmware = Some("1".to_owned()), &[PATH], &["device.mlx5_1.firmware"]),
    ("NVIDIA's driver", |world| world.module("nvidia").version = Some("1".to_owned()), &[PATH], &["module.nvidia.version"]),
    ("peermem", |world| world.module("nvidia_peermem").version = Some("1".to_owned()), &[PATH], &["module.nvidia_peermem.version"]),
    ("rate", |world| world.nic().rate = "200 Gb/sec (4X HDR)".to_owned(), &[MEASURED], &["port.mlx5_0.1.rate_bits_per_second"]),
    ("state", |world| world.nic().state = PortState::Down, &[MEASURED], &["port.mlx5_0.1.state"]),
    ("rate of the other", |world| world.model.nics[1].rate = "1 Gb/sec".to_owned(), &[], &["port.mlx5_1.1.rate_bits_per_second"]),
    ("an address more", |world| world.nic().addresses.push("10.9.0.1/24".to_owned()), &[], &["port.mlx5_0.1.gids"]),
];

/// Changes of what has an entry of its own.
const OF_ENTRIES: &[Row] = &[
    ("address", |world| world.nic().addresses = vec!["10.1.0.12/24".to_owned()], &["devices/mlx5_0/1/gid"], &["port.mlx5_0.1.gids"]),
    (
        "type of the address",
        |world| world.file(&format!("{SYSFS}/ports/1/gid_attrs/types/3"), "IB/RoCE v1"),
        &["devices/mlx5_0/1/gid"],
        &["port.mlx5_0.1.gids"],
    ),
    // Where it stands in the table is looked up whenever the profile is used.
    ("place of the address", |world| world.nic().addresses.insert(0, "10.9.0.1/24".to_owned()), &[], &["port.mlx5_0.1.gids"]),
    (
        "traffic class",
        |world| world.file(&format!("{SYSFS}/tc/1/traffic_class"), "Global tclass=106"),
        &["devices/mlx5_0/1/traffic_class"],
        &[],
    ),
    (
        "default traffic class",
        |world| world.file("/sys/kernel/config/rdma_cm/mlx5_1/ports/1/default_roce_tos", "104"),
        &["devices/mlx5_1/1/traffic_class"],
        &[],
    ),
    ("reads as target", |world| world.attributes.max_qp_rd_atom = 15, &["devices/mlx5_0/1/max_rd_atomic"], &[]),
    ("reads as initiator", |world| world.attributes.max_qp_init_rd_atom = 15, &["devices/mlx5_0/1/max_rd_atomic"], &[]),
    // The smaller of both counts.
    ("more reads as initiator", |world| world.attributes.max_qp_init_rd_atom = 64, &[], &[]),
    ("region", |world| world.attributes.max_mr_size_bytes = 1 << 39, &["devices/mlx5_0/1/memory"], &[]),
    ("locked memory", |world| world.model.limits.memlock_bytes = Some(1 << 20), &["devices/mlx5_0/1/memory"], &["limits.memlock_bytes"]),
    ("capability", |world| world.model.limits.ipc_lock = true, &["devices/mlx5_0/1/memory"], &["limits.ipc_lock"]),
    ("connection", |world| *world.connections.values_mut().next().unwrap() = "INIT".to_owned(), &["devices/mlx5_0/1/connection"], &[]),
    ("connection not tried", |world| world.connections.clear(), &[], &[]),
    ("deepest is refused", |world| world.outcome("deepest", refused()), &[LIMIT], &[]),
    ("deeper is granted", |world| world.outcome("deeper", granted()), &[LIMIT], &[]),
    ("recommended is refused", |world| world.outcome("recommended", refused()), &[RECOMMENDED], &[]),
    ("engine is refused", |world| world.outcome("engine", refused()), &[ENGINE], &[]),
    ("deepest was not tried", |world| world.outcome("deepest", Outcome::NotRun { why: String::new() }), &[], &[]),
    ("deepest hangs", |world| world.outcome("deepest", Outcome::Hung { deadline_ms: 1, held_in: None }), &[LIMIT], &[]),
];

fn told(check: &ProfileCheck) -> (Vec<&str>, Vec<&str>) {
    (check.stale.iter().map(|stale| stale.entry.as_str()).collect(), check.changed.iter().map(|changed| changed.field.as_str()).collect())
}

#[test]
fn a_host_that_is_as_it_was_makes_nothing_stale() {
    let world = World::new();
    let profile = profile(&world);
    let found = world.check(&profile);
    assert_eq!((told(&found), found.is_fresh), ((vec![], vec![]), true), "{found:#?}");
    assert_eq!((found.attempts_repeated, found.attempts_left), (4, 1));
    let untried = World { attempts: HashMap::new(), ..World::new() };
    let found = untried.check(&profile);
    assert_eq!((told(&found), found.attempts_repeated, found.attempts_left), ((vec![], vec![]), 0, 5), "{found:#?}");
}

#[test]
fn each_change_makes_stale_what_rests_on_it_and_nothing_else() {
    let profile = profile(&World::new());
    for (what, change, stale, changed) in OF_FINGERPRINT.iter().chain(OF_ENTRIES) {
        let mut world = World::new();
        change(&mut world);
        let found = world.check(&profile);
        assert_eq!(told(&found), (stale.to_vec(), changed.to_vec()), "{what}: {found:#?}");
        assert_eq!(found.is_fresh, stale.is_empty());
        assert!(found.stale.iter().all(|stale| stale.was != stale.is && !stale.was.is_empty() && !stale.is.is_empty()), "{found:#?}");
        assert!(found.changed.iter().all(|changed| changed.was != changed.is), "{found:#?}");
    }
}

/// What was not tried again stands or falls with the fingerprint.
#[test]
fn without_attempts_the_fingerprint_decides() {
    let profile = profile(&World::new());
    for (what, change, stale, _) in OF_FINGERPRINT {
        let mut world = World { attempts: HashMap::new(), ..World::new() };
        change(&mut world);
        let found = world.check(&profile);
        let expected = if *stale == OF_DEVICE { OF_DEVICE_UNTRIED } else { stale };
        assert_eq!(told(&found).0, expected, "{what}: {found:#?}");
    }
    // Limits bear on attempts.
    let mut world = World { attempts: HashMap::new(), ..World::new() };
    world.model.limits.memlock_bytes = Some(1 << 20);
    assert_eq!(told(&world.check(&profile)).0, [LIMIT, RECOMMENDED, "devices/mlx5_0/1/memory", ENGINE]);
}

#[test]
fn the_mtu_is_an_entry_and_bears_on_measurements() {
    let profile = profile(&World::new());
    let world = World { mtu_bytes: 1024, ..World::new() };
    let found = world.check(&profile);
    assert_eq!(
        told(&found),
        (vec!["devices/mlx5_0/1/mtu_bytes", MEASURED], vec!["port.mlx5_0.1.mtu_bytes", "port.mlx5_1.1.mtu_bytes"]),
        "{found:#?}"
    );
    assert_eq!((found.stale[0].was.as_str(), found.stale[0].is.as_str()), ("4096", "1024"));
}

#[test]
fn devices_come_and_go() {
    let profile = profile(&World::new());
    let found = |change: Change| {
        let mut world = World::new();
        change(&mut world);
        told(&world.check(&profile)).0.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // The GPU's list of NICs is shorter, and the way of its memory rests on both.
    let gone = found(|world| drop(world.model.nics.remove(1)));
    assert_eq!(gone, ["devices/mlx5_1/1", "gpus/0000:1b:00.0/nics"]);
    assert_eq!(found(|world| world.model.gpus.clear()), ["gpus/0000:1b:00.0/nics", PATH]);
    let one_more = |world: &mut World| {
        let second = HostModel::find("h100x8-cx7").unwrap().gpus.remove(1);
        world.model.gpus.push(second);
    };
    assert_eq!(found(one_more), ["gpus/0000:2d:00.0"]);
    // A GPU behind another bridge.
    let moved = found(|world| world.model.gpus[0].parent = Some("0000:2b:01.0".to_owned()));
    assert_eq!(moved, ["gpus/0000:1b:00.0/nics", PATH]);
}

#[test]
fn what_decides_is_tried_again_the_cheapest_first() {
    let world = World::new();
    let mut profile = profile(&world);
    let crashed = Evidence { id: "crashed".to_owned(), outcome: Some(Word::Known(OutcomeKind::Crashed)), ..profile.evidence[2].clone() };
    let other = Evidence { id: "other".to_owned(), kind: EvidenceKind::Connection, ..profile.evidence[2].clone() };
    profile.evidence.extend([crashed, other]);
    let decisive = decisive(&profile);
    let mut expected: Vec<_> = requests().into_iter().map(|(_, request)| request).collect();
    expected.sort_by_key(QpRequest::memory_bytes);
    assert_eq!(decisive.iter().map(|(_, request, _)| request.clone()).collect::<Vec<_>>(), expected);
    assert!(decisive.iter().all(|(device, _, outcome)| *device == "mlx5_0" && *outcome != OutcomeKind::Crashed));
    assert_eq!(connected(&profile).collect::<Vec<_>>(), [("mlx5_0", 1)]);
}
