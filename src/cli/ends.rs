//! What `ping` and `bw` share: the options of both, the choice of both ends, and the way from there to a report.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, exit, values};
use crate::bench::peer::Client;
use crate::bench::{
    self, Bench, BenchError, Choice, ConnectionReport, Done, EndChoice, EndReport, FailureReport, Measurement, Notice, Pair, Settings,
    Side, Watched,
};
use crate::facts::{self, Device, Port, Problem};
use crate::host::net::NetFacts;
use crate::host::net::address::Address;
use crate::host::part::Asked;
use crate::host::rdma::RdmaFacts;
use crate::transfer::{Completing, Connect, LEAD, Limit, Operation, RunKind, StagePlan, Transport};

/// Options of `ping` and `bw`.
#[derive(Debug, Clone, Args)]
#[group(id = "ends")]
pub struct Arguments {
    /// Only this device; the first with an active port otherwise.
    #[arg(value_name = "DEV")]
    device: Option<String>,
    /// To this device, instead of back to the same one.
    #[arg(long, value_name = "DEV2")]
    to: Option<String>,
    /// To another host, where `rdmadoctor peer` runs; --to then names a device there.
    #[arg(long, value_name = "HOST[:PORT]")]
    peer: Option<String>,
    #[command(flatten)]
    secret: super::token::Arguments,
    /// What moves data; all that the type of queue pair has otherwise.
    #[arg(long, value_enum, value_name = "OPERATION,…", value_delimiter = ',')]
    op: Vec<Operation>,
    /// Type of the queue pairs; RC where the device has it.
    #[arg(long, value_enum, value_name = "TYPE")]
    transport: Option<Transport>,
    /// Writes and sends carry immediate data.
    #[arg(long)]
    immediate: bool,
    /// Measure for this long each time.
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = values::duration, conflicts_with = "iterations")]
    duration: Duration,
    /// Measure so many messages on each queue pair each time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,
    /// Measure so often; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Wait for completions by asking again and again, or by sleeping until an event.
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Completing::Poll)]
    completion: Completing,
    /// Connect by exchanged addresses or by rdma_cm; chosen from the device otherwise.
    #[arg(long, value_enum, value_name = "HOW")]
    connect: Option<Connect>,
    /// Index of the own address; chosen by type, scope and reachability otherwise.
    #[arg(long, value_name = "INDEX")]
    gid_index: Option<u8>,
    /// Path MTU; the smaller one of both ports otherwise.
    #[arg(long, value_name = "BYTES", value_parser = mtu)]
    mtu: Option<u32>,
    /// Do not compare what arrives with what was sent before measuring.
    #[arg(long)]
    no_verify: bool,
}

impl Arguments {
    /// The same of one device, back to itself.
    pub fn of_device(&self, device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..self.clone() }
    }
}

/// Bytes of a spread buffer: more than most caches hold.
const SPREAD_BYTES: u64 = 32 << 20;
/// The longest message: 1 GiB.
const LONGEST: u64 = 1 << 30;

fn mtu(text: &str) -> Result<u32, String> {
    let valid = [256, 512, 1024, 2048, 4096];
    text.parse()
        .ok()
        .filter(|bytes| valid.contains(bytes))
        .ok_or_else(|| format!("`{text}` is no path MTU; valid are 256, 512, 1024, 2048, 4096"))
}

/// A size of a message.
pub fn message_size(text: &str) -> Result<u64, String> {
    values::size(text).and_then(|size| {
        if (1..=LONGEST).contains(&size) { Ok(size) } else { Err(format!("`{text}` is out of range; messages have 1 byte to 1 GiB")) }
    })
}

/// What only one of the commands has.
pub struct Own {
    /// Bandwidth or latency.
    pub kind: RunKind,
    /// Sizes of messages.
    pub sizes: Vec<u64>,
    /// Queue pairs.
    pub queue_pairs: u32,
    /// Which buffers.
    pub hot: bool,
    /// As above.
    pub spread: bool,
    /// Both ends send.
    pub bidirectional: bool,
    /// Given depths.
    pub depth: Option<u32>,
    /// As above.
    pub batch: Option<u32>,
    /// When measuring ends, whatever is left to measure.
    pub until: Option<Instant>,
}

impl Own {
    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Why there is nothing to measure.
pub(super) enum Obstacle {
    /// A mistake of the caller's.
    Usage(UsageError),
    /// The host's.
    Problem(Problem),
}

impl From<UsageError> for Obstacle {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

/// A device, one of its ports, and that port's addresses.
struct End<'a> {
    device: &'a Device,
    port: &'a Port,
}

impl End<'_> {
    fn is_ethernet(&self) -> bool {
        self.port.link_layer.as_deref().is_none_or(|layer| !layer.eq_ignore_ascii_case("infiniband"))
    }

    fn is_iwarp(&self) -> bool {
        self.device.transport == "iWARP"
    }
}

/// Measures, and gives the document's rows by `each`.
pub fn run<R>(
    session: &Session,
    arguments: &Arguments,
    own: &Own,
    schema: &str,
    each: &mut dyn FnMut(Done, &mut Bench<R>),
) -> anyhow::Result<Bench<R>> {
    let mut document = measured(session, arguments, own, schema, each)?;
    if session.interrupted() {
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
        notices: Vec::new(),
        problems: Vec::new(),
        stopped: None,
    };
    let root = session.root();
    let mut worker = session.worker()?;
    let mut reader = session.reader(Asked::default(), None)?;
    let (sysfs, net) = (reader.get::<RdmaFacts>()?, reader.get::<NetFacts>()?);
    drop(reader);
    let inventory = worker.inventory(None);
    let found = facts::collect(&sysfs, Some(&inventory));
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
        if client.release != own {
            let summary = format!("the other side is rdmadoctor {}, this one {own}", client.release);
            document.notices.push(Notice { summary, causes: Vec::new() });
        }
    }
    let Chosen { ends, settings, mut connection, hints, mark, .. } = chosen;
    let far = client.as_mut().map(|client| client as &mut dyn Side);
    let mut pair = Pair::new(&mut worker, far, ends, connection.connect, mark);
    let patience = u64::try_from(session.answer_within().as_millis()).unwrap_or(u64::MAX);
    let settings = Settings { patience_ms: patience * 4 / 5, ..settings };
    for operation in &settings.operations {
        for size in &settings.sizes {
            if let Some(why) = settings.impossible(*operation, *size) {
                document.notices.push(Notice { summary: format!("{operation} of {size} bytes is left out: {why}"), causes: Vec::new() });
            }
        }
    }
    let here_only = [connection.local.device.as_str(), if connection.peer.is_none() { connection.remote.device.as_str() } else { "" }];
    let watched = Watched::new(&root, &here_only);
    let explain = |error: &BenchError| -> FailureReport { bench::explain(error, &hints) };
    let mut progress = Progress::new(if own.kind == RunKind::Bandwidth { "bw" } else { "ping" }, session.quiet());
    let facts = match pair.open() {
        Ok(facts) => facts,
        Err(error) => {
            let report = explain(&error);
            let causes: String = report.causes.iter().map(|cause| format!("; likely: {cause}")).collect();
            let summary = format!("{}: {}{causes}", report.step, report.summary);
            document.problems.push(Problem { summary, next_step: report.next_step });
            document.connection = Some(connection);
            return Ok(document);
        }
    };
    connection.memory_bytes = facts.each_ref().map(|facts| facts.memory_bytes).into_iter().min().unwrap_or(0);
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
        stop: &|| session.interrupted() || own.is_late(),
        explain: &explain,
        is_lost: false,
    };
    let is_complete = bench::measure(&mut pair, own.kind, &mut measurement, &mut |done| each(done, &mut document));
    if is_complete {
        pair.close();
    }
    Ok(document)
}

/// Both ends, and what to do with them.
pub(super) struct Chosen {
    pub ends: [EndChoice; 2],
    pub settings: Settings,
    pub connection: ConnectionReport,
    /// What is known of both ends that bears on failures.
    pub hints: Vec<String>,
    /// What disagrees between both ends.
    notices: Vec<Notice>,
    pub mark: u64,
}

/// Calls the other host, if there is to be one. Why it cannot be talked to is a problem of the document.
fn call(session: &Session, arguments: &Arguments, problems: &mut Vec<Problem>) -> anyhow::Result<Result<Option<Client>, ()>> {
    let Some(host) = &arguments.peer else { return Ok(Ok(None)) };
    let token = arguments.secret.token()?.ok_or_else(|| {
        UsageError("--peer needs the token that `rdmadoctor peer` prints there: --token, --token-file or RDMADOCTOR_TOKEN".to_owned())
    })?;
    match Client::connect(host, &token, session.answer_within(), session.interruption()) {
        Ok(client) => Ok(Ok(Some(client))),
        Err(error) => {
            problems.push(Problem { summary: error.to_string(), next_step: None });
            Ok(Err(()))
        }
    }
}

/// What is known of the hosts of both ends.
pub(super) struct Hosts<'a> {
    pub ours: &'a [Device],
    pub our_addresses: &'a [Address],
    /// Of another host's.
    pub theirs: Option<(&'a [Device], &'a [Address])>,
}

/// The other end: the device that was named, or on another host the first that this end reaches, or this end itself.
fn other_end<'a>(arguments: &Arguments, hosts: &Hosts<'a>, here: &End<'a>) -> Result<End<'a>, Obstacle> {
    match (&arguments.to, hosts.theirs) {
        (to, Some((devices, _))) => {
            let reaches = |device: &&Device| {
                let there = end(devices, Some(&device.name)).ok();
                there.is_some_and(|there| {
                    bench::choose([here.port, there.port], [arguments.gid_index, None]).is_ok_and(|[ours, _]| !ours.needs_router)
                })
            };
            let first = devices.iter().find(reaches).map(|device| device.name.as_str());
            end(devices, to.as_deref().or(first)).map_err(|obstacle| match obstacle {
                Obstacle::Problem(problem) => {
                    Obstacle::Problem(Problem { summary: format!("the other side: {}", problem.summary), ..problem })
                }
                usage => usage,
            })
        }
        (Some(name), None) => end(hosts.ours, Some(name)),
        (None, None) => Ok(End { device: here.device, port: here.port }),
    }
}

pub(super) fn choose(arguments: &Arguments, own: &Own, hosts: &Hosts<'_>) -> Result<Chosen, Obstacle> {
    let here = end(hosts.ours, arguments.device.as_deref())?;
    let there = other_end(arguments, hosts, &here)?;
    if here.is_iwarp() != there.is_iwarp() {
        let transports = format!("{} here, {} there", here.device.transport, there.device.transport);
        return Err(Obstacle::Problem(Problem {
            summary: format!("both ends need one transport, and have two: {transports}"),
            next_step: Some("name devices of one kind: DEV here, --to there".to_owned()),
        }));
    }
    let connect = arguments.connect.unwrap_or(if here.is_iwarp() { Connect::Cm } else { Connect::Oob });
    // EFA has datagrams and a type of its own only (rdma-core providers/efa/verbs.c, efa_create_qp).
    let usual = if here.device.transport == "unspecified" { Transport::Ud } else { Transport::Rc };
    let transport = arguments.transport.unwrap_or(usual);
    if here.is_iwarp() && transport != Transport::Rc {
        return Err(UsageError(format!("{} is an iWARP adapter, which has reliable connections only", here.device.name)).into());
    }
    if connect == Connect::Cm && transport != Transport::Rc {
        return Err(UsageError("rdma_cm connects queue pairs of type RC here; leave --transport or --connect out".to_owned()).into());
    }
    let problem = |summary: String, next: &str| Obstacle::Problem(Problem { summary, next_step: Some(next.to_owned()) });
    let gids = bench::choose([here.port, there.port], [arguments.gid_index, None]).map_err(|why| {
        if arguments.gid_index.is_some() {
            Obstacle::Usage(UsageError(why))
        } else {
            problem(why, "`rdmadoctor devices` shows the addresses of both")
        }
    })?;
    let mtus = [here.port, there.port].map(|port| port.active_mtu_bytes.unwrap_or(1024));
    let mtu_bytes = arguments.mtu.unwrap_or(mtus[0].min(mtus[1]));
    let mut notices = Vec::new();
    if mtus[0] != mtus[1] {
        notices.push(Notice {
            summary: format!("the path MTUs differ: {} bytes here, {} there; {mtu_bytes} is used", mtus[0], mtus[1]),
            causes: vec!["the interfaces have different MTUs; an engine that takes its own port's loses every long message".to_owned()],
        });
    }
    let addresses = match connect {
        Connect::Oob => [None, None],
        Connect::Cm => {
            let mut addresses = [None; 2];
            let known = [hosts.our_addresses, hosts.theirs.map_or(hosts.our_addresses, |(_, addresses)| addresses)];
            for (at, (end, gid)) in [&here, &there].into_iter().zip(&gids).enumerate() {
                addresses[at] = Some(address(end, gid, known[at]).ok_or_else(|| {
                    problem(
                        format!("{}: its interface has no address, which rdma_cm needs", end.device.name),
                        "give its interface an address: ip address add …",
                    )
                })?);
            }
            addresses
        }
    };
    let largest = own.sizes.iter().copied().max().unwrap_or(1);
    let half = largest.max(if own.spread { SPREAD_BYTES } else { 0 }) + 3 * LEAD as u64;
    let choice = |end: &End<'_>, gid: &Choice, address: Option<IpAddr>| EndChoice {
        stage: StagePlan {
            device: end.device.name.clone(),
            port: u8::try_from(end.port.port).unwrap_or(1),
            memory_bytes: half.next_multiple_of(4096) * 2,
            least_bytes: (largest + 3 * LEAD as u64).next_multiple_of(4096) * 2,
            manager: address.map(|address| (address, 0).into()),
        },
        gid_index: gid.index,
        is_global: end.is_ethernet(),
        address,
    };
    let report = |end: &End<'_>, gid: &Choice| EndReport {
        device: end.device.name.clone(),
        port: u8::try_from(end.port.port).unwrap_or(1),
        gid_index: gid.index,
        gid: gid.gid.clone(),
        reason: gid.reason.clone(),
    };
    let hint = |whose: &str, end: &End<'_>, gid: &Choice| {
        format!("{whose} {} port {} uses GID {} ({})", end.device.name, end.port.port, gid.index, gid.reason)
    };
    let [first, second] = &gids;
    Ok(Chosen {
        ends: [choice(&here, first, addresses[0]), choice(&there, second, addresses[1])],
        connection: ConnectionReport {
            transport,
            connect,
            mtu_bytes,
            local: report(&here, first),
            remote: report(&there, second),
            peer: None,
            memory_bytes: 0,
        },
        notices,
        hints: vec![hint("this end:", &here, first), hint("the other end:", &there, second)],
        settings: Settings {
            operations: operations(arguments, transport),
            transport,
            immediate: arguments.immediate,
            sizes: own.sizes.clone(),
            queue_pairs: own.queue_pairs,
            completing: arguments.completion,
            hot: own.hot,
            spread: own.spread,
            bidirectional: own.bidirectional,
            limit: arguments
                .iterations
                .map_or(Limit::TimeMs(u64::try_from(arguments.duration.as_millis()).unwrap_or(u64::MAX)), Limit::Iterations),
            repeats: arguments.repeats,
            verify: !arguments.no_verify,
            depth: own.depth,
            batch: own.batch,
            mtu_bytes,
            patience_ms: 0,
        },
        mark: mark(),
    })
}

/// The operations that were asked, or all of the type.
fn operations(arguments: &Arguments, transport: Transport) -> Vec<Operation> {
    if !arguments.op.is_empty() {
        return arguments.op.clone();
    }
    match transport {
        Transport::Rc => vec![Operation::Write, Operation::Read, Operation::Send],
        Transport::Uc => vec![Operation::Write, Operation::Send],
        Transport::Ud => vec![Operation::Send],
    }
}

/// Tells this run's requests of rdma_cm from those of others.
fn mark() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    now ^ (u64::from(std::process::id()) << 40)
}

/// A device by name, or the first that can be used, and its first active port.
fn end<'a>(devices: &'a [Device], wanted: Option<&str>) -> Result<End<'a>, Obstacle> {
    let active = |device: &'a Device| device.ports.iter().find(|port| port.state.as_deref() == Some("active"));
    let known: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
    let device = match wanted {
        Some(name) => devices.iter().find(|device| device.name == name).ok_or_else(|| super::unknown_device(name, &known))?,
        None => devices.iter().find(|device| device.problem.is_none() && active(device).is_some()).or_else(|| devices.first()).ok_or_else(
            || {
                Obstacle::Problem(Problem {
                    summary: "there is no RDMA device to measure with".to_owned(),
                    next_step: Some("`rdmadoctor devices` says why".to_owned()),
                })
            },
        )?,
    };
    if let Some(problem) = &device.problem {
        return Err(Obstacle::Problem(Problem {
            summary: format!("{}: {}", device.name, problem.summary),
            next_step: problem.next_step.clone(),
        }));
    }
    match active(device) {
        Some(port) => Ok(End { device, port }),
        None => {
            let states: Vec<String> = device
                .ports
                .iter()
                .map(|port| format!("port {} is {}", port.port, port.state.as_deref().unwrap_or("in an unknown state")))
                .collect();
            Err(Obstacle::Problem(Problem {
                summary: format!("{} has no active port: {}", device.name, states.join(", ")),
                next_step: Some("`rdmadoctor probe` says why a port is not active".to_owned()),
            }))
        }
    }
}

/// The address by which rdma_cm finds an end: that of its GID, or one of its interface.
fn address(end: &End<'_>, gid: &Choice, known: &[Address]) -> Option<IpAddr> {
    let of_gid = end.port.gids.iter().find(|entry| entry.gid == gid.gid).and_then(|entry| entry.ipv4.as_ref()?.parse().ok());
    let own = |address: &&Address| address.netdev.as_ref().is_some_and(|netdev| end.device.netdevs.contains(netdev));
    let is_plain = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        // A link-local address needs an interface beside it, which rdma_cm is not given here.
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 != 0xfe80,
    };
    of_gid.or_else(|| known.iter().filter(own).map(|address| address.address).filter(is_plain).min_by_key(|address| address.is_ipv6()))
}

/// Says that figures are too noisy to quote.
pub fn noise(figures: &[String]) -> Option<Notice> {
    (!figures.is_empty()).then(|| Notice {
        summary: format!("too noisy to quote, by how much repeats differ: {}", figures.join(", ")),
        causes: vec!["something else uses the device or the processors; a longer --duration and more --repeats steady it".to_owned()],
    })
}

/// Exit code of a document.
pub fn code(session: &Session, has_problems: bool, has_failed: bool) -> u8 {
    match () {
        () if session.interrupted() => exit::INTERRUPTED,
        () if has_problems || has_failed => exit::FAILED,
        () => exit::OK,
    }
}
