//! Moving data over queue pairs: what the child process does for `ping` and `bw`.
//!
//! An [`Ends`] has up to two ends of connections in one process. An end is opened once (device, memory), linked for each step (queue
//! pairs), joined with its other side, run, and unlinked. Both sides of a connection may be ends of one process, or of two on
//! different hosts: the commands are the same.

mod clock;
mod credit;
mod end;
mod flow;
mod join;
mod layout;
mod memory;
mod pattern;
mod pingpong;
mod plan;
mod serve;
mod staged;
mod trouble;
mod watch;

pub use layout::LEAD;
pub use memory::{GpuIdentity, PathTried, Refusal, StageMemory, try_paths};
pub use plan::{
    Answer, Command, Completing, Connect, Filled, JoinPlan, Limit, LinkFacts, LinkPlan, Mismatch, Operation, Progress, ReceivePlan,
    RemoteEnd, RunKind, RunPlan, RunResult, StageFacts, StagePlan, Touch, Transport, Words,
};
pub use serve::{Ends, Manager};
pub use trouble::{Failure, STATUSES, Trouble};
pub use watch::{Host, Order};
