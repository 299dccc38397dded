//! What a device grants of queue pairs.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Proven;

/// What a device grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueuePairs {
    /// Bounds of single parameters, the others being small.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Depths that shrink as another parameter grows; what is not here fits together up to its limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joint: Vec<JointLimit>,
    /// A request that was granted as a whole, near what engines need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<Proven<QueuePairRequest>>,
}

/// The bound of one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// `max_send_wr`, `max_inline_data` and so on.
    pub parameter: String,
    /// Largest accepted value.
    pub accepted: u32,
    /// Smallest refused value above it; absent where none was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<u32>,
    /// Id of the attempt that was granted.
    pub evidence: String,
    /// Id of the attempt that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_evidence: Option<String>,
}

/// How deep a queue may be for each value of another parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JointLimit {
    /// The depth: `max_send_wr` or `max_recv_wr`.
    pub parameter: String,
    /// What it depends on, such as `max_send_sge`.
    pub over: String,
    /// The steps, from small values of `over` to large ones.
    pub points: Vec<JointPoint>,
    /// Id of the evidence of all steps.
    pub evidence: String,
}

/// A step of a joint limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JointPoint {
    /// Largest value of `over` with this depth.
    pub up_to: u32,
    /// Largest accepted depth.
    pub accepted: u32,
}

/// What is asked of `ibv_create_cq` and `ibv_create_qp`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueuePairRequest {
    /// `RC`, `UD` and so on.
    pub qp_type: String,
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
    /// Entries of the completion queue.
    pub cq_depth: u32,
    /// Work requests on a shared receive queue; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srq_wr: Option<u32>,
    /// Scatter-gather entries in each of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srq_sge: Option<u32>,
}
