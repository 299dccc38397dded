//! What is said once the handshake is done.

use serde::{Deserialize, Serialize};

use crate::facts::Device;
use crate::host::net::address::Address;
use crate::transfer::{Answer, Command};

/// A client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Which devices are there?
    Describe,
    /// Do this with the end of number 1.
    Tell(Box<Command>),
}

/// A server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Its devices, and the addresses of its interfaces.
    Devices(Vec<Device>, Vec<Address>),
    /// What the end says.
    Answer(Box<Answer>),
    /// What it does not do, or cannot.
    Refused(String),
}
