//! How much effort a look at a host takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

rdmadoctor_types::words! {
    /// How much effort a check takes.
    #[derive(Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
    #[serde(rename_all = "snake_case")]
    pub enum Level {
        /// Files only, no device is opened: within 2 s.
        Quick = "quick",
        /// Opens devices, tries queue pairs and registrations, asks the GPU driver: within 30 s.
        #[default]
        Standard = "standard",
        /// Tries GPU memory with each NIC besides: within 120 s.
        Deep = "deep",
    }
}

impl Level {
    /// The time that it may take.
    #[must_use]
    pub fn budget(self) -> std::time::Duration {
        std::time::Duration::from_secs(match self {
            Self::Quick => 2,
            Self::Standard => 30,
            Self::Deep => 120,
        })
    }
}
