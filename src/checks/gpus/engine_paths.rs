//! Which way each engine takes from GPU memory to a NIC, and whether that works here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::survey::GpuReport;
use crate::catalog::Engine;
use crate::gpu::{AllocKind, Path};

/// An engine's way on one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnginePath {
    /// The engine, as the catalog names it.
    pub engine: String,
    pub gpu: String,
    /// The ways that it tries, in this order.
    pub tries: Vec<Path>,
    /// The first of them that was granted with some NIC here; absent where none was.
    pub takes: Option<Path>,
    /// Whether GPU memory gets to a NIC with it here: by what was tried, where something was.
    pub works: Option<bool>,
    /// What it does by itself and which setting changes that.
    pub how: String,
    /// Where that is known from.
    pub source: String,
}

/// The way of an engine on a GPU, where it is known.
pub(super) fn path_of(engine: &Engine, gpu: &GpuReport) -> Option<EnginePath> {
    let known = engine.gpu_paths.as_ref()?;
    let plain = gpu.kinds.iter().find(|kind| kind.form == AllocKind::Plain);
    let ways = plain.map(|kind| kind.ways.as_slice()).unwrap_or_default();
    let granted = |path: &Path| match path {
        Path::Staged => gpu.copies.is_some(),
        path => ways.iter().any(|way| way.path == *path && way.refusal.is_none()),
    };
    let takes = known.tries.iter().copied().find(granted);
    Some(EnginePath {
        engine: engine.name.clone(),
        gpu: gpu.facts.pci.clone(),
        tries: known.tries.clone(),
        takes,
        works: (!ways.is_empty()).then_some(takes.is_some()),
        how: known.how.clone(),
        source: known.sources.join("; "),
    })
}
