//! What can go wrong while data moves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StageMemory;
use crate::gpu::GpuError;
use crate::verbs::{CallError, Completion};

/// `enum ibv_wc_status` of verbs.h.
pub const STATUSES: [&str; 24] = [
    "IBV_WC_SUCCESS",
    "IBV_WC_LOC_LEN_ERR",
    "IBV_WC_LOC_QP_OP_ERR",
    "IBV_WC_LOC_EEC_OP_ERR",
    "IBV_WC_LOC_PROT_ERR",
    "IBV_WC_WR_FLUSH_ERR",
    "IBV_WC_MW_BIND_ERR",
    "IBV_WC_BAD_RESP_ERR",
    "IBV_WC_LOC_ACCESS_ERR",
    "IBV_WC_REM_INV_REQ_ERR",
    "IBV_WC_REM_ACCESS_ERR",
    "IBV_WC_REM_OP_ERR",
    "IBV_WC_RETRY_EXC_ERR",
    "IBV_WC_RNR_RETRY_EXC_ERR",
    "IBV_WC_LOC_RDD_VIOL_ERR",
    "IBV_WC_REM_INV_RD_REQ_ERR",
    "IBV_WC_REM_ABORT_ERR",
    "IBV_WC_INV_EECN_ERR",
    "IBV_WC_INV_EEC_STATE_ERR",
    "IBV_WC_FATAL_ERR",
    "IBV_WC_RESP_TIMEOUT_ERR",
    "IBV_WC_GENERAL_ERR",
    "IBV_WC_TM_ERR",
    "IBV_WC_TM_RNDV_INCOMPLETE",
];

/// Why data does not move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TransferError {
    /// A call failed.
    #[error("{error}")]
    Call { error: CallError },
    /// There is no memory of that kind, or no way of it into the device.
    #[error("{}", memory_trouble(.memory, .error))]
    Memory {
        /// What was tried.
        memory: Box<StageMemory>,
        /// Why there is none, where it was not a registration that failed.
        error: Option<Box<GpuError>>,
    },
    /// The device cannot be used at all.
    #[error("{why}")]
    Unusable {
        /// Why not.
        why: String,
    },
    /// A request completed with an error.
    #[error("a {request} completed with {name} (status {status}, vendor error {vendor_error:#x}) after {after_messages} good ones")]
    Completion {
        /// `send request` or `receive request`.
        request: String,
        /// `enum ibv_wc_status`.
        status: u32,
        name: String,
        /// The provider's own code.
        vendor_error: u32,
        /// Messages that had completed well.
        after_messages: u64,
    },
    /// A receive completed with another length than was sent.
    #[error("a receive completed with {got_bytes} bytes of {expected_bytes} that were sent")]
    ShortReceive {
        /// What was sent.
        expected_bytes: u64,
        /// What the completion says.
        got_bytes: u64,
    },
    /// Nothing happened any more.
    #[error(
        "nothing moved for {waited_ms} ms: {posted} requests posted, {completed} completed, {received} messages arrived{}",
        if *lacks_credit { "; the receiver has posted no more receive requests" } else { "" }
    )]
    Stalled {
        /// How long.
        waited_ms: u64,
        /// Requests posted.
        posted: u64,
        /// Of those completed.
        completed: u64,
        /// Messages that arrived at this process.
        received: u64,
        /// Whether everything sent has arrived, and the receiver takes no more.
        lacks_credit: bool,
    },
    /// rdma_cm did not connect.
    #[error("rdma_cm: {event} while {during}: {detail}")]
    Manager {
        /// The event, such as `UNREACHABLE`; or `no event`.
        event: String,
        /// What was under way.
        during: String,
        /// Its status.
        detail: String,
    },
    /// The other side is told to stop, or has gone.
    #[error("told to stop")]
    Stopped,
}

fn memory_trouble(memory: &StageMemory, error: &Option<Box<GpuError>>) -> String {
    match error {
        Some(error) => format!("no memory of {}: {error}", memory.kind),
        None => {
            let refused = |tried: &super::PathTried| Some(format!("{}: {}", tried.path, tried.refusal.as_ref()?));
            let ways: Vec<String> = memory.tried.iter().filter_map(refused).collect();
            format!("memory of {} can be registered in no way that was tried; {}", memory.kind, ways.join("; "))
        }
    }
}

impl From<CallError> for TransferError {
    fn from(error: CallError) -> Self {
        Self::Call { error }
    }
}

/// Trouble, and what the device says around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{trouble}")]
pub struct Failure {
    /// What went wrong.
    pub trouble: TransferError,
    /// Asynchronous events, port states.
    pub evidence: Vec<String>,
}

impl TransferError {
    /// Of a completion that is no success.
    #[cold]
    pub(super) fn of(completion: &Completion, request: &str, after_messages: u64) -> Self {
        let status = completion.status();
        let name = STATUSES.get(status as usize).map_or_else(|| format!("status {status}"), |name| (*name).to_owned());
        Self::Completion { request: request.to_owned(), status, name, vendor_error: completion.vendor_error(), after_messages }
    }
}
