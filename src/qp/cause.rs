//! Why a request was refused, as far as attempts and this process's limits tell.

use rdmadoctor_types::{PortState, QpState, Word};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prober::is_exhaustion;
use super::{Culprit, CulpritSet, Outcome, Parameter, QpRequest, QpType, Value};
use crate::devices::HostLimits;
use crate::host::families;
use crate::worker::Connected;

/// The kinds of cause that call for different remedies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseClass {
    /// The request is over the device's limit.
    OverLimit,
    /// Something ran out or is capped: objects, locked memory, firmware resources.
    Resources,
    /// The driver, the firmware or the user-space provider.
    Driver,
    /// The network configuration: the transport, a port, an address.
    Network,
}

/// A cause with what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    pub class: CauseClass,
    /// One sentence.
    pub summary: String,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do, where that does not follow from the culprits.
    pub next_step: Option<String>,
}

/// Says why `asked` came out as `outcome`. `sets` are its culprits; `base_granted` tells whether the device grants a
/// modest request, `is_cut_short` whether the search for culprits was stopped: then their absence says nothing.
#[must_use]
pub fn classify(
    asked: &QpRequest,
    outcome: &Outcome,
    sets: &[CulpritSet],
    base_granted: bool,
    limits: HostLimits,
    is_cut_short: bool,
) -> Option<Cause> {
    let mut evidence = vec![outcome.to_string()];
    match outcome {
        Outcome::Granted { .. } | Outcome::NotRun { .. } => None,
        Outcome::Crashed { .. } | Outcome::Hung { .. } => broken(outcome, "made"),
        Outcome::Refused { error } if is_exhaustion(error.errno) || error.errno.0 == libc::EPERM => {
            Some(resources(asked, error.errno.0, evidence, sets, base_granted, limits))
        }
        Outcome::Refused { error } => {
            if let Some(set) = sets.first() {
                let list = |value: fn(&Culprit) -> Value| {
                    let words: Vec<_> = set.culprits.iter().map(|culprit| format!("{}={}", culprit.parameter, value(culprit))).collect();
                    words.join(" and ")
                };
                evidence.push(format!("granted with {} and all else as asked, refused with {}", list(|c| c.accepted), list(|c| c.asked)));
                if set.culprits.len() > 1 {
                    evidence.push("none of these changes alone suffices".to_owned());
                }
                if error.errno.0 == 0 {
                    evidence.push("no errno: the provider checks published limits by itself and gives none, as bnxt_re's does".to_owned());
                }
                return Some(Cause { class: CauseClass::OverLimit, summary: over_limit(set), evidence, next_step: None });
            }
            if is_cut_short {
                return None;
            }
            evidence.push(if base_granted {
                "a modest request is granted".to_owned()
            } else {
                "even a modest request is refused".to_owned()
            });
            Some(Cause {
                class: CauseClass::Driver,
                summary: match error.errno.0 {
                    libc::EOPNOTSUPP => "the device, or its driver, has no such queue pair".to_owned(),
                    libc::ENOSYS | libc::ENODATA | libc::EPROTONOSUPPORT => "provider and kernel driver do not fit each other".to_owned(),
                    libc::EIO | libc::ENXIO | libc::ENODEV => "the device was reset or is gone".to_owned(),
                    _ => "the driver refuses, and no single change of the request helps".to_owned(),
                },
                evidence,
                next_step: Some("look at `dmesg`: many drivers print which value they refused".to_owned()),
            })
        }
    }
}

/// Why a queue pair that should be connected with itself took the child process along, or got no answer.
#[must_use]
pub fn broken_connection(outcome: &Outcome) -> Option<Cause> {
    broken(outcome, "connected")
}

/// The cause of a crash or a hang while a queue pair was `done` something with.
fn broken(outcome: &Outcome, done: &str) -> Option<Cause> {
    let (summary, next_step) = match outcome {
        Outcome::Crashed { .. } => (
            format!("the user-space provider, or the verbs library, crashed while the queue pair was {done}"),
            "compare the versions of rdma-core and of the kernel driver; the vendor's packages must match",
        ),
        Outcome::Hung { .. } => (
            format!("the call did not return while the queue pair was {done}: the driver or the firmware does not answer"),
            "look at `dmesg` for the device's driver; a reset of the device or a reboot may be needed",
        ),
        _ => return None,
    };
    let mut evidence = vec![outcome.to_string()];
    if let Outcome::Crashed { printed, .. } = outcome {
        evidence.extend(printed.iter().rev().take(3).rev().cloned());
    }
    Some(Cause { class: CauseClass::Driver, summary, evidence, next_step: Some(next_step.to_owned()) })
}

/// In what way a request does not fit, from the changes that make it pass.
fn over_limit(set: &CulpritSet) -> String {
    let of = |parameter: Parameter| set.culprits.iter().find(|culprit| culprit.parameter == parameter);
    let is_below = |culprit: &Culprit| culprit.asked.number() < culprit.accepted.number() && culprit.accepted.number().is_some();
    match (of(Parameter::QpType), of(Parameter::Srq)) {
        (Some(culprit), _) => format!("the device has no {} queue pairs", culprit.asked),
        (_, Some(_)) => "the device has no such shared receive queue".to_owned(),
        _ if set.culprits.iter().all(is_below) => "the request is under the device's minimum".to_owned(),
        _ => "the request is over the device's limit".to_owned(),
    }
}

fn resources(
    asked: &QpRequest,
    errno: i32,
    mut evidence: Vec<String>,
    sets: &[CulpritSet],
    base_granted: bool,
    limits: HostLimits,
) -> Cause {
    let needed = asked.memory_bytes();
    if asked.qp_type == QpType::RawPacket && errno == libc::EPERM {
        return Cause {
            class: CauseClass::Resources,
            summary: "raw packet queue pairs need CAP_NET_RAW".to_owned(),
            evidence,
            next_step: Some("run as root, or give the program CAP_NET_RAW".to_owned()),
        };
    }
    if let Some(set) = sets.first() {
        let changes: Vec<_> = set.culprits.iter().map(|culprit| format!("{}={}", culprit.parameter, culprit.accepted)).collect();
        evidence.push(format!("granted with {}", changes.join(" and ")));
    }
    match limits.memlock_bytes() {
        Some(limit) if limit < needed => {
            evidence.push(format!(
                "RLIMIT_MEMLOCK is {} KiB and CAP_IPC_LOCK is not effective; the queues take about {} KiB",
                limit >> 10,
                needed.div_ceil(1 << 10)
            ));
            Cause {
                class: CauseClass::Resources,
                summary: "the process may not lock enough memory for the queues".to_owned(),
                evidence,
                next_step: Some(
                    "raise the limit where the engine starts: `ulimit -l unlimited`, LimitMEMLOCK=infinity, or --ulimit memlock=-1"
                        .to_owned(),
                ),
            }
        }
        limit => {
            evidence.push(limit.map_or_else(
                || "locked memory is not limited".to_owned(),
                |limit| format!("RLIMIT_MEMLOCK is {} KiB, enough for the queues' {} KiB", limit >> 10, needed.div_ceil(1 << 10)),
            ));
            evidence.push(if base_granted {
                "a modest request is still granted".to_owned()
            } else {
                "even a modest request is refused now".to_owned()
            });
            Cause {
                class: CauseClass::Resources,
                summary: if base_granted {
                    "the device or the kernel has not enough memory or objects for a request of this size".to_owned()
                } else {
                    "the device has run out of queue pairs or of memory".to_owned()
                },
                evidence,
                next_step: Some("see who holds them with `rdma resource show qp` and `rdma resource show`".to_owned()),
            }
        }
    }
}

/// Says why a queue pair could not be connected with itself. `is_iwarp` is whether the device publishes the iWARP transport.
#[must_use]
pub fn classify_connection(connected: &Connected, is_iwarp: bool, family: Option<&str>, port_state: &Word<PortState>) -> Option<Cause> {
    let error = connected.refused.as_ref()?;
    let mut evidence = vec![format!("a queue pair reached {}, then {error}", connected.reached)];
    let next = match connected.reached {
        QpState::Reset => QpState::Init,
        QpState::Init => QpState::Rtr,
        _ => QpState::Rts,
    };
    if *port_state != PortState::Active {
        evidence.push(format!("the port is {port_state}"));
        return Some(Cause {
            class: CauseClass::Network,
            summary: format!("the port is {port_state}, so no queue pair can be connected"),
            evidence,
            next_step: Some("bring its network interface up, or start a subnet manager on InfiniBand; see `rdma link`".to_owned()),
        });
    }
    if is_iwarp && error.call == "ibv_modify_qp" {
        evidence.push("the device is an iWARP adapter (node type RNIC): its connections are made by rdma_cm".to_owned());
        let engine = "use an engine that connects through rdma_cm";
        let next_step = match family.and_then(families::find).and_then(|family| family.without_rdma_cm.as_ref()) {
            Some(advice) => format!("{}, or {engine}", advice.action),
            None => engine.to_owned(),
        };
        return Some(Cause {
            class: CauseClass::Network,
            summary: "an engine that exchanges addresses by itself cannot connect queue pairs of this device: it needs rdma_cm".to_owned(),
            evidence,
            next_step: Some(next_step),
        });
    }
    if connected.gid_index.is_none() {
        evidence.push("the port has no GID".to_owned());
    }
    let summary = match (next, error.errno.0) {
        (QpState::Rtr, libc::ETIMEDOUT) => "the own address was not resolved: no neighbour or route for the GID".to_owned(),
        (QpState::Rtr, libc::ENETUNREACH) => "there is no route for the GID".to_owned(),
        (QpState::Rtr, _) if connected.gid_index.is_none() => "the port has no usable GID: its network interface has no address".to_owned(),
        _ => format!("the driver refused the step to {next}"),
    };
    Some(Cause {
        class: CauseClass::Network,
        summary,
        evidence,
        next_step: Some("see `rdmadoctor devices` for the GID table, and `ip addr` for the interface".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::{CallError, ErrorNumber};

    fn refused(errno: i32) -> Outcome {
        Outcome::Refused { error: CallError { call: "ibv_create_qp".to_owned(), object: "d".to_owned(), errno: ErrorNumber(errno) } }
    }

    fn set() -> Vec<CulpritSet> {
        let culprit = Culprit { parameter: Parameter::MaxRecvSge, asked: Value::Number(4), accepted: Value::Number(1) };
        vec![CulpritSet { culprits: vec![culprit], granted: QpRequest::base(QpType::RC), exact: true }]
    }

    #[test]
    fn each_kind_of_refusal_has_its_class() {
        let asked = QpRequest { max_send_wr: 8192, ..QpRequest::base(QpType::RC) };
        let tight = HostLimits { memlock_soft_bytes: Some(64 << 10), ipc_lock: false };
        let class =
            |outcome: &Outcome, sets: &[CulpritSet], base, limits| classify(&asked, outcome, sets, base, limits, false).unwrap().class;
        let free = HostLimits::default();
        assert_eq!(class(&refused(22), &set(), true, free), CauseClass::OverLimit);
        assert_eq!(class(&refused(0), &set(), true, free), CauseClass::OverLimit);
        assert_eq!(class(&refused(12), &set(), true, tight), CauseClass::Resources);
        assert_eq!(class(&refused(12), &[], false, free), CauseClass::Resources);
        assert_eq!(class(&refused(95), &[], false, free), CauseClass::Driver);
        assert_eq!(class(&Outcome::Crashed { signal: "SIGSEGV".to_owned(), printed: vec![] }, &[], true, free), CauseClass::Driver);
        assert_eq!(class(&Outcome::Hung { deadline_ms: 5, held_in: None }, &[], true, free), CauseClass::Driver);
    }

    #[test]
    fn locked_memory_is_blamed_only_when_it_is_short() {
        let asked = QpRequest { max_send_wr: 8192, ..QpRequest::base(QpType::RC) };
        let cause = |limits| classify(&asked, &refused(12), &set(), true, limits, false).unwrap();
        let tight = HostLimits { memlock_soft_bytes: Some(64 << 10), ipc_lock: false };
        assert!(cause(tight).summary.contains("lock enough memory"));
        assert!(!cause(HostLimits { ipc_lock: true, ..tight }).summary.contains("lock enough memory"));
        assert!(!cause(HostLimits { memlock_soft_bytes: Some(1 << 40), ipc_lock: false }).summary.contains("lock enough"));
    }

    #[test]
    fn iwarp_points_to_the_connection_manager_and_erdma_to_its_compat_mode() {
        let error = CallError { call: "ibv_modify_qp".to_owned(), object: "e to RTS".to_owned(), errno: ErrorNumber(22) };
        let connected = Connected { reached: QpState::Rtr, gid_index: Some(0), refused: Some(error) };
        let active = Word::Known(PortState::Active);
        let cause = classify_connection(&connected, true, Some("erdma"), &active).unwrap();
        assert_eq!(cause.class, CauseClass::Network);
        assert!(cause.next_step.unwrap().contains("compat_mode"));
        assert!(!classify_connection(&connected, true, Some("siw"), &active).unwrap().next_step.unwrap().contains("compat"));
        assert!(classify_connection(&connected, false, None, &Word::Known(PortState::Down)).unwrap().summary.contains("down"));
        let fine = Connected { reached: QpState::Rts, gid_index: Some(0), refused: None };
        assert_eq!(classify_connection(&fine, false, None, &active), None);
    }
}
