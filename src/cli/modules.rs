//! `rdmadoctor modules`.

use clap::Args;

use super::session::Session;
use super::{UsageError, exit};
use crate::facts::Modules;
use crate::host::families;
use crate::schema;

/// Arguments of `modules`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Look at these modules, or at those of these device families, too.
    #[arg(value_name = "MODULE|FAMILY")]
    names: Vec<String>,
}

/// Lists kernel modules from files alone.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    for name in &arguments.names {
        // Module names are C identifiers, with hyphens allowed by modprobe.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            let families = families::names().join(", ");
            return Err(UsageError(format!("`{name}` is neither a module's name nor a family; families are {families}")).into());
        }
    }
    let facts = session.host.modules(&arguments.names)?;
    session.output.print(&Modules { schema: schema::MODULES.to_owned(), facts })?;
    Ok(exit::OK)
}
