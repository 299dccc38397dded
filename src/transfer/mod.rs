//! Moving data over queue pairs: what the child process does for `ping` and `bw`.
//!
//! An `Ends` has up to two ends of connections in one process. An end is opened once (device, memory), linked for each step (queue
//! pairs), joined with its other side, run, and unlinked. Both sides of a connection may be ends of one process, or of two on
//! different hosts: the commands are the same.

mod clock;
mod command;
mod credit;
mod end;
mod flow;
mod join;
mod layout;
mod memory;
mod order_plan;
mod ordering;
mod pattern;
mod pingpong;
mod plan;
mod serve;
mod staged;
mod trouble;
mod watch;

pub(crate) use crate::request::{PathTried, Refusal};
pub use command::{Answer, Command};
pub(crate) use layout::{LEAD, MOST_MESSAGE_BYTES, fits};
pub(crate) use memory::{StageMemory, Supply, VerifySide, try_paths};
pub(crate) use order_plan::{OrderFacts, OrderPlan, OrderReader, Signal};
pub use plan::{
    AccessPattern, BouncePlan, CompletionMode, Connect, EndpointPlan, Limit, LinkPlan, Operation, PatternSpan, ReceivePlan, RunKind,
    RunPlan, Transport,
};
pub(crate) use plan::{JoinPlan, LinkFacts, Mismatch, Progress, RemoteEnd, RunResult, Simulated, StageFacts, StagedPart};
pub(crate) use serve::Ends;
pub use trouble::Failure;
pub(crate) use trouble::TransferError;
pub(crate) use watch::Control;
pub use watch::RunObserver;
