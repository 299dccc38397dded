//! `rdmadoctor catalog`.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::session::Session;
use super::{UsageError, exit};
use crate::catalog::check::{CatalogCheck, CheckedFile, FileVerdict, Kind, Problem, check_file, problems};
use crate::catalog::{CatalogFiles, CatalogList, FileKind};
use crate::checks::Policy;
use crate::schema;
use crate::sim::HostModel;

/// Arguments of `catalog`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Families, device models, engines with their releases, and hosts.
    List,
    /// A file of the catalog, with where it is from.
    Show {
        /// The name of a family, device model, engine or host.
        #[arg(value_name = "NAME", add = super::complete::catalog_names())]
        name: String,
        /// Only the file of this kind, where a family and a device model share the name.
        #[arg(long, value_name = "KIND", value_enum)]
        kind: Option<FileKind>,
    },
    /// A commented file to begin with.
    New {
        /// What it is to describe.
        #[arg(value_name = "KIND", value_enum)]
        kind: FileKind,
    },
    /// Validate family, device, engine, host or policy files: unknown keys, values of the wrong kind, missing sources, each with line and
    /// column.
    Check {
        /// The files; what each is, its `schema` says.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// Runs an action on the catalog.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let files = match &arguments.action {
        Action::List => {
            session.output.print(&CatalogList::new()?)?;
            return Ok(exit::OK);
        }
        Action::Show { name, kind } => return show(session, name, *kind),
        Action::New { kind } => {
            session.output.print(&CatalogFiles::template(*kind))?;
            return Ok(exit::OK);
        }
        Action::Check { files } => files,
    };
    let files: Vec<CheckedFile> = files.iter().map(|file| examine(session, file)).collect();
    let worst = files.iter().map(|file| file.verdict).max();
    session.output.print(&CatalogCheck { schema: schema::CATALOG_CHECK.to_owned(), files })?;
    Ok(match worst {
        Some(FileVerdict::Unreadable) => exit::USAGE,
        Some(FileVerdict::Invalid) => exit::FAILED,
        _ => exit::OK,
    })
}

fn show(session: &Session, name: &str, kind: Option<FileKind>) -> anyhow::Result<u8> {
    let found = CatalogFiles::named(name, kind)?;
    if found.files.is_empty() {
        let why = format!("the catalog has no `{name}` of that kind; `rdmadoctor catalog list` names what it has");
        return Err(UsageError(why).into());
    }
    session.output.print(&found)?;
    Ok(exit::OK)
}

/// Checks one file; what cannot be read is a finding, so that the others are still checked.
fn examine(session: &Session, file: &Path) -> CheckedFile {
    let of = |verdict, declares, problems| CheckedFile { file: file.to_owned(), verdict, declares, problems };
    if session.host.interrupted() {
        return of(FileVerdict::NotChecked, None, Vec::new());
    }
    let policies: Kind = (schema::POLICY, |_, text| problems::<Policy>(text));
    match check_file(file, &[(schema::HOST, HostModel::problems), policies]) {
        Ok(checked) if checked.problems.is_empty() => of(FileVerdict::Valid, checked.declares, Vec::new()),
        Ok(checked) => of(FileVerdict::Invalid, checked.declares, checked.problems),
        Err(_) if session.host.interrupted() => of(FileVerdict::NotChecked, None, Vec::new()),
        Err(error) => {
            let why = error.source().map_or_else(|| error.to_string(), |source| format!("cannot be read: {source}"));
            of(FileVerdict::Unreadable, None, vec![Problem { line: None, column: None, summary: why }])
        }
    }
}
