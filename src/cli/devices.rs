//! `rdmadoctor devices`.

use clap::Args;

use super::exit;
use super::session::Session;
use crate::{facts, host};

/// Arguments of `devices`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this device.
    #[arg(value_name = "DEV", add = super::complete::devices())]
    device: Option<String>,
}

/// Lists devices; what is missing is part of the answer.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let sysfs = host::rdma::read(&session.root());
    // Verbs of this machine say nothing about a host that is mounted elsewhere.
    let inventory = if session.is_this_host() { Some(session.worker()?.inventory()) } else { None };
    let mut devices = facts::collect(&sysfs, inventory.as_ref());
    if let Some(wanted) = &arguments.device {
        let known = devices.devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>();
        if !known.contains(wanted) {
            return Err(super::unknown_device(wanted, &known).into());
        }
        devices.devices.retain(|device| device.name == *wanted);
    }
    session.print(&devices)?;
    let all_well = devices.problems.is_empty() && devices.devices.iter().all(|device| device.problem.is_none());
    Ok(if all_well { exit::OK } else { exit::FAILED })
}
