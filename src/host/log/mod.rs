//! What the kernel's log says of RDMA devices, GPUs, PCI Express and memory.
//!
//! On the host itself /dev/kmsg is read; elsewhere, or where that is refused, the end of the file that a log daemon keeps. Only lines that
//! are understood are kept, counted by what they say.

mod classify;
mod source;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ReadError, Root};

pub(crate) use classify::AerSeverity;
#[cfg(test)]
#[cfg(test)]
pub(crate) use classify::QueueLimit;
pub use classify::{Event, classify};

/// Different events that are kept; more would not be read by anyone.
const MOST_EVENTS: usize = 512;

/// What the kernel's log says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogFacts {
    /// Where it was read. Absent where no log could be.
    pub source: Option<String>,
    /// Whether older lines were left out or had been overwritten.
    pub is_partial: bool,
    /// How many lines were looked at.
    pub lines: u64,
    /// What they say, in the order in which it was first said.
    pub events: Vec<LogEvent>,
    /// What could not be read.
    pub problems: Vec<ReadError>,
}

/// An event with how often it was logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogEvent {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// How often.
    pub count: u64,
    /// When it was first logged, in microseconds since the kernel started; absent where the log has other times.
    pub first_us: Option<u64>,
    /// When it was last logged.
    pub last_us: Option<u64>,
    /// The last such line, without its time, cut short.
    pub line: String,
}

impl LogFacts {
    /// How often the link of an interface went down.
    #[must_use]
    pub fn link_downs(&self, netdev: &str) -> u64 {
        let downs = self.events.iter().filter(|logged| matches!(&logged.event, Event::LinkDown { netdev: found, .. } if found == netdev));
        downs.map(|logged| logged.count).sum()
    }

    /// Counts a line.
    fn add(&mut self, line: &source::Line<'_>) {
        self.lines += 1;
        let Some(event) = classify(line.message) else { return };
        let text: String = line.message.chars().take(300).collect();
        if let Some(known) = self.events.iter_mut().find(|known| known.event == event) {
            known.count += 1;
            known.last_us = line.time_us.or(known.last_us);
            known.line = text;
        } else if self.events.len() < MOST_EVENTS {
            self.events.push(LogEvent { event, count: 1, first_us: line.time_us, last_us: line.time_us, line: text });
        } else {
            self.is_partial = true;
        }
    }
}

/// Reads the log. What fails is among the problems.
#[must_use]
pub fn read(root: &Root) -> LogFacts {
    source::read(root)
}

#[cfg(test)]
#[path = "../log_tests.rs"]
mod tests;
