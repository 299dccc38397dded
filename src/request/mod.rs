//! A request for a queue pair, its parameters, who asks for it, and what came of it: the words that all other modules share.

mod ask;
mod attempt;
mod memory;
mod parameter;

pub use ask::{Ask, AskOrigin};
pub(crate) use ask::{Setting, parse_ask, parse_grid};
pub use attempt::{Outcome, QpRequest, QpType, SrqRequest};
pub(crate) use memory::{Contents, GpuMemory, PathTried, Refusal, Registration};
pub use parameter::{Parameter, Value};
