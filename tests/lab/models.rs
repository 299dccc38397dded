//! Device models against the devices that they model: the same random requests, and everything else that a model answers.
//!
//! `RDMADOCTOR_MODELS_SEED` and `RDMADOCTOR_MODELS_REQUESTS` set the seed and the number of random requests a device.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rdmadoctor::catalog::DeviceModel;
use rdmadoctor::catalog::rules::Capacity;
use rdmadoctor::request::{Parameter, Value};
use rdmadoctor::sim::{SimConfig, SimDevice};
use rdmadoctor::verbs::{CallError, ErrorNumber};
use rdmadoctor::worker::{Connect, Connected, Outcome, QpRequest, QpType, SrqRequest, Target, VerbsDevice, Worker, WorkerOptions};
use serde::{Deserialize, Serialize};

use super::Test;
use super::guest::Guest;

/// Plain Soft-RoCE is rxe0, the limited device rxe1, Soft-iWARP siw0.
pub const MODELS: &[Test] = &[
    ("rxe_is_as_its_model", |guest| compare(guest, "rxe0", "rxe-6.1")),
    ("the_limited_device_is_as_its_model", |guest| compare(guest, "rxe1", "limited")),
    ("siw_is_as_its_model", |guest| compare(guest, "siw0", "siw")),
];

/// The first argument that makes this program ask a device instead of running tests; device and a file of requests follow.
pub const ASK: &str = "__ask";

/// Memory of one random request: small, since an emulated processor clears it.
const RANDOM_BYTES: u64 = 4 << 20;
/// Memory of a request at a limit; what takes more would not fit into the guest.
const EDGE_BYTES: u64 = 640 << 20;

/// What a device answers.
#[derive(Debug, Serialize, Deserialize)]
struct Answers {
    device: VerbsDevice,
    outcomes: Vec<Outcome>,
    /// By type of queue pair: how far it comes when it is connected with itself.
    connected: Vec<(QpType, Connected)>,
}

/// Asks in the guest: prints what the real device answers.
pub fn ask(device: &str, file: &str) {
    let requests: Vec<QpRequest> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let answers = answers(Target::live(), device, &requests);
    serde_json::to_writer(std::io::stdout(), &answers).unwrap();
}

fn answers(target: Target, device: &str, requests: &[QpRequest]) -> Answers {
    let mut worker = Worker::new(WorkerOptions {
        program: env!("CARGO_BIN_EXE_rdmadoctor").into(),
        target,
        deadline: Duration::from_secs(60),
        interrupted: Arc::new(AtomicBool::new(false)),
    });
    let inventory = worker.inventory(None).unwrap();
    let found = inventory.devices.iter().find(|found| found.name == device).unwrap_or_else(|| panic!("no {device}: {inventory:?}")).clone();
    let mut outcomes = Vec::new();
    worker.attempts(device, requests, &mut |_, outcome| {
        outcomes.push(outcome);
        true
    });
    let connected = [QpType::RC, QpType::UC, QpType::UD].map(|kind| {
        (kind, worker.ask(Connect { device: device.to_owned(), port: 1, gid_index: None, request: QpRequest::base(kind) }).unwrap())
    });
    Answers { device: found, outcomes, connected: connected.to_vec() }
}

fn compare(guest: &mut Guest, device: &str, name: &str) {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect(variable));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let seed = number("RDMADOCTOR_MODELS_SEED").unwrap_or(now as u64);
    let count = number("RDMADOCTOR_MODELS_REQUESTS").unwrap_or(2000);
    let model = DeviceModel::find(name).unwrap();
    let mut random = Random { state: seed, model };
    let mut requests = random.edges();
    requests.push(QpRequest { cq_depth: 16384, max_send_wr: 512, ..QpRequest::base(QpType::RC) });
    requests.extend((0..count).map(|_| random.request()));

    let config = SimConfig { devices: vec![SimDevice::new(device, name)], ..SimConfig::default() };
    let mut modelled = answers(Target::Devices(config), device, &requests);
    if name == "siw" {
        for (request, outcome) in requests.iter().zip(&mut modelled.outcomes) {
            if outcome.is_granted() && meets_reserved_offset(request) {
                let error = CallError { call: "ibv_create_qp".to_owned(), object: device.to_owned(), errno: ErrorNumber(0) };
                *outcome = Outcome::Refused { error };
            }
        }
    }
    let file = guest.write(&format!("{device}.json"), &serde_json::to_vec(&requests).unwrap());
    let program = std::env::current_exe().unwrap();
    let ran = guest.sh_for(&format!("{} {ASK} {device} {file}", program.display()), 60 + count / 20);
    let real: Answers = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(real.outcomes.len(), requests.len());

    let granted = real.outcomes.iter().filter(|outcome| outcome.is_granted()).count();
    let summary = format!("{device} and the model {name}, seed {seed}: {} requests, {granted} granted", requests.len());
    let _ = writeln!(std::io::stderr(), "{summary}");
    let mut told = differences(&requests, &modelled.outcomes, &real.outcomes);
    for (kind, answer) in differing(&published(&modelled.device), &published(&real.device)) {
        let _ = writeln!(told, "published {kind}: {answer}");
    }
    for ((kind, modelled), (_, real)) in modelled.connected.iter().zip(&real.connected) {
        let step =
            |connected: &Connected| format!("{}, then {:?}", connected.reached, connected.refused.as_ref().map(|error| error.errno.name()));
        if step(modelled) != step(real) {
            let _ = writeln!(told, "{kind} connected with itself: the model says {}, the device {}", step(modelled), step(real));
        }
    }
    assert!(told.is_empty(), "{summary}\n{told}");
    assert!(granted * 5 > requests.len() && granted * 5 < requests.len() * 4, "a one-sided sample: {summary}");
}

/// What the model of siw does not say, since it depends on which queues exist already. Each queue is mapped at an offset, the first
/// free one of the process. libsiw takes the offset 0x90000 for a failure (siw-abi.h, SIW_INVAL_UOBJ_KEY), and gives up without errno.
/// Where these are the only queues, the receive queue stands there after 129 pages of completions (32 bytes each, and 8) and 15 pages
/// of sends (120 bytes each).
fn meets_reserved_offset(request: &QpRequest) -> bool {
    let sizes = (request.cq_depth.checked_next_power_of_two(), request.max_send_wr.checked_next_power_of_two());
    sizes == (Some(16384), Some(512)) && request.max_recv_wr > 0 && request.srq.is_none()
}

/// One line for each kind of difference, with its simplest example.
fn differences(requests: &[QpRequest], modelled: &[Outcome], real: &[Outcome]) -> String {
    let mut kinds: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (index, (modelled, real)) in modelled.iter().zip(real).enumerate() {
        if modelled != real {
            kinds.entry((modelled.to_string(), real.to_string())).or_default().push(index);
        }
    }
    let mut told = String::new();
    for ((model, device), indices) in kinds {
        let base = QpRequest::base(QpType::RC);
        let strange =
            |index: &&usize| Parameter::ALL.iter().filter(|parameter| parameter.get(&requests[**index]) != parameter.get(&base)).count();
        let simplest = *indices.iter().min_by_key(strange).unwrap();
        let (request, model_said, device_said) = (&requests[simplest], &modelled[simplest], &real[simplest]);
        let _ = writeln!(
            told,
            "{} times the model says `{model}`, the device `{device}`: {request:?}\n  model {model_said:?}\n  device {device_said:?}",
            indices.len()
        );
    }
    told
}

/// What is published, without what is the host's and not the device's: addresses, and the link of the network interface.
fn published(device: &VerbsDevice) -> serde_json::Value {
    let mut device = device.clone();
    if let Some(attributes) = &mut device.attributes {
        (attributes.node_guid, attributes.sys_image_guid) = (String::new(), String::new());
    }
    for port in &mut device.ports {
        (port.active_speed_code, port.active_width_lanes) = Default::default();
    }
    serde_json::to_value(device).unwrap()
}

/// The leaves in which two documents differ, by their path.
fn differing(modelled: &serde_json::Value, real: &serde_json::Value) -> Vec<(String, String)> {
    match (modelled, real) {
        (serde_json::Value::Object(left), serde_json::Value::Object(right)) => left
            .iter()
            .flat_map(|(key, value)| {
                differing(value, right.get(key).unwrap_or(&serde_json::Value::Null))
                    .into_iter()
                    .map(move |(path, told)| (format!("{key}.{path}"), told))
            })
            .collect(),
        (serde_json::Value::Array(left), serde_json::Value::Array(right)) if left.len() == right.len() => {
            left.iter().zip(right).flat_map(|(left, right)| differing(left, right)).collect()
        }
        _ if modelled == real => Vec::new(),
        _ => vec![(String::new(), format!("the model says {modelled}, the device {real}"))],
    }
}

/// Random requests: most values modest, and some around limits, 0 or senseless.
struct Random<'a> {
    state: u64,
    model: &'a DeviceModel,
}

impl Random<'_> {
    /// SplitMix64, by Sebastiano Vigna.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Up to `most`, of any size with the same likelihood.
    fn modest(&mut self, most: u32) -> u32 {
        let bits = self.below(u64::from(most.max(1).ilog2()) + 2);
        self.below((1u64 << bits).min(u64::from(most)) + 1) as u32
    }

    fn strange(&mut self, limit: u32) -> u32 {
        let beyond = limit.saturating_add(1 + self.modest(limit));
        let any = self.next() as u32;
        let choices = [
            0,
            0,
            limit.saturating_sub(1),
            limit,
            limit.saturating_add(1),
            beyond,
            limit.saturating_mul(2),
            any,
            i32::MAX as u32,
            u32::MAX,
        ];
        choices[self.below(choices.len() as u64) as usize]
    }

    fn limit(&self, parameter: Parameter) -> u32 {
        let rules = &self.model.queue_pairs;
        let rule = match parameter {
            Parameter::MaxSendWr => &rules.max_send_wr,
            Parameter::MaxRecvWr => &rules.max_recv_wr,
            Parameter::MaxSendSge => &rules.max_send_sge,
            Parameter::MaxRecvSge => &rules.max_recv_sge,
            Parameter::MaxInlineData => &rules.max_inline_data,
            _ => &self.model.completion_queues.entries,
        };
        largest(rule, 1 << 20)
    }

    /// Work requests and entries of a shared receive queue.
    fn srq_limits(&self) -> (u32, u32) {
        let rules = &self.model.shared_receive_queues;
        (largest(&rules.max_wr, 4096), largest(&rules.max_sge, 16))
    }

    /// About what the queues take that exist for a moment, even where the queue pair is refused in the end.
    fn bytes(&self, request: &QpRequest) -> u64 {
        let mut made = request.clone();
        for parameter in Parameter::NUMERIC {
            if parameter.get(request).number().is_some_and(|value| value > self.limit(parameter)) {
                made = parameter.with(&made, Value::Number(0));
            }
        }
        let (max_wr, max_sge) = self.srq_limits();
        made.srq = made.srq.filter(|srq| srq.max_wr <= max_wr && srq.max_sge <= max_sge);
        made.memory_bytes()
    }

    fn request(&mut self) -> QpRequest {
        // Half of them are modest throughout; the others stray in a few places, so that each check is met without the others too.
        let strays = [0, 0, 0, 1, 1, 2, 3, 8][self.below(8) as usize];
        let types = [QpType::RC; 6].into_iter().chain(QpType::ALL).collect::<Vec<_>>();
        let mut request = QpRequest::base(types[self.below(types.len() as u64) as usize]);
        for parameter in Parameter::NUMERIC {
            let limit = self.limit(parameter);
            let value = if self.below(8) < strays { self.strange(limit) } else { self.modest(limit).max(u32::from(self.below(8) > 0)) };
            request = parameter.with(&request, Value::Number(value));
        }
        let (max_wr, max_sge) = self.srq_limits();
        if self.below(4) == 0 {
            let (wr, sge) = (self.modest(max_wr).max(1), self.modest(max_sge));
            request.srq = Some(match strays {
                0 => SrqRequest { max_wr: wr, max_sge: sge },
                1 => SrqRequest { max_wr: self.strange(max_wr), max_sge: sge },
                _ => SrqRequest { max_wr: wr, max_sge: self.strange(max_sge) },
            });
        }
        while self.bytes(&request) > RANDOM_BYTES {
            let halve = |value: u32, limit: u32| if value > limit { value } else { value / 2 };
            for parameter in [Parameter::MaxSendWr, Parameter::MaxRecvWr, Parameter::CqDepth] {
                if let Value::Number(value) = parameter.get(&request) {
                    request = parameter.with(&request, Value::Number(halve(value, self.limit(parameter))));
                }
            }
            request.srq = request.srq.map(|srq| SrqRequest { max_wr: halve(srq.max_wr, max_wr), ..srq });
        }
        request
    }

    /// Each parameter alone around its limit and 0, each type, and each with a shared receive queue.
    fn edges(&self) -> Vec<QpRequest> {
        let (max_wr, max_sge) = self.srq_limits();
        let around = |limit: u32| [0, 1, 2, 3, limit - 1, limit, limit + 1, 2 * limit, i32::MAX as u32, i32::MAX as u32 + 1, u32::MAX];
        let mut edges = Vec::new();
        for kind in QpType::ALL {
            let base = QpRequest::base(kind);
            let shared = |max_wr, max_sge| QpRequest { srq: Some(SrqRequest { max_wr, max_sge }), ..base.clone() };
            edges.extend([base.clone(), shared(16, 1)]);
            if kind == QpType::RC {
                edges.extend(around(max_wr).map(|wr| shared(wr, 1)));
                edges.extend(around(max_sge).map(|sge| shared(16, sge)));
                for parameter in Parameter::NUMERIC {
                    for value in around(self.limit(parameter)) {
                        edges.extend([&base, &shared(16, 1)].map(|request| parameter.with(request, Value::Number(value))));
                    }
                }
            }
        }
        edges.retain(|request| self.bytes(request) <= EDGE_BYTES);
        edges
    }
}

fn largest(rule: &Capacity, otherwise: u32) -> u32 {
    rule.limit.as_ref().map_or(otherwise, |limit| limit.value)
}
