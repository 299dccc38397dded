//! Finding and reading host files, each with those that it extends.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::{HOST_SCHEMA, HostModel, overlay};
use crate::catalog::{CatalogError, HOSTS};

/// Files in a chain of extensions; more is a mistake.
const LONGEST_CHAIN: usize = 8;

/// Longest host file.
const LONGEST_BYTES: u64 = 1 << 20;

impl HostModel {
    /// Names of the embedded hosts.
    pub fn names() -> impl Iterator<Item = &'static str> {
        HOSTS.iter().filter_map(|(path, _)| Path::new(*path).file_stem()?.to_str())
    }

    /// The embedded hosts. A test reads every one, so none is left out.
    #[must_use]
    pub fn embedded() -> Vec<Self> {
        HOSTS.iter().filter_map(|(path, text)| Self::parse(Path::new(path), text).ok()).collect()
    }

    /// An embedded host by its name, or one of a file.
    ///
    /// # Errors
    /// There is no such name, or the file cannot be read or is damaged.
    pub fn find(name: &str) -> Result<Self, CatalogError> {
        if let Some((path, text)) = embedded(name) {
            return Self::parse(Path::new(path), text);
        }
        let path = Path::new(name);
        if !path.exists() && !name.contains(['/', '.']) {
            return Err(CatalogError::UnknownHost { name: name.to_owned(), known: Self::names().map(str::to_owned).collect() });
        }
        Self::load(path)
    }

    /// Reads a host file.
    ///
    /// # Errors
    /// It, or one that it extends, cannot be read or is damaged.
    pub fn load(path: &Path) -> Result<Self, CatalogError> {
        Self::parse(path, &read(path)?)
    }

    /// Reads a file's text; `file` is for messages, and its directory is where files are looked for that it extends.
    ///
    /// # Errors
    /// The text is no valid host file; the message names file, line and column.
    pub fn parse(file: &Path, text: &str) -> Result<Self, CatalogError> {
        let merged = merged(file, text, 1)?;
        let mut host: Self = serde_yaml::from_value(merged).map_err(|error| invalid(file, error.to_string()))?;
        host.inherit();
        match host.inconsistency() {
            None => Ok(host),
            // What is wrong may stand in a file that is extended; then there is no place in this one.
            Some(fault) => Err(invalid(file, format!("{}{}", fault.why, place(text, &fault.word)))),
        }
    }
}

fn embedded(name: &str) -> Option<(&'static str, &'static str)> {
    HOSTS.iter().find(|(path, _)| Path::new(*path).file_stem().is_some_and(|stem| stem == name)).copied()
}

/// The text of a file, or of a pipe that a shell made; never more than a host file has.
fn read(path: &Path) -> Result<String, CatalogError> {
    let unreadable = |source| CatalogError::Unreadable { file: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LONGEST_BYTES + 1).read_to_string(&mut text)).map_err(unreadable)?;
    if text.len() as u64 > LONGEST_BYTES {
        return Err(invalid(path, format!("longer than {LONGEST_BYTES} bytes")));
    }
    Ok(text)
}

fn invalid(file: &Path, message: String) -> CatalogError {
    CatalogError::Invalid { file: file.to_owned(), message }
}

/// A file's content over that of the file that it extends.
fn merged(file: &Path, text: &str, depth: usize) -> Result<Value, CatalogError> {
    // Read as the type first, whose errors have a line and a column; values that are merged afterwards have none.
    let typed: HostModel = serde_yaml::from_str(text).map_err(|error| invalid(file, error.to_string()))?;
    if typed.schema != HOST_SCHEMA {
        return Err(invalid(file, format!("schema is `{}`, expected `{HOST_SCHEMA}`{}", typed.schema, place(text, &typed.schema))));
    }
    let mut base = match &typed.extends {
        None => Value::Mapping(Mapping::new()),
        Some(name) if depth >= LONGEST_CHAIN => {
            return Err(invalid(file, format!("{depth} files extend each other, the last one `{name}`: is there a circle?")));
        }
        Some(name) => match embedded(name) {
            Some((path, text)) => merged(Path::new(path), text, depth + 1)?,
            None => {
                let path = file.parent().unwrap_or(Path::new("")).join(name);
                // No device or pipe: a file that came from elsewhere could name one that never ends.
                if !path.is_file() {
                    let known = HostModel::names().collect::<Vec<_>>().join(", ");
                    let why = format!("it extends `{name}`, which is no file and none of {known}{}", place(text, name));
                    return Err(invalid(file, why));
                }
                merged(&path, &read(&path)?, depth + 1)?
            }
        },
    };
    let over: Value = serde_yaml::from_str(text).map_err(|error| invalid(file, error.to_string()))?;
    overlay::apply(&mut base, over).map_err(|fault| invalid(file, format!("{}{}", fault.why, place(text, &fault.word))))?;
    Ok(base)
}

/// Where a word first stands in a text, as serde_yaml words it; nothing where it does not.
fn place(text: &str, word: &str) -> String {
    let found = text.lines().enumerate().find_map(|(line, content)| Some((line + 1, content.find(word)? + 1)));
    found.filter(|_| !word.is_empty()).map_or_else(String::new, |(line, column)| format!(" at line {line} column {column}"))
}

/// What is wrong with a host, and a word by which its place is found.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) why: String,
    pub(super) word: String,
}

impl Fault {
    pub(super) fn new(word: impl Into<String>, why: impl Into<String>) -> Self {
        Self { why: why.into(), word: word.into() }
    }
}

/// Paths of a host file are those of a host, from its root.
pub(super) fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|component| !matches!(component, std::path::Component::ParentDir))
}
