//! From what was found out to a profile. Pure: nothing is read or tried here.

mod engines;
mod gpus;
mod memory;

use rdmadoctor_types::LinkLayer;

use super::evidence::Book;
use super::measured::{Measured, Unmeasured};
use super::trial::Trial;
use super::{
    Connection, EvidenceKind, HostSnapshot, JointLimit, JointPoint, Limit, PROFILE_SCHEMA, Profile, ProfiledGid, ProfiledHost,
    ProfiledPort, Proven, QueuePairs, Unvalidated,
};
use crate::devices::{Device, Port};
use crate::facts::HostMemory;
use crate::gpu::GpusFacts;
use crate::qp::{Bound, DeviceReport, Ending, Frontier, Outcome, QpRequest, Value};
use crate::survey::Tried;
use crate::worker::GpuMemory;

/// What was found out about a host.
pub struct Material<'a> {
    /// What files and the verbs library say.
    pub seen: &'a HostSnapshot,
    /// The modelled host that it is, if it is one.
    pub model: Option<&'a str>,
    /// Now, as RFC 3339 writes it.
    pub at: &'a str,
    /// What was tried on each device, bounds among it, with what engines ask there.
    pub tried: &'a [Tried],
    /// Transfers that were timed.
    pub measured: &'a [Measured],
    /// Transfers that were not.
    pub unmeasured: &'a [Unmeasured],
    /// Host memory that was registered.
    pub host_memory: &'a [HostMemory],
    /// What the GPUs' driver says; absent where it was not asked.
    pub gpus: Option<&'a GpusFacts>,
    /// GPU memory that was registered.
    pub gpu_memory: &'a [GpuMemory],
    /// What an engine wants to register at once.
    pub kv_bytes: Option<u64>,
}

/// What is tried on top of it.
pub struct Examined<'a> {
    /// What was found out before.
    pub material: &'a Material<'a>,
    /// A request near what engines need, by device, with its outcome.
    pub recommended: &'a [(String, QpRequest, Outcome)],
    /// Engines.
    pub trials: &'a [Trial],
}

impl Material<'_> {
    fn report(&self, device: &str) -> Option<&DeviceReport> {
        self.tried.iter().map(|tried| &tried.report).find(|report| report.device == device)
    }
}

/// Makes the profile.
#[must_use]
pub fn assemble(examined: &Examined<'_>) -> Profile {
    let material = examined.material;
    let seen = material.seen;
    let mut draft = Draft { examined, material, book: Book::new(material.at), unvalidated: Vec::new() };
    if let Some(model) = material.model {
        draft.lack("host", format!("this is the modelled host {model}: nothing was tried on real devices"));
    }
    for problem in &seen.devices.problems {
        draft.lack("devices", problem.summary.clone());
    }
    let mut devices = Vec::new();
    for device in &seen.devices.devices {
        for port in &device.ports {
            devices.push(draft.port(device, port));
        }
    }
    if devices.is_empty() && draft.unvalidated.is_empty() {
        draft.lack("devices", "this host has no RDMA device with a port: there was nothing to try".to_owned());
    }
    let gpus = draft.gpus();
    let engines = examined.trials.iter().map(|trial| draft.engine(trial)).collect();
    let Draft { book, unvalidated, .. } = draft;
    Profile {
        schema: PROFILE_SCHEMA.to_owned(),
        created: material.at.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        validated: unvalidated.is_empty(),
        host: ProfiledHost { name: seen.name.clone(), model: material.model.map(str::to_owned), fingerprint: seen.fingerprint.clone() },
        devices,
        gpus,
        engines,
        unvalidated,
        evidence: book.into_pages(),
    }
}

struct Draft<'a> {
    examined: &'a Examined<'a>,
    material: &'a Material<'a>,
    book: Book,
    unvalidated: Vec<Unvalidated>,
}

impl Draft<'_> {
    fn lack(&mut self, entry: &str, why: String) {
        self.unvalidated.push(Unvalidated { entry: entry.to_owned(), why });
    }

    fn port(&mut self, device: &Device, port: &Port) -> ProfiledPort {
        let entry = format!("devices/{}/{}", device.name, port.port);
        let (name, number) = (&device.name, port.port);
        let place = format!("/sys/class/infiniband/{name}/ports/{number}");
        let gid = port.best_gid().map(|gid| ProfiledGid {
            value: gid.gid.clone(),
            kind: gid.kind.clone(),
            netdev: gid.netdev.clone(),
            ipv4: gid.ipv4.clone(),
            evidence: self.book.add(EvidenceKind::File, format!("{place}/gids/{} had it then", gid.index)),
        });
        if gid.is_none() && port.link_layer.as_ref().is_some_and(|layer| *layer == LinkLayer::Ethernet) {
            self.lack(&format!("{entry}/gid"), format!("{place}/gids is empty, as on a port without an address"));
        }
        let mtu_bytes = port.active_mtu_bytes.map(|value| Proven {
            value,
            evidence: self.book.add_of(name, EvidenceKind::Query, format!("ibv_query_port on {name} port {number}: active_mtu {value}")),
        });
        let traffic_class = self.material.seen.traffic_class(name, number);
        let traffic_class = traffic_class
            .map(|(value, file)| Proven { value, evidence: self.book.add(EvidenceKind::File, format!("{file} says {value}")) });
        let report = self.material.report(name);
        let qp = report.map_or_else(QueuePairs::default, |report| self.queue_pairs(&entry, report));
        let cq_depth = qp.recommended.as_ref().map(|request| Proven { value: request.value.cq_depth, evidence: request.evidence.clone() });
        if report.is_none() {
            let why = device.problem.as_ref().map_or("no queue pair was tried", |problem| problem.summary.as_str());
            self.lack(&format!("{entry}/qp"), why.to_owned());
        }
        let connection = report.and_then(|report| self.connection(&entry, number, report));
        let max_rd_atomic = self.reads(name);
        let memory = self.memory(&entry, name);
        let (measurements, queue_pairs_per_connection) = self.measurements(&entry, name, number);
        ProfiledPort {
            name: name.clone(),
            port: number,
            family: device.family.clone(),
            transport: device.transport.clone(),
            link_layer: port.link_layer.clone(),
            state: port.state.clone(),
            pci: device.pci.clone(),
            numa_node: device.numa_node,
            gid,
            mtu_bytes,
            qp,
            cq_depth,
            queue_pairs_per_connection,
            traffic_class,
            max_rd_atomic,
            connection,
            memory,
            measurements,
        }
    }

    fn reads(&mut self, device: &str) -> Option<Proven<u32>> {
        let attributes = self.material.seen.verbs(device)?.attributes.as_ref()?;
        let value = u32::try_from(attributes.max_qp_rd_atom.min(attributes.max_qp_init_rd_atom)).ok()?;
        let summary = format!(
            "ibv_query_device on {device}: max_qp_rd_atom {}, max_qp_init_rd_atom {}",
            attributes.max_qp_rd_atom, attributes.max_qp_init_rd_atom
        );
        Some(Proven { value, evidence: self.book.add_of(device, EvidenceKind::Query, summary) })
    }

    fn queue_pairs(&mut self, entry: &str, report: &DeviceReport) -> QueuePairs {
        let Some(base) = report.base.as_ref().filter(|base| base.outcome.is_granted()) else {
            let outcome = report.base.as_ref().map_or_else(|| "nothing was tried".to_owned(), |base| base.outcome.to_string());
            self.lack(&format!("{entry}/qp"), format!("not even a modest queue pair is granted: {outcome}"));
            return QueuePairs::default();
        };
        let limits = report.bounds.iter().filter_map(|bound| self.limit(entry, &report.device, &base.request, bound)).collect();
        let joint = report.joint.iter().filter_map(|frontier| self.joint(entry, &report.device, frontier)).collect();
        let found = self.examined.recommended.iter().find(|(device, _, _)| *device == report.device);
        let recommended =
            found.map(|(device, request, outcome)| Proven { value: request.into(), evidence: self.book.attempt(device, request, outcome) });
        if recommended.is_none() {
            self.lack(&format!("{entry}/qp/recommended"), "no request in the range of engines was granted as a whole".to_owned());
        }
        if let Some(why) = &report.stopped {
            self.lack(&format!("{entry}/qp"), why.clone());
        }
        QueuePairs { limits, joint, recommended }
    }

    fn limit(&mut self, entry: &str, device: &str, base: &QpRequest, bound: &Bound) -> Option<Limit> {
        let parameter = bound.parameter;
        let Some(accepted) = bound.accepted else {
            self.lack(&format!("{entry}/qp/{parameter}"), "no value of it was granted".to_owned());
            return None;
        };
        match &bound.ending {
            Ending::Exhausted => {
                self.lack(&format!("{entry}/qp/{parameter}"), "something ran out on the host while its limit was searched".to_owned());
            }
            Ending::Broken { outcome } => self.lack(&format!("{entry}/qp/{parameter}"), format!("above {accepted}: {outcome}")),
            Ending::Stopped { why } => self.lack(&format!("{entry}/qp/{parameter}"), format!("its search was stopped: {why}")),
            Ending::Limit | Ending::Resources | Ending::BeyondMemory | Ending::None => {}
        }
        let granted = parameter.with(base, Value::Number(accepted));
        let caps = Outcome::Granted { caps: granted.caps(), cq_depth: granted.cq_depth };
        let evidence = self.book.attempt(device, &granted, &caps);
        let refused = bound.refused.zip(bound.errno);
        let refused_evidence = refused.map(|(value, errno)| {
            let request = parameter.with(base, Value::Number(value));
            let call = if parameter == crate::qp::Parameter::CqDepth { "ibv_create_cq" } else { "ibv_create_qp" };
            let error = crate::verbs::CallError { call: call.to_owned(), object: device.to_owned(), errno };
            self.book.attempt(device, &request, &Outcome::Refused { error })
        });
        Some(Limit {
            parameter: parameter.name().to_owned(),
            accepted,
            refused: refused.map(|(value, _)| value),
            evidence,
            refused_evidence,
        })
    }

    fn joint(&mut self, entry: &str, device: &str, frontier: &Frontier) -> Option<JointLimit> {
        let (parameter, over) = (frontier.parameter, frontier.over);
        if !frontier.complete {
            let broken = frontier.broken.as_ref().map_or_else(|| "its search was stopped".to_owned(), |broken| broken.outcome.to_string());
            self.lack(&format!("{entry}/qp/joint"), format!("{parameter} over {over}: {broken}"));
        }
        if frontier.independent || frontier.points.is_empty() {
            return None;
        }
        let summary = format!(
            "{} attempts on {device}: each depth was granted, and the next one refused, with the value of {over}",
            frontier.attempts
        );
        let points = frontier.points.iter().map(|point| JointPoint { up_to: point.up_to, accepted: point.accepted }).collect();
        let evidence = self.book.add_of(device, EvidenceKind::Attempt, summary);
        Some(JointLimit { parameter: parameter.name().to_owned(), over: over.name().to_owned(), points, evidence })
    }

    fn connection(&mut self, entry: &str, port: u32, report: &DeviceReport) -> Option<Connection> {
        let Some(found) = report.connection.as_ref().filter(|found| u32::from(found.port) == port) else {
            // A transfer has connected some all the same.
            if !self.material.measured.iter().any(|measured| measured.device == report.device && measured.port == port) {
                self.lack(&format!("{entry}/connection"), "no queue pair was connected on this port".to_owned());
            }
            return None;
        };
        let summary = match &found.refused {
            None => format!("an RC queue pair on {} port {port} was connected with itself up to {}", report.device, found.reached),
            Some(refused) => format!("an RC queue pair on {} port {port} came to {} only: {refused}", report.device, found.reached),
        };
        let evidence = self.book.add_of(&report.device, EvidenceKind::Connection, summary);
        Some(Connection { reached: found.reached.clone(), refused: found.refused.clone(), evidence })
    }
}
