//! The types of a device file that say what is granted: queue pairs, shared receive queues, completion queues, memory regions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Errno, Figure, Packing};
use crate::request::QpType;

/// Queue pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueuePairs {
    /// The types that have a rule of their own.
    pub types: Vec<TypeRule>,
    /// What any other type answers.
    pub other_types: Figure<Errno>,
    /// In which order a request is checked. The first check that fails decides the errno.
    pub order: Vec<Step>,
    /// The errno of a limit that names none.
    pub over_limit: Figure<Errno>,
    /// Work requests on the send queue.
    pub max_send_wr: Capacity,
    /// Work requests on the receive queue.
    pub max_recv_wr: Capacity,
    /// Scatter-gather entries in a send request.
    pub max_send_sge: Capacity,
    /// Scatter-gather entries in a receive request.
    pub max_recv_sge: Capacity,
    /// Bytes inline in a send request.
    pub max_inline_data: Capacity,
    /// Limits that depend on one another.
    #[serde(default)]
    pub packing: Option<Packing>,
    /// What becomes of a request with a shared receive queue.
    pub with_srq: WithSrq,
}

/// A type of queue pair with a rule of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypeRule {
    /// The type.
    #[serde(rename = "type")]
    pub qp_type: QpType,
    /// Absent where the type is granted.
    #[serde(default)]
    pub errno: Option<Errno>,
    /// The provider's own call that makes it, such as `efadv_create_qp_ex`, where `ibv_create_qp` does not.
    #[serde(default)]
    pub only_by: Option<String>,
    /// What `ibv_create_qp` answers then; `other_types` if absent.
    #[serde(default)]
    pub standard_call: Option<Errno>,
    /// Where this is from.
    #[schemars(regex(pattern = r"\S"))]
    pub source: String,
    /// Whether it is only reasoned.
    #[serde(default)]
    pub inferred: bool,
}

rdmadoctor_types::words! {
    /// A check of a queue-pair request.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Step {
        /// What libibverbs and the kernel's core do to any request before the driver sees it. Stated where it is known that the provider
        /// checks nothing earlier.
        Core = "core",
        /// Whether there are queue pairs of this type.
        QpType = "qp_type",
        /// Whether a shared receive queue can be attached.
        Srq = "srq",
        /// Work requests on the send queue.
        MaxSendWr = "max_send_wr",
        /// Work requests on the receive queue.
        MaxRecvWr = "max_recv_wr",
        /// Scatter-gather entries in a send request.
        MaxSendSge = "max_send_sge",
        /// Scatter-gather entries in a receive request.
        MaxRecvSge = "max_recv_sge",
        /// Bytes inline in a send request.
        MaxInlineData = "max_inline_data",
        /// Limits that depend on one another.
        Packing = "packing",
    }
}

/// One capacity of a queue pair.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Largest value; absent where only packing limits it.
    #[serde(default)]
    pub limit: Option<Figure<u32>>,
    /// What a larger one answers, where that differs from the model's `over_limit`.
    #[serde(default)]
    pub errno: Option<Figure<Errno>>,
    /// Up to this value a grant is not in doubt although the limit is not from source: it was seen granted, or the limit is known to be
    /// no smaller.
    #[serde(default)]
    pub sure_up_to: Option<Figure<u32>>,
    /// Where it is said that a larger value is lowered to the limit, and not refused.
    #[serde(default)]
    pub lowered: Option<String>,
    /// What becomes of 0; absent where it is taken as it is.
    #[serde(default)]
    pub zero: Option<Zero>,
    /// Smaller values, except 0, are raised to this one.
    #[serde(default)]
    pub minimum: Option<Figure<u32>>,
    /// How the value is written back; absent where it stays as asked.
    #[serde(default)]
    pub written_back: Option<Figure<Rounding>>,
}

/// What becomes of a capacity of 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zero {
    /// The rule.
    pub rule: ZeroRule,
    /// With which errno it is refused; EINVAL if absent.
    #[serde(default)]
    pub errno: Option<Errno>,
    /// Where this is from.
    #[schemars(regex(pattern = r"\S"))]
    pub source: String,
    /// Whether it is only reasoned.
    #[serde(default)]
    pub inferred: bool,
}

/// What becomes of a capacity of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZeroRule {
    /// Refused.
    Refused,
    /// Refused, unless a shared receive queue is attached.
    RefusedWithoutSrq,
    /// Refused where the same queue is to take work requests.
    RefusedWithRequests,
    /// Raised to 1, unless a shared receive queue takes the queue's place.
    RaisedToOne,
    /// The provider divides by it and dies of SIGFPE.
    DividesByZero,
}

/// How a capacity is written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Raised to a power of two.
    PowerOfTwo,
    /// Raised to a power of two, of which one less is told.
    PowerOfTwoLessOne,
    /// Raised to the next number that is one less than a power of two.
    BelowPowerOfTwo,
    /// Always the limit, whatever was asked.
    Limit,
    /// Entries and inline bytes share their space: each is written back as what the larger of both allows.
    SharedWithInline,
}

/// What becomes of a queue pair with a shared receive queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WithSrq {
    /// What attaching one answers; absent where it is granted.
    #[serde(default)]
    pub errno: Option<Figure<Errno>>,
    /// Whether `max_recv_wr` is still checked.
    pub checks_recv_wr: bool,
    /// Whether `max_recv_sge` is still checked.
    pub checks_recv_sge: bool,
    /// What is written back for the receive queue.
    #[serde(default)]
    pub writes_back: SrqWriteBack,
    /// Where this is from.
    #[schemars(regex(pattern = r"\S"))]
    pub source: String,
}

/// What is written back for the receive queue that a shared one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SrqWriteBack {
    /// What was asked.
    #[default]
    Asked,
    /// 0 and 0.
    Zero,
}

/// Shared receive queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedReceiveQueues {
    /// What making one answers where there are none.
    #[serde(default)]
    pub errno: Option<Figure<Errno>>,
    /// The errno of a limit that names none.
    #[serde(default)]
    pub over_limit: Option<Figure<Errno>>,
    /// Work requests.
    #[serde(default)]
    pub max_wr: Capacity,
    /// Scatter-gather entries in a request.
    #[serde(default)]
    pub max_sge: Capacity,
}

/// Completion queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletionQueues {
    /// Entries. A negative number is refused like one over the limit.
    pub entries: Capacity,
    /// The errno of a depth over the limit.
    pub over_limit: Figure<Errno>,
}

/// Memory regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryRegions {
    /// Longest, in bytes.
    pub max_length_bytes: Figure<u64>,
    /// The errno of a longer one.
    pub over_limit: Figure<Errno>,
    /// The errno of one of 0 bytes; absent where it is granted.
    #[serde(default)]
    pub zero_length: Option<Figure<Errno>>,
    /// Access flags with an errno of their own.
    #[serde(default)]
    pub refused_access: Vec<AccessRule>,
}

/// An access flag that the device refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// The flag.
    pub flag: AccessFlag,
    /// What it answers.
    pub errno: Figure<Errno>,
}

/// An access flag, from `enum ibv_access_flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are those of ibv_reg_mr(3)")]
pub enum AccessFlag {
    LocalWrite,
    RemoteWrite,
    RemoteRead,
    RemoteAtomic,
    MwBind,
    ZeroBased,
    OnDemand,
    HugeTlb,
}

impl AccessFlag {
    /// The bit.
    #[must_use]
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}
