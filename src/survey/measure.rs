//! From a request to a document: both ends are planned, opened, measured, and closed.

use std::time::Duration;

use super::{Host, SurveyError};
use crate::bench::peer::Client;
use crate::bench::{
    self, BandwidthResult, BenchError, BenchReport, ConnectionReport, Done, Endpoint, FailureReport, Hints, Hosts, LatencyResult,
    Measurement, Notice, Obstacle, Pair, Plan, Relevance, Request, Settings, Watched, Who,
};
use crate::devices::{self, Device, Devices, Problem};
use crate::gpu::Path;
use crate::host::net::NetFacts;
use crate::host::net::address::Address;
use crate::host::part::ReadOptions;
use crate::host::rdma::RdmaFacts;
use crate::host::system::SystemFacts;
use crate::host::system::iommu::IommuMode;
use crate::schema;
use crate::sim::CounterFile;
use crate::transfer::{RunKind, StageFacts, StageMemory, TransferError};
use crate::worker::Worker;

/// Longest wait for an answer where GPUs have to be brought up.
const GPU_ANSWER: Duration = Duration::from_secs(30);

/// Says why memory was refused on a device, which is this host's or not.
type Refused = fn(&Host, &StageMemory, &str, bool) -> Result<Vec<Notice>, SurveyError>;

/// Whoever wants figures.
pub struct Onlooker<'a> {
    /// Told what is under way.
    pub say: &'a mut dyn FnMut(&str),
    /// Says why memory was refused.
    pub refused: Refused,
}

/// Measures bandwidth.
///
/// # Errors
/// The request is mistaken, or the child process cannot be had.
pub fn bandwidth(host: &Host, request: &Request, onlooker: &mut Onlooker<'_>) -> Result<BenchReport<BandwidthResult>, SurveyError> {
    let mut document = empty(schema::BW);
    run(host, request, onlooker, &mut document, &mut |done, document| {
        if let Done::Bandwidth(result) = done {
            document.results.push(*result);
        }
    })?;
    Ok(document)
}

/// Measures latency.
///
/// # Errors
/// As [`bandwidth`].
pub fn latency(host: &Host, request: &Request, onlooker: &mut Onlooker<'_>) -> Result<BenchReport<LatencyResult>, SurveyError> {
    let mut document = empty(schema::PING);
    run(host, request, onlooker, &mut document, &mut |done, document| {
        if let Done::Latency(result) = done {
            document.results.push(*result);
        }
    })?;
    Ok(document)
}

fn empty<R>(schema: &str) -> BenchReport<R> {
    BenchReport {
        schema: schema.to_owned(),
        connection: None,
        results: Vec::new(),
        ordering: Vec::new(),
        notices: Vec::new(),
        problems: Vec::new(),
        stopped: None,
    }
}

/// What takes a row into the document.
type Take<'a, R> = &'a mut dyn FnMut(Done, &mut BenchReport<R>);

fn run<R>(
    host: &Host,
    request: &Request,
    onlooker: &mut Onlooker<'_>,
    document: &mut BenchReport<R>,
    each: Take<'_, R>,
) -> Result<(), SurveyError> {
    measure(host, request, onlooker, document, each)?;
    if host.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    } else if request.is_late() {
        document.stopped = Some("the time budget is over".to_owned());
    }
    Ok(())
}

fn measure<R>(
    host: &Host,
    request: &Request,
    onlooker: &mut Onlooker<'_>,
    document: &mut BenchReport<R>,
    each: Take<'_, R>,
) -> Result<(), SurveyError> {
    // Children count into them from their start.
    let tallies = host.tallies()?;
    // A context takes seconds where no other program has brought the GPUs up.
    let mut worker = if request.needs_cuda() { host.worker_within(host.answer_within().max(GPU_ANSWER))? } else { host.worker()? };
    let (found, addresses) = devices_and_addresses(host, &mut worker)?;
    let Some((mut client, theirs)) = call(host, request, &mut document.problems) else { return Ok(()) };
    let theirs = theirs.as_ref().map(|(devices, addresses)| (devices.as_slice(), addresses.as_slice()));
    let hosts = Hosts { ours: &found.devices, our_addresses: &addresses, theirs, answer_within: host.answer_within() };
    let mut plan = match bench::plan(request, &hosts) {
        Ok(plan) => plan,
        Err(Obstacle::Usage(why)) => return Err(SurveyError::Unsuited(why)),
        Err(obstacle) => {
            document.problems = found.problems;
            // Why there is no device has been said then.
            if document.problems.is_empty() || !found.devices.is_empty() {
                document.problems.push(obstacle.into_problem());
            }
            return Ok(());
        }
    };
    document.notices.append(&mut plan.notices);
    if let Some(client) = &client {
        plan.connection.peer = Some(client.name().to_owned());
        document.notices.extend(of_peer(client));
    }
    document.notices.extend(left_out(&plan.settings));
    let far = client.as_mut().map(|client| client as &mut dyn Endpoint);
    let pair = Pair::new(&mut worker, far, plan.ends.clone(), plan.connection.connect, plan.mark);
    Opening { host, request, onlooker, tallies, plan }.measure(pair, document, each)
}

/// This host's devices, and its addresses.
pub(super) fn devices_and_addresses(host: &Host, worker: &mut Worker) -> Result<(Devices, Vec<Address>), SurveyError> {
    let mut reader = host.reader(ReadOptions::default(), None)?;
    let (sysfs, net) = (reader.get::<RdmaFacts>()?, reader.get::<NetFacts>()?);
    drop(reader);
    Ok((devices::collect(&sysfs, Some(&worker.inventory(None))), net.addresses))
}

/// Another host's devices and addresses.
type Theirs = (Vec<Device>, Vec<Address>);

/// The other host and what it has, if there is to be one. Why it cannot be talked to is a problem of the document.
fn call(host: &Host, request: &Request, problems: &mut Vec<Problem>) -> Option<(Option<Client>, Option<Theirs>)> {
    let Some(peer) = &request.peer else { return Some((None, None)) };
    let called = Client::connect(&peer.host, &peer.token, host.answer_within(), host.interruption());
    let described = called.and_then(|mut client| client.describe().map(|theirs| (Some(client), Some(theirs))));
    described.map_err(|error| problems.push(Problem { summary: error.to_string(), next_step: None })).ok()
}

/// What its release means for what is measured.
fn of_peer(client: &Client) -> Vec<Notice> {
    let mut notices = Vec::new();
    let own = env!("CARGO_PKG_VERSION");
    if client.server.release != own {
        let summary = format!("the other side is rdmadoctor {}, this one {own}", client.server.release);
        notices.push(Notice { summary, causes: Vec::new() });
    }
    notices
}

/// What cannot be measured of what was asked.
fn left_out(settings: &Settings) -> Vec<Notice> {
    let each = settings.operations.iter().flat_map(|operation| settings.sizes.iter().map(move |size| (*operation, *size)));
    let notice = |(operation, size)| {
        let why = settings.impossible(operation, size)?;
        Some(Notice { summary: format!("{operation} of {size} bytes is left out: {why}"), causes: Vec::new() })
    };
    each.filter_map(notice).collect()
}

/// A plan that is about to be carried out.
struct Opening<'a, 'b> {
    host: &'a Host,
    request: &'a Request,
    onlooker: &'a mut Onlooker<'b>,
    tallies: Option<CounterFile>,
    plan: Plan,
}

impl Opening<'_, '_> {
    fn measure<R>(mut self, mut pair: Pair<'_>, document: &mut BenchReport<R>, each: Take<'_, R>) -> Result<(), SurveyError> {
        let (host, request) = (self.host, self.request);
        let root = host.root();
        let opened = pair.open();
        let facts = match opened {
            Ok(facts) => facts,
            Err(error) => {
                document.problems.push(self.explain(&error).into_problem());
                document.notices.extend(self.refusals(&error)?);
                document.connection = Some(self.plan.connection);
                return Ok(());
            }
        };
        self.plan.connection.memory_bytes = facts.each_ref().map(|facts| facts.memory_bytes).into_iter().min().unwrap_or(0);
        self.plan.connection.is_simulated = facts.iter().any(|facts| facts.simulated.is_some());
        self.settle(&facts, &mut document.notices, &mut document.problems)?;
        document.problems.extend(bench::out_of_reach(&facts).filter(|_| self.plan.connection.peer.is_some()));
        let connection = self.plan.connection.clone();
        let watched = Watched::new(&root, self.tallies.as_ref(), connection.ports(), connection.peer.is_some());
        document.connection = Some(connection);
        if document.problems.is_empty()
            && let Err(summary) = bench::common_pkey(&facts[0].pkeys, &facts[1].pkeys)
        {
            let next = "give both ports membership in one partition (the subnet manager's partitions.conf)";
            document.problems.push(Problem { summary, next_step: Some(next.to_owned()) });
        }
        if !document.problems.is_empty() {
            return Ok(());
        }
        let hints = &self.plan.hints;
        let explain = |error: &BenchError| bench::explain(error, &known(host, error, hints));
        let mut measurement = Measurement {
            settings: &self.plan.settings,
            facts,
            counters: &watched,
            say: &mut *self.onlooker.say,
            stop: &|| host.interrupted() || request.is_late(),
            explain: &explain,
            is_lost: false,
            left: String::new(),
        };
        let is_complete = bench::measure(&mut pair, request.kind, &mut measurement, &mut |done| each(done, document));
        if let Some(iterations) = request.litmus.filter(|_| is_complete) {
            document.ordering = bench::order(&mut pair, &mut measurement, iterations, &mut document.notices);
        }
        if is_complete {
            pair.close();
        }
        Ok(())
    }

    fn explain(&self, error: &BenchError) -> FailureReport {
        bench::explain(error, &known(self.host, error, &self.plan.hints))
    }

    /// Why there was no way at all to memory of the asked kind.
    fn refusals(&self, error: &BenchError) -> Result<Vec<Notice>, SurveyError> {
        let BenchError::End { who, failure, .. } = error else { return Ok(Vec::new()) };
        let TransferError::Memory { memory, .. } = &failure.trouble else { return Ok(Vec::new()) };
        let connection = &self.plan.connection;
        let is_here = *who == Who::Here;
        let end = if is_here { &connection.local } else { &connection.remote };
        (self.onlooker.refused)(self.host, memory, &end.device, is_here)
    }

    /// Says what both ends' memory is and what that leaves no way for.
    fn settle(&mut self, facts: &[StageFacts; 2], notices: &mut Vec<Notice>, problems: &mut Vec<Problem>) -> Result<(), SurveyError> {
        let Plan { ends, settings, connection, .. } = &mut self.plan;
        let ConnectionReport { local, remote, peer, .. } = connection;
        let is_one_device = local.device == remote.device && peer.is_none();
        let is_here = [true, peer.is_none()];
        for (at, end) in [local, remote].into_iter().enumerate() {
            let memory = facts[at].memory.clone();
            let asked = &ends[at].stage.memory;
            if memory.kind != *asked {
                problems.push(Problem {
                    summary: format!("{}: it was to have memory of {asked}, and has {}", end.device, memory.kind),
                    next_step: Some("run the same release of rdmadoctor on both sides".to_owned()),
                });
            }
            // Both ends of one kind and device were refused alike.
            if at == 0 || !is_one_device || !memory.is_like(&facts[0].memory) {
                notices.extend((self.onlooker.refused)(self.host, &memory, &end.device, is_here[at])?);
            }
            settings.staged |= memory.path == Some(Path::Staged);
            end.memory = Some(memory);
        }
        let is_of_gpu = facts.iter().any(|facts| facts.memory.path.is_some());
        if is_of_gpu && self.request.kind == RunKind::Latency && !settings.staged && !settings.immediate {
            settings.immediate = true;
            let summary = "writes carry immediate data here: a processor does not see GPU memory change, so a message is known to have arrived by its completion";
            notices.push(Notice { summary: summary.to_owned(), causes: Vec::new() });
        }
        for operation in settings.operations.iter().filter(|_| settings.staged) {
            if let Some(why) = settings.impossible(*operation, 1) {
                notices.push(Notice { summary: format!("{operation} is left out: {why}"), causes: Vec::new() });
            }
        }
        Ok(())
    }
}

/// What is known of the host that bears on a failure. What memory has to do with it is read only then.
pub(super) fn known(host: &Host, error: &BenchError, hints: &Hints) -> Hints {
    let mut known = hints.clone();
    if bench::bears(error) == Relevance::Memory {
        let read = || host.reader(ReadOptions::default(), None)?.get::<SystemFacts>();
        known.memory.push(match read() {
            Ok(system) => match system.iommu.mode {
                IommuMode::Off => "the IOMMU is off: it is not in the way".to_owned(),
                IommuMode::Passthrough => "the IOMMU passes addresses through: it is not in the way of host memory".to_owned(),
                IommuMode::Translated | IommuMode::Mixed => {
                    "the IOMMU translates addresses: only what is mapped for the device is reached".to_owned()
                }
                IommuMode::Unknown => "how the IOMMU treats devices cannot be read".to_owned(),
            },
            Err(error) => format!("how the IOMMU treats devices cannot be read: {error}"),
        });
    }
    known
}
