//! What is tried on a device, and what came of it.

use std::fmt;
use std::str::FromStr;

use rdmadoctor_types::OutcomeKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verbs::{CallError, ErrorNumber, QueuePairCaps};

rdmadoctor_types::words! {
    /// Type of a queue pair, as verbs.h numbers it.
    #[derive(Serialize, Deserialize, JsonSchema)]
    pub enum QpType {
        /// Reliable connection.
        RC = "RC",
        /// Unreliable connection.
        UC = "UC",
        /// Unreliable datagram.
        UD = "UD",
        /// Raw Ethernet packets; needs CAP_NET_RAW.
        #[serde(rename = "RAW_PACKET")]
        RawPacket = "RAW_PACKET",
        /// Extended reliable connection, sending side.
        #[serde(rename = "XRC_SEND")]
        XrcSend = "XRC_SEND",
        /// A type of the driver's own, such as mlx5's dynamically connected transport.
        #[serde(rename = "DRIVER")]
        Driver = "DRIVER",
        /// EFA's scalable reliable datagram: to verbs a type of the driver's own, which only a call of libefa makes (efadv_create_driver_qp(3)).
        #[serde(rename = "SRD")]
        Srd = "SRD",
    }
}

impl QpType {
    /// The type of a code of `enum ibv_qp_type`, which says of SRD no more than that it is the driver's own.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The code of `enum ibv_qp_type`.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::RC => 2,
            Self::UC => 3,
            Self::UD => 4,
            Self::RawPacket => 8,
            Self::XrcSend => 9,
            Self::Driver | Self::Srd => 255,
        }
    }
}

impl FromStr for QpType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let valid: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("`{text}` is no queue-pair type; valid are {}", valid.join(", "))
        })
    }
}

/// A shared receive queue to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SrqRequest {
    /// Work requests.
    pub max_wr: u32,
    /// Scatter-gather entries in each.
    pub max_sge: u32,
}

/// Everything that decides whether a queue pair can be made: one point of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct QpRequest {
    /// Type.
    pub qp_type: QpType,
    /// Work requests on the send queue.
    pub max_send_wr: u32,
    /// Work requests on the receive queue.
    pub max_recv_wr: u32,
    /// Scatter-gather entries in a send request.
    pub max_send_sge: u32,
    /// Scatter-gather entries in a receive request.
    pub max_recv_sge: u32,
    /// Bytes inline in a send request.
    pub max_inline_data: u32,
    /// Entries of the completion queue, which serves both directions.
    pub cq_depth: u32,
    /// A shared receive queue in place of the receive queue.
    pub srq: Option<SrqRequest>,
}

impl QpRequest {
    /// A modest request that any device with this type of queue pair should grant: the ground from which bounds are searched.
    #[must_use]
    pub fn base(qp_type: QpType) -> Self {
        Self { qp_type, max_send_wr: 16, max_recv_wr: 16, max_send_sge: 1, max_recv_sge: 1, max_inline_data: 0, cq_depth: 64, srq: None }
    }

    /// The part that `struct ibv_qp_cap` holds.
    #[must_use]
    pub fn caps(&self) -> QueuePairCaps {
        QueuePairCaps {
            max_send_wr: self.max_send_wr,
            max_recv_wr: self.max_recv_wr,
            max_send_sge: self.max_send_sge,
            max_recv_sge: self.max_recv_sge,
            max_inline_data: self.max_inline_data,
        }
    }

    /// About how much memory the queues take, in bytes: an estimate on the high side, for drivers that round both the entry and their
    /// number up to a power of two (rxe does, drivers/infiniband/sw/rxe/rxe_queue.c; others need less).
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let queue = |entries: u32, entry: u64| (u64::from(entries) + 1).next_power_of_two().saturating_mul(entry.next_power_of_two());
        let send = 128 + (16 * u64::from(self.max_send_sge)).max(u64::from(self.max_inline_data));
        let receive = 48 + 16 * u64::from(self.max_recv_sge);
        let shared = self.srq.map_or(0, |srq| queue(srq.max_wr, 48 + 16 * u64::from(srq.max_sge)));
        [queue(self.max_recv_wr, receive), queue(self.cq_depth, 64), shared]
            .into_iter()
            .fold(queue(self.max_send_wr, send), u64::saturating_add)
    }
}

/// What came of a request on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// The queue pair was made (and destroyed again).
    Granted {
        /// The capacities that the device wrote back.
        caps: QueuePairCaps,
        /// Entries that the completion queue got.
        cq_depth: u32,
    },
    /// A call refused it.
    Refused {
        /// Which call, and the errno that it left.
        error: CallError,
    },
    /// The process died in it.
    Crashed {
        /// The signal, such as `SIGSEGV`.
        signal: String,
        /// The last lines that the process had printed.
        printed: Vec<String>,
    },
    /// It did not come back in time.
    Hung {
        /// The deadline that passed, in milliseconds.
        deadline_ms: u64,
        /// Where the kernel held the process, as /proc tells, if it does.
        held_in: Option<String>,
    },
    /// It was not tried.
    NotRun {
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// Whether the queue pair was made.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }

    /// The errno of a refusal.
    #[must_use]
    pub fn errno(&self) -> Option<ErrorNumber> {
        match self {
            Self::Refused { error } => Some(error.errno),
            _ => None,
        }
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Granted { .. } => OutcomeKind::Granted,
            Self::Refused { .. } => OutcomeKind::Refused,
            Self::Crashed { .. } => OutcomeKind::Crashed,
            Self::Hung { .. } => OutcomeKind::Hung,
            Self::NotRun { .. } => OutcomeKind::NotRun,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted { .. } => write!(f, "granted"),
            Self::Refused { error } => write!(f, "{} {}", error.call, error.errno),
            Self::Crashed { signal, .. } => write!(f, "crashed with {signal}"),
            Self::Hung { deadline_ms, held_in } => {
                write!(f, "no answer in {deadline_ms} ms")?;
                held_in.as_ref().map_or(Ok(()), |place| write!(f, " (held in {place})"))
            }
            Self::NotRun { why } => write!(f, "not run: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_every_part_of_a_request() {
        let base = QpRequest::base(QpType::RC);
        let larger = |change: fn(&mut QpRequest)| {
            let mut request = base.clone();
            change(&mut request);
            assert!(request.memory_bytes() > base.memory_bytes(), "{request:?}");
        };
        larger(|r| r.max_send_wr = 4096);
        larger(|r| r.max_recv_wr = 4096);
        larger(|r| r.max_send_sge = 30);
        larger(|r| r.max_recv_sge = 30);
        larger(|r| r.max_inline_data = 512);
        larger(|r| r.cq_depth = 4096);
        larger(|r| r.srq = Some(SrqRequest { max_wr: 1, max_sge: 1 }));
        let mut largest = base.clone();
        (largest.max_send_wr, largest.max_send_sge, largest.max_inline_data) = (u32::MAX, u32::MAX, u32::MAX);
        assert!(largest.memory_bytes() > 1 << 60);
    }

    #[test]
    fn types_read_as_they_are_written() {
        for kind in QpType::ALL {
            assert_eq!(kind.name().to_lowercase().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("RD".parse::<QpType>().unwrap_err().contains("RC, UC, UD"));
    }
}
