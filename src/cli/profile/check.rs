//! `rdmadoctor profile check`.

use std::time::Duration;

use clap::Args;

use super::super::session::Session;
use super::super::{exit, values};
use super::{ProfileFile, load};
use crate::profile;

/// Arguments of `profile check`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    profile: ProfileFile,
    /// Time at most for making attempts again, cheapest first; what they leave stands with the fingerprint.
    #[arg(long, value_name = "TIME", default_value = "120ms", value_parser = values::duration)]
    within: Duration,
}

/// Checks and tells; exit code 1 where something is stale.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.host.only_with_devices("profile check")?;
    let file = &arguments.profile.profile;
    let profile = load(file)?;
    let found = profile::compare(&session.host, file, &profile, arguments.within)?;
    session.output.print(&found)?;
    Ok(if found.is_fresh { exit::OK } else { exit::FAILED })
}
