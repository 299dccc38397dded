//! `rdmadoctor profile export`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::super::progress::say;
use super::super::session::Session;
use super::super::{UsageError, complete, exit};
use super::{ProfileFile, load};
use crate::catalog::Catalog;
use crate::profile::export::{Export, ExportError, Wanted, config_map, export, names};
use crate::profile::{Profile, of_this_host, save};
use crate::report::Format;

fn names_help() -> String {
    format!("The engine: {}, or env for plain variables", names().filter(|name| *name != "env").collect::<Vec<_>>().join(", "))
}

/// For which engine, and what of it; `profile exec` takes the same.
#[derive(Debug, Args)]
pub(super) struct ForEngine {
    #[arg(long = "for", value_name = "NAME", help = names_help(), add = complete::exporters())]
    pub name: String,
    /// The engine's version; the newest known one otherwise.
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Only the NICs nearest to this GPU, counted from 0 in the order of PCI addresses.
    #[arg(long, value_name = "N", conflicts_with = "rank")]
    pub gpu: Option<u32>,
    /// Only the NIC of this rank of the host: that of GPU number N, or, without GPUs, NICs in turn.
    #[arg(long, value_name = "N")]
    pub rank: Option<u32>,
    /// How many ranks there are on the host.
    #[arg(long, value_name = "N", requires = "rank")]
    pub world: Option<u32>,
    /// Write the files of the export into this directory, and let settings name them there.
    #[arg(long, value_name = "DIR")]
    pub files: Option<PathBuf>,
}

/// Arguments of `profile export`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    profile: ProfileFile,
    #[command(flatten)]
    engine: ForEngine,
    /// Which part to print, such as env; the first one otherwise.
    #[arg(long, value_name = "NAME")]
    part: Option<String>,
    /// Print all of it as a Kubernetes ConfigMap of this name. It is for this host only.
    #[arg(long, value_name = "NAME", conflicts_with = "part")]
    config_map: Option<String>,
}

/// Exports; exit code 1 where no setting makes the engine work.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let profile = load(&arguments.profile.profile)?;
    let found = match make(session, &profile, &arguments.engine, false)? {
        Ok(found) => found,
        Err(error) => {
            say(&format!("rdmadoctor: {error}"));
            return Ok(exit::FAILED);
        }
    };
    if let Some(name) = &arguments.config_map {
        session.output.print_text(&config_map(&found, name, &profile.host.name, &profile.created))?;
        return Ok(exit::OK);
    }
    if session.output.format == Format::Json {
        session.output.print(&found)?;
        return Ok(exit::OK);
    }
    let part = match &arguments.part {
        None => found.parts.first(),
        Some(name) => found.parts.iter().find(|part| part.name == *name),
    };
    let names = || found.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(part) = part else {
        return Err(UsageError(format!(
            "{} has no part `{}`; it has {}",
            found.engine,
            arguments.part.as_deref().unwrap_or_default(),
            names()
        ))
        .into());
    };
    session.output.print_text(&part.text)?;
    if !session.output.quiet {
        for note in &found.notes {
            say(&format!("note: {note}"));
        }
        if found.parts.len() > 1 && arguments.part.is_none() {
            say(&format!("note: this is part {}; --part chooses among {}", part.name, names()));
        }
    }
    Ok(exit::OK)
}

/// Makes an export and writes its files where that is asked, or says why there is none.
pub(super) fn make(session: &Session, profile: &Profile, engine: &ForEngine, force: bool) -> anyhow::Result<Result<Export, ExportError>> {
    of_this_host(&session.host, profile)?;
    let catalog = Catalog::load()?;
    let devices = session.host.devices_of_files()?;
    let directory = engine.files.as_deref().map(std::path::absolute).transpose().context("cannot tell the current directory")?;
    let wanted = Wanted {
        name: &engine.name,
        version: engine.version.as_deref(),
        gpu: engine.gpu,
        rank: engine.rank.map(|rank| (rank, engine.world)),
        directory: directory.as_deref(),
        force,
    };
    let found = match export(profile, &devices, &catalog, &wanted) {
        Ok(found) => found,
        Err(ExportError::Usage(why)) => return Err(UsageError(why).into()),
        Err(error) => return Ok(Err(error)),
    };
    if let Some(directory) = &directory {
        for part in &found.parts {
            save(&directory.join(&part.file), &part.text)?;
        }
    }
    Ok(Ok(found))
}
