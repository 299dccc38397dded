//! Moving data over queue pairs: what the child process does for `ping` and `bw`.
//!
//! An [`Ends`] has up to two ends of connections in one process. An end is opened once (device, memory), linked for each step (queue
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

pub use crate::request::{PathTried, Refusal};
pub use command::{Answer, Command};
pub use layout::LEAD;
pub use memory::{Comparing, GpuIdentity, StageMemory, Supply, try_paths};
pub use order_plan::{OrderFacts, OrderPlan, OrderReader, Signal};
pub use plan::{
    Completing, Connect, Filled, JoinPlan, Limit, LinkFacts, LinkPlan, Mismatch, Operation, Progress, ReceivePlan, RemoteEnd, RunKind,
    RunPlan, RunResult, Simulated, StageFacts, StagePlan, StagedPart, StagedPlan, Touch, Transport, Words,
};
pub use serve::{Ends, Manager};
pub use trouble::{Failure, STATUSES, Trouble};
pub use watch::{Host, Order};
