//! Every check on a host that is well and on one that is not.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use rdmadoctor_types::{LinkLayer, Word};

use self::wounds::WOUNDS;
use super::*;
use crate::devices::Problem;
use crate::facts::{self, HostMemory, MemoryTried, RefusedMemory, VerbsFacts, Wanted, WantedEngine};
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

/// A busy machine reads late, which is no news of the host.
fn at_once(host: &mut facts::host::HostFacts) {
    host.timings.iter_mut().for_each(|timing| timing.elapsed_us = 0);
}

/// What files say of a modelled host.
fn modelled(name: &str) -> Facts {
    let model = HostModel::find(name).unwrap();
    let root = model.root();
    let mut host = facts::host::collect(&root, None);
    at_once(&mut host);
    let modules = crate::host::modules::read(&root);
    let devices = crate::devices::collect(&host.rdma, None);
    Facts { gpus: model.gpus(), ..Facts::of_files(host, modules, devices, Wanted::default()) }
}

/// The healthy host, with a log that says nothing. It is built once: that takes longer than all checks.
pub(super) fn healthy() -> Facts {
    static HEALTHY: OnceLock<Facts> = OnceLock::new();
    let build = || {
        let mut facts = modelled("h100x8-cx7");
        facts.host.log.source = Some("/var/log/kern.log".to_owned());
        facts
    };
    HEALTHY.get_or_init(build).clone()
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

fn engine(facts: &mut Facts, connects_itself: bool) {
    let (name, version) = ("dlslime".to_owned(), "0.0.1.post7".to_owned());
    facts.wanted.engines.push(WantedEngine { name, version, connects_itself });
}

fn asked_verbs(facts: &mut Facts) -> &mut Inventory {
    facts.verbs.get_or_insert_default().inventory.get_or_insert_default()
}

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
    at_once(&mut facts.host);
    facts.modules = crate::host::modules::read(&root);
    facts.devices = crate::devices::collect(&facts.host.rdma, None);
    let findings = run(&facts, registry());
    assert!(findings.iter().all(|finding| finding.status != Status::Error));
    let bad: Vec<&str> = findings.iter().filter(|finding| finding.status.is_bad()).map(|finding| finding.id.as_str()).collect();
    assert_eq!(bad, ["RD-0101", "RD-0301"]);
}

#[test]
fn every_wound_is_found() {
    let (mut wrong, mut remedies) = (Vec::new(), String::new());
    for (id, subject, status, wound) in WOUNDS {
        let mut facts = healthy();
        wound(&mut facts);
        let findings = run(&facts, registry());
        let own: Vec<&Finding> = findings.iter().filter(|finding| finding.id == *id).collect();
        let Some(found) = own.iter().find(|finding| finding.subject == *subject && finding.status.is_bad()) else {
            let own: Vec<String> = own.iter().map(|finding| format!("{} {}", finding.status, finding.subject)).collect();
            wrong.push(format!("{id} {subject}: {status} expected, found are {}", own.join(", ")));
            continue;
        };
        if found.status != *status {
            wrong.push(format!("{id} {subject}: {status} expected, {} found: {}", found.status, found.title));
        }
        let because = found.because.as_ref().map(|because| format!(" < {because}")).unwrap_or_default();
        let steps = found.remedy.commands.iter().map(|command| format!("\n    {command}")).collect::<String>();
        writeln!(remedies, "{id} {subject} {}{because}: {:?}{steps}", found.status, found.remedy.action).unwrap();
        // Whatever else is found has a root of its own or this one.
        let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.status.is_bad()).collect();
        let keys: Vec<String> = bad.iter().map(|finding| finding.key()).collect();
        for finding in bad {
            let what = format!("{id} {subject}: {} of {}", finding.status, finding.key());
            if finding.status == Status::Error {
                wrong.push(format!("{what}: the check itself failed"));
            }
            if finding.evidence.is_empty() || finding.remedy.summary.is_empty() {
                wrong.push(format!("{what} has no evidence or no remedy"));
            }
            if finding.because.as_ref().is_some_and(|because| !keys.contains(because)) {
                wrong.push(format!("{what} follows from what was not found: {:?}", finding.because));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What mends each wound, read with a page of docs/checks beside it: no command may go or change unseen.
    insta::assert_snapshot!("what_mends_each_wound", remedies);
    let covered: BTreeSet<&str> = WOUNDS.iter().map(|(id, ..)| *id).chain(WITHOUT_WOUND.iter().copied()).collect();
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
        let mut host = facts::host::collect_by(&mut |part| Ok::<_, std::convert::Infallible>(read(part))).unwrap();
        at_once(&mut host);
        let modules = crate::host::modules::ModulesFacts::of(read(Part::Modules)).unwrap();
        let devices = crate::devices::collect(&host.rdma, None);
        let facts = Facts { host, modules, devices, ..healthy() };
        let bad: Vec<String> = run(&facts, registry()).iter().filter(|finding| finding.status.is_bad()).map(Finding::key).collect();
        assert_eq!(bad, [format!("RD-1117/{}", stuck.name())], "{}", stuck.name());
    }
}

mod borders;
mod chains;
mod needs_tests;
mod wounds;
