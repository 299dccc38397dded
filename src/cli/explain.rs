//! `rdmadoctor explain`.

use clap::Args;

use super::session::Session;
use super::{UsageError, exit};
use crate::checks::{self, Explanation, Explanations};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The check, such as RD-0501; all of them, in short, if absent.
    #[arg(value_name = "ID", add = super::complete::checks())]
    id: Option<String>,
}

/// Explains a check, offline.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.id {
        None => session.output.print(&Explanations::all())?,
        Some(id) => session.output.print(&Explanation::from(checks::find(id).map_err(|error| UsageError(error.to_string()))?))?,
    }
    Ok(exit::OK)
}
