//! `rdmadoctor catalog`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::session::Session;
use super::{UsageError, exit};
use crate::catalog::{DeviceModel, Engine, HostModel, device, engine, host};
use crate::report::{Style, Table};

/// Arguments of `catalog`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Validate device, engine or host files: unknown keys, values of the wrong kind, missing sources, with line and column.
    Check {
        /// The files; what each is, its `schema` says.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// The document of `catalog check`.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct CatalogCheck {
    /// `rdmadoctor/catalog-check/1`.
    pub schema: String,
    /// In the order of the command line.
    pub files: Vec<CheckedFile>,
}

/// One file and what is wrong with it.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct CheckedFile {
    /// The path as it was given.
    pub file: PathBuf,
    /// What the file says that it is.
    pub declares: Option<String>,
    /// What is wrong, with its place; absent where nothing is.
    pub problem: Option<String>,
}

impl Table for CatalogCheck {
    fn table(&self, style: &Style) -> String {
        let line = |file: &CheckedFile| match &file.problem {
            Some(problem) => format!("{} {problem}\n", style.bad("invalid")),
            None => format!("{}   {} ({})\n", style.good("valid"), file.file.display(), file.declares.as_deref().unwrap_or_default()),
        };
        self.files.iter().map(line).collect()
    }
}

/// Runs an action on the catalog.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let Action::Check { files } = &arguments.action;
    let mut checked = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| UsageError(format!("cannot read {}: {error}", file.display())))?;
        let (declares, problem) = check(file, &text);
        checked.push(CheckedFile { file: file.clone(), declares, problem });
    }
    let is_valid = checked.iter().all(|file| file.problem.is_none());
    session.print(&CatalogCheck { schema: "rdmadoctor/catalog-check/1".to_owned(), files: checked })?;
    Ok(if is_valid { exit::OK } else { exit::FAILED })
}

/// What a file says that it is, and what is wrong with it.
fn check(file: &Path, text: &str) -> (Option<String>, Option<String>) {
    let known = [engine::ENGINE_SCHEMA, device::SCHEMA, host::HOST_SCHEMA];
    let value: serde_yaml::Value = match serde_yaml::from_str(text) {
        Ok(value) => value,
        Err(error) => return (None, Some(format!("{}: {error}", file.display()))),
    };
    let declares = value.get("schema").and_then(|schema| schema.as_str()).map(str::to_owned);
    let problem = match declares.as_deref() {
        Some(engine::ENGINE_SCHEMA) => Engine::parse(file, text).err().map(|error| error.to_string()),
        Some(device::SCHEMA) => DeviceModel::parse(file, text).err().map(|error| error.to_string()),
        Some(host::HOST_SCHEMA) => HostModel::parse(file, text).err().map(|error| error.to_string()),
        other => Some(format!(
            "{}: its schema is {}; valid are {}",
            file.display(),
            other.map_or("missing".to_owned(), |other| format!("`{other}`")),
            known.join(", ")
        )),
    };
    (declares, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_repository_is_valid_and_damage_is_placed() {
        for directory in ["profiles/engines", "profiles/devices", "profiles/hosts"] {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap();
                assert_eq!(check(&path, &text).1, None);
                let damaged = text.replacen("title:", "tilte:", 1);
                let problem = check(Path::new("damaged.yaml"), &damaged).1.unwrap();
                assert!(problem.contains("damaged.yaml") && problem.contains("tilte"), "{problem}");
            }
        }
        assert!(check(Path::new("x"), "a: 1").1.unwrap().contains("rdmadoctor/engine/1"));
        assert!(check(Path::new("x"), "{").1.is_some());
    }
}
