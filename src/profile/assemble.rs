//! From what was found out to a profile. Pure: nothing is read or tried here.

use super::evidence::Book;
use super::seen::best_gid;
use super::trial::{DeviceTrial, Trial};
use super::{
    Connection, EngineDevice, EngineSetting, EngineVerdict, EvidenceKind, GpuNic, Limit, Measurement, Memory, Obstacle, PROFILE_SCHEMA,
    Profile, ProfiledEngine, ProfiledGid, ProfiledGpu, ProfiledHost, ProfiledPort, Proven, QueuePairs, Seen, Unvalidated,
};
use crate::catalog::engine::Connect;
use crate::facts::{Device, Port};
use crate::host::topo::Affinity;
use crate::qp::{Bound, DeviceReport, Ending, Outcome, QpRequest, Value};

/// What was found out about a host.
pub struct Examined<'a> {
    /// What files and the verbs library say.
    pub seen: &'a Seen,
    /// The modelled host that it is, if it is one.
    pub model: Option<&'a str>,
    /// Now, as RFC 3339 writes it.
    pub at: &'a str,
    /// What was tried on each device.
    pub reports: &'a [DeviceReport],
    /// A request near what engines need, by device, with its outcome.
    pub recommended: &'a [(String, QpRequest, Outcome)],
    /// Engines.
    pub trials: &'a [Trial],
    /// Transfers that were timed, by device and port, each with a sentence about how.
    pub measured: &'a [(String, u32, Measurement, String)],
    /// Devices whose transfers were not timed, and why; of all devices where the name is absent.
    pub unmeasured: &'a [(Option<String>, String)],
    /// What an engine wants to register at once.
    pub kv_bytes: Option<u64>,
}

/// Makes the profile.
#[must_use]
pub fn assemble(examined: &Examined<'_>) -> Profile {
    let mut draft = Draft { examined, book: Book::new(examined.at), unvalidated: Vec::new() };
    if let Some(model) = examined.model {
        draft.lack("host", format!("this is the modelled host {model}: nothing was tried on real devices"));
    }
    for problem in &examined.seen.devices.problems {
        draft.lack("devices", problem.summary.clone());
    }
    let mut devices = Vec::new();
    for device in &examined.seen.devices.devices {
        for port in &device.ports {
            devices.push(draft.port(device, port));
        }
    }
    let gpus = draft.gpus();
    let engines = examined.trials.iter().map(|trial| draft.engine(trial)).collect();
    let Draft { book, unvalidated, .. } = draft;
    Profile {
        schema: PROFILE_SCHEMA.to_owned(),
        created: examined.at.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        validated: unvalidated.is_empty(),
        host: ProfiledHost {
            name: examined.seen.name.clone(),
            model: examined.model.map(str::to_owned),
            fingerprint: examined.seen.fingerprint.clone(),
        },
        devices,
        gpus,
        engines,
        unvalidated,
        evidence: book.into_pages(),
    }
}

struct Draft<'a> {
    examined: &'a Examined<'a>,
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
        let gid = best_gid(port).map(|gid| ProfiledGid {
            value: gid.gid.clone(),
            kind: gid.kind.clone(),
            netdev: gid.netdev.clone(),
            ipv4: gid.ipv4.clone(),
            evidence: self.book.add(EvidenceKind::File, format!("{place}/gids/{} had it then", gid.index)),
        });
        if gid.is_none() && port.link_layer.as_deref() == Some("Ethernet") {
            self.lack(&format!("{entry}/gid"), format!("{place}/gids is empty, as on a port without an address"));
        }
        let mtu_bytes = port.active_mtu_bytes.map(|value| Proven {
            value,
            evidence: self.book.add_of(name, EvidenceKind::Query, format!("ibv_query_port on {name} port {number}: active_mtu {value}")),
        });
        let traffic_class = self.examined.seen.traffic_class(name, number);
        let traffic_class = traffic_class
            .map(|(value, file)| Proven { value, evidence: self.book.add(EvidenceKind::File, format!("{file} says {value}")) });
        let report = self.examined.reports.iter().find(|report| report.device == *name);
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
        let attributes = self.examined.seen.verbs(device)?.attributes.as_ref()?;
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
        let found = self.examined.recommended.iter().find(|(device, _, _)| *device == report.device);
        let recommended =
            found.map(|(device, request, outcome)| Proven { value: request.into(), evidence: self.book.attempt(device, request, outcome) });
        if recommended.is_none() {
            self.lack(&format!("{entry}/qp/recommended"), "no request in the range of engines was granted as a whole".to_owned());
        }
        if let Some(why) = &report.stopped {
            self.lack(&format!("{entry}/qp"), why.clone());
        }
        QueuePairs { limits, recommended }
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

    fn connection(&mut self, entry: &str, port: u32, report: &DeviceReport) -> Option<Connection> {
        let Some(found) = report.connection.as_ref().filter(|found| u32::from(found.port) == port) else {
            self.lack(&format!("{entry}/connection"), "no queue pair was connected on this port".to_owned());
            return None;
        };
        let summary = match &found.refused {
            None => format!("an RC queue pair on {} port {port} was connected with itself up to {}", report.device, found.reached),
            Some(refused) => format!("an RC queue pair on {} port {port} came to {} only: {refused}", report.device, found.reached),
        };
        let evidence = self.book.add_of(&report.device, EvidenceKind::Connection, summary);
        Some(Connection { reached: found.reached.clone(), refused: found.refused.clone(), evidence })
    }

    fn memory(&mut self, entry: &str, device: &str) -> Option<Memory> {
        let attributes = self.examined.seen.verbs(device)?.attributes.as_ref()?;
        let max_region_bytes = attributes.max_mr_size_bytes;
        let memlock_bytes = self.examined.seen.limits.memlock_bytes();
        let asked_bytes = self.examined.kv_bytes;
        if let Some(asked) = asked_bytes {
            let over = memlock_bytes.filter(|limit| *limit < asked);
            let why = over.map_or_else(
                || format!("{asked} bytes were compared with the published limit and the limit on locked memory; no region of that size was registered"),
                |limit| format!("{asked} bytes are more than the {limit} bytes that this process may lock: raise LimitMEMLOCK= (ulimit -l)"),
            );
            self.lack(&format!("{entry}/memory"), why);
        }
        let limit = memlock_bytes.map_or_else(|| "no limit on locked memory".to_owned(), |bytes| format!("{bytes} bytes may be locked"));
        let summary = format!("ibv_query_device on {device}: max_mr_size {max_region_bytes}; /proc/self/limits: {limit}");
        Some(Memory {
            max_region_bytes,
            asked_bytes,
            regions: asked_bytes.map(|asked| asked.div_ceil(max_region_bytes.max(1))),
            memlock_bytes,
            evidence: self.book.add_of(device, EvidenceKind::Query, summary),
        })
    }

    fn measurements(&mut self, entry: &str, device: &str, port: u32) -> (Vec<Measurement>, Option<Proven<u32>>) {
        let mut measurements = Vec::new();
        for (_, _, measurement, how) in self.examined.measured.iter().filter(|(name, number, ..)| name == device && *number == port) {
            let evidence = self.book.add_of(device, EvidenceKind::Measurement, how.clone());
            measurements.push(Measurement { evidence, ..measurement.clone() });
        }
        let reasons: Vec<String> = self
            .examined
            .unmeasured
            .iter()
            .filter(|(name, _)| name.as_ref().is_none_or(|name| name == device))
            .map(|(_, why)| why.clone())
            .collect();
        for why in reasons {
            self.lack(&format!("{entry}/measurements"), why);
        }
        let best = fewest_queue_pairs(&measurements);
        (measurements, best)
    }

    fn gpus(&mut self) -> Vec<ProfiledGpu> {
        let topology = &self.examined.seen.topology;
        let mut gpus = Vec::new();
        for (index, gpu) in topology.gpus.iter().enumerate() {
            let affinity = |nic: &String| topology.pair(&gpu.address, nic).map_or(Affinity::Unknown, |pair| pair.affinity);
            let nics = gpu.nics.iter().map(|nic| GpuNic { name: nic.clone(), affinity: word(affinity(nic)).to_owned() }).collect();
            let notes = if topology.is_hidden { ", which hides the real tree" } else { "" };
            self.lack(
                &format!("gpus/{}/path", gpu.address),
                "no GPU memory was registered: which of dmabuf, peermem and staged works is not known".to_owned(),
            );
            gpus.push(ProfiledGpu {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                pci: gpu.address.clone(),
                uuid: None,
                numa_node: gpu.numa_node,
                path: None,
                nics,
                evidence: self.book.add(
                    EvidenceKind::File,
                    format!(
                        "the PCI tree in /sys/bus/pci/devices: {}{notes}",
                        gpu.path.bridges.iter().chain([&gpu.address]).cloned().collect::<Vec<_>>().join(" > ")
                    ),
                ),
            });
        }
        gpus
    }

    fn engine(&mut self, trial: &Trial) -> ProfiledEngine {
        let devices: Vec<EngineDevice> = trial.devices.iter().map(|device| self.engine_device(trial, device)).collect();
        let verdict = devices.iter().map(|device| device.verdict).min().unwrap_or(EngineVerdict::Unknown);
        let entry = format!("engines/{}/{}", trial.engine, trial.version);
        if devices.is_empty() {
            self.lack(&entry, "there was no device to try it on".to_owned());
        }
        for device in devices.iter().filter(|device| device.verdict == EngineVerdict::Unknown) {
            self.lack(&entry, format!("it was not tried on {}", device.name));
        }
        // A setting is proven by the attempt whose parameter it changes, on a device that works with it.
        let settings = if verdict == EngineVerdict::WorksWithSettings
            || devices.iter().any(|one| one.verdict == EngineVerdict::WorksWithSettings)
        {
            trial
                .settings
                .iter()
                .filter_map(|(setting, value)| {
                    let proof =
                        trial.devices.iter().filter(|device| device.verdict == EngineVerdict::WorksWithSettings).find_map(|device| {
                            let found =
                                device.attempts.iter().find(|(ask, _, _)| ask.settings.iter().any(|own| own.name == setting.name))?;
                            Some(self.book.attempt(&device.device, &found.1, &found.2))
                        })?;
                    Some(EngineSetting { name: setting.name.clone(), value: value.clone(), kind: setting.kind.clone(), evidence: proof })
                })
                .collect()
        } else {
            Vec::new()
        };
        // What keeps queue pairs from being connected has to be mended whatever the release.
        let mut remedies: Vec<String> = Vec::new();
        let reports = if trial.connect == Some(Connect::Oob) { self.examined.reports } else { &[] };
        let connections = reports.iter().filter_map(|report| report.connection.as_ref());
        for next in connections.filter(|one| one.refused.is_some()).filter_map(|one| one.cause.as_ref()?.next_step.as_ref()) {
            if !remedies.contains(next) {
                remedies.push(next.clone());
            }
        }
        for device in trial.devices.iter().filter(|device| device.verdict == EngineVerdict::Fails) {
            for remedy in &device.remedies {
                if !remedies.contains(remedy) {
                    remedies.push(remedy.clone());
                }
            }
        }
        ProfiledEngine { name: trial.engine.clone(), version: trial.version.clone(), verdict, settings, devices, remedies }
    }

    fn engine_device(&mut self, trial: &Trial, device: &DeviceTrial) -> EngineDevice {
        let name = &device.device;
        let mut obstacles: Vec<Obstacle> = device
            .obstacles
            .iter()
            .map(|(summary, request, outcome)| Obstacle { summary: summary.clone(), evidence: self.book.attempt(name, request, outcome) })
            .collect();
        let evidence = device.attempts.iter().map(|(_, request, outcome)| self.book.attempt(name, request, outcome)).collect();
        let report = self.examined.reports.iter().find(|report| report.device == *name);
        // What exchanges addresses by itself needs a connection by ibv_modify_qp.
        if trial.connect == Some(Connect::Oob)
            && let Some(connection) = report.and_then(|report| report.connection.as_ref())
            && let Some(refused) = &connection.refused
        {
            let cause = connection.cause.as_ref().map_or_else(|| refused.clone(), |cause| format!("{} ({refused})", cause.summary));
            obstacles.push(Obstacle {
                summary: format!("its queue pairs come to {} only: {cause}", connection.reached),
                evidence: self.book.add_of(
                    name,
                    EvidenceKind::Connection,
                    format!("{name}: connected with itself up to {}: {refused}", connection.reached),
                ),
            });
        }
        let verdict = if obstacles.is_empty() { device.verdict } else { EngineVerdict::Fails };
        EngineDevice { name: name.clone(), verdict, obstacles, evidence }
    }
}

/// From how many queue pairs on more of them add less than a twentieth; of the throughput of writes to and from host memory.
fn fewest_queue_pairs(measurements: &[Measurement]) -> Option<Proven<u32>> {
    let rates: Vec<(&Measurement, f64)> = measurements
        .iter()
        .filter(|one| one.op == "write" && one.memory == "host")
        .filter_map(|one| Some((one, one.bytes_per_second?)))
        .collect();
    let best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let enough = rates.iter().filter(|(_, rate)| *rate >= 0.95 * best).min_by_key(|(one, _)| one.queue_pairs)?;
    Some(Proven { value: enough.0.queue_pairs, evidence: enough.0.evidence.clone() })
}

/// The word of an affinity in documents.
fn word(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Pix => "pix",
        Affinity::Pxb => "pxb",
        Affinity::Phb => "phb",
        Affinity::Node => "node",
        Affinity::Sys => "sys",
        Affinity::Unknown => "unknown",
    }
}
