//! Queue pairs that are tried on one device after another: what engines and users ask, bounds, and how far one comes when it is connected.

use std::time::Instant;

use rdmadoctor_types::{NodeType, Word};

use super::{Say, SurveyError, share};
use crate::catalog::Catalog;
use crate::devices::{Device, HostLimits};
use crate::qp::{
    self, AskGroup, Chosen, ConnectionReport, CountReport, DeviceAttempter, DeviceReport, MatrixOptions, QpRequest, QpType, Stop,
    ask_group, classify_connection, run_device,
};
use crate::request::{Parameter, Value};
use crate::worker::{Connect, Count, Failure, VerbsDevice, Worker};

/// Queues of one request in a search at most, in bytes.
const SEARCH_MEMORY: u64 = 256 << 20;

/// Queues of one request that somebody asks at most, in bytes: NVSHMEM asks for a completion queue as deep as the device says it can be.
const ASK_MEMORY: u64 = 1 << 30;

/// Attempts at most on each device: asks and what proves their culprits need some hundreds.
const MOST_ATTEMPTS: u64 = 5000;

/// What is tried on every device.
pub(crate) struct Attempts<'a> {
    pub catalog: &'a Catalog,
    pub engines: &'a [Chosen<'a>],
    /// Requests of the user's own.
    pub own: &'a [QpRequest],
    /// Values to try in every combination.
    pub grid: &'a [(Parameter, Vec<Value>)],
    /// Whether to find bounds and joint limits; where nobody says, that is done where nothing else is asked.
    pub bounds: Option<bool>,
    /// How many queue pairs can exist at once, up to so many.
    pub count: Option<u32>,
    /// Attempts at most on each device.
    pub budget: u64,
    /// Bytes at most that the queues of a request take, where that is not left to what is usual.
    pub max_memory: Option<u64>,
    pub deadline: Instant,
    /// Whether each device has its share of the time, so that a slow one does not take the others'.
    pub shares_time: bool,
}

/// A device that was tried.
pub(crate) struct Tried {
    /// What came of it.
    pub report: DeviceReport,
    /// What was asked, as `report` has it.
    pub groups: Vec<AskGroup>,
}

impl<'a> Attempts<'a> {
    /// What engines ask, and no more.
    pub(crate) fn of_engines(catalog: &'a Catalog, engines: &'a [Chosen<'a>], deadline: Instant) -> Self {
        Self {
            catalog,
            engines,
            own: &[],
            grid: &[],
            bounds: Some(false),
            count: None,
            budget: MOST_ATTEMPTS,
            max_memory: None,
            deadline,
            shares_time: true,
        }
    }

    /// Tries devices until the user interrupts. Where they share the time, those that none is left for are not tried.
    pub(crate) fn run(
        &self,
        worker: &mut Worker,
        devices: &[(&Device, &VerbsDevice)],
        limits: HostLimits,
        say: Say<'_>,
    ) -> Result<Vec<Tried>, SurveyError> {
        let mut tried = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            if worker.interrupted() || self.shares_time && Instant::now() >= self.deadline {
                break;
            }
            let own = Instant::now() + share(self.deadline, devices.len() - index);
            let until = if self.shares_time { own } else { self.deadline };
            tried.push(self.on(worker, *device, limits, until, say)?);
        }
        Ok(tried)
    }

    fn on(
        &self,
        worker: &mut Worker,
        (device, verbs): (&Device, &VerbsDevice),
        limits: HostLimits,
        until: Instant,
        say: Say<'_>,
    ) -> Result<Tried, SurveyError> {
        let attributes = verbs.attributes.as_ref();
        let groups = self.engines.iter().map(|chosen| ask_group(self.catalog, *chosen, attributes));
        let groups: Vec<AskGroup> =
            groups.chain(self.own.iter().map(|request| Ok(AskGroup::of_user(request)))).collect::<Result<_, _>>()?;
        let options = MatrixOptions {
            bounds: self.bounds.unwrap_or(groups.is_empty() && self.grid.is_empty() && self.count.is_none()),
            asks: groups.clone(),
            grid: self.grid.to_vec(),
            limits,
            stop: Stop {
                budget: self.budget,
                deadline: Some(until),
                max_memory_bytes: self.max_memory.unwrap_or(SEARCH_MEMORY),
                max_asked_memory_bytes: self.max_memory.unwrap_or(ASK_MEMORY),
            },
        };
        let mut attempter = DeviceAttempter { worker, device: &device.name };
        let mut report = run_device(&device.name, device.family.clone(), attributes, &mut attempter, &options, &mut |attempts| {
            say(&format!("{}: {attempts} attempts", device.name));
        });
        if let Some(ceiling) = self.count.filter(|_| !worker.interrupted()) {
            say(&format!("{}: counting queue pairs", device.name));
            let request = self.own.first().or(report.base.as_ref().map(|base| &base.request)).cloned();
            let counted = request.map(|request| {
                let counted = worker.ask(Count { device: device.name.clone(), request: request.clone(), ceiling })?;
                Ok::<_, Failure>(CountReport { request, ceiling, counted })
            });
            match counted.transpose() {
                Ok(count) => report.count = count,
                Err(failure) => report.count_failed = Some(failure.to_string()),
            }
        }
        let is_rc = report.base.as_ref().is_some_and(|base| base.outcome.is_granted() && base.request.qp_type == QpType::RC);
        if is_rc && !worker.interrupted() {
            report.connection = connection(worker, device, verbs);
        }
        Ok(Tried { report, groups })
    }
}

/// Connects a queue pair with itself on the first active port, or on the first one where none is active.
fn connection(worker: &mut Worker, device: &Device, verbs: &VerbsDevice) -> Option<ConnectionReport> {
    let port = verbs.ports.iter().find(|port| port.is_active()).or_else(|| verbs.ports.first())?;
    let is_iwarp = NodeType::of(verbs.node_type) == Some(NodeType::Rnic);
    let gid_index = device.best_gid_index(port.port);
    let request = QpRequest::base(QpType::RC);
    match worker.ask(Connect { device: device.name.clone(), port: port.port, gid_index, request }) {
        Ok(connected) => Some(ConnectionReport {
            port: port.port,
            cause: classify_connection(&connected, is_iwarp, device.family.as_deref(), &port.state),
            refused: connected.refused.as_ref().map(ToString::to_string),
            reached: Word::Known(connected.reached),
        }),
        Err(Failure::Interrupted) => None,
        Err(failure) => Some(ConnectionReport {
            port: port.port,
            reached: Word::Other("unknown".to_owned()),
            refused: Some(failure.to_string()),
            cause: qp::broken_connection(&failure.into()),
        }),
    }
}
