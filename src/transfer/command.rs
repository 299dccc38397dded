//! What an end is told, and what it answers.

use serde::{Deserialize, Serialize};

use super::{
    EndpointPlan, Failure, JoinPlan, LinkFacts, LinkPlan, Mismatch, OrderFacts, OrderPlan, PatternSpan, Progress, RunPlan, RunResult,
    StageFacts,
};

/// What an end is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Open a device and register memory, as the end of this number.
    Open(u8, EndpointPlan),
    /// Make queue pairs, and end those of the last link.
    Link(u8, LinkPlan),
    /// Connect them: one end, or both ends of this process.
    Join(Vec<(u8, JoinPlan)>),
    /// Write a pattern into memory.
    Fill(u8, PatternSpan),
    /// Write something else than the pattern into memory, guards included.
    Clear(u8, PatternSpan),
    /// Look for the pattern, and whether the guards are untouched.
    Check(u8, PatternSpan),
    /// Move data.
    Run(Vec<(u8, RunPlan)>),
    /// Write data and a flag, and look whether they are seen in that order.
    Order(OrderPlan),
    /// End a run that waits for this. Nothing answers it; where nothing runs, nothing happens.
    Finish,
    /// End the queue pairs.
    Unlink(u8),
    /// Close everything.
    Close,
}

impl Command {
    /// What it is for, for messages: a step of the work.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::Open(..) => "opening the device and registering memory",
            Self::Link(..) => "making queue pairs",
            Self::Join(..) => "connecting queue pairs",
            Self::Fill(..) | Self::Clear(..) => "preparing memory",
            Self::Check(..) => "checking what arrived",
            Self::Run(..) => "moving data",
            Self::Order(..) => "looking at the order of writes",
            Self::Finish => "ending a run",
            Self::Unlink(..) | Self::Close => "closing",
        }
    }
}

/// What an end answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `Open`.
    Opened(Box<StageFacts>),
    /// To `Link`.
    Linked(LinkFacts),
    /// To what has no other answer.
    Done,
    /// To `Check`.
    Checked(Option<Mismatch>),
    /// To `Run`, as soon as messages may arrive.
    Ready,
    /// During `Run`, now and then.
    Running(Progress),
    /// To `Run` or `Finish`: each end's figures, in the order asked.
    Ran(Vec<RunResult>),
    /// To `Order`.
    Ordered(OrderFacts),
    /// It did not work.
    Failed(Box<Failure>),
}
