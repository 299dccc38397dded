//! `rdmadoctor profile`.

mod check;
mod exec;
mod export;
mod write;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::session::Session;
use super::{UsageError, exit};
use crate::profile;
use crate::profile::{DEFAULT_FILE, Profile, ProfileError, ProfileValidation, ValidatedFile, diff};
use crate::schema;

/// Arguments of `profile`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Try what this host grants and write it down for the engines that run here.
    Write(write::Arguments),
    /// What a profile says.
    Show {
        #[command(flatten)]
        profile: ProfileFile,
    },
    /// Are these files profiles? Offline, with line and column of what is wrong.
    Validate {
        /// The files.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Is a profile still true of this host? Compares, tries again, and names what is stale.
    Check(check::Arguments),
    /// What differs between two profiles; exit code 1 where something does.
    Diff {
        /// One profile.
        a: PathBuf,
        /// The other.
        b: PathBuf,
    },
    /// What an engine has to be given, in its own configuration language.
    Export(export::Arguments),
    /// Start an engine with what its export sets: `profile exec --for dlslime -- python3 serve.py`.
    Exec(exec::Arguments),
}

/// Which profile to read.
#[derive(Debug, Args)]
struct ProfileFile {
    /// The profile.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    profile: PathBuf,
}

/// Runs an action on profiles.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.host.no_capture("profile", "is about this host's devices and files of its own")?;
    match &arguments.action {
        Action::Write(arguments) => write::run(session, arguments),
        Action::Show { profile } => {
            session.output.print(&load(&profile.profile)?)?;
            Ok(exit::OK)
        }
        Action::Validate { files } => validate(session, files),
        Action::Check(arguments) => check::run(session, arguments),
        Action::Diff { a, b } => {
            let (left, right) = (load(a)?, load(b)?);
            let found = diff((&a.display().to_string(), &left), (&b.display().to_string(), &right));
            session.output.print(&found)?;
            Ok(if found.differences.is_empty() { exit::OK } else { exit::FAILED })
        }
        Action::Export(arguments) => export::run(session, arguments),
        Action::Exec(arguments) => exec::run(session, arguments),
    }
}

fn validate(session: &Session, files: &[PathBuf]) -> anyhow::Result<u8> {
    let mut checked = Vec::new();
    for file in files {
        let problem = match profile::load(file) {
            Ok(_) => None,
            Err(error @ ProfileError::Unreadable { .. }) => return Err(UsageError(error.to_string()).into()),
            Err(error @ ProfileError::Invalid { .. }) => Some(error.to_string()),
        };
        checked.push(ValidatedFile { file: file.clone(), problem });
    }
    let is_valid = checked.iter().all(|file| file.problem.is_none());
    session.output.print(&ProfileValidation { schema: schema::PROFILE_VALIDATION.to_owned(), files: checked })?;
    Ok(if is_valid { exit::OK } else { exit::FAILED })
}

/// Reads a profile; a file that is none is the caller's mistake.
fn load(file: &Path) -> Result<Profile, UsageError> {
    profile::load(file).map_err(|error| {
        let hint = match &error {
            ProfileError::Unreadable { .. } if file == Path::new(DEFAULT_FILE) => {
                "; `rdmadoctor profile write` writes it, --profile FILE names another"
            }
            _ => "",
        };
        UsageError(format!("{error}{hint}"))
    })
}
