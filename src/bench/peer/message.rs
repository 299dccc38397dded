//! What is said once the handshake is done.

use serde::{Deserialize, Serialize};

use crate::bench::counters::Snapshot;
use crate::devices::Device;
use crate::host::net::address::Address;
use crate::transfer::{Answer, Command};

/// A client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Which devices are there?
    Describe,
    /// How far are the counters of the device that is open?
    Counters,
    /// Do this with the end of number 1.
    Tell(Box<Command>),
}

/// A server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Its devices, and the addresses of its interfaces.
    Devices(Vec<Device>, Vec<Address>),
    /// The counters of the device that is open, and of the interfaces below it.
    Counters(Box<Snapshot>),
    /// What the end says.
    Answer(Box<Answer>),
    /// What it does not do, or cannot.
    Refused(String),
}
