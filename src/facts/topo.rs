//! The document of `topo`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::devices::Problem;
use crate::host::topo::Topology;

/// The document of `topo`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Topo {
    /// `rdmadoctor/topo/1`.
    pub schema: String,
    /// GPUs, NICs and their distances.
    pub topology: Topology,
    /// What could not be read.
    pub problems: Vec<Problem>,
}
