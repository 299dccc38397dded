//! Who has an end of a connection: the own child process, or another host.

use super::counters::Snapshot;
use crate::transfer::{Answer, Command, Failure};
use crate::worker::{self, Worker};

/// Does what it is told, and answers each command in turn.
pub trait Endpoint {
    /// Tells it something.
    ///
    /// # Errors
    /// It cannot be reached.
    fn tell(&mut self, command: &Command) -> Result<(), BenchError>;

    /// Its next answer.
    ///
    /// # Errors
    /// It gave none in time.
    fn hear(&mut self) -> Result<Answer, BenchError>;

    /// The counters of the device that it has opened; absent where it is this host's, whose counters are read without it, or tells nothing.
    ///
    /// # Errors
    /// It gave no answer in time.
    fn counters(&mut self) -> Result<Option<Snapshot>, BenchError> {
        Ok(None)
    }
}

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// This host's.
    Here,
    /// The other host's.
    There,
}

/// Why a step did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BenchError {
    /// The child process was lost.
    #[error("{0}")]
    Worker(#[from] worker::Failure),
    /// An end says why.
    #[error("{}{failure}", if *who == Who::There { "the other side: " } else { "" })]
    End {
        /// Whose end.
        who: Who,
        /// What was being done.
        step: &'static str,
        /// What happened.
        failure: Box<Failure>,
    },
    /// The other host cannot be talked to, or broke the rules.
    #[error("{0}")]
    Peer(String),
    /// An answer to another question.
    #[error("{step}: an answer to another question")]
    Unexpected {
        /// What was being done.
        step: &'static str,
    },
}

impl Endpoint for Worker {
    fn tell(&mut self, command: &Command) -> Result<(), BenchError> {
        Ok(Worker::tell(self, command)?)
    }

    fn hear(&mut self) -> Result<Answer, BenchError> {
        Ok(Worker::hear(self)?)
    }
}
