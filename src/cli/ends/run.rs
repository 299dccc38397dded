//! From the arguments to a document: both ends are chosen, opened, measured, and closed.

use std::time::Duration;

use super::choose::choose;
use super::end::Hosts;
use super::{Arguments, Chosen, Obstacle, Own};
use crate::bench::peer::Client;
use crate::bench::{
    self, Bears, Bench, BenchError, Done, FailureReport, Known, Measurement, Notice, Pair, PortOf, Settings, Side, Watched,
};
use crate::cli::UsageError;
use crate::cli::progress::Progress;
use crate::cli::registration::{self, Opened};
use crate::cli::session::Session;
use crate::devices;
use crate::devices::Problem;
use crate::gpu::MemoryKind;
use crate::host::net::NetFacts;
use crate::host::part::Asked;
use crate::host::rdma::RdmaFacts;
use crate::host::system::SystemFacts;
use crate::host::system::iommu::IommuMode;
use crate::transfer::RunKind;

/// Longest wait for an answer where GPUs have to be brought up.
const GPU_ANSWER: Duration = Duration::from_secs(30);

/// Measures, and gives the document's rows by `each`.
pub fn run<R>(
    session: &Session,
    arguments: &Arguments,
    own: &Own,
    schema: &str,
    each: &mut dyn FnMut(Done, &mut Bench<R>),
) -> anyhow::Result<Bench<R>> {
    let mut document = measured(session, arguments, own, schema, each)?;
    if session.host.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    } else if own.is_late() {
        document.stopped = Some("the time budget is over".to_owned());
    }
    Ok(document)
}

fn measured<R>(
    session: &Session,
    arguments: &Arguments,
    own: &Own,
    schema: &str,
    each: &mut dyn FnMut(Done, &mut Bench<R>),
) -> anyhow::Result<Bench<R>> {
    let mut document = Bench {
        schema: schema.to_owned(),
        connection: None,
        results: Vec::new(),
        ordering: Vec::new(),
        notices: Vec::new(),
        problems: Vec::new(),
        stopped: None,
    };
    let root = session.host.root();
    let tallies = session.host.tallies()?;
    // A context takes seconds where no other program has brought the GPUs up.
    let patient = arguments.memory.needs_cuda() || arguments.to_memory.as_ref().is_some_and(MemoryKind::needs_cuda);
    let mut worker =
        if patient { session.host.worker_within(session.host.answer_within().max(GPU_ANSWER))? } else { session.host.worker()? };
    let mut reader = session.host.reader(Asked::default(), None)?;
    let (sysfs, net) = (reader.get::<RdmaFacts>()?, reader.get::<NetFacts>()?);
    drop(reader);
    let inventory = worker.inventory(None);
    let found = devices::collect(&sysfs, Some(&inventory));
    let mut client = match call(session, arguments, &mut document.problems)? {
        Ok(client) => client,
        Err(()) => return Ok(document),
    };
    let theirs = match client.as_mut().map(Client::describe).transpose() {
        Ok(theirs) => theirs,
        Err(error) => {
            document.problems.push(Problem { summary: error.to_string(), next_step: None });
            return Ok(document);
        }
    };
    let hosts = Hosts {
        ours: &found.devices,
        our_addresses: &net.addresses,
        theirs: theirs.as_ref().map(|(devices, addresses)| (devices.as_slice(), addresses.as_slice())),
    };
    let mut chosen = match choose(arguments, own, &hosts) {
        Ok(chosen) => chosen,
        Err(Obstacle::Usage(error)) => return Err(error.into()),
        Err(Obstacle::Problem(problem)) => {
            document.problems = found.problems;
            // Why there is no device has been said then.
            if document.problems.is_empty() || !found.devices.is_empty() {
                document.problems.push(problem);
            }
            return Ok(document);
        }
    };
    document.notices.append(&mut chosen.notices);
    if let Some(client) = &client {
        chosen.connection.peer = Some(client.name().to_owned());
        let own = env!("CARGO_PKG_VERSION");
        if client.server.release != own {
            let summary = format!("the other side is rdmadoctor {}, this one {own}", client.server.release);
            document.notices.push(Notice { summary, causes: Vec::new() });
        }
        if !client.tells_counters() {
            let summary = format!(
                "the other side speaks version {} of the peer protocol, in which it does not tell its counters",
                client.server.version
            );
            document.notices.push(Notice { summary, causes: Vec::new() });
        }
    }
    let Chosen { ends, settings, mut connection, hints, mark, .. } = chosen;
    let asked_memory = ends.each_ref().map(|end| end.stage.memory.clone());
    let far = client.as_mut().map(|client| client as &mut dyn Side);
    let mut pair = Pair::new(&mut worker, far, ends, connection.connect, mark);
    let patience = u64::try_from(session.host.answer_within().as_millis()).unwrap_or(u64::MAX);
    let settings = Settings { patience_ms: patience * 4 / 5, ..settings };
    for operation in &settings.operations {
        for size in &settings.sizes {
            if let Some(why) = settings.impossible(*operation, *size) {
                document.notices.push(Notice { summary: format!("{operation} of {size} bytes is left out: {why}"), causes: Vec::new() });
            }
        }
    }
    let ports = [&connection.local, &connection.remote].map(|end| PortOf { device: end.device.clone(), port: end.port.into() });
    let watched = Watched::new(&root, tallies.as_ref(), ports, connection.peer.is_some());
    let explain = |error: &BenchError| -> FailureReport { bench::explain(error, &known(session, error, &hints)) };
    let mut progress = Progress::new(if own.kind == RunKind::Bandwidth { "bw" } else { "ping" }, session.output.quiet);
    let facts = match pair.open() {
        Ok(facts) => facts,
        Err(error) => {
            let report = explain(&error);
            let causes: String = report.causes.iter().map(|cause| format!("; likely: {cause}")).collect();
            let summary = format!("{}: {}{causes}", report.step, report.summary);
            document.problems.push(Problem { summary, next_step: report.next_step });
            document.notices.extend(registration::of_error(session, &error, [&connection.local.device, &connection.remote.device])?);
            document.connection = Some(connection);
            return Ok(document);
        }
    };
    connection.memory_bytes = facts.each_ref().map(|facts| facts.memory_bytes).into_iter().min().unwrap_or(0);
    let mut settings = settings;
    let opened = Opened { session, kind: own.kind, facts: &facts, asked: &asked_memory };
    opened.settle(&mut connection, &mut settings, &mut document.notices, &mut document.problems)?;
    if !document.problems.is_empty() {
        document.connection = Some(connection);
        return Ok(document);
    }
    let pkeys = bench::common_pkey(&facts[0].pkeys, &facts[1].pkeys);
    document.connection = Some(connection);
    if let Err(why) = pkeys {
        document.problems.push(Problem {
            summary: why,
            next_step: Some("give both ports membership in one partition (the subnet manager's partitions.conf)".to_owned()),
        });
        return Ok(document);
    }
    let mut measurement = Measurement {
        settings: &settings,
        facts,
        counters: &watched,
        say: &mut |text| progress.at(text),
        stop: &|| session.host.interrupted() || own.is_late(),
        explain: &explain,
        is_lost: false,
        left: String::new(),
    };
    let is_complete = bench::measure(&mut pair, own.kind, &mut measurement, &mut |done| each(done, &mut document));
    if let Some(iterations) = own.litmus.filter(|_| is_complete) {
        document.ordering = bench::order(&mut pair, &mut measurement, iterations, &mut document.notices);
    }
    if is_complete {
        pair.close();
    }
    Ok(document)
}

/// Calls the other host, if there is to be one. Why it cannot be talked to is a problem of the document.
fn call(session: &Session, arguments: &Arguments, problems: &mut Vec<Problem>) -> anyhow::Result<Result<Option<Client>, ()>> {
    let Some(host) = &arguments.peer else { return Ok(Ok(None)) };
    let token = arguments.secret.token()?.ok_or_else(|| {
        UsageError("--peer needs the token that `rdmadoctor peer` prints there: --token, --token-file or RDMADOCTOR_TOKEN".to_owned())
    })?;
    match Client::connect(host, &token, session.host.answer_within(), session.host.interruption()) {
        Ok(client) => Ok(Ok(Some(client))),
        Err(error) => {
            problems.push(Problem { summary: error.to_string(), next_step: None });
            Ok(Err(()))
        }
    }
}

/// What is known of the host that bears on a failure. What memory has to do with it is read only then.
pub fn known(session: &Session, error: &BenchError, hints: &Known) -> Known {
    let mut known = hints.clone();
    if bench::bears(error) == Bears::Memory {
        let read = || session.host.reader(Asked::default(), None)?.get::<SystemFacts>();
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
