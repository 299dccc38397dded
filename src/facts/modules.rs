//! The document of `modules`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::modules::ModulesFacts;

/// The document of `modules`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Modules {
    /// `rdmadoctor/modules/1`.
    pub schema: String,
    /// What files say.
    pub facts: ModulesFacts,
}
