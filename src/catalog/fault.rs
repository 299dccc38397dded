//! Faults that a simulated device shows on demand, and the text by which they are asked for.
//!
//! ```text
//! fault     = kind [ "@" when ] { "," condition }
//! kind      = "errno:" CALL ":" ERRNO      the call fails; ERRNO is a name, a number, or 0 for none set
//!           | "crash:" CALL                the process dies of SIGSEGV in the call
//!           | "hang:" CALL                 the call never returns
//!           | "short_completion" [":" N]   a receive completes with N bytes (1 if absent) fewer than were sent
//!           | "corrupt_payload" [":" N]    the byte at offset N (0 if absent) of a message arrives changed
//!           | "late_writes" [":" N]         what a write of more than N bytes (8 if absent) carries reaches memory only before the next
//!                                          such write or a read arrives, or when it is flushed: shorter writes overtake it
//!           | "detour:" DEVICE             what crosses the wire is carried, and counted, by that device of the host instead
//!           | "port_down" [":" PORT]       the port (1 if absent) goes down
//!           | "device_removed"             the device goes away: calls fail with EIO, queue pairs flush
//!           | "exhaust:" OBJECT "=" N      no more than N of qp, cq, srq, mr or pd exist at once
//! when      = N        at the Nth time, counted from 1
//!           | N "+"    from the Nth time on (absent: from the first on)
//!           | T        from that time after the start on, such as 200ms or 5s (port_down and device_removed only)
//! condition = "device=" NAME  |  PARAMETER ( "=" | ">" | "<" ) VALUE
//! ```
//!
//! What is counted: calls of CALL that meet the conditions; messages that carry a payload, for `corrupt_payload`; writes of more than N
//! bytes, for `late_writes`; messages and answers that cross the wire, for `detour`; receives that
//! complete well, for `short_completion`; messages sent, for `port_down`; calls on the device other than `ibv_poll_cq`, for
//! `device_removed`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::ObjectKind;
use crate::verbs::ErrorNumber;

/// The calls that a fault can name.
pub const CALLS: &[&str] = &[
    "ibv_get_device_list",
    "ibv_open_device",
    "ibv_query_device",
    "ibv_query_port",
    "ibv_query_gid",
    "ibv_query_pkey",
    "ibv_alloc_pd",
    "ibv_dealloc_pd",
    "ibv_reg_mr",
    "ibv_reg_dmabuf_mr",
    "mlx5dv_reg_dmabuf_mr",
    "ibv_dereg_mr",
    "ibv_create_comp_channel",
    "ibv_create_cq",
    "ibv_resize_cq",
    "ibv_destroy_cq",
    "ibv_poll_cq",
    "ibv_req_notify_cq",
    "ibv_create_srq",
    "ibv_modify_srq",
    "ibv_query_srq",
    "ibv_destroy_srq",
    "ibv_create_qp",
    "efadv_create_driver_qp",
    "ibv_modify_qp",
    "ibv_query_qp",
    "ibv_destroy_qp",
    "ibv_create_ah",
    "ibv_destroy_ah",
    "ibv_post_send",
    "ibv_post_recv",
    "ibv_post_srq_recv",
    "rdma_create_event_channel",
    "rdma_create_id",
    "rdma_bind_addr",
    "rdma_resolve_addr",
    "rdma_resolve_route",
    "rdma_listen",
    "rdma_connect",
    "rdma_accept",
    "rdma_reject",
    "rdma_disconnect",
    "rdma_get_cm_event",
];

/// The calls that make queue pairs.
const QP_CALLS: &[&str] = &["ibv_create_qp", "efadv_create_driver_qp"];

/// The calls that register memory.
const MR_CALLS: &[&str] = &["ibv_reg_mr", "ibv_reg_dmabuf_mr", "mlx5dv_reg_dmabuf_mr"];

/// The parameters that a condition can name, with the calls that have them.
pub const PARAMETERS: &[(&str, &[&str])] = &[
    ("max_send_wr", QP_CALLS),
    ("max_recv_wr", QP_CALLS),
    ("max_send_sge", QP_CALLS),
    ("max_recv_sge", QP_CALLS),
    ("max_inline_data", QP_CALLS),
    ("qp_type", QP_CALLS),
    ("srq", QP_CALLS),
    ("cq_depth", &["ibv_create_cq", "ibv_resize_cq"]),
    ("max_wr", &["ibv_create_srq"]),
    ("max_sge", &["ibv_create_srq"]),
    ("length_bytes", MR_CALLS),
    ("access", MR_CALLS),
    ("state", &["ibv_modify_qp"]),
    ("port", &["ibv_query_port", "ibv_query_gid", "ibv_query_pkey"]),
    ("opcode", &["ibv_post_send"]),
    ("num_sge", &["ibv_post_send", "ibv_post_recv", "ibv_post_srq_recv"]),
];

/// Words that stand for numbers in conditions: states and types as verbs.h numbers them.
const WORDS: &[(&str, &str, u64)] = &[
    ("state", "RESET", 0),
    ("state", "INIT", 1),
    ("state", "RTR", 2),
    ("state", "RTS", 3),
    ("state", "SQD", 4),
    ("state", "SQE", 5),
    ("state", "ERR", 6),
    ("qp_type", "RC", 2),
    ("qp_type", "UC", 3),
    ("qp_type", "UD", 4),
    ("qp_type", "RAW_PACKET", 8),
    ("qp_type", "DRIVER", 255),
];

/// A fault of a simulated device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// When it happens.
    pub when: When,
    /// On which device only.
    pub device: Option<String>,
    /// For which values of parameters only.
    pub conditions: Vec<Condition>,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A call fails.
    Errno {
        /// The call, one of [`CALLS`].
        call: &'static str,
        /// Its errno; 0 fails without setting any.
        errno: i32,
    },
    /// The process dies of SIGSEGV in a call.
    Crash {
        /// The call, one of [`CALLS`].
        call: &'static str,
    },
    /// A call never returns.
    Hang {
        /// The call, one of [`CALLS`].
        call: &'static str,
    },
    /// A receive completes with fewer bytes than were sent.
    ShortCompletion {
        /// How many are missing.
        bytes: u32,
    },
    /// One byte of a message arrives changed.
    CorruptPayload {
        /// Which byte; the last one, if the message is shorter.
        offset: u64,
    },
    /// Writes reach memory after others that were sent behind them.
    LateWrites {
        /// Those of more bytes than that.
        above: u32,
    },
    /// What crosses the wire is carried by another device.
    Detour { to: String },
    /// A port goes down.
    PortDown {
        /// Which, from 1.
        port: u8,
    },
    /// The device goes away.
    DeviceRemoved,
    /// Objects run out.
    Exhaust {
        /// Of which kind.
        object: ObjectKind,
        /// How many there are.
        limit: u32,
    },
}

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    /// At this time, counted from 1, and at no other.
    Nth(u64),
    /// From this time on, counted from 1.
    From(u64),
    /// From this long after the start on.
    After(Duration),
}

/// How a parameter is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `>`
    Above,
    /// `<`
    Below,
}

/// A parameter's value that a fault waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The parameter, one of [`PARAMETERS`].
    pub parameter: &'static str,
    pub comparison: Comparison,
    pub value: u64,
}

impl Condition {
    /// Whether `actual` meets it.
    #[must_use]
    pub fn holds(&self, actual: u64) -> bool {
        match self.comparison {
            Comparison::Equal => actual == self.value,
            Comparison::Above => actual > self.value,
            Comparison::Below => actual < self.value,
        }
    }
}

/// Why a text describes no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no fault: {problem}")]
pub struct FaultError {
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl FaultKind {
    /// The call in which it happens, if it belongs to one.
    #[must_use]
    pub fn call(&self) -> Option<&'static str> {
        match self {
            Self::Errno { call, .. } | Self::Crash { call } | Self::Hang { call } => Some(call),
            _ => None,
        }
    }
}

impl Fault {
    /// The devices that it names.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        let to = if let FaultKind::Detour { to } = &self.kind { Some(to) } else { None };
        self.device.iter().chain(to).map(String::as_str)
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

impl TryFrom<String> for Fault {
    type Error = FaultError;

    fn try_from(text: String) -> Result<Self, FaultError> {
        text.parse()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::Errno { call, errno: 0 } => write!(f, "errno:{call}:0")?,
            FaultKind::Errno { call, errno } => match Errno::from_raw(*errno) {
                Errno::UnknownErrno => write!(f, "errno:{call}:{errno}")?,
                name => write!(f, "errno:{call}:{name:?}")?,
            },
            FaultKind::Crash { call } => write!(f, "crash:{call}")?,
            FaultKind::Hang { call } => write!(f, "hang:{call}")?,
            FaultKind::ShortCompletion { bytes } => write!(f, "short_completion:{bytes}")?,
            FaultKind::CorruptPayload { offset } => write!(f, "corrupt_payload:{offset}")?,
            FaultKind::LateWrites { above } => write!(f, "late_writes:{above}")?,
            FaultKind::Detour { to } => write!(f, "detour:{to}")?,
            FaultKind::PortDown { port } => write!(f, "port_down:{port}")?,
            FaultKind::DeviceRemoved => write!(f, "device_removed")?,
            FaultKind::Exhaust { object, limit } => write!(f, "exhaust:{}={limit}", object.name())?,
        }
        match self.when {
            When::From(1) => {}
            When::From(count) => write!(f, "@{count}+")?,
            When::Nth(count) => write!(f, "@{count}")?,
            When::After(time) => write!(f, "@{}ms", time.as_millis())?,
        }
        if let Some(device) = &self.device {
            write!(f, ",device={device}")?;
        }
        for condition in &self.conditions {
            let sign = match condition.comparison {
                Comparison::Equal => '=',
                Comparison::Above => '>',
                Comparison::Below => '<',
            };
            write!(f, ",{}{sign}{}", condition.parameter, condition.value)?;
        }
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        parse(text).map_err(|problem| FaultError { text: text.to_owned(), problem })
    }
}

fn parse(text: &str) -> Result<Fault, String> {
    let mut parts = text.split(',');
    let head = parts.next().unwrap_or_default().trim();
    let (kind, when) = head.split_once('@').map_or((head, None), |(kind, when)| (kind, Some(when)));
    let kind = parse_kind(kind)?;
    let when = when.map_or(Ok(When::From(1)), parse_when)?;
    let timed = matches!(kind, FaultKind::PortDown { .. } | FaultKind::DeviceRemoved);
    if matches!(when, When::After(_)) && !timed {
        return Err("only port_down and device_removed can happen at a time; give a count, such as @3 or @3+".to_owned());
    }
    if matches!(kind, FaultKind::Exhaust { .. }) && when != When::From(1) {
        return Err("`exhaust` is always in force and takes no @".to_owned());
    }
    let mut fault = Fault { kind, when, device: None, conditions: Vec::new() };
    for part in parts {
        let part = part.trim();
        if let Some(name) = part.strip_prefix("device=") {
            if name.is_empty() || fault.device.replace(name.to_owned()).is_some() {
                return Err("`device=` takes one name, once".to_owned());
            }
        } else {
            let condition = parse_condition(part)?;
            let calls = PARAMETERS.iter().find(|(name, _)| *name == condition.parameter).map_or(&[][..], |(_, calls)| calls);
            if !fault.kind.call().is_some_and(|call| calls.contains(&call)) {
                return Err(format!("`{}` is a parameter of {}", condition.parameter, calls.join(", ")));
            }
            fault.conditions.push(condition);
        }
    }
    Ok(fault)
}

fn parse_kind(text: &str) -> Result<FaultKind, String> {
    let (name, rest) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
    let optional = |otherwise: u64| rest.map_or(Ok(otherwise), |rest| number(rest, "a number after the colon"));
    match name {
        "errno" => {
            let (call, errno) =
                rest.and_then(|rest| rest.split_once(':')).ok_or("write errno:CALL:ERRNO, such as errno:ibv_create_qp:ENOMEM")?;
            Ok(FaultKind::Errno { call: known_call(call)?, errno: parse_errno(errno)? })
        }
        "crash" => Ok(FaultKind::Crash { call: known_call(rest.ok_or("write crash:CALL, such as crash:ibv_create_qp")?)? }),
        "hang" => Ok(FaultKind::Hang { call: known_call(rest.ok_or("write hang:CALL, such as hang:ibv_create_qp")?)? }),
        "short_completion" => {
            Ok(FaultKind::ShortCompletion { bytes: u32::try_from(optional(1)?).map_err(|_| "a message has fewer bytes than 4 GiB")? })
        }
        "corrupt_payload" => Ok(FaultKind::CorruptPayload { offset: optional(0)? }),
        "late_writes" => {
            Ok(FaultKind::LateWrites { above: u32::try_from(optional(8)?).map_err(|_| "a message has fewer bytes than 4 GiB")? })
        }
        "detour" => {
            Ok(FaultKind::Detour { to: rest.filter(|to| !to.is_empty()).ok_or("write detour:DEVICE, such as detour:mlx5_3")?.to_owned() })
        }
        "port_down" => Ok(FaultKind::PortDown { port: u8::try_from(optional(1)?).map_err(|_| "a port's number is 1 to 255")? }),
        "device_removed" if rest.is_none() => Ok(FaultKind::DeviceRemoved),
        "device_removed" => Err("`device_removed` takes no argument".to_owned()),
        "exhaust" => {
            let (object, limit) = rest.and_then(|rest| rest.split_once('=')).ok_or("write exhaust:OBJECT=N, such as exhaust:qp=100")?;
            let valid = || ObjectKind::ALL.map(ObjectKind::name).join(", ");
            let known = ObjectKind::ALL.into_iter().find(|kind| kind.name() == object);
            let object = known.ok_or_else(|| format!("`{object}` is no object; valid are {}", valid()))?;
            let limit = u32::try_from(number(limit, "a number of objects")?).map_err(|_| "that is no limit")?;
            Ok(FaultKind::Exhaust { object, limit })
        }
        _ => Err(format!(
            "`{name}` is no kind; valid are errno, crash, hang, short_completion, corrupt_payload, late_writes, detour, port_down, \
             device_removed, exhaust"
        )),
    }
}

fn known_call(text: &str) -> Result<&'static str, String> {
    CALLS
        .iter()
        .find(|call| **call == text)
        .copied()
        .ok_or_else(|| format!("`{text}` is no call of the simulated provider; valid are {}", CALLS.join(", ")))
}

fn parse_errno(text: &str) -> Result<i32, String> {
    if let Ok(value) = text.parse::<i32>() {
        // The kernel's largest is 4095 (include/linux/err.h, MAX_ERRNO).
        return (0..=4095).contains(&value).then_some(value).ok_or_else(|| format!("{value} is no errno"));
    }
    ErrorNumber::named(text)
        .map(|errno| errno.0)
        .ok_or_else(|| format!("`{text}` is no errno; write a name such as ENOMEM, a number, or 0 for none"))
}

fn parse_when(text: &str) -> Result<When, String> {
    let counted = |text: &str| match number(text, "a count, such as @3")? {
        0 => Err("counts begin with 1".to_owned()),
        count => Ok(count),
    };
    if let Some(count) = text.strip_suffix('+') {
        return counted(count).map(When::From);
    }
    if let Some(time) = text.strip_suffix("ms") {
        return number(time, "milliseconds").map(|ms| When::After(Duration::from_millis(ms)));
    }
    if let Some(time) = text.strip_suffix('s') {
        let seconds = number(time, "seconds")?;
        // So that it can be written back in milliseconds.
        return seconds.checked_mul(1000).map(|ms| When::After(Duration::from_millis(ms))).ok_or_else(|| "that is too long".to_owned());
    }
    counted(text).map(When::Nth)
}

fn parse_condition(text: &str) -> Result<Condition, String> {
    let at = text.find(['=', '>', '<']).ok_or_else(|| format!("`{text}` is no condition; write PARAMETER=VALUE, or device=NAME"))?;
    let (name, value) = (&text[..at], &text[at + 1..]);
    let comparison = match text.as_bytes()[at] {
        b'=' => Comparison::Equal,
        b'>' => Comparison::Above,
        _ => Comparison::Below,
    };
    let (parameter, _) = *PARAMETERS.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let known: Vec<_> = PARAMETERS.iter().map(|(name, _)| *name).collect();
        format!("`{name}` is no parameter; valid are device, {}", known.join(", "))
    })?;
    let word = WORDS.iter().find(|(of, word, _)| *of == parameter && *word == value);
    let value = word.map_or_else(|| number(value, "a number"), |(_, _, value)| Ok(*value))?;
    Ok(Condition { parameter, comparison, value })
}

fn number(text: &str, what: &str) -> Result<u64, String> {
    // `parse` would also take a leading plus sign, which means something else here.
    if text.starts_with('+') {
        return Err(format!("`{text}` is not {what}"));
    }
    text.parse().map_err(|_| format!("`{text}` is not {what}"))
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
