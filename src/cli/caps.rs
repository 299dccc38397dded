//! `rdmadoctor caps`.

use clap::Args;

use super::exit;
use super::session::Session;

/// Arguments of `caps`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this device.
    #[arg(value_name = "DEV", add = super::complete::devices())]
    device: Option<String>,
}

/// Shows what devices publish.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let caps = session.host.caps(arguments.device.as_deref())?;
    session.output.print(&caps)?;
    Ok(if caps.problems.is_empty() { exit::OK } else { exit::FAILED })
}
