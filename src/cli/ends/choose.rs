//! The choice of both ends, and of what is measured between them.

use std::net::IpAddr;

use super::end::{End, Hosts, address, end, other_end};
use super::{Arguments, Chosen, Obstacle, Own};
use crate::bench::{self, Choice, ConnectionReport, EndChoice, EndReport, Known, Notice, Settings};
use crate::cli::UsageError;
use crate::devices::Problem;
use crate::gpu::MemoryKind;
use crate::transfer::{Connect, LEAD, Limit, Operation, StagePlan, Transport};

/// Bytes of a spread buffer: more than most caches hold.
const SPREAD_BYTES: u64 = 32 << 20;

/// Chooses both ends as the arguments say, or by what the devices can do.
pub fn choose(arguments: &Arguments, own: &Own, hosts: &Hosts<'_>) -> Result<Chosen, Obstacle> {
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
    let choice = |end: &End<'_>, gid: &Choice, address: Option<IpAddr>, memory: MemoryKind| EndChoice {
        stage: StagePlan {
            device: end.device.name.clone(),
            port: u8::try_from(end.port.port).unwrap_or(1),
            memory_bytes: half.next_multiple_of(4096) * 2,
            least_bytes: (largest + 3 * LEAD as u64).next_multiple_of(4096) * 2,
            manager: address.map(|address| (address, 0).into()),
            memory,
            with_staged: arguments.peer.is_none() && transport == Transport::Rc,
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
        memory: None,
    };
    let hint = |whose: &str, end: &End<'_>, gid: &Choice| {
        format!("{whose} {} port {} uses GID {} ({})", end.device.name, end.port.port, gid.index, gid.reason)
    };
    let [first, second] = &gids;
    Ok(Chosen {
        ends: [
            choice(&here, first, addresses[0], arguments.memory.clone()),
            choice(&there, second, addresses[1], arguments.to_memory.clone().unwrap_or_else(|| arguments.memory.clone())),
        ],
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
        hints: Known {
            addresses: vec![hint("this end:", &here, first), hint("the other end:", &there, second)],
            needs_router: first.needs_router,
            memory: Vec::new(),
        },
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
            staged: false,
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
