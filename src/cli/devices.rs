//! `rdmadoctor devices`.

use clap::Args;

use super::exit;
use super::session::Session;

/// Arguments of `devices`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this device.
    #[arg(value_name = "DEV", add = super::complete::devices())]
    device: Option<String>,
}

/// Lists devices; what is missing is part of the answer.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let devices = session.host.devices(arguments.device.as_deref())?;
    session.output.print(&devices)?;
    let all_well = devices.problems.is_empty() && devices.devices.iter().all(|device| device.problem.is_none());
    Ok(if all_well { exit::OK } else { exit::FAILED })
}
