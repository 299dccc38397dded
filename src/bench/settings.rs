//! What is to be measured, as the user asked or as it is by default.

use crate::transfer::{CompletionMode, Limit, Operation, Transport};

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What moves data.
    pub operations: Vec<Operation>,
    /// Type of the queue pairs.
    pub transport: Transport,
    /// Whether writes and sends carry immediate data.
    pub immediate: bool,
    /// Sizes of messages.
    pub sizes: Vec<u64>,
    /// How many queue pairs.
    pub queue_pairs: u32,
    /// How completions are waited for; chosen by how long a message takes where nobody says.
    pub completing: Option<CompletionMode>,
    /// Whether to use one small place of memory over and over.
    pub hot: bool,
    /// Whether to use places all over the memory.
    pub spread: bool,
    /// Whether both ends send at once.
    pub bidirectional: bool,
    /// Of each repeat.
    pub limit: Limit,
    /// How often each is measured.
    pub repeats: u32,
    /// Whether contents are verified before.
    pub verify: bool,
    /// Requests under way; found by trying if absent.
    pub depth: Option<u32>,
    /// Requests posted at once; found by trying if absent.
    pub batch: Option<u32>,
    /// Path MTU.
    pub mtu_bytes: u32,
    /// Whether an end's memory is staged.
    pub staged: bool,
    /// Longest time in which nothing moves.
    pub patience_ms: u64,
}

impl Settings {
    /// Why an operation cannot be measured with these settings, if it cannot.
    #[must_use]
    pub fn impossible(&self, operation: Operation, size: u64) -> Option<String> {
        if self.staged {
            return match operation {
                Operation::Send => Some("staged memory is moved by write and read".to_owned()),
                _ if self.immediate => Some("staged memory is moved without immediate data".to_owned()),
                _ => None,
            };
        }
        match (self.transport, operation) {
            (Transport::Uc, Operation::Read) => Some("UC has no RDMA read".to_owned()),
            (Transport::Ud, Operation::Write | Operation::Read) => Some("UD has only send".to_owned()),
            (Transport::Ud, Operation::Send) if size > u64::from(self.mtu_bytes) => {
                Some(format!("a datagram is no longer than the path MTU, {} bytes", self.mtu_bytes))
            }
            _ => None,
        }
    }
}
