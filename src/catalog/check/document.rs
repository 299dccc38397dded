//! The document of `catalog check`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::Problem;

/// The document of `catalog check`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CatalogCheck {
    /// `rdmadoctor/catalog-check/1`.
    pub schema: String,
    /// In the order of the command line.
    pub files: Vec<CheckedFile>,
}

/// One file and what is wrong with it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CheckedFile {
    /// The path as it was given.
    pub file: PathBuf,
    /// `valid`, `invalid`, `unreadable`, or `not_checked` after an interruption.
    pub verdict: FileVerdict,
    /// What the file says that it is.
    pub declares: Option<String>,
    /// What is wrong, from the file's beginning to its end.
    pub problems: Vec<Problem>,
}

/// What came of checking a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileVerdict {
    /// Other commands take it.
    Valid,
    /// It has problems.
    Invalid,
    /// It cannot be read.
    Unreadable,
    /// The user interrupted before.
    NotChecked,
}
