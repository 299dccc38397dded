//! `rdmadoctor modules`.

use clap::Args;

use super::exit;
use super::session::Session;

/// Arguments of `modules`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Lists kernel modules.
pub fn run(_session: &Session, _arguments: &Arguments) -> anyhow::Result<u8> {
    Ok(exit::OK)
}
