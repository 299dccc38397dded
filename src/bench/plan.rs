//! The choice of both ends, and of what is measured between them: from a request and what is known of the hosts, and nothing else.

use std::net::IpAddr;

use super::address::{Choice, choose};
use super::causes::Hints;
use super::document::{ConnectionReport, EndReport, Notice};
use super::end::{End, Hosts};
use super::pair::EndChoice;
use super::request::Request;
use super::settings::Settings;
use crate::devices::{Device, Problem};
use crate::gpu::MemoryKind;
use crate::transfer::{Connect, EndpointPlan, LEAD, Transport};

/// Bytes of a spread buffer: more than most caches hold.
const SPREAD_BYTES: u64 = 32 << 20;

/// Both ends, and what to do with them.
pub struct Plan {
    /// How each is opened and found.
    pub ends: [EndChoice; 2],
    /// What is measured.
    pub settings: Settings,
    /// How the document shows the connection.
    pub connection: ConnectionReport,
    /// What is known of both ends that bears on failures.
    pub hints: Hints,
    /// What disagrees between both ends.
    pub notices: Vec<Notice>,
    /// Tells its requests of rdma_cm from those of others.
    pub mark: u64,
}

/// Why there is nothing to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The request is mistaken.
    Usage(String),
    /// The device cannot be used.
    Unusable { device: String, problem: Problem },
    /// The device has no port through which data can move.
    Inactive {
        device: String,
        /// The state of each port that could have been taken, in words.
        states: Vec<String>,
    },
    /// The device's interface lacks the address that rdma_cm needs.
    NoAddress { device: String },
    /// Something else of the hosts.
    Problem(Problem),
}

impl Obstacle {
    pub(super) fn problem(summary: impl Into<String>, next: &str) -> Self {
        Self::Problem(Problem { summary: summary.into(), next_step: Some(next.to_owned()) })
    }

    pub(super) fn unknown(wanted: &str, devices: &[Device]) -> Self {
        let known: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        let known = if known.is_empty() { "this host has no RDMA devices".to_owned() } else { format!("known are {}", known.join(", ")) };
        Self::Usage(format!("unknown device `{wanted}`; {known}"))
    }

    /// As a document tells it.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        match self {
            Self::Usage(summary) => Problem { summary, next_step: None },
            Self::Unusable { device, problem } => Problem { summary: format!("{device}: {}", problem.summary), ..problem },
            Self::Inactive { device, states } => Problem {
                summary: format!("{device} has no active port: {}", states.join(", ")),
                next_step: Some("`rdmadoctor probe` says why a port is not active".to_owned()),
            },
            Self::NoAddress { device } => Problem {
                summary: format!("{device}: its interface has no address, which rdma_cm needs"),
                next_step: Some("give its interface an address: ip address add …".to_owned()),
            },
            Self::Problem(problem) => problem,
        }
    }
}

/// Chooses both ends as the request says, or by what the devices can do.
///
/// # Errors
/// The request is mistaken, or a host lacks something.
pub fn plan(request: &Request, hosts: &Hosts<'_>) -> Result<Plan, Obstacle> {
    let here = End::find(hosts.ours, request.device.as_deref(), request.port)?;
    let there = End::other(request, hosts, here)?;
    let (connect, transport) = kinds(request, here, there)?;
    let gids = choose([here.port, there.port], [request.gid_index, None]).map_err(|why| {
        if request.gid_index.is_some() {
            Obstacle::Usage(why)
        } else {
            Obstacle::problem(why, "`rdmadoctor devices` shows the addresses of both")
        }
    })?;
    let mtus = [here.port, there.port].map(|port| port.active_mtu_bytes.unwrap_or(1024));
    let mtu_bytes = request.mtu_bytes.unwrap_or(mtus[0].min(mtus[1]));
    let mut notices = Vec::new();
    if mtus[0] != mtus[1] {
        notices.push(Notice {
            summary: format!("the path MTUs differ: {} bytes here, {} there; {mtu_bytes} is used", mtus[0], mtus[1]),
            causes: vec!["the interfaces have different MTUs; an engine that takes its own port's loses every long message".to_owned()],
        });
    }
    let [first, second] = &gids;
    let addresses = match connect {
        Connect::Oob => [None, None],
        Connect::Cm => {
            let theirs = hosts.theirs.map_or(hosts.our_addresses, |(_, addresses)| addresses);
            [Some(here.address(first, hosts.our_addresses)?), Some(there.address(second, theirs)?)]
        }
    };
    let with_staged = request.peer.is_none() && transport == Transport::Rc;
    let patience_ms = u64::try_from(hosts.answer_within.as_millis()).unwrap_or(u64::MAX) * 4 / 5;
    let to_memory = request.to_memory.as_ref().unwrap_or(&request.memory);
    let hint = |whose: &str, end: End<'_>, gid: &Choice| {
        format!("{whose} {} port {} uses GID {} ({})", end.device.name, end.port.port, gid.index, gid.reason)
    };
    Ok(Plan {
        ends: [
            end_choice(request, here, first, addresses[0], &request.memory, with_staged),
            end_choice(request, there, second, addresses[1], to_memory, with_staged),
        ],
        settings: request.settings(transport, mtu_bytes, patience_ms),
        connection: ConnectionReport {
            transport,
            connect,
            mtu_bytes,
            local: end_report(here, first),
            remote: end_report(there, second),
            peer: None,
            memory_bytes: 0,
            is_simulated: false,
        },
        hints: Hints {
            addresses: vec![hint("this end:", here, first), hint("the other end:", there, second)],
            needs_router: first.needs_router,
            memory: Vec::new(),
        },
        notices,
        mark: mark(),
    })
}

/// How queue pairs find each other, and their type, by what both ends have.
fn kinds(request: &Request, here: End<'_>, there: End<'_>) -> Result<(Connect, Transport), Obstacle> {
    if here.is_iwarp() != there.is_iwarp() {
        let transports = format!("{} here, {} there", here.device.transport, there.device.transport);
        return Err(Obstacle::problem(
            format!("both ends need one transport, and have two: {transports}"),
            "name devices of one kind: DEV here, --to there",
        ));
    }
    let connect = request.connect.unwrap_or(if here.is_iwarp() { Connect::Cm } else { Connect::Oob });
    let transport = request.transport.unwrap_or(if here.is_efa() { Transport::Ud } else { Transport::Rc });
    if here.is_iwarp() && transport != Transport::Rc {
        return Err(Obstacle::Usage(format!("{} is an iWARP adapter, which has reliable connections only", here.device.name)));
    }
    if connect == Connect::Cm && transport != Transport::Rc {
        return Err(Obstacle::Usage("rdma_cm connects queue pairs of type RC here; leave --transport or --connect out".to_owned()));
    }
    Ok((connect, transport))
}

fn end_choice(request: &Request, end: End<'_>, gid: &Choice, address: Option<IpAddr>, memory: &MemoryKind, with_staged: bool) -> EndChoice {
    let least = request.largest() + 3 * LEAD as u64;
    let half = least.max(if request.spread { SPREAD_BYTES + 3 * LEAD as u64 } else { 0 });
    EndChoice {
        stage: EndpointPlan {
            device: end.device.name.clone(),
            port: end.number(),
            memory_bytes: half.next_multiple_of(4096) * 2,
            least_bytes: least.next_multiple_of(4096) * 2,
            manager: address.map(|address| (address, 0).into()),
            memory: memory.clone(),
            with_staged,
        },
        gid_index: gid.index,
        is_global: end.is_ethernet(),
        address,
    }
}

fn end_report(end: End<'_>, gid: &Choice) -> EndReport {
    EndReport {
        device: end.device.name.clone(),
        port: end.number(),
        gid_index: gid.index,
        gid: gid.gid.clone(),
        reason: gid.reason.clone(),
        memory: None,
    }
}

/// Tells this run's requests of rdma_cm from those of others.
fn mark() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    now ^ (u64::from(std::process::id()) << 40)
}
