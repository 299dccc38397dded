//! The document of `profile validate`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The document of `profile validate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileValidation {
    /// `rdmadoctor/profile-validation/1`.
    pub schema: String,
    /// In the order of the command line.
    pub files: Vec<ValidatedFile>,
}

/// One file and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValidatedFile {
    /// The path as it was given.
    pub file: PathBuf,
    /// What is wrong, with file, line and column; absent where nothing is.
    pub problem: Option<String>,
}
