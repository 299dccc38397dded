//! `rdmadoctor devices`.

use clap::Args;

use super::exit;
use super::session::Session;
use crate::devices;
use crate::devices::Devices;
use crate::host::part::Asked;
use crate::host::rdma::RdmaFacts;
use crate::survey::Host;

/// Arguments of `devices`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this device.
    #[arg(value_name = "DEV", add = super::complete::devices())]
    device: Option<String>,
}

/// Lists devices; what is missing is part of the answer.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let mut devices = match session.host.captured() {
        Some(capture) => Devices::clone(&capture.facts.devices),
        None => {
            let sysfs = session.host.reader(Asked::default(), None)?.get::<RdmaFacts>()?;
            // Verbs of this machine say nothing about a host that is mounted elsewhere.
            let inventory = if session.host.has_devices() {
                Some(Host::inventory(&mut session.host.worker()?, arguments.device.as_deref())?)
            } else {
                None
            };
            devices::collect(&sysfs, inventory.as_ref())
        }
    };
    if let Some(wanted) = &arguments.device {
        let known = devices.devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>();
        if !known.contains(wanted) {
            return Err(super::unknown_device(wanted, &known).into());
        }
        devices.devices.retain(|device| device.name == *wanted);
    }
    session.output.print(&devices)?;
    let all_well = devices.problems.is_empty() && devices.devices.iter().all(|device| device.problem.is_none());
    Ok(if all_well { exit::OK } else { exit::FAILED })
}
