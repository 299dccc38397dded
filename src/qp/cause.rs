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
        // Where the limit of locked memory is not short (mm/mlock.c, `can_do_mlock`), this is no want of anything.
        _ if errno == libc::EPERM => Cause {
            class: CauseClass::Resources,
            summary: "the kernel, or a security policy, does not permit it to this process".to_owned(),
            evidence,
            next_step: Some("run as root to tell which; look at the container's capabilities, seccomp and SELinux or AppArmor".to_owned()),
        },
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

    /// What a summary has to say, by the class.
    const NET_RAW: (CauseClass, &str) = (CauseClass::Resources, "need CAP_NET_RAW");
    const LOCKED: (CauseClass, &str) = (CauseClass::Resources, "may not lock enough memory");
    const USED_UP: (CauseClass, &str) = (CauseClass::Resources, "has run out of queue pairs or of memory");
    const NO_ROOM: (CauseClass, &str) = (CauseClass::Resources, "has not enough memory or objects for a request of this size");
    const FORBIDDEN: (CauseClass, &str) = (CauseClass::Resources, "does not permit it to this process");
    const OVER: (CauseClass, &str) = (CauseClass::OverLimit, "over the device's limit");
    const NO_SUCH: (CauseClass, &str) = (CauseClass::Driver, "has no such queue pair");
    const MISFIT: (CauseClass, &str) = (CauseClass::Driver, "do not fit each other");
    const GONE: (CauseClass, &str) = (CauseClass::Driver, "was reset or is gone");
    const OTHER: (CauseClass, &str) = (CauseClass::Driver, "no single change of the request helps");

    /// What is found of a request that was refused with an errno: for a process with CAP_IPC_LOCK, for one that may lock little, for one
    /// that may lock as much as it likes; each without and with a change that makes it pass.
    #[test]
    fn each_errno_has_its_cause_for_each_type_privilege_and_call() {
        use libc::{
            E2BIG, EACCES, EAGAIN, EFAULT, EINVAL, EIO, EMSGSIZE, ENODATA, ENODEV, ENOMEM, ENOSPC, ENOSYS, ENXIO, EOPNOTSUPP, EPERM,
            EPROTONOSUPPORT,
        };
        // Errno, then with privilege, with little memory, with much; and the same with a change that helps.
        let exhausted = |errno| (errno, [USED_UP, LOCKED, USED_UP], [NO_ROOM, LOCKED, NO_ROOM]);
        let other = |errno, cause| (errno, [cause; 3], [OVER; 3]);
        let table = [
            // ibv_create_qp(3): ENOMEM; mlx5 for want of keys; erdma for want of domains.
            exhausted(ENOMEM),
            exhausted(EAGAIN),
            exhausted(ENOSPC),
            (EPERM, [FORBIDDEN, LOCKED, FORBIDDEN], [FORBIDDEN, LOCKED, FORBIDDEN]),
            other(EOPNOTSUPP, NO_SUCH),
            other(ENOSYS, MISFIT),
            other(ENODATA, MISFIT),
            other(EPROTONOSUPPORT, MISFIT),
            other(EIO, GONE),
            other(ENXIO, GONE),
            other(ENODEV, GONE),
            other(EINVAL, OTHER),
            other(EFAULT, OTHER),
            other(E2BIG, OTHER),
            other(EMSGSIZE, OTHER),
            other(EACCES, OTHER),
            // bnxt_re's provider sets none.
            other(0, OTHER),
        ];
        let little = HostLimits { memlock_soft_bytes: Some(64 << 10), ipc_lock: false };
        let limits = [HostLimits { ipc_lock: true, ..little }, little, HostLimits { memlock_soft_bytes: None, ipc_lock: false }];
        for qp_type in QpType::ALL {
            for call in ["ibv_create_qp", "ibv_create_cq", "ibv_create_srq", "ibv_create_qp_ex"] {
                for (errno, without, with) in table {
                    for (place, limits) in limits.into_iter().enumerate() {
                        let asked = QpRequest { max_send_wr: 8192, ..QpRequest::base(qp_type) };
                        let error = CallError { call: call.to_owned(), object: "d".to_owned(), errno: ErrorNumber(errno) };
                        let outcome = Outcome::Refused { error };
                        let is_raw = qp_type == QpType::RawPacket && errno == EPERM;
                        for (sets, expected) in [(vec![], without[place]), (set(), with[place])] {
                            // A modest request is granted where a change helps: the change leads to it.
                            let cause = classify(&asked, &outcome, &sets, !sets.is_empty(), limits, false).unwrap();
                            let (class, summary) = if is_raw { NET_RAW } else { expected };
                            let what = format!("{call} of {qp_type}: {outcome} {place} {sets:?}");
                            assert!(cause.class == class && cause.summary.contains(summary), "{what}: {cause:?}");
                            assert_eq!(cause.evidence[0], outcome.to_string(), "{what}");
                            // A change is a remedy of its own.
                            assert_eq!(cause.next_step.is_some(), class != CauseClass::OverLimit, "{what}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_change_tells_what_does_not_fit() {
        let asked = QpRequest::base(QpType::UD);
        let culprit = |parameter, asked, accepted| Culprit { parameter, asked, accepted };
        let number = |parameter, asked, accepted| culprit(parameter, Value::Number(asked), Value::Number(accepted));
        let kind = culprit(Parameter::QpType, Value::Type(QpType::UD), Value::Type(QpType::RC));
        for (culprits, expected) in [
            (vec![number(Parameter::MaxSendSge, 4, 1)], "over the device's limit"),
            (vec![number(Parameter::MaxRecvWr, 0, 1)], "under the device's minimum"),
            (vec![number(Parameter::MaxRecvWr, 0, 1), number(Parameter::MaxSendSge, 4, 1)], "over the device's limit"),
            (vec![number(Parameter::Srq, 4096, 0)], "no such shared receive queue"),
            (vec![number(Parameter::MaxRecvWr, 0, 1), number(Parameter::Srq, 4096, 0)], "no such shared receive queue"),
            (vec![kind.clone()], "no UD queue pairs"),
            (vec![number(Parameter::MaxRecvWr, 0, 1), kind], "no UD queue pairs"),
        ] {
            let count = culprits.len();
            let sets = [CulpritSet { culprits, granted: QpRequest::base(QpType::RC), exact: true }];
            let cause = classify(&asked, &refused(libc::EINVAL), &sets, true, HostLimits::default(), false).unwrap();
            assert!(cause.summary.contains(expected), "{cause:?}");
            assert_eq!(cause.evidence.iter().any(|line| line == "none of these changes alone suffices"), count > 1, "{cause:?}");
        }
        // Nothing was found because nothing more was tried: that says nothing.
        let is_told = |errno, cut| classify(&asked, &refused(errno), &[], true, HostLimits::default(), cut).is_some();
        assert!(is_told(libc::EINVAL, false) && !is_told(libc::EINVAL, true) && is_told(libc::ENOMEM, true));
        for outcome in [Outcome::NotRun { why: "no time".to_owned() }, Outcome::Granted { caps: asked.caps(), cq_depth: 1 }] {
            assert_eq!(classify(&asked, &outcome, &[], true, HostLimits::default(), false), None);
        }
    }

    #[test]
    fn a_connection_that_ends_has_the_cause_of_its_step() {
        let (active, down, init) = (PortState::Active, PortState::Down, PortState::Init);
        let modify = "ibv_modify_qp";
        for (reached, errno, call, gid_index, is_iwarp, state, expected) in [
            (QpState::Init, libc::ETIMEDOUT, modify, Some(0), false, active, "no neighbour or route"),
            (QpState::Init, libc::ENETUNREACH, modify, Some(0), false, active, "no route for the GID"),
            (QpState::Init, libc::EINVAL, modify, None, false, active, "no usable GID"),
            (QpState::Init, libc::EINVAL, modify, Some(0), false, active, "refused the step to RTR"),
            (QpState::Rtr, libc::ETIMEDOUT, modify, Some(0), false, active, "refused the step to RTS"),
            (QpState::Rtr, libc::EINVAL, modify, None, false, active, "refused the step to RTS"),
            (QpState::Reset, libc::EINVAL, modify, Some(0), false, active, "refused the step to INIT"),
            (QpState::Rtr, libc::EINVAL, modify, Some(0), true, active, "it needs rdma_cm"),
            // What fails before is not the connection's.
            (QpState::Reset, libc::ENOMEM, "ibv_create_qp", Some(0), true, active, "refused the step to INIT"),
            (QpState::Init, libc::ETIMEDOUT, modify, Some(0), false, down, "the port is down"),
            (QpState::Rtr, libc::EINVAL, modify, Some(0), true, init, "the port is init"),
        ] {
            let error = CallError { call: call.to_owned(), object: "e".to_owned(), errno: ErrorNumber(errno) };
            let connected = Connected { reached, gid_index, refused: Some(error) };
            let cause = classify_connection(&connected, is_iwarp, None, &Word::Known(state)).unwrap();
            assert!(cause.summary.contains(expected) && cause.class == CauseClass::Network, "{expected}: {cause:?}");
            assert_eq!(cause.evidence.iter().any(|line| line == "the port has no GID"), gid_index.is_none(), "{cause:?}");
        }
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
