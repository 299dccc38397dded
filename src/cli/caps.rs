//! `rdmadoctor caps`.

use clap::Args;

use super::session::Session;
use super::{exit, gather};
use crate::devices;
use crate::devices::{Caps, DeviceCaps, Devices, Problem};
use crate::host::part::Asked;
use crate::host::rdma::RdmaFacts;
use crate::schema;
use crate::survey::Host;

/// Arguments of `caps`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this device.
    #[arg(value_name = "DEV", add = super::complete::devices())]
    device: Option<String>,
}

/// Shows what devices publish.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let (found, inventory) = match session.host.captured() {
        Some(capture) => (Devices::clone(&capture.facts.devices), gather::captured_inventory(capture, "caps")?),
        None => {
            session.host.only_with_devices("caps")?;
            let sysfs = session.host.reader(Asked::default(), None)?.get::<RdmaFacts>()?;
            let inventory = Host::inventory(&mut session.host.worker()?, arguments.device.as_deref())?;
            (devices::collect(&sysfs, Some(&inventory)), inventory.ok())
        }
    };
    let mut caps = Caps { schema: schema::CAPS.to_owned(), devices: Vec::new(), problems: found.problems };
    let known: Vec<String> = found.devices.iter().map(|device| device.name.clone()).collect();
    if let Some(wanted) = arguments.device.as_ref().filter(|wanted| !known.contains(wanted)) {
        return Err(super::unknown_device(wanted, &known).into());
    }
    for device in found.devices.iter().filter(|device| arguments.device.as_ref().is_none_or(|wanted| *wanted == device.name)) {
        let seen = inventory.as_ref().and_then(|inventory| inventory.devices.iter().find(|seen| seen.name == device.name));
        match seen.and_then(|seen| seen.attributes.clone().map(|attributes| (attributes, seen.ports.clone()))) {
            Some((attributes, ports)) => {
                caps.devices.push(DeviceCaps::new(&device.name, device.family.as_deref(), attributes, ports));
            }
            None => {
                caps.problems.extend(device.problem.as_ref().map(|problem| Problem {
                    summary: format!("{}: {}", device.name, problem.summary),
                    next_step: problem.next_step.clone(),
                }))
            }
        }
    }
    session.output.print(&caps)?;
    Ok(if caps.problems.is_empty() { exit::OK } else { exit::FAILED })
}
