//! Which way each engine takes from GPU memory to a NIC, and whether that works here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::survey::GpuReport;
use crate::gpu::{GpuForm, Path};

/// An engine's way on one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnginePath {
    /// The engine, as the catalog names it.
    pub engine: String,
    /// The GPU.
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

struct Known {
    engine: &'static str,
    tries: &'static [Path],
    how: &'static str,
    source: &'static str,
}

/// Read in each engine's sources; `profiles/engines` has their releases.
const KNOWN: &[Known] = &[
    Known {
        engine: "dlslime",
        tries: &[Path::Peermem],
        how: "it calls ibv_reg_mr alone, and copies through no host memory; there is no setting",
        source: "DeepLink-org/DLSlime, csrc/dlslime/engine/rdma/memory_pool.cpp",
    },
    Known {
        engine: "lmdeploy",
        tries: &[Path::Peermem],
        how: "through DLSlime, which calls ibv_reg_mr alone",
        source: "InternLM/lmdeploy, lmdeploy/pytorch/disagg/backend/dlslime.py",
    },
    Known {
        engine: "mooncake",
        tries: &[Path::Peermem],
        how: "WITH_NVIDIA_PEERMEM, which is true by default since May 2026; 0 takes dmabuf instead, and neither falls back to the other",
        source: "kvcache-ai/Mooncake, mooncake-transfer-engine/src/environ.cpp, pull requests 2066, 2192",
    },
    Known {
        engine: "nccl",
        tries: &[Path::DataDirect, Path::Dmabuf, Path::Peermem, Path::Staged],
        how: "it asks for itself: dma-buf by a call with descriptor -1, then nvidia_peermem by its file in sysfs; NCCL_DMABUF_ENABLE, \
              NCCL_IB_DATA_DIRECT and NCCL_NET_GDR_LEVEL change that, and it stages without a word where neither works",
        source: "NVIDIA/nccl, src/transport/net_ib",
    },
    Known {
        engine: "ucx-rc",
        tries: &[Path::Dmabuf, Path::Peermem, Path::Staged],
        how: "it asks for itself: nvidia_peermem by its files in sysfs, dma-buf by a call with a bad descriptor; UCX_IB_GPU_DIRECT_RDMA; it \
              stages without a word where neither works",
        source: "openucx/ucx, src/uct/ib/base/ib_md.c",
    },
    Known {
        engine: "ucx-ud",
        tries: &[Path::Dmabuf, Path::Peermem, Path::Staged],
        how: "as ucx-rc",
        source: "openucx/ucx, src/uct/ib/base/ib_md.c",
    },
    Known {
        engine: "nixl",
        tries: &[Path::Dmabuf, Path::Peermem, Path::Staged],
        how: "through UCX",
        source: "ai-dynamo/nixl, src/plugins/ucx",
    },
    Known {
        engine: "nvshmem",
        tries: &[Path::Dmabuf, Path::Peermem],
        how: "NVSHMEM_IB_DISABLE_DMABUF=1 leaves peermem; where neither works it skips the transport",
        source: "NVIDIA/nvshmem, src/modules/transport; deepseek-ai/DeepEP issue 55",
    },
    Known {
        engine: "libfabric",
        tries: &[Path::Dmabuf, Path::Peermem],
        how: "dma-buf, then ibv_reg_mr; FI_VERBS_USE_DMABUF",
        source: "ofiwg/libfabric, prov/verbs; pull request 12409",
    },
];

/// The ways of an engine, where they are known.
#[must_use]
pub fn is_known(engine: &str) -> bool {
    KNOWN.iter().any(|known| known.engine == engine)
}

/// The engines whose ways are known.
#[must_use]
pub fn known() -> Vec<&'static str> {
    KNOWN.iter().map(|known| known.engine).collect()
}

/// The way of an engine on a GPU.
pub(super) fn path_of(engine: &str, gpu: &GpuReport) -> Option<EnginePath> {
    let known = KNOWN.iter().find(|known| known.engine == engine)?;
    let plain = gpu.kinds.iter().find(|kind| kind.form == GpuForm::Plain);
    let ways = plain.map(|kind| kind.ways.as_slice()).unwrap_or_default();
    let granted = |path: &Path| match path {
        Path::Staged => gpu.copies.is_some(),
        path => ways.iter().any(|way| way.path == *path && way.refusal.is_none()),
    };
    let takes = known.tries.iter().copied().find(granted);
    Some(EnginePath {
        engine: known.engine.to_owned(),
        gpu: gpu.facts.pci.clone(),
        tries: known.tries.to_vec(),
        takes,
        works: (!ways.is_empty()).then_some(takes.is_some()),
        how: known.how.to_owned(),
        source: known.source.to_owned(),
    })
}
