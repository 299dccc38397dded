//! The facts of a host in one file: written on the host, judged anywhere.
//!
//! A capture of an earlier release stays readable: whatever is added to the facts later is an `Option` or has a default, and a frozen
//! file of each version is among the tests. What a later release added is ignored. A change that cannot be had so takes a new version.

mod names;
mod read;
mod redact;
mod write;
mod written;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::facts::{Facts, Level};

pub(crate) use names::host_names;
#[cfg(test)]
#[cfg(test)]
pub(crate) use read::DOCUMENT_LIMIT_BYTES;
pub use read::{load, parse_document, parse_file};
pub use redact::Redactor;
pub use write::compress;
pub(crate) use written::Written;

/// The document of a capture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Capture {
    /// `rdmadoctor/capture/1`.
    pub schema: String,
    /// The release of rdmadoctor that wrote it.
    pub tool_version: String,
    /// When, in UTC, as RFC 3339 writes it.
    pub created: String,
    /// With how much effort: at `quick`, no device was opened.
    pub level: Level,
    /// Whether addresses, serial numbers and names of hosts were replaced.
    pub is_redacted: bool,
    /// The host, where it has a name.
    pub host_name: Option<String>,
    /// The modelled host that it is of, if it is of one.
    pub host_model: Option<String>,
    /// Whether the files were below another directory than `/`, so that no device could be asked.
    #[serde(default)]
    pub is_files_only: bool,
    /// All that was found out.
    pub facts: Facts,
}

impl Capture {
    /// The capture with everything replaced that tells which host it is of.
    ///
    /// # Errors
    /// The document that comes out is none, which would be a mistake in this program.
    pub fn redacted(&self, redactor: Redactor) -> Result<Self, serde_json::Error> {
        let schema = serde_json::to_value(schemars::schema_for!(Self))?;
        let mut value = serde_json::to_value(self)?;
        redactor.redact(&mut value, &schema);
        let mut capture: Self = serde_json::from_value(value)?;
        capture.is_redacted = true;
        Ok(capture)
    }
}

#[cfg(test)]
mod tests;
