//! `rdmadoctor profile exec`.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;

use super::super::progress::say;
use super::super::session::Session;
use super::super::{UsageError, exit, values};
use super::export::{ForEngine, make};
use super::{ProfileFile, load};
use crate::profile;
use crate::profile::export::{ExportError, PartKind};

/// Arguments of `profile exec`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    profile: ProfileFile,
    #[command(flatten)]
    engine: ForEngine,
    /// Start it although entries of the profile are stale.
    #[arg(long)]
    allow_stale: bool,
    /// Start it although it fails on this host.
    #[arg(long)]
    allow_failing: bool,
    /// Start it although another user owns the profile or may write it.
    #[arg(long)]
    any_owner: bool,
    /// Time at most for making attempts again.
    #[arg(long, value_name = "TIME", default_value = "120ms", value_parser = values::duration)]
    within: Duration,
    /// The command with its arguments.
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

/// Checks the profile and turns into the command.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.host.only_with_devices("profile exec")?;
    session.host.only_here()?;
    let file = &arguments.profile.profile;
    if !arguments.any_owner {
        of_trusted_owner(file)?;
    }
    let profile = load(file)?;
    let found = match make(session, &profile, &arguments.engine, arguments.allow_failing)? {
        Ok(found) => found,
        Err(error) => {
            let hint = if matches!(error, ExportError::Impossible { .. }) { "; --allow-failing starts it all the same" } else { "" };
            say(&format!("rdmadoctor: {error}\nrdmadoctor: not started{hint}"));
            return Ok(exit::FAILED);
        }
    };
    let checked = profile::compare(&session.host, file, &profile, arguments.within)?;
    // What other engines meet does not concern this one.
    let own = profile.engines.iter().filter(|engine| Some(&engine.version) == found.version.as_ref());
    let own: Vec<String> = own.map(|engine| format!("engines/{}/{}", engine.name, engine.version)).collect();
    let stale: Vec<_> = checked.stale.iter().filter(|stale| !stale.entry.starts_with("engines/") || own.contains(&stale.entry)).collect();
    for one in &stale {
        say(&format!("stale: {}: was {}, is {}", one.entry, one.was, one.is));
    }
    if stale.iter().any(|stale| is_obstacle(&stale.entry)) && !arguments.allow_stale {
        say("rdmadoctor: not started: the profile is stale; write it again with `rdmadoctor profile write`, or give --allow-stale");
        return Ok(exit::FAILED);
    }
    let settings: Vec<_> = found.parts.iter().filter(|part| part.kind == PartKind::Env).flat_map(|part| &part.settings).collect();
    let Some((program, rest)) = arguments.command.split_first() else { return Ok(exit::USAGE) };
    let mut command = Command::new(program);
    command.args(rest);
    for setting in &settings {
        command.env(&setting.name, &setting.value);
    }
    if !session.output.quiet {
        for setting in &settings {
            say(&format!("profile exec: {}={}", setting.name, setting.value));
        }
    }
    let error = command.exec();
    Err(anyhow::Error::new(error).context(format!("cannot start {}", program.display())))
}

/// Refuses a profile that another user could have written: what it sets, the command gets.
fn of_trusted_owner(file: &Path) -> Result<(), UsageError> {
    // One that is not there is told by who reads it.
    let Ok(metadata) = std::fs::metadata(file) else { return Ok(()) };
    let own = nix::unistd::geteuid().as_raw();
    let why = match (metadata.uid(), metadata.mode()) {
        (owner, _) if owner != 0 && owner != own => format!("it is owned by user {owner}"),
        (_, mode) if mode & 0o022 != 0 => format!("its mode {:04o} lets others write it", mode & 0o7777),
        _ => return Ok(()),
    };
    let name = file.display();
    Err(UsageError(format!(
        "not started with {name}: {why}; copy it to a file of your own once you have read it and name that one, or give --any-owner"
    )))
}

/// Whether an engine must not start with a stale entry. Figures set nothing, and what engines ask was tried again by itself.
fn is_obstacle(entry: &str) -> bool {
    !entry.ends_with("/measurements") && !entry.contains("/qp/joint/")
}
