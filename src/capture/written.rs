//! The document of `capture`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::facts::Level;

/// The document of `capture`: what was written.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Written {
    /// `rdmadoctor/capture-written/1`.
    pub schema: String,
    pub file: String,
    /// Its length.
    pub size_bytes: u64,
    /// With how much effort.
    pub level: Level,
    /// Whether addresses, serial numbers and names of hosts were replaced.
    pub is_redacted: bool,
}
