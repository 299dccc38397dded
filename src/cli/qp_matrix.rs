//! `rdmadoctor qp-matrix`.

use std::time::{Duration, Instant};

use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, engines, exit, values};
use crate::capture::Capture;
use crate::catalog::Catalog;
use crate::catalog::engine::Connect;
use crate::devices;
use crate::devices::Problem;
use crate::devices::{Device, Devices};
use crate::host::part::Asked;
use crate::host::rdma::RdmaFacts;
use crate::qp::{
    self, AskGroup, CauseClass, Chosen, ConnectionReport, CountReport, DeviceAttempter, DeviceReport, MatrixOptions, Outcome, QpMatrix,
    Stop, ask_group, choose, classify_connection, run_device,
};
use crate::request::{Ask, AskOrigin, Parameter, QpRequest, QpType, Value, parse_ask, parse_grid};
use crate::schema;
use crate::survey::Host;
use crate::worker;
use crate::worker::{Failure, VerbsDevice, Worker};

/// Arguments of `qp-matrix`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this device; all of them otherwise.
    #[arg(value_name = "DEV", add = super::complete::devices())]
    device: Option<String>,
    /// Is this engine's request granted? By name, or a file in the catalog's form. May be repeated; `all` takes every engine's newest
    /// known release.
    #[arg(long, value_name = "NAME[@VERSION]|FILE", add = super::complete::engines_or_files())]
    engine: Vec<String>,
    /// Is this request granted? Parameters that are not named stay small.
    #[arg(long, value_name = "PARAMETER=VALUE,…", value_parser = parse_ask)]
    ask: Vec<QpRequest>,
    /// Try every combination of these values.
    #[arg(long, value_name = "PARAMETER=VALUE,VALUE,…", value_parser = parse_grid, num_args = 1..)]
    grid: Vec<(Parameter, Vec<Value>)>,
    /// Find bounds and joint limits as well as answering --engine, --ask or --grid; without those they are always found.
    #[arg(long)]
    bounds: bool,
    /// How many queue pairs can exist at once, up to N, in the shape of --ask or of the smallest request.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Try no request whose queues take more; otherwise 256M in searches, and 1G for what --engine and --ask ask.
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_memory: Option<u64>,
    /// Attempts at most on each device.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    budget: u64,
    /// Time at most for everything.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = values::duration)]
    deadline: Duration,
}

/// Queues of one request in a search at most, in bytes.
pub(super) const SEARCH_MEMORY: u64 = 256 << 20;

/// Queues of one request that somebody asks at most, in bytes: NVSHMEM asks for a completion queue as deep as the device says it can be.
pub(super) const ASK_MEMORY: u64 = 1 << 30;

/// Most combinations of a grid; more would be a mistake of the caller's.
const MOST_CELLS: usize = 1 << 20;

/// Tries queue pairs and reports.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    if let Some(capture) = session.host.captured() {
        return captured(session, arguments, capture);
    }
    session.host.only_with_devices("qp-matrix")?;
    let mut catalog = Catalog::load()?;
    let names = engines::with_files(&mut catalog, &arguments.engine)?;
    let engines = choose(&catalog, &names)?;
    let cells = arguments.grid.iter().try_fold(1usize, |cells, (_, values)| cells.checked_mul(values.len()));
    if cells.is_none_or(|cells| cells > MOST_CELLS) {
        return Err(UsageError(format!("--grid has more than {MOST_CELLS} combinations")).into());
    }
    for (index, (parameter, _)) in arguments.grid.iter().enumerate() {
        if arguments.grid[..index].iter().any(|(other, _)| other == parameter) {
            return Err(UsageError(format!("--grid names {parameter} twice")).into());
        }
    }

    let mut worker = session.host.worker()?;
    let sysfs = session.host.reader(Asked::default(), None)?.get::<RdmaFacts>()?;
    let inventory = Host::inventory(&mut worker, arguments.device.as_deref())?;
    let Devices { schema, devices, problems } = devices::collect(&sysfs, Some(&inventory));
    let known: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
    if let Some(wanted) = arguments.device.as_ref().filter(|wanted| !known.contains(wanted)) {
        return Err(super::unknown_device(wanted, &known).into());
    }
    let seen = inventory.map(|inventory| inventory.devices).unwrap_or_default();
    let deadline = Instant::now() + arguments.deadline;
    let examination = Examination { session, arguments, catalog: &catalog, engines: &engines, deadline };
    let mut matrix = QpMatrix { schema: schema::QP_MATRIX.to_owned(), devices: Vec::new(), problems };
    for device in devices.iter().filter(|device| arguments.device.as_ref().is_none_or(|wanted| *wanted == device.name)) {
        if session.host.interrupted() {
            matrix.problems.push(Problem { summary: format!("{}: not examined: interrupted", device.name), next_step: None });
            continue;
        }
        let verbs = seen.iter().find(|seen| seen.name == device.name);
        match (verbs, &device.problem) {
            (Some(verbs), None) => matrix.devices.push(examination.run(&mut worker, device, verbs)),
            (_, problem) => {
                matrix.problems.extend(problem.iter().map(|problem| Problem {
                    summary: format!("{}: {}", device.name, problem.summary),
                    next_step: problem.next_step.clone(),
                }))
            }
        }
    }
    drop(worker);
    // Its problems stand in the matrix already.
    let devices = Devices { schema, devices, problems: Vec::new() };
    session.output.print_beside(&matrix, &[(&devices).into()])?;
    Ok(match () {
        () if session.host.interrupted() => exit::INTERRUPTED,
        () if !matrix.problems.is_empty() || matrix.devices.iter().any(has_failed) => exit::FAILED,
        () => exit::OK,
    })
}

/// Shows the attempts that were made for a capture; no others can be.
fn captured(session: &Session, arguments: &Arguments, capture: &Capture) -> anyhow::Result<u8> {
    if !arguments.ask.is_empty() || !arguments.grid.is_empty() || arguments.bounds || arguments.count.is_some() {
        let text = "--ask, --grid, --bounds and --count try queue pairs on the device itself, and a capture has none; leave --from out";
        return Err(UsageError(text.to_owned()).into());
    }
    let Some(reports) = &capture.facts.queue_pairs else {
        let text = "`qp-matrix` tries queue pairs, and the capture has no attempts; `rdmadoctor capture --level standard --engine NAME` on the host itself makes some";
        return Err(UsageError(text.to_owned()).into());
    };
    let known: Vec<String> = reports.iter().map(|report| report.device.clone()).collect();
    if let Some(wanted) = arguments.device.as_ref().filter(|wanted| !known.contains(wanted)) {
        return Err(super::unknown_device(wanted, &known).into());
    }
    let mut catalog = Catalog::load()?;
    let names = engines::with_files(&mut catalog, &arguments.engine)?;
    let engines = choose(&catalog, &names)?;
    let mut matrix =
        QpMatrix { schema: schema::QP_MATRIX.to_owned(), devices: Vec::new(), problems: capture.facts.devices.problems.clone() };
    for report in reports.iter().filter(|report| arguments.device.as_ref().is_none_or(|wanted| *wanted == report.device)) {
        let mut report = report.clone();
        let is_of = |ask: &qp::AskReport, chosen: &Chosen<'_>| {
            ask.engine.as_ref() == Some(&chosen.engine.name) && ask.version.as_ref() == Some(&chosen.release.version)
        };
        if let Some(missing) = engines.iter().find(|chosen| !report.asks.iter().any(|ask| is_of(ask, chosen))) {
            let name = format!("{}@{}", missing.engine.name, missing.release.version);
            return Err(UsageError(format!(
                "the capture has no attempts of {name} on {}; `rdmadoctor capture --engine {name}` on the host itself makes them",
                report.device
            ))
            .into());
        }
        report.asks.retain(|ask| engines.is_empty() || engines.iter().any(|chosen| is_of(ask, chosen)));
        matrix.devices.push(report);
    }
    session.output.print(&matrix)?;
    Ok(if !matrix.problems.is_empty() || matrix.devices.iter().any(has_failed) { exit::FAILED } else { exit::OK })
}

/// Whether a report says that something does not work: what was asked, or, where nothing was, the device itself.
fn has_failed(report: &DeviceReport) -> bool {
    let is_broken = |outcome: &Outcome| matches!(outcome, Outcome::Crashed { .. } | Outcome::Hung { .. });
    report.asks.iter().any(|ask| !ask.optional && ask.verdict != "granted")
        || report.base.as_ref().is_some_and(|base| !base.outcome.is_granted())
        || report.bounds.iter().any(|bound| matches!(&bound.ending, qp::Ending::Broken { outcome } if is_broken(outcome)))
        || report.count_failed.is_some()
        || report.joint.iter().any(|joint| joint.broken.is_some())
        || report.support.iter().any(|support| is_broken(&support.outcome))
        || report.grid.as_ref().is_some_and(|grid| grid.cells.iter().any(|cell| is_broken(&cell.outcome)))
        || report.connection.as_ref().is_some_and(|connection| {
            let is_broken = connection.cause.as_ref().is_some_and(|cause| cause.class == CauseClass::Driver);
            connection.refused.is_some() && (is_broken || report.asks.iter().any(|ask| ask.connect == Some(Connect::Oob)))
        })
}

/// What the command line asks of every device.
struct Examination<'a> {
    session: &'a Session,
    arguments: &'a Arguments,
    catalog: &'a Catalog,
    engines: &'a [Chosen<'a>],
    deadline: Instant,
}

impl Examination<'_> {
    /// One device's share of the command.
    fn run(&self, worker: &mut Worker, device: &Device, verbs: &VerbsDevice) -> DeviceReport {
        let Self { session, arguments, catalog, engines, deadline } = *self;
        let attributes = verbs.attributes.as_ref();
        let mut asks: Vec<AskGroup> = engines.iter().filter_map(|chosen| ask_group(catalog, *chosen, attributes).ok()).collect();
        asks.extend(arguments.ask.iter().map(|request| AskGroup {
            asks: vec![Ask {
                origin: AskOrigin::User,
                queue: "asked".to_owned(),
                request: request.clone(),
                probed: Vec::new(),
                clamped: Vec::new(),
                settings: Vec::new(),
                optional: false,
            }],
            on_refusal: None,
            connect: None,
            asked_version: None,
            others: Vec::new(),
        }));
        let options = MatrixOptions {
            bounds: arguments.bounds || (asks.is_empty() && arguments.grid.is_empty() && arguments.count.is_none()),
            asks,
            grid: arguments.grid.clone(),
            limits: devices::limits(&session.host.root()),
            stop: Stop {
                budget: arguments.budget,
                deadline: Some(deadline),
                max_memory_bytes: arguments.max_memory.unwrap_or(SEARCH_MEMORY),
                max_asked_memory_bytes: arguments.max_memory.unwrap_or(ASK_MEMORY),
            },
        };
        let mut progress = Progress::new(&device.name, session.output.quiet);
        let mut attempter = DeviceAttempter { worker, device: &device.name };
        let mut report = run_device(&device.name, device.family.clone(), attributes, &mut attempter, &options, &mut |attempts| {
            progress.at(&format!("{attempts} attempts"));
        });
        if let Some(ceiling) = arguments.count
            && !session.host.interrupted()
        {
            progress.at("counting queue pairs");
            let request = arguments.ask.first().cloned().or_else(|| report.base.as_ref().map(|base| base.request.clone()));
            if let Some(request) = request {
                match worker.ask(worker::Count { device: device.name.clone(), request: request.clone(), ceiling }) {
                    Ok(counted) => report.count = Some(CountReport { request, ceiling, counted }),
                    Err(failure) => report.count_failed = Some(failure.to_string()),
                }
            }
        }
        if !session.host.interrupted() {
            report.connection = connection_of(worker, device, verbs, &report);
        }
        report
    }
}

/// How far a queue pair comes on a device that grants one of type RC.
pub(super) fn connection_of(worker: &mut Worker, device: &Device, verbs: &VerbsDevice, report: &DeviceReport) -> Option<ConnectionReport> {
    let is_rc = report.base.as_ref().is_some_and(|base| base.outcome.is_granted() && base.request.qp_type == QpType::RC);
    if is_rc { connection(worker, device, verbs) } else { None }
}

/// Connects a queue pair with itself on the first active port, or on the first one where none is active.
fn connection(worker: &mut Worker, device: &Device, verbs: &VerbsDevice) -> Option<ConnectionReport> {
    let port = verbs.ports.iter().find(|port| port.state == "active").or_else(|| verbs.ports.first())?;
    // verbs.h: node type 4 is an iWARP adapter.
    let is_iwarp = verbs.node_type == 4;
    let gid_index = device.best_gid_index(port.port);
    let request = QpRequest::base(QpType::RC);
    match worker.ask(worker::Connect { device: device.name.clone(), port: port.port, gid_index, request }) {
        Ok(connected) => Some(ConnectionReport {
            port: port.port,
            cause: classify_connection(&connected, is_iwarp, device.family.as_deref(), &port.state),
            refused: connected.refused.as_ref().map(ToString::to_string),
            reached: connected.reached,
        }),
        Err(Failure::Interrupted) => None,
        Err(failure) => Some(ConnectionReport {
            port: port.port,
            reached: "unknown".to_owned(),
            refused: Some(failure.to_string()),
            cause: qp::broken_connection(&failure.into()),
        }),
    }
}
