//! `rdmadoctor modules`.

use clap::Args;

use super::session::Session;
use super::{UsageError, exit};
use crate::capture::Capture;
use crate::facts::Modules;
use crate::host::families;
use crate::host::modules::ModulesFacts;
use crate::host::part::Asked;
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
    let facts = match session.host.captured() {
        Some(capture) => captured(capture, &arguments.names)?,
        None => session.host.reader(Asked { modules: arguments.names.clone(), ..Asked::default() }, None)?.get()?,
    };
    session.output.print(&Modules { schema: schema::MODULES.to_owned(), facts })?;
    Ok(exit::OK)
}

/// The modules of a capture, which has those that were looked at when it was written.
fn captured(capture: &Capture, names: &[String]) -> Result<ModulesFacts, UsageError> {
    let facts = &capture.facts.modules;
    let is_known = |name: &str| facts.modules.iter().any(|module| module.name == name.replace('-', "_"));
    match names.iter().find(|name| !is_known(name) && !families::names().contains(&name.as_str())) {
        Some(name) => {
            Err(UsageError(format!("the capture says nothing of `{name}`; only `rdmadoctor modules {name}` on the host itself does")))
        }
        None => Ok(ModulesFacts::clone(facts)),
    }
}
